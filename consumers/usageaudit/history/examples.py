"""Examples of events whose verdict changes, with what decided them and what they did not say."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from usageaudit.cloudevents import decode_recorded
from usageaudit.errors import InvalidEvent
from usageaudit.history.comparing import LIMITS, groups, unfolded
from usageaudit.history.counting import changes
from usageaudit.history.report import Example
from usageaudit.policy.explain import PolicyExplainer
from usageaudit.policy.schema import Occurrence

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from usageaudit.history.comparing import Compared, Counts
    from usageaudit.history.spans import Span
    from usageaudit.policy import Bundle, Policy
    from usageaudit.stores.port import Store

Key = tuple[int, str, str]
"""Time in microseconds, source and id of an event."""
Pair = tuple[str, int]
"""A policy's id, and codes before and after."""
_WHO = ("event_time", "event_source", "event_id", "actor_organization", "application_name", "model_name")
_RAW = """SELECT toUnixTimestamp64Micro(event_time), event_source, event_id, raw, content_mode,
    toUnixTimestamp64Milli(record_time)
FROM ledger WHERE status = 'accepted' AND event_source = {source:String} AND event_id = {id:String}
    AND event_time = fromUnixTimestamp64Micro({time:Int64}, 'UTC') LIMIT 1"""


def examples(
    store: Store, compared: Mapping[str, Compared], counts: Counts, most: int
) -> Mapping[str, tuple[Example, ...]]:
    """Return for each policy the first events, by time, of each change of a verdict, up to so many of each."""
    found: defaultdict[str, list[Example]] = defaultdict(list)
    for span, pairs in _wanted(counts, most):
        wanted = [compared[policy_id] for policy_id in dict.fromkeys(policy_id for policy_id, _ in pairs)]
        for group in groups(wanted):
            for policy_id, example in _in_span(store, group, span, pairs, most):
                if sum(one.pair == example.pair for one in found[policy_id]) < most:
                    found[policy_id].append(example)
    return {policy_id: tuple(sorted(some, key=lambda one: one.pair)) for policy_id, some in found.items()}


def _wanted(counts: Counts, most: int) -> Iterator[tuple[Span, Collection[Pair]]]:
    """Yield the spans, by time, in which the first events of each change lie, with the changes to look for there."""
    wanted: defaultdict[Span, list[Pair]] = defaultdict(list)
    for (policy_id, pair), spans in counts.spans.items():
        left = most if changes(pair) else 0
        for span, events in spans:
            if left <= 0:
                break
            wanted[span].append((policy_id, pair))
            left -= events
    return iter(sorted(wanted.items(), key=lambda item: item[0].period.start))


def _in_span(
    store: Store, group: Sequence[Compared], span: Span, pairs: Collection[Pair], most: int
) -> Iterator[tuple[str, Example]]:
    numbers = [64 * place + pair for place, one in enumerate(group) for name, pair in pairs if name == one.policy_id]
    rows = unfolded(group, span.period, _WHO, f"n IN ({', '.join(map(str, numbers))})")
    sql = (
        f"SELECT number, toUnixTimestamp64Micro(event_time), {', '.join(_WHO[1:])} FROM ({rows}) "
        f"ORDER BY event_time, event_source, event_id LIMIT {most} BY number"
    )
    for number, time, source, event_id, organization, application, model in store.query(sql, None, LIMITS).rows:
        yield (
            group[number // 64].policy_id,
            Example(number % 64, source, event_id, time, organization, application, model),
        )


def occurrence(store: Store, key: Key, bundle: Bundle) -> Occurrence | None:
    """Return a recorded event as policies see it, None where its record can't be read any more."""
    time, source, event_id = key
    rows = store.query(_RAW, {"time": time, "source": source, "id": event_id}, LIMITS).rows
    return occurrence_of(rows[0], bundle) if rows else None


def occurrence_of(row: Sequence[object], bundle: Bundle) -> Occurrence | None:
    """Return the event of a row of time, source, id, raw, content mode and record time in milliseconds."""
    time, source, event_id, raw, mode, record_time = row
    value = raw.encode() if isinstance(raw, str) else bytes(raw)  # type: ignore[call-overload]
    try:
        event = decode_recorded(value, str(mode), str(source), str(event_id), int(time))  # type: ignore[call-overload]
    except InvalidEvent:
        return None
    moment = None if record_time is None else int(record_time) * 1000  # type: ignore[call-overload]
    return Occurrence(event.data, event.time, moment, bundle.registry, event.source, event.id)


def explained(
    store: Store, bundle: Bundle, policy: Policy, some: Sequence[Example], as_of: int | None
) -> tuple[Example, ...]:
    """Return examples with what decided them, and which fields of theirs were missing, by a policy."""
    explainer = PolicyExplainer(policy if as_of is None else always(policy, as_of))
    return tuple(_explained(store, bundle, explainer, example) for example in some)


def _explained(store: Store, bundle: Bundle, explainer: PolicyExplainer, example: Example) -> Example:
    event = occurrence(store, (example.time, example.source, example.event_id), bundle)
    if event is None:
        return example
    found = explainer.explain(event)
    return replace(example, missing_fields=found.missing_fields, deciding=found.deciding)


def always(policy: Policy, time: int) -> Policy:
    """Return a policy whose revision at a time holds for all times."""
    revision = policy.revision_at(time)
    return replace(policy, revisions=() if revision is None else (replace(revision, start=None, end=None),))
