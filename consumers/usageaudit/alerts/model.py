"""An alert: violations of one policy that belong together, or one finding; and the notifications that tell of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usageaudit.verdicts import Severity

Status = Literal["firing", "resolved"]
Occasion = Literal["opened", "escalated", "acknowledged", "resolved", "test"]


@dataclass(frozen=True, slots=True)
class Alert:
    """What people are told. Texts are empty where there is nothing to say; nothing in it is content of a use.

    `kind` is event, or the kind of the finding; `group` has the values that the gathered violations share, by field;
    `count` is how many were gathered when this was read; times are RFC 3339; `violation_id` is that of the first, or
    the id of the finding; `evidence` is a JSON object of the fields that the policy names.
    """

    alert_id: str
    status: Status
    kind: str
    policy_id: str
    policy_version: int
    severity: Severity
    message: str
    violation_id: str
    first_time: str
    group: Mapping[str, str] = field(default_factory=dict)
    count: int = 1
    application: str = ""
    team: str = ""
    organization: str = ""
    model: str = ""
    event_source: str = ""
    event_id: str = ""
    evidence: str = "{}"
    bundle: str = ""
    acknowledge_url: str = ""


@dataclass(frozen=True, slots=True)
class Notification:
    """An alert on its way to one target, on one occasion. Every attempt has the same `delivery_id`."""

    delivery_id: str
    occasion: Occasion
    alert: Alert


def alert_id(policy_id: str, group: Mapping[str, str], violation_id: str) -> str:
    """Return the id of the alert that a violation opens: 32 hex digits of SHA-256 over its parts joined by NUL."""
    return _digest(policy_id, *(part for item in sorted(group.items()) for part in item), violation_id)


def delivery_id(alert: str, target: str, occasion: Occasion) -> str:
    """Return the id by which a receiver drops repeats: 32 hex digits of SHA-256 over its parts joined by NUL."""
    return _digest(alert, target, occasion)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
