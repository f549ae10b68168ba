"""What a person sees who follows a link: the alert's facts, none of them personal, and a button.

Pages hold everything they need: no script, and nothing is fetched from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from http import HTTPStatus
from typing import TYPE_CHECKING

from usageaudit.operating.port import Answer

if TYPE_CHECKING:
    from usageaudit.alerts.acknowledging.facts import Facts

MOST_BY, MOST_COMMENT = 100, 1000
_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:3rem auto;padding:0 1rem}"
    "dt{font-weight:600}dd{margin:0 0 .5rem;overflow-wrap:anywhere}label{display:block;margin:.75rem 0}"
    "input,textarea{display:block;width:100%;box-sizing:border-box;font:inherit}button{font:inherit;padding:.4rem 1rem}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Robots-Tag": "noindex",
    "Vary": "*",
}


def ask(facts: Facts) -> Answer:
    """Return the page with the button; it is sent to the path it came from."""
    return _page(
        HTTPStatus.OK,
        "Acknowledge an alert",
        f"{_facts(facts)}<form method=post><label>Your name<input name=by maxlength={MOST_BY} autocomplete=name>"
        f"</label><label>Comment<textarea name=comment maxlength={MOST_COMMENT} rows=3></textarea></label>"
        "<button>Acknowledge</button></form>",
    )


def done(facts: Facts) -> Answer:
    """Return the page that says that an alert is acknowledged."""
    return _page(HTTPStatus.OK, "The alert is acknowledged", _facts(facts))


def refused(status: HTTPStatus, text: str) -> Answer:
    """Return a page that says no."""
    return _page(status, text, "")


def _facts(facts: Facts) -> str:
    rows = {
        "Policy": facts.policy_id,
        "Severity": facts.severity,
        "First seen": facts.first_time,
        "Alert": facts.alert_id,
        "State": "acknowledged" if facts.acknowledged else "not acknowledged",
    }
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{escape(value)}</dd>' for name, value in rows.items() if value)}</dl>"


def _page(status: HTTPStatus, title: str, body: str) -> Answer:
    text = (
        f'<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1>{body}\n"
    )
    return Answer(status, "text/html; charset=utf-8", text.encode(), HEADERS)
