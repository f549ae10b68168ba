"""Whether an event counts for a windowed policy: what `explain` says is what the SQL of the scheduler counts."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.rejudging import forget, record, structured
from tests.strategies import MINIMAL
from tests.unit.policy.bundles import bundle_of, policy
from usageaudit.cloudevents import decode
from usageaudit.policy.explain import explain_windowed
from usageaudit.policy.model import STAGES
from usageaudit.scheduler.rules import rules_of
from usageaudit.stores.address import open_store
from usageaudit.stores.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.stores.port import Store

COUNT: dict[str, Any] = {"kind": "event_count", "over": "1h", "group_by": ["actor.organization"]}
SUM: dict[str, Any] = {**COUNT, "kind": "value_sum", "field": "usage.input_tokens"}
STEPS: dict[str, Any] = {
    **COUNT,
    "kind": "temporal_ordered",
    "steps": ['purpose.use_case == "x"', 'purpose.use_case == "y"'],
}
WAIT: dict[str, Any] = {
    **COUNT, "kind": "absence", "expect": 'purpose.use_case == "y"', "heartbeat": {"when": "true", "every": "10m"}
}  # fmt: skip
FIRST: dict[str, Any] = {"kind": "first_seen", "group_by": ["registry.team", "model.name"]}
EXCEPTION = {
    "id": "E", "when": 'model.name == "excused"', "approved_by": "me", "reason": "why", "expires": "2030-01-01"
}  # fmt: skip
_MORE: tuple[dict[str, Any], ...] = ({}, {"applies": "usage.output_tokens > 5"}, {"exceptions": [EXCEPTION]})
POLICIES = [
    policy(when, name=f"p{number}", window=window, **({"condition": "value > 3"} if "over" in window else {}), **more)
    if window["kind"] in ("event_count", "value_sum")
    else policy(when, name=f"p{number}", window=window, **more)
    for number, (when, window, more) in enumerate(
        itertools.product(
            ("true", "has(oversight.human_review)", "oversight.human_review"),
            (COUNT, SUM, STEPS, WAIT, FIRST),
            _MORE,
        )
    )
]
EVENTS: list[dict[str, Any]] = [
    {
        **MINIMAL,
        "actor": {**MINIMAL["actor"], **({"organization": "o"} if known else {})},
        "application": {"name": "desk" if known else "other"},
        "model": {**MINIMAL["model"], "name": name},
        "purpose": {} if use_case is None else {"use_case": use_case},
        "oversight": {} if review is None else {"human_review": review},
        "usage": {} if tokens is None else {"input_tokens": tokens, "output_tokens": tokens},
    }
    for known, name, use_case, review, tokens in itertools.product(
        (True, False), ("m", "excused"), ("x", "y", "z", None), (True, False, None), (1, 9, None)
    )
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield an embedded store with its tables."""
    made = open_store(f"embedded:{tmp_path_factory.mktemp('store')}")
    migrate(made)
    yield made
    made.close()


def test_an_event_counts_where_it_is_counted(store: Store) -> None:
    """For policies of every kind and events of every sort, `counts` is true of exactly those that SQL counts."""
    registry = json.dumps({"desk": {"team": "t"}})
    bundle = bundle_of(*POLICIES, registry=registry)
    made = [
        structured(number, data, id=f"e{number}", time="2024-05-06T12:00:00Z") for number, data in enumerate(EVENTS)
    ]
    forget(store)
    record(store, bundle, made)
    explained: dict[str, dict[bool | None, set[str]]] = {}
    for one in made:
        event = decode(one.value, one.headers)
        for said in explain_windowed(bundle, event.data, event.time, None, event.source, event.id):
            explained.setdefault(said.policy_id, {}).setdefault(said.counts, set()).add(event.id)
            assert bool(said.missing_fields) <= (said.counts is None)
    for rule in rules_of(bundle, STAGES):
        counted = {row[0] for row in store.execute(f"SELECT id FROM ({rule.matching.rows('1')})").rows}
        assert explained[rule.policy.id].get(True, set()) == counted, rule.policy.id
        assert counted
