"""What the demonstration asks the record: plain SQL on the documented views."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from usageaudit.demo.scenarios import SOURCE, scenarios

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usageaudit.stores.port import Parameters, Store

CHANGE = date(2024, 5, 1)
WEEK = ("2024-04-29", "2024-05-06")
_IN_WEEK = f"toDate(event_time) >= '{WEEK[0]}' AND toDate(event_time) < '{WEEK[1]}' AND event_source != '{SOURCE}'"

COUNTS = """SELECT concat(topic, '[', toString(partition), ']') AS partition, count() AS consumed,
    countIf(status = 'accepted') AS accepted, countIf(status = 'duplicate') AS duplicate,
    countIf(status = 'rejected') AS rejected
FROM stream_records GROUP BY topic, stream_records.partition ORDER BY topic, stream_records.partition"""

REJECTED = """SELECT error, count() AS records FROM rejects GROUP BY error ORDER BY records DESC, error LIMIT 4"""

USAGE = f"""SELECT application_name, sum(u.events) AS events, sum(u.failed) AS failed,
    ifNull(sum(u.input_tokens), 0) + ifNull(sum(u.output_tokens), 0) AS tokens, sum(u.cost) AS cost
FROM usage_daily AS u WHERE day >= '{WEEK[0]}' AND day < '{WEEK[1]}'
GROUP BY application_name ORDER BY events DESC"""

DAYS = f"""SELECT day, sum(u.events) AS events FROM usage_daily AS u
WHERE day >= '{WEEK[0]}' AND day < '{WEEK[1]}' GROUP BY day ORDER BY day"""

VIOLATIONS = """SELECT replaceOne(policy_id, 'azure-openai-code-of-conduct/', '') AS policy, any(severity) AS severity,
    count() AS violations, uniqExact(application_name) AS applications
FROM violations WHERE verdict = 'violation' GROUP BY policy_id ORDER BY violations DESC, policy"""

CHANGED_BY_DAY = f"""SELECT day, countIf(violates) AS violating, count() AS uses
FROM (SELECT toDate(event_time) AS day, hasAny(violated, {{changed:Array(String)}}) AS violates FROM usage_events
    WHERE purpose_use_case = 'facial_recognition' AND {_IN_WEEK})
GROUP BY day ORDER BY day"""

AFFECTED = """SELECT organization, jurisdiction,
    sum(early) AS uses_before, sum(early AND violates) AS violations_before,
    sum(NOT early) AS uses_after, sum(NOT early AND violates) AS violations_after,
    violations_before = 0 AND violations_after > 0 AND uses_before > 0 AS newly
FROM (SELECT coalesce(actor_on_behalf_of_organization, actor_organization, '(not declared)') AS organization,
        coalesce(actor_on_behalf_of_jurisdiction, actor_jurisdiction, '') AS jurisdiction,
        toDate(event_time) < {change:Date} AS early, hasAny(violated, {changed:Array(String)}) AS violates
    FROM usage_events WHERE purpose_use_case = 'facial_recognition')
GROUP BY organization, jurisdiction
ORDER BY newly DESC, violations_after DESC, uses_after DESC, organization LIMIT 8"""

UNDECIDED = """SELECT application_name, count() AS events, arraySort(groupUniqArrayArray(missing)) AS missing_fields
FROM (SELECT application_name, event_source, event_id, groupUniqArrayArray(missing_fields) AS missing
    FROM indeterminates GROUP BY application_name, event_source, event_id)
GROUP BY application_name ORDER BY events DESC"""

APPLICATION_EVENTS = "SELECT application_name, sum(u.events) AS events FROM usage_daily AS u GROUP BY application_name"

EXAMPLE = f"""SELECT event_time, application_name, model_name, policy_id, severity, message, evidence,
    event_source, event_id, bundle
FROM violations WHERE policy_id LIKE '%/real-time-facial-recognition-on-mobile-cameras' AND event_source != '{SOURCE}'
ORDER BY event_time LIMIT 1"""

_SCENARIO_VERDICTS = (
    """SELECT event_id, violated, indeterminate FROM usage_events WHERE event_source = {source:String}"""
)


def rows(store: Store, sql: str, parameters: Parameters | None = None) -> list[dict[str, Any]]:
    """Return the rows of a question as mappings."""
    found = store.query(sql, parameters)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def scenarios_as_expected(store: Store) -> tuple[int, Sequence[str]]:
    """Return how many scenario events were judged as the pack's tests say, and the ids of those that were not."""
    found = {
        str(event_id): (frozenset(violated), frozenset(indeterminate))
        for event_id, violated, indeterminate in store.query(_SCENARIO_VERDICTS, {"source": SOURCE}).rows
    }
    expected = scenarios()
    wrong = [one.event.id for one in expected if found.get(one.event.id) != (one.violated, one.indeterminate)]
    return len(expected) - len(wrong), wrong
