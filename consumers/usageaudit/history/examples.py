"""Examples of events whose verdict changes, with what decided them and what they did not say."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from usageaudit.history.comparing import LIMITS, groups, unfolded
from usageaudit.history.counting import changes, codes_of
from usageaudit.history.recorded import occurrences
from usageaudit.history.report import Example
from usageaudit.history.spans import moment
from usageaudit.policy.explain import PolicyExplainer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from usageaudit.history.comparing import Compared, Counts
    from usageaudit.history.recorded import Key
    from usageaudit.history.spans import Span
    from usageaudit.policy import Bundle, Policy
    from usageaudit.policy.schema import Occurrence
    from usageaudit.stores.port import Store

Pair = tuple[str, int]
"""A policy's id, and codes before and after."""
_WHO = ("event_time", "event_source", "event_id", "actor_organization", "application_name", "model_name")


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
    return {policy_id: tuple(sorted(some, key=_gravest_first)) for policy_id, some in found.items()}


def _gravest_first(example: Example) -> tuple[int, int]:
    before, after = codes_of(example.pair)
    return (-after, -before)


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
    wanted, accepted = f"n IN ({', '.join(map(str, numbers))})", span.period.accepted
    # The times first, without who it was: those few rows are then found by their time.
    early = unfolded(group, accepted, ("event_time",), wanted)
    sql = f"SELECT toUnixTimestamp64Micro(event_time) FROM ({early}) ORDER BY event_time LIMIT {most} BY number"
    times = {int(time) for (time,) in store.query(sql, None, LIMITS).rows}
    if not times:
        return
    at = ", ".join(map(moment, sorted(times)))
    rows = unfolded(group, f"{accepted} AND event_time IN ({at})", _WHO, wanted)
    sql = (
        f"SELECT number, toUnixTimestamp64Micro(event_time), {', '.join(_WHO[1:])} FROM ({rows}) "
        f"ORDER BY event_time, event_source, event_id LIMIT {most} BY number"
    )
    for number, time, source, event_id, organization, application, model in store.query(sql, None, LIMITS).rows:
        yield (
            group[number // 64].policy_id,
            Example(number % 64, source, event_id, time, organization, application, model),
        )


def explained(
    store: Store, bundle: Bundle, found: Mapping[str, Sequence[Example]], as_of: int | None
) -> Mapping[str, Sequence[Example]]:
    """Return examples with what decided them, and which fields of theirs were missing, by the policies of a bundle.

    Those of policies that it does not have stay as they are.
    """
    keys = dict.fromkeys(_key(example) for some in found.values() for example in some)
    events = occurrences(store, list(keys), bundle)
    whole = dict(found)
    for policy in bundle.policies:
        if policy.id in found:
            explainer = PolicyExplainer(policy if as_of is None else always(policy, as_of))
            some = found[policy.id]
            whole[policy.id] = tuple(_explained(explainer, example, events.get(_key(example))) for example in some)
    return whole


def _key(example: Example) -> Key:
    return (example.time, example.source, example.event_id)


def _explained(explainer: PolicyExplainer, example: Example, event: Occurrence | None) -> Example:
    if event is None:
        return example
    found = explainer.explain(event)
    return replace(example, missing_fields=found.missing_fields, deciding=found.deciding)


def always(policy: Policy, time: int) -> Policy:
    """Return a policy whose revision at a time holds for all times."""
    revision = policy.revision_at(time)
    return replace(policy, revisions=() if revision is None else (replace(revision, start=None, end=None),))
