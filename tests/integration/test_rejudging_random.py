"""Random policies judge random events into a ledger: `verify` agrees with the judge, and notices one that is wrong."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ledger_rows import EMBEDDED, migrated_store
from tests.rejudging import forget, record, structured
from tests.strategies import MINIMAL
from tests.unit.policy.bundles import bundle_of
from tests.unit.policy.conditions import Random
from usageaudit.events.times import format_time
from usageaudit.integrity import check_verdicts
from usageaudit.policy import compile_judge
from usageaudit.verdicts import Exemption, Indeterminate, Verdicts, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.policy import Bundle
    from usageaudit.stores.port import Store
    from usageaudit.streams.port import Record

LISTS = json.dumps({"some": ["a", "b"]})
REGISTRY = json.dumps(
    {"a": {"sector": "b", "approved_use_cases": ["a"]}, "b": {"sector": "a"}, "é": {"approved_use_cases": []}}
)
EVENTS = 25
Said = Violation | Exemption | Indeterminate


@pytest.fixture(scope="module", params=[EMBEDDED])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield an embedded store with its tables."""
    with migrated_store(request, tmp_path_factory) as made:
        yield made


def _world(seed: int) -> tuple[Random, Bundle, list[Record]]:
    rnd = Random(random.Random(seed))
    bundle = bundle_of(*rnd.policies(), lists=LISTS, registry=REGISTRY)
    return rnd, bundle, [_event(rnd, offset) for offset in range(EVENTS)]


def _event(rnd: Random, offset: int) -> Record:
    data = rnd.event()
    merged = {
        **MINIMAL,
        **data,
        **{name: {**MINIMAL[name], **data[name]} for name in ("model", "actor", "application")},
    }
    stamp = rnd.maybe(rnd.time())
    attributes = {"id": rnd.maybe(rnd.word()) or f"e{offset}", "source": rnd.word(), "time": format_time(rnd.time())}
    return structured(offset, merged, None if stamp is None else stamp // 1000, **attributes)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32))
def test_what_was_judged_is_judged_the_same_again(store: Store, seed: int) -> None:
    """Whatever the policies and the events, SQL and the explanations find the verdicts that the judge recorded."""
    forget(store)
    _, bundle, records = _world(seed)
    record(store, bundle, records)
    found = check_verdicts(store, None)
    assert (found.problems, found.notes) == ([], [])
    assert found.rows == found.sampled > 0


class _Wrong:
    """A judge that is wrong now and then, and remembers about which policy of which event."""

    def __init__(self, bundle: Bundle, rnd: random.Random) -> None:
        self._judge, self._rnd = compile_judge(bundle), rnd
        self.wrong: set[tuple[str, str]] = set()

    def __call__(
        self,
        data: Any,
        time: int,
        record_time: int | None = None,
        source: str | None = None,
        event_id: str | None = None,
    ) -> Verdicts:
        verdicts = self._judge(data, time, record_time, source, event_id)
        said: list[Said] = [*verdicts.violated, *verdicts.exempted, *verdicts.indeterminate]
        if not said or self._rnd.random() < 0.5:
            return verdicts
        chosen = self._rnd.choice(said)
        self.wrong.add((chosen.policy_id, f"{source} {event_id}"))
        kept = Verdicts(
            tuple(one for one in verdicts.violated if one != chosen),
            tuple(one for one in verdicts.exempted if one != chosen),
            tuple(one for one in verdicts.indeterminate if one != chosen),
        )
        return self._instead(chosen, kept)

    def _instead(self, one: Said, kept: Verdicts) -> Verdicts:
        """Return the other verdicts, with another in the place of the chosen one, or with none."""
        violated, exempted, undecided = kept
        policy, version = one.policy_id, one.policy_version
        match self._rnd.randrange(4):
            case 0:
                return kept
            case 1 if not isinstance(one, Violation):
                return Verdicts((*violated, Violation(policy, version, "medium", "enforce", "m")), exempted, undecided)
            case 2 if not isinstance(one, Indeterminate):
                return Verdicts(violated, exempted, (*undecided, Indeterminate(policy, version, ())))
            case 3 if isinstance(one, Violation):
                wrong = Exemption(policy, version, one.severity, one.stage, one.message, "EX")
                return Verdicts(violated, (*exempted, wrong), undecided)
            case _:
                return _with(one._replace(policy_version=version + 3), kept)


def _with(one: Said, kept: Verdicts) -> Verdicts:
    if isinstance(one, Violation):
        return kept._replace(violated=(*kept.violated, one))
    if isinstance(one, Exemption):
        return kept._replace(exempted=(*kept.exempted, one))
    return kept._replace(indeterminate=(*kept.indeterminate, one))


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32))
def test_wrong_judge_is_noticed(store: Store, seed: int) -> None:
    """Every policy about which a judge was wrong is named, and no other; where few events are, they are, too."""
    forget(store)
    _rnd, bundle, records = _world(seed)
    judge = _Wrong(bundle, random.Random(seed))
    record(store, bundle, records, judge)
    problems = check_verdicts(store, None).problems
    assert {one.where.rpartition(" version ")[0] for one in problems} == {policy for policy, _ in judge.wrong}
    named = {(one.where.rpartition(" version ")[0], event) for one in problems for event in _events(one.message)}
    assert named <= judge.wrong


def _events(message: str) -> list[str]:
    return message.rpartition("; such as ")[2].split(", ")
