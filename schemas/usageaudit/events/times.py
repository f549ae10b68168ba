"""Times of events: RFC 3339 text outside, integer microseconds since 1970 in UTC inside."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]([01]\d|2[0-3]):\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
MAX_TIME = int((datetime(2106, 1, 1, tzinfo=UTC) - _EPOCH).total_seconds()) * 1_000_000
"""First microsecond that the ledger can't hold: ClickHouse's hours (DateTime) end early in 2106."""


def parse_time(text: str) -> int:
    """Return the microseconds since 1970 of an RFC 3339 time with a zone; digits finer than that are cut off.

    Raises ValueError for any other text and for times before 1970 or from 2106 on. A leap second, which RFC 3339 writes
    as :60, is refused, too: Unix time has no number for it, and any other would be a time that the event did not have.
    """
    if (
        len(text) == 27
        and text[19] == "."
        and text[26] == "Z"
        and (digits := text[20:26]).isdigit()
        and digits.isascii()
    ):
        return _second(text[:19]) + int(digits)
    return _parse(text)


@lru_cache(maxsize=4096)
def _second(text: str) -> int:
    """Return the microseconds of a second in UTC; events of one second come together."""
    return _parse(f"{text}Z")


def _parse(text: str) -> int:
    if not _RFC3339.fullmatch(text):
        raise ValueError("must be an RFC 3339 time with a zone, such as 2024-05-01T09:30:00Z")
    if text[17:19] == "60":
        raise ValueError("is not a time that exists here: Unix time has no leap seconds, so write :59 instead of :60")
    try:
        micros = to_micros(datetime.fromisoformat(text.upper()))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"is not a time that exists: {error}") from error
    if not 0 <= micros < MAX_TIME:
        raise ValueError("must lie from 1970 to 2105")
    return micros


def format_time(micros: int) -> str:
    """Return the RFC 3339 text, in UTC with `Z`, of microseconds since 1970."""
    return (_EPOCH + timedelta(microseconds=micros)).isoformat().replace("+00:00", "Z")


def to_micros(moment: datetime) -> int:
    """Return the microseconds since 1970 of a datetime; raises ValueError where it has no zone."""
    if moment.tzinfo is None:
        raise ValueError("a time needs a zone, such as datetime.now(UTC)")
    since = moment - _EPOCH
    return since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds
