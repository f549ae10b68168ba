"""The shipped packs: what the code of conduct's change did, for the given scenarios and for every variation of them."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings

from tests.strategies import event_data, times
from tests.unit.policy.bundles import data_of
from tests.unit.policy.clauses import AFTER, BEFORE, DOMAIN, data_with, variations
from usageaudit.history.windowtests import run_window_tests
from usageaudit.policy import compile_judge, explain_event, load_bundle
from usageaudit.policy.folders import shipped_packs
from usageaudit.policy.testing import run_tests
from usageaudit.verdicts import CLEAN

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.policy.clauses import Clause, Facts
    from usageaudit.policy import Bundle, Judge, PolicyExplanation

PACK = "azure-openai-code-of-conduct"
CHANGE = 1_714_521_600_000_000
DAY = 86_400_000_000
PERIODS = {"before": (CHANGE - 15 * DAY, BEFORE), "after": (CHANGE + 15 * DAY, AFTER)}
PACKS = sorted(shipped_packs())


@pytest.fixture(scope="module")
def pack() -> Bundle:
    """Return the pack of the code of conduct."""
    return load_bundle([PACK])


@pytest.fixture(scope="module")
def all_packs() -> Judge:
    """Return the judge of all packs together."""
    return compile_judge(load_bundle(PACKS))


@pytest.mark.parametrize("name", PACKS)
def test_pack_is_without_errors_and_doubts_and_passes_its_tests(name: str) -> None:
    """A shipped pack loads without a warning, and each of its policies has passing tests and a description."""
    bundle = load_bundle([name])
    assert bundle.warnings == ()
    assert [outcome for outcome in run_tests(bundle) if not outcome.passed] == []
    assert [outcome for outcome in run_window_tests(bundle) if not outcome.passed] == []
    for policy in bundle.all_policies:
        assert policy.tests or policy.window_tests, policy.id
        assert policy.description, policy.id
    for policy in bundle.policies:
        assert policy.stage == "enforce"


def test_clauses_rest_on_a_document(pack: Bundle) -> None:
    """Each clause says what it rests on and which reading was taken, and is tested both ways and left open."""
    assert {policy.id.removeprefix(f"{PACK}/") for policy in pack.policies} == set(AFTER)
    for policy in pack.policies:
        assert policy.basis, policy.id
        assert "Reading" in policy.description, policy.id
        assert {"violation", "ok", "indeterminate", "not_applicable"} <= {test.expect for test in policy.tests}


def _explained(pack: Bundle, data: Any, time: int) -> dict[str, PolicyExplanation]:
    return {one.policy_id.removeprefix(f"{PACK}/"): one for one in explain_event(pack, data, time)}


def test_scenarios_give_the_verdicts_of_the_given_file(pack: Bundle, test_data: Path) -> None:
    """All scenarios get the verdict of every clause and the missing fields that the file of scenarios states."""
    loaded = json.loads((test_data / "scenarios.json").read_text())
    assert dict(pack.lists) == {name: tuple(values) for name, values in sorted(loaded["lists"].items())}
    for scenario, (period, (time, _)) in itertools.product(loaded["scenarios"], PERIODS.items()):
        clauses = scenario["expect"][period]["clauses"]
        found = _explained(pack, data_of(**scenario["data"]), time)
        assert {name: one.verdict for name, one in found.items()} == clauses, scenario["id"]
        stated = [text.split(": ") for text in scenario["missing_after"]]
        missing = {(name, field) for name, field in stated if clauses[name] == "indeterminate"}
        assert {(name, field) for name, one in found.items() for field in one.missing_fields} == missing


def _variations(fields: tuple[str, ...], **values: list[Any]) -> list[Facts]:
    """Return facts with every combination of the values of some fields, each of which may also be left out."""
    return variations(**{name: values.get(name, DOMAIN.get(name, [])) for name in fields})


PARTIES = ("actor.sector", "actor.jurisdiction", "actor.on_behalf_of.sector", "actor.on_behalf_of.jurisdiction")
CAPTURE = ("input.capture.device", "input.capture.timing", "input.capture.setting")
USES: dict[str, list[Any]] = {"purpose.use_case": ["facial_recognition", "chat"]}
SIGNALS = [
    [],
    *(
        [{"category": category, "score": score}]
        for category in ("deception", "romantic_persona")
        for score in (0.79, 0.8)
    ),
    [{"category": "self_harm", "score": 1.0}, {"category": "social_scoring", "score": 0.9}],
]
VARIATIONS: dict[str, list[Facts]] = {
    "us-police-facial-recognition": [
        {**facts, **more}
        for facts in _variations(("purpose.use_case", *PARTIES), **USES)
        for more in ({}, {"actor.on_behalf_of.organization": "client"})
    ],
    "real-time-facial-recognition-on-mobile-cameras": [
        {**facts, **more}
        for facts in _variations(
            ("purpose.use_case", "actor.sector", "actor.on_behalf_of.sector", *CAPTURE),
            **USES,
        )
        for more in ({}, {"actor.on_behalf_of.organization": "client"}, {"actor.on_behalf_of.jurisdiction": "US"})
    ],
    "sensitive-attribute-inference": _variations(("input.modalities", "output.inferred_attributes")),
    **{
        clause: _variations(("purpose.use_case", "content.signals"), **{"content.signals": SIGNALS})
        for clause in ("manipulation-or-deception", "romantic-chatbot", "social-scoring")
    },
}


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("clause", VARIATIONS)
def test_every_variation_gets_the_verdict_of_the_clause_in_plain_python(pack: Bundle, clause: str, period: str) -> None:
    """Each combination of facts, said or left out, gets the verdict and the missing fields of the clause read anew."""
    time, clauses = PERIODS[period]
    oracle: Clause | None = clauses.get(clause)
    for facts in VARIATIONS[clause]:
        found = _explained(pack, data_with({**facts, "model.provider": "azure.ai.openai"}), time)[clause]
        expected = "not_applicable" if oracle is None else oracle.verdict(facts)
        assert found.verdict == expected, facts
        if oracle is not None and expected == "indeterminate":
            assert set(found.missing_fields) == oracle.deciding(facts), facts


@settings(max_examples=100, deadline=None)
@given(event_data, times)
def test_packs_judge_any_event_as_they_explain_it(all_packs: Judge, data: dict[str, Any], time: int) -> None:
    """For any valid event all packs together record exactly what they explain."""
    event = data_of(**data)
    verdicts = all_packs(event, time, time, "//s", "id")
    found = {one.policy_id: one.verdict for one in explain_event(all_packs.bundle, event, time, time, "//s", "id")}
    assert {one.policy_id for one in verdicts.violated} == {p for p, v in found.items() if v == "violation"}
    assert {one.policy_id for one in verdicts.indeterminate} == {p for p, v in found.items() if v == "indeterminate"}


def test_provider_of_another_vendor_is_nobodys_concern(pack: Bundle) -> None:
    """A use of another vendor's model is not applicable to any clause, and records nothing."""
    data = data_of(model={"provider": "mistral_ai"}, purpose={"use_case": "social_scoring"})
    assert {one.verdict for one in explain_event(pack, data, CHANGE)} == {"not_applicable"}
    assert compile_judge(pack)(data, CHANGE) is CLEAN
