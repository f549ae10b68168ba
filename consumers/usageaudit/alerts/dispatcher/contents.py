"""What alerts say, read from the ledger and the findings when they are sent: decisions hold no content."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.alerts.model import Alert
from usageaudit.events.times import format_time
from usageaudit.policy.sql.text import literal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from usageaudit.stores.port import Store

_IN_A_STATEMENT = 200
_OPENED = """SELECT alert_id, kind, policy_id, policy_version, severity, violation_id, `group`, event_source, event_id,
    toUnixTimestamp64Micro(event_time) AS time, gathering, toUnixTimestamp64Milli(recorded) AS at
FROM alert_decisions WHERE (recorded, violation_id) IN (SELECT recorded, violation_id FROM alert_decisions
    WHERE outcome = 'opened' AND alert_id IN ({alerts:Array(String)}))"""
_COUNTS = """SELECT alert_id, count() FROM alert_decisions WHERE alert_id IN ({alerts:Array(String)})
AND outcome IN ('opened', 'gathered') GROUP BY alert_id"""
_FINDINGS = """SELECT finding_id, '', argMax(message, created), argMax(evidence, created), any(application_name), '',
    ifNull(any(actor_organization), ''), any(model_name), any(bundle)
FROM findings_log WHERE finding_id IN ({ids:Array(String)}) AND effect != 'cleared' GROUP BY finding_id"""


def alerts(store: Store, wanted: Iterable[str], link: Callable[[str], str] = lambda _: "") -> dict[str, Alert]:
    """Return alerts by their ids, as firing; those that the record does not have are left out."""
    found: dict[str, Alert] = {}
    ids = sorted(set(wanted))
    for start in range(0, len(ids), _IN_A_STATEMENT):
        some = ids[start : start + _IN_A_STATEMENT]
        rows = store.execute(_OPENED, {"alerts": some}).rows
        counts = {str(name): int(count) for name, count in store.execute(_COUNTS, {"alerts": some}).rows}
        said = _said(store, rows)
        for row in rows:
            name = str(row[0])
            found[name] = _alert(row, said, counts.get(name, 1), link(name))
    return found


def _alert(row: Sequence[object], said: Mapping[tuple[str, str], Sequence[str]], count: int, url: str) -> Alert:
    name, kind, policy, version, severity, violation, group, source, event_id, time, _, _ = row
    place = (str(violation), "") if kind != "event" else (f"{source}\0{event_id}", str(policy))
    message, evidence, application, team, organization, model, bundle = said.get(place, ("", "", "", "", "", "", ""))
    return Alert(
        alert_id=str(name),
        status="firing",
        kind=str(kind),
        policy_id=str(policy),
        policy_version=int(str(version)),
        severity=severity,  # type: ignore[arg-type]
        message=message,
        violation_id=str(violation),
        first_time=format_time(int(str(time))),
        group=dict(group),  # type: ignore[call-overload]
        count=count,
        application=application,
        team=team,
        organization=organization,
        model=model,
        event_source=str(source),
        event_id=str(event_id),
        evidence=evidence or "{}",
        bundle=bundle,
        acknowledge_url=url,
    )


def _said(store: Store, rows: Sequence[Sequence[object]]) -> dict[tuple[str, str], Sequence[str]]:
    """Return message, evidence and the like, by event and policy, or by finding."""
    events = [(int(str(row[9])), str(row[7]), str(row[8])) for row in rows if row[1] == "event"]
    ids = [str(row[5]) for row in rows if row[1] != "event"]
    found = list(store.execute(_events(events)).rows) if events else []
    found += store.execute(_FINDINGS, {"ids": ids}).rows if ids else []
    return {(str(row[0]), str(row[1])): tuple(map(str, row[2:])) for row in found}


def _events(keys: Collection[tuple[int, str, str]]) -> str:
    listed = ", ".join(
        f"(fromUnixTimestamp64Micro({time}, 'UTC'), {literal(source)}, {literal(event_id)})"
        for time, source, event_id in keys
    )
    return f"""SELECT concat(event_source, '\\0', event_id), policy_id, message, evidence, application_name,
    ifNull(application_team, ''), ifNull(actor_organization, ''), model_name, bundle
FROM ledger ARRAY JOIN violated AS policy_id, violated_message AS message, violated_evidence AS evidence
WHERE status = 'accepted' AND (event_time, event_source, event_id) IN ({listed})"""
