"""Who acknowledged an alert, whom to tell of that, and whom else to tell of those that nobody has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.alerts.dispatcher.deliveries import Delivery
from usageaudit.alerts.model import delivery_id
from usageaudit.errors import ConfigurationError
from usageaudit.stores.settling import settle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usageaudit.alerts.config.settings import Route
    from usageaudit.stores.port import Store

LONGEST_COMMENT = 1000
MOST = 500
_THERE = "SELECT count() FROM alert_decisions WHERE alert_id = {alert:String} AND outcome = 'opened'"
_ACKNOWLEDGE = """INSERT INTO alert_acknowledgements (alert_id, acknowledged_by, via, comment, at)
SELECT {alert:String}, {by:String}, {via:String}, {comment:String}, now64(3, 'UTC')"""
DAYS_MS = 7 * 86_400_000
"""How far back is looked for what is due; the dispatcher adds the time for which none was at work."""
_BACK = "toIntervalMillisecond({back:Int64})"
_SEEN = """SELECT DISTINCT alert_id FROM alert_acknowledgements
WHERE at > now64(3, 'UTC') - toIntervalMillisecond({back:Int64})"""
_UNTOLD = f"""SELECT DISTINCT alert_id, toString(target) FROM alert_deliveries_log
WHERE alert_id IN {{alerts:Array(String)}} AND target IN {{targets:Array(String)}}
    AND occasion IN ('opened', 'escalated') AND state = 'delivered'
    AND alert_id NOT IN (SELECT alert_id FROM alert_decisions
        WHERE alert_id IN {{alerts:Array(String)}} AND outcome = 'resolved')
    AND (alert_id, toString(target)) NOT IN (SELECT alert_id, toString(target) FROM alert_deliveries_log
        WHERE occasion = 'acknowledged')
ORDER BY alert_id, target LIMIT {MOST}"""
_DUE = f"""SELECT alert_id FROM alert_decisions
WHERE outcome = 'opened' AND has(routes, {{route:String}})
    AND decided_at <= now64(3, 'UTC') - toIntervalMillisecond({{after:Int64}})
    AND decided_at > now64(3, 'UTC') - toIntervalMillisecond({{after:Int64}}) - {_BACK}
    AND alert_id NOT IN (SELECT alert_id FROM alert_acknowledgements)
    AND alert_id NOT IN (SELECT alert_id FROM alert_decisions WHERE outcome = 'resolved'
        AND decided_at > now64(3, 'UTC') - toIntervalMillisecond({{after:Int64}}) - {_BACK})
    AND alert_id NOT IN (SELECT alert_id FROM alert_deliveries_log WHERE occasion = 'escalated'
        AND target IN {{targets:Array(String)}}
        AND at > now64(3, 'UTC') - toIntervalMillisecond({{after:Int64}}) - {_BACK})
ORDER BY decided_at LIMIT {MOST}"""


def acknowledge(store: Store, alert_id: str, by: str, via: str, comment: str = "") -> None:
    """Record that somebody has seen an alert; doing it again adds a row and changes nothing.

    Raises ConfigurationError where there is no such alert.
    """
    ((there,),) = store.execute(_THERE, {"alert": alert_id}).rows
    if not there:
        raise ConfigurationError(f"there is no alert {alert_id[:64]}: `usageaudit alerts list` shows what there is")
    values = {"alert": alert_id, "by": by[:LONGEST_COMMENT], "via": via, "comment": comment[:LONGEST_COMMENT]}
    store.execute(_ACKNOWLEDGE, values)
    settle(store, "alert_acknowledgements")


def acknowledged(store: Store, targets: Sequence[str], back_ms: int) -> list[Delivery]:
    """Return the deliveries that tell targets which took an alert that somebody acknowledged it of late, once each."""
    if not targets:
        return []
    alerts = [str(name) for (name,) in store.execute(_SEEN, {"back": back_ms}).rows]
    if not alerts:
        return []
    rows = store.execute(_UNTOLD, {"alerts": alerts, "targets": list(targets)}).rows
    pairs = [(str(alert), str(target)) for alert, target in rows]
    return [
        Delivery(delivery_id(alert, target, "acknowledged"), alert, target, "acknowledged") for alert, target in pairs
    ]


def escalations(store: Store, routes: Sequence[Route], back_ms: int = DAYS_MS) -> list[Delivery]:
    """Return the deliveries that are due, since so many milliseconds, because nobody acknowledged their alerts."""
    found: dict[str, Delivery] = {}
    for route in routes:
        if route.escalate is None:
            continue
        after, targets = int(route.escalate.after * 1000), list(route.escalate.to)
        values = {"route": route.name, "after": after, "targets": targets, "back": back_ms}
        for (alert,) in store.execute(_DUE, values).rows:
            for target in targets:
                name = delivery_id(str(alert), target, "escalated")
                found[name] = Delivery(name, str(alert), target, "escalated")
    return list(found.values())
