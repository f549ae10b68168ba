"""Whole policies, with revisions, `applies` and exceptions, mean the same on the stream and in the ledger."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.differential import pools
from tests.differential.batches import Batch
from tests.unit.policy.bundles import bundle_of, policy
from usageaudit.events.times import format_time
from usageaudit.policy import compile_judge, explain_event
from usageaudit.policy.language import OPERATORS
from usageaudit.policy.sql import ledger_columns
from usageaudit.policy.sql.judging import CODES, judgements

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.policy import Bundle
    from usageaudit.policy.schema import Occurrence
    from usageaudit.stores.port import Store

EVENTS, POLICIES = 150, 40
RECORDED = {"violation", "exempted", "indeterminate"}


def _policies(batch: Batch, rnd: random.Random) -> Iterator[str]:
    rows = rnd.choices(OPERATORS, k=POLICIES * 4)
    conditions = iter(batch.world.random_conditions(rnd, batch.values[:8], rows))
    for number in range(POLICIES):
        cut = format_time(rnd.choice(pools.MOMENTS))
        revisions: list[dict[str, Any]] = [{"version": 1, "when": next(conditions)}]
        if rnd.random() < 0.5:
            later = {"version": 2, "when": next(conditions), "from": cut}
            revisions = [{**revisions[0], "to": cut}, later][rnd.randrange(2) :]
        exception = {"id": "EX", "approved_by": "a", "reason": "b", "when": next(conditions), "expires": cut}
        more: dict[str, Any] = {"on_unknown": rnd.choice(("record", "violate", "ignore"))}
        if rnd.random() < 0.5:
            more["applies"] = next(conditions)
        if rnd.random() < 0.5:
            more["exceptions"] = [exception]
        yield policy(name=str(number), let=batch.world.vocabulary.lets, revisions=revisions, **more)


def _explained(bundle: Bundle, events: list[Occurrence]) -> dict[str, list[str]]:
    """Return the verdicts of each policy for the events."""
    found: dict[str, list[str]] = {policy.id: [] for policy in bundle.policies}
    for event in events:
        for one in explain_event(bundle, event.data, event.time, event.record_time, event.source, event.event_id):
            found[one.policy_id].append(one.verdict)
    return found


def _judged(bundle: Bundle, events: list[Occurrence]) -> dict[str, list[str]]:
    """Return the same of the stream's judge, `ok` where it records nothing."""
    judge = compile_judge(bundle)
    found: dict[str, list[str]] = {policy.id: [] for policy in bundle.policies}
    for event in events:
        verdicts = judge(event.data, event.time, event.record_time, event.source, event.event_id)
        recorded = {one.policy_id: "violation" for one in verdicts.violated}
        recorded |= {one.policy_id: "exempted" for one in verdicts.exempted}
        recorded |= {one.policy_id: "indeterminate" for one in verdicts.indeterminate}
        for policy_id, listed in found.items():
            listed.append(recorded.get(policy_id, "ok"))
    return found


def _in_sql(bundle: Bundle, batch: Batch) -> dict[str, list[str]]:
    """Return the same of the ledger's rows; of a policy's revisions one at most is in force."""
    names: dict[int, str] = {code: name for name, code in CODES.items()}
    columns = ledger_columns(bundle.registry)
    found: dict[str, list[str]] = {}
    for one in judgements(bundle, columns, ("shadow", "enforce")):
        rows = batch.sql.store.execute(f"SELECT {one.sql} FROM ledger ORDER BY offset").rows
        codes = [names[code] for (code,) in rows]
        before = found.setdefault(one.policy.id, codes)
        pairs = zip(before, codes, strict=True)
        found[one.policy.id] = [new if old == "not_applicable" else old for old, new in pairs]
    return found


@settings(max_examples=3, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(seed=st.integers(0, 2**32))
def test_policies_give_the_same_verdicts_on_the_stream_and_in_the_ledger(store: Store, seed: int) -> None:
    """For each policy and event the explanation, the stream's judge and SQL over the ledger give one verdict."""
    batch = Batch.of(seed, store, EVENTS)
    bundle = bundle_of(*_policies(batch, random.Random(seed)), **batch.world.files)
    explained = _explained(bundle, batch.events)
    assert {verdict for verdicts in explained.values() for verdict in verdicts} == set(CODES)
    assert _in_sql(bundle, batch) == explained
    ignored = {one.id for one in bundle.policies if one.on_unknown == "ignore"}
    assert _judged(bundle, batch.events) == {
        policy_id: [
            verdict if verdict in RECORDED and (verdict != "indeterminate" or policy_id not in ignored) else "ok"
            for verdict in verdicts
        ]
        for policy_id, verdicts in explained.items()
    }
