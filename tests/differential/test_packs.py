"""The shipped packs mean the same in the ledger: their own tests, and what is filled in, judged by SQL."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.differential.occurrences import Sample
from tests.differential.sides import SqlSide, occurrence
from tests.unit.policy.article_5 import REGISTRY
from tests.unit.policy.bundles import write
from tests.unit.policy.hygiene import ORGANISATION
from usageaudit.policy import load_bundle
from usageaudit.policy.explain import PolicyExplainer
from usageaudit.policy.folders import shipped_packs
from usageaudit.policy.sql import ledger_columns
from usageaudit.policy.sql.judging import CODES, judgements

if TYPE_CHECKING:
    from pathlib import Path

    from usageaudit.policy import Bundle
    from usageaudit.policy.model import PolicyTest
    from usageaudit.stores.port import Store

PACKS = sorted(shipped_packs())


def _events(bundle: Bundle) -> dict[tuple[bytes, int, int | None, str, str], Sample]:
    """Return the events of all tests of a bundle by what they say, each once, with ids that differ behind a space."""
    unique = dict.fromkeys(_facts(test) for policy in bundle.policies for test in policy.tests)
    return {
        facts: Sample(json.loads(facts[0]), facts[1], facts[2] and facts[2] // 1000, facts[3], f"{facts[4]} {number}")
        for number, facts in enumerate(unique)
    }


def _facts(test: PolicyTest) -> tuple[bytes, int, int | None, str, str]:
    return test.data, test.time, test.record_time, test.source, test.event_id


def _in_sql(bundle: Bundle, side: SqlSide) -> dict[str, list[str]]:
    """Return the verdicts of each policy for the rows of the ledger; of its revisions one at most is in force."""
    names: dict[int, str] = {code: name for name, code in CODES.items()}
    columns = ledger_columns(bundle.registry)
    found: dict[str, list[str]] = {}
    for one in judgements(bundle, columns, ("shadow", "enforce")):
        rows = side.store.execute(f"SELECT {one.sql} FROM ledger ORDER BY offset").rows
        codes = [names[code] for (code,) in rows]
        before = found.setdefault(one.policy.id, codes)
        pairs = zip(before, codes, strict=True)
        found[one.policy.id] = [new if old == "not_applicable" else old for old, new in pairs]
    return found


@pytest.mark.parametrize("pack", PACKS)
def test_the_tests_of_a_pack_pass_in_the_ledger(store: Store, pack: str) -> None:
    """Each test that a shipped policy brings along gets the verdict that it expects by SQL, too."""
    bundle = load_bundle([pack])
    side = SqlSide(store, bundle.registry)
    events = _events(bundle)
    side.fill(list(events.values()))
    numbers = {facts: number for number, facts in enumerate(events)}
    found = _in_sql(bundle, side)
    wrong = [
        (policy.id, test.name, test.expect, found[policy.id][numbers[_facts(test)]])
        for policy in bundle.policies
        for test in policy.tests
        if found[policy.id][numbers[_facts(test)]] != test.expect
    ]
    assert wrong == []


def test_packs_that_are_filled_in_say_the_same_in_the_ledger(store: Store, tmp_path: Path) -> None:
    """By an organisation's lists and registry every policy gives each event of any test one verdict on both sides."""
    files = {
        "bundle.yaml": f"name: acme\nuses: {json.dumps(PACKS)}\n",
        "lists.yaml": json.dumps({"allowed_models": ["test", *ORGANISATION.models]}),
        "registry.yaml": json.dumps({**REGISTRY, **ORGANISATION.registry}),
    }
    bundle = load_bundle([write(tmp_path, files)])
    names = ("lab-it", "desk-us", "watch", "desk", "vault", "misfiled", "unheard-of")
    events = [
        replace(one, data={**one.data, "application": {"name": names[number % len(names)]}})
        for number, one in enumerate(_events(bundle).values())
    ]
    side = SqlSide(store, bundle.registry)
    side.fill(events)
    occurrences = [occurrence(one, bundle.registry) for one in events]
    explained = {
        policy.id: [explainer.explain(event).verdict for event in occurrences]
        for policy in bundle.policies
        for explainer in [PolicyExplainer(policy)]
    }
    assert _in_sql(bundle, side) == explained
    assert all(
        len(set(explained[f"hygiene/{one}"])) > 2 for one in ("use-case-not-approved", "jurisdiction-not-a-code")
    )
