"""What is said of an alert to whoever holds its link: nothing of whom it concerns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usageaudit.events.times import format_time

if TYPE_CHECKING:
    from usageaudit.stores.port import Store

_FACTS = """SELECT policy_id, severity, toUnixTimestamp64Milli(opened), status,
    toUnixTimestamp64Milli(ifNull(acknowledged_at, toDateTime64(0, 3, 'UTC')))
FROM alerts WHERE alert_id = {alert:String}"""


@dataclass(frozen=True, slots=True)
class Facts:
    """An alert without what it is about; times are RFC 3339, `acknowledged` is empty where nobody has."""

    alert_id: str
    policy_id: str
    severity: str
    first_time: str
    status: str
    acknowledged: str = ""


def facts_of(store: Store, alert_id: str) -> Facts | None:
    """Return what is said of an alert, None where there is none of that id. Raises StoreUnavailable."""
    rows = store.execute(_FACTS, {"alert": alert_id}).rows
    if not rows:
        return None
    policy_id, severity, opened, status, acknowledged = rows[0]
    return Facts(alert_id, str(policy_id), str(severity), _time(opened), str(status), _time(acknowledged))


def _time(milliseconds: int) -> str:
    return format_time(milliseconds * 1000) if milliseconds else ""
