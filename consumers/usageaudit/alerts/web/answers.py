"""What an answer means for a delivery: taken, try again, or not again."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from usageaudit.alerts.targets.port import Answer, DeliveryFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_SAID = 500
"""How many characters of an answer are kept."""
MAX_AFTER = 3600.0
"""How many seconds an answer may ask to wait for."""
_AGAIN = frozenset({408, 425, 429})
_ADVICE = {
    301: "put the new place into the target's url",
    308: "put the new place into the target's url",
    401: "check the target's secret",
    403: "check the target's secret, and what it may do",
    404: "check the target's url",
    410: "the receiver wants no more; take the target out of alerts.yaml, or give it a new url",
    413: "let the receiver take larger bodies",
}


def judged(place: str, status: int, headers: Mapping[str, str], said: str, now: float) -> Answer:
    """Return the answer of a receiver that took the delivery; names of `headers` are in small letters.

    `now` is in seconds since 1970. Raises DeliveryFailed for every status but 2xx.
    """
    if 200 <= status < 300:
        return Answer(status, said)
    again = status in _AGAIN or status >= 500
    message = f"{place} answered {status}{_phrase(status)}"
    if 300 <= status < 400 and "location" in headers:
        message += f", which leads to {shown(headers['location'])}; redirects are not followed"
    if said:
        message += f": {said[:200]}"
    if (advice := _ADVICE.get(status)) is not None:
        message += f"; {advice}"
    after = retry_after(headers.get("retry-after", ""), now) if again else None
    raise DeliveryFailed(message, again=again, after=after, status=status)


def retry_after(text: str, now: float) -> float | None:
    """Return how many seconds a Retry-After asks for (RFC 9110, 10.2.3), an hour at most; None where it is none."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:300]), MAX_AFTER)
    try:
        moment = parsedate_to_datetime(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return min(max(moment.timestamp() - now, 0.0), MAX_AFTER)
    except (ValueError, OverflowError, TypeError):
        return None


def shown(url: str) -> str:
    """Return of a URL what may be shown, scheme and host: what comes behind them often is a secret."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "a place that is no URL"
    if not parts.scheme or not host:
        return "another path"
    host = f"[{host}]" if ":" in host else host
    return printable(f"{parts.scheme}://{host}{f':{port}' if port else ''}", ())


def printable(text: str, secrets: Sequence[str]) -> str:
    """Return the beginning of a text as one line that a terminal can bear, with secrets masked."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    line = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return line[:MAX_SAID]


def _phrase(status: int) -> str:
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""
