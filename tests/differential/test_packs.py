"""The shipped packs mean the same in the ledger: their own tests, and what is filled in, judged by SQL."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
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
    from collections.abc import Mapping
    from pathlib import Path

    from usageaudit.policy import Bundle, RegistryEntry
    from usageaudit.policy.model import PolicyTest
    from usageaudit.stores.port import Store

    Facts = tuple[bytes, int, int | None, str, str, RegistryEntry | None]

PACKS = sorted(shipped_packs())


@dataclass(frozen=True, slots=True)
class _Asked:
    """The events of a bundle's tests, each once, and what the tests say of their applications."""

    samples: tuple[Sample, ...]
    numbers: Mapping[Facts, int]
    registry: Mapping[str, RegistryEntry]


def _asked(bundle: Bundle) -> _Asked:
    """Return the events with ids that differ behind a space, and with applications that the tests register."""
    unique = dict.fromkeys(_facts(test) for policy in bundle.policies for test in policy.tests)
    samples, registry = [], dict(bundle.registry)
    for number, (data, time, record_time, source, event_id, entry) in enumerate(unique):
        event = json.loads(data)
        if entry is not None:
            event["application"]["name"] = f"application {number}"
            registry[f"application {number}"] = entry
        samples.append(Sample(event, time, record_time and record_time // 1000, source, f"{event_id} {number}"))
    return _Asked(tuple(samples), {facts: number for number, facts in enumerate(unique)}, registry)


def _facts(test: PolicyTest) -> Facts:
    return test.data, test.time, test.record_time, test.source, test.event_id, test.registry


def _in_sql(bundle: Bundle, side: SqlSide) -> dict[str, list[str]]:
    """Return the verdicts of each policy for the ledger's rows; of its revisions one at most is in force."""
    names: dict[int, str] = {code: name for name, code in CODES.items()}
    columns = ledger_columns(side.registry)
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
    asked = _asked(bundle)
    side = SqlSide(store, asked.registry)
    side.fill(asked.samples)
    found = _in_sql(bundle, side)
    wrong = [
        (policy.id, test.name, test.expect, found[policy.id][asked.numbers[_facts(test)]])
        for policy in bundle.policies
        for test in policy.tests
        if found[policy.id][asked.numbers[_facts(test)]] != test.expect
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
        for number, one in enumerate(_asked(bundle).samples)
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
