"""What every target says of an alert, as text that others can neither lengthen nor mark up.

Whatever stands in an alert came from outside. `fit` gives it a bound, and takes out what is no text: control
characters, halves of characters, and the marks that turn the direction of writing, by which a text is made to read
differently than it is. Markup is each target's own matter, since each has another.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from usageaudit.alerts.model import Alert, Notification, Occasion

ELLIPSIS = "…"
MOST_LINK = 2_000
LEADS: dict[Occasion, str] = {
    "opened": "",
    "escalated": "Escalated: ",
    "acknowledged": "Acknowledged: ",
    "resolved": "Resolved: ",
    "test": "Test: ",
}
_HALVES = re.compile("[\ud800-\udfff]")
_NO_TEXT = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb]")
_LINE_BREAKS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_LINK = re.compile(r"https?://[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+", re.ASCII)
_ID = re.compile(r"[0-9a-f]{32}")


class Fact(NamedTuple):
    """One thing that is known of an alert, for a table of two columns."""

    title: str
    value: str


def fit(text: str, most: int, *, lines: bool = False, written: Callable[[str], str] | None = None) -> str:
    """Return the text with at most so many UTF-16 code units; what had to be cut ends with an ellipsis.

    UTF-16 is the strictest of the ways in which receivers count characters. `lines` keeps the breaks between lines,
    `written` says how the target escapes one character, whose length counts as it is written.
    """
    found: list[str] = []
    used = 0
    for character in _cleaned(text, most, lines=lines):
        piece = written(character) if written else character
        cost = _units(piece)
        if used + cost > most:
            while found and used + 1 > most:
                used -= _units(found.pop())
            return "".join(found) + ELLIPSIS[: most - used]
        found.append(piece)
        used += cost
    return "".join(found)


def _cleaned(text: str, most: int, *, lines: bool) -> str:
    """Return so much of the text as could fit and one character more."""
    start = text.lstrip()[: 2 * most + 2]
    broken = _LINE_BREAKS.sub("\n", _HALVES.sub("\ufffd", start))
    parts = broken.split("\n") if lines else [broken]
    return "\n".join(_NO_TEXT.sub(" ", part) for part in parts).strip()[: most + 1]


def _units(text: str) -> int:
    return len(text) + sum(character > "\uffff" for character in text)


def headline(notification: Notification) -> str:
    """Return what is the matter, in one line of any length."""
    alert = notification.alert
    times = f", {alert.count:,} times" if alert.count > 1 else ""
    return f"{LEADS[notification.occasion]}{alert.policy_id} ({alert.severity}{times})"


def facts(alert: Alert) -> list[Fact]:
    """Return what is known of an alert besides its message; what is empty is left out."""
    event = " ".join(filter(None, (alert.event_source, alert.event_id)))
    known = (
        Fact("Severity", alert.severity),
        Fact("Policy", f"{alert.policy_id}, version {alert.policy_version}"),
        Fact("Kind", "" if alert.kind == "event" else alert.kind),
        Fact("Count", f"{alert.count:,}"),
        Fact("First at", alert.first_time),
        Fact("Application", alert.application),
        Fact("Team", alert.team),
        Fact("Organization", alert.organization),
        Fact("Model", alert.model),
        Fact("Group", group_text(alert)),
        Fact("Event", event),
        Fact("Evidence", evidence_text(alert)),
        Fact("Violation", alert.violation_id),
        Fact("Alert", alert.alert_id),
        Fact("Bundle", alert.bundle),
    )
    return [fact for fact in known if fact.value.strip()]


def group_text(alert: Alert) -> str:
    """Return the values that the gathered violations share, by field."""
    return ", ".join(f"{name}={value}" for name, value in sorted(alert.group.items()))


def evidence_text(alert: Alert) -> str:
    """Return the evidence as JSON, empty where there is none."""
    return "" if alert.evidence.strip() in ("", "{}") else alert.evidence


def lookup(notification: Notification) -> str:
    """Return the command that shows the first violation, empty where there is none to show.

    It is made to be pasted into a shell, so an id that is not one of ours is not in it.
    """
    found = notification.alert.violation_id
    if notification.occasion == "test" or not _ID.fullmatch(found):
        return ""
    return f"usageaudit query \"SELECT * FROM violations WHERE violation_id = '{found}'\""


def link(url: str) -> str:
    """Return the URL where it is one of http or https that no target's markup can be ended by, else nothing."""
    return url if len(url) <= MOST_LINK and _LINK.fullmatch(url) else ""
