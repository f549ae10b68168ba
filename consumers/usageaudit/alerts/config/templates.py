"""Templates: texts in which `{field}` stands for a field of an alert, and nothing else stands for anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usageaudit.alerts.model import Alert

FIELDS: Mapping[str, str] = {
    "alert_id": "The id of the alert.",
    "status": "firing or resolved.",
    "kind": "event, or the kind of the finding.",
    "policy_id": "The policy, as pack/clause.",
    "policy_version": "Its version.",
    "severity": "info, low, medium, high or critical.",
    "message": "What the policy says of the violation.",
    "violation_id": "The id of the first violation, or of the finding.",
    "first_time": "The time of the first violation.",
    "group": "What the gathered violations share, as FIELD=VALUE, …",
    "count": "How many violations were gathered so far.",
    "application": "The application.",
    "team": "The team that runs it.",
    "organization": "The organisation of who used it.",
    "model": "The model.",
    "event_source": "The source of the event.",
    "event_id": "The id of the event.",
    "evidence": "What the policy keeps as evidence, as JSON.",
    "bundle": "The bundle of policies.",
    "acknowledge_url": "The link that acknowledges the alert; empty where nobody serves one.",
}
"""What a template may name, and what each is."""
MAX_FILLED = 10_000
"""How long a filled template gets, in characters."""


@dataclass(frozen=True, slots=True)
class Field:
    """A place in a template for a field of FIELDS."""

    name: str


@dataclass(frozen=True, slots=True)
class Template:
    """A text with places for fields of an alert."""

    parts: tuple[str | Field, ...]

    def fill(self, alert: Alert) -> str:
        """Return the text with the fields of an alert, put in as they are, at most MAX_FILLED characters of it.

        What stands in a field is text, whatever it looks like; to escape it for where it goes is the target's.
        """
        text = "".join(part if isinstance(part, str) else field_of(alert, part.name) for part in self.parts)
        return text if len(text) <= MAX_FILLED else text[: MAX_FILLED - 1] + "…"


def field_of(alert: Alert, name: str) -> str:
    """Return a field of an alert as text; `name` is one of FIELDS."""
    if name == "group":
        return ", ".join(f"{key}={value}" for key, value in sorted(alert.group.items()))
    return str(getattr(alert, name))
