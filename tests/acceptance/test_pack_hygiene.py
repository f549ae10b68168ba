"""The hygiene pack: what each clause says of every variation of its facts, before and after its lists are filled."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.unit.policy.bundles import write
from tests.unit.policy.clauses import data_with, variations
from tests.unit.policy.hygiene import NOBODY, ORGANISATION, VOCABULARY, clauses
from usageaudit.policy import compile_judge, load_bundle
from usageaudit.policy.diff import differences
from usageaudit.policy.explain import PolicyExplainer
from usageaudit.policy.folders import shipped_packs
from usageaudit.policy.schema import Occurrence
from usageaudit.policy.testing import run_tests
from usageaudit.scheduler.rules import rules_of
from usageaudit.verdicts import CLEAN

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.policy.clauses import Facts
    from tests.unit.policy.hygiene import Given
    from usageaudit.policy import Bundle, PolicyExplanation

NOW = 1_715_774_400
"""2024-05-15T12:00:00Z in seconds."""
DAY = 24 * 3600
APPLICATIONS = ["desk", "vault", "misfiled", "unheard-of"]
IDS = [
    "op-7f3a", "4915123456789", "jane.doe@example.org", "user/jane.doe%40example.org", "@home", "a@b",
    "+49 170 1234567", "+1", "Jane Doe", "Doe, Jane", "Jane", "jane doe", "Claims Triage",
]  # fmt: skip
VARIATIONS: dict[str, list[Facts]] = {
    "use-case-missing": variations(purpose__use_case=["chat", ""], purpose__reference=["UC-1"]),
    "use-case-not-in-vocabulary": variations(
        purpose__use_case=[*sorted(VOCABULARY), "Chat", "face-recognition", ""], application__name=APPLICATIONS
    ),
    "use-case-not-approved": variations(
        purpose__use_case=["chat", "facial_recognition", "serch"], application__name=APPLICATIONS
    ),
    "model-not-on-allow-list": variations(model__name=["good-model", "Good-Model", "other"]),
    "personal-data-in-actor-id": variations(actor__id=IDS, actor__type=["user", "service", "agent"]),
    "personal-data-in-source-or-id": [
        {"event.source": source, "event.id": event_id}
        for source in ("//claims/triage", "mailto:jane@example.org", "//example.org/~jane%40example.org", "//a@b/c")
        for event_id in ("0190b5c6-9a3e-7b1c-8f57-2f3d5a1c9e70", "jane.doe@example.org-17", "17")
    ],
    "restricted-data-to-external-model": variations(
        input__data_classification=["public", "restricted", "internal"],
        model__provider=["openai", "azure.ai.openai", "vllm"],
        application__name=APPLICATIONS,
    ),
    "jurisdiction-not-a-code": variations(
        actor__jurisdiction=["FR", "US-CA", "fr", "France", "USA", "US-", "DE-BYRN"],
        actor__on_behalf_of__jurisdiction=["GB-ENG", "uk"],
        application__name=APPLICATIONS,
    ),
    "event-time-far-from-record-time": [
        {**facts, **times}
        for facts in variations(capture=["full", "imported", "sampled"])
        for times in (
            {"event.time": NOW},
            *(
                {"event.time": NOW, "record.time": NOW + delay}
                for delay in (0, DAY, DAY + 1, 30 * DAY, -300, -301, -DAY)
            ),
        )
    ],
}
GIVEN = pytest.mark.parametrize("given", [NOBODY, ORGANISATION], ids=["as shipped", "filled"])
ENVELOPE = ("event.source", "event.id", "event.time", "record.time")
REQUIRED: Facts = {"actor.id": "u-1", "model.name": "gpt-4-turbo", "model.provider": "azure.ai.openai"}


def _bundle(folder: Path, given: Given) -> Bundle:
    """Return the pack as an organisation uses it that gave this."""
    files = {"bundle.yaml": "name: acme\nuses: [hygiene]\n"}
    if given.models:
        files["lists.yaml"] = json.dumps({"allowed_models": given.models})
    if given.registry:
        files["registry.yaml"] = json.dumps(given.registry)
    return load_bundle([write(folder, files)])


def _explained(bundle: Bundle, clause: str, all_facts: list[Facts]) -> list[PolicyExplanation]:
    policy = bundle.policy(f"hygiene/{clause}")
    assert policy is not None
    explainer = PolicyExplainer(policy)
    found = []
    for facts in all_facts:
        source, event_id, time, record_time = map(facts.get, ENVELOPE)
        data = data_with({name: value for name, value in facts.items() if name not in ENVELOPE})
        micros = [None if one is None else one * 1_000_000 for one in (time or NOW, record_time)]
        occurrence = Occurrence(data, micros[0] or 0, micros[1], bundle.registry, source or "//s", event_id or "i")
        found.append(explainer.explain(occurrence))
    return found


@GIVEN
@pytest.mark.parametrize("clause", VARIATIONS)
def test_every_variation_gets_the_verdict_of_the_clause_in_plain_python(
    clause: str, given: Given, tmp_path: Path
) -> None:
    """Each combination of facts gets verdict and missing fields of the clause read anew, lists filled or not."""
    bundle, oracle = _bundle(tmp_path, given), clauses(given)[clause]
    for facts, found in zip(VARIATIONS[clause], _explained(bundle, clause, VARIATIONS[clause]), strict=True):
        whole = {**REQUIRED, **facts}
        expected = oracle.verdict(whole)
        assert found.verdict == expected, facts
        if expected == "indeterminate":
            assert set(found.missing_fields) == oracle.deciding(whole), facts


def test_the_variations_show_every_verdict_that_a_clause_can_give(tmp_path: Path) -> None:
    """Filled in, each clause is violated and kept by some variation, and left open where a fact may be missing."""
    bundle = _bundle(tmp_path, ORGANISATION)
    assert {policy.id.removeprefix("hygiene/") for policy in bundle.policies} == set(VARIATIONS)
    for clause, facts in VARIATIONS.items():
        seen = {one.verdict for one in _explained(bundle, clause, facts)}
        assert {"violation", "ok"} <= seen, clause
        undecided = clause in ("use-case-not-approved", "restricted-data-to-external-model")
        assert ("indeterminate" in seen) == undecided, clause


def test_the_vocabulary_is_the_documented_one() -> None:
    """The words of the pack are those written down here; one more is a new version of the vocabulary."""
    assert set(load_bundle(["hygiene"]).lists["use_cases"]) == VOCABULARY


def test_without_lists_and_registry_it_makes_no_noise() -> None:
    """Where an organisation gave no allow-list and no registry, the policies on them are not applicable."""
    bundle = load_bundle(["hygiene"])
    for clause in ("model-not-on-allow-list", "use-case-not-approved"):
        assert {one.verdict for one in _explained(bundle, clause, VARIATIONS[clause])} == {"not_applicable"}
    data = data_with({"purpose.use_case": "chat", "model.provider": "own", "model.name": "anything"})
    verdicts = compile_judge(bundle)(data, NOW, NOW, "//service", "0190b5c6-9a3e-7b1c-8f57-2f3d5a1c9e70")
    assert verdicts is CLEAN


def test_the_first_day_records_one_violation_and_one_open_question_of_what_services_leave_out() -> None:
    """Of an event as OpenTelemetry gives it, nothing is found but that its purpose and class of data are missing."""
    verdicts = compile_judge(load_bundle(["hygiene"]))(data_with(REQUIRED), NOW, NOW, "//s", "17")
    assert [one.policy_id for one in verdicts.violated] == ["hygiene/use-case-missing"]
    assert [(one.policy_id, one.missing_fields) for one in verdicts.indeterminate] == [
        ("hygiene/restricted-data-to-external-model", ("input.data_classification",))
    ]


def test_what_is_filled_in_leaves_the_tests_of_the_pack_passing(tmp_path: Path) -> None:
    """A bundle that replaces lists and overrides policies of packs that it uses still passes the tests of those."""
    packs = sorted(shipped_packs())
    files = {
        "bundle.yaml": f"name: acme\nuses: {json.dumps(packs)}\n",
        "lists.yaml": json.dumps({"allowed_models": ["m"], "external_providers": ["x"], "mobile_cameras": ["drone"]}),
        "registry.yaml": json.dumps({"test": {"jurisdiction": "FR", "approved_use_cases": ["chat"]}}),
        "overrides.yaml": json.dumps({"hygiene/use-case-missing": {"stage": "draft", "exceptions": [
            {"id": "E", "when": "!has(purpose)", "approved_by": "a", "reason": "b", "expires": "2030-01-01"}
        ]}}),
    }  # fmt: skip
    outcomes = list(run_tests(load_bundle([write(tmp_path, files)])))
    assert len(outcomes) > 500
    assert [(one.policy_id, one.test.name, one.problem) for one in outcomes if not one.passed] == []


def test_a_pack_that_fails_its_own_tests_is_told_to_who_uses_it(tmp_path: Path) -> None:
    """A test that fails by the lists that its own part defines fails in the bundle that uses the part."""
    policy = {
        "id": "base/a", "title": "a", "severity": "low", "when": "model.name in lists.names",
        "tests": [{"name": "t", "expect": "violation", "event": {}}],
    }  # fmt: skip
    write(
        tmp_path / "base",
        {"bundle.yaml": "name: base\n", "lists.yaml": "names: [other]\n", "policies/a.yaml": json.dumps(policy)},
    )
    files = {"bundle.yaml": "name: acme\nuses: [../base]\n", "lists.yaml": "names: [test]\n"}
    (outcome,) = run_tests(load_bundle([write(tmp_path / "acme", files)]))
    assert outcome.problem.startswith("expected violation, found ok")


BUDGETS = {"monthly_input_tokens", "monthly_output_tokens", "monthly_cost", "failed_calls", "blocked_calls"}


def test_the_numbers_of_budgets_and_bursts_are_the_users_own(tmp_path: Path) -> None:
    """A bundle replaces each number by a list of its own, without a fork, and takes the policy out of shadow."""
    lists = {name: [7_770 + place] for place, name in enumerate(sorted(BUDGETS))}
    shipped = load_bundle(["hygiene"])
    asking = [policy for policy in shipped.windowed if policy.stage == "shadow"]
    write(tmp_path, {
        "bundle.yaml": "name: acme\nuses: [hygiene]\n",
        "lists.yaml": json.dumps(lists),
        "overrides.yaml": json.dumps({policy.id: {"stage": "enforce"} for policy in asking}),
    })  # fmt: skip
    bundle = load_bundle([tmp_path])
    assert bundle.warnings == ()
    found = {rule.policy.id: rule.crossings("SELECT 1", 0, 1) for rule in rules_of(bundle, ["enforce"])}
    assert len(asking) == len(BUDGETS)
    for policy in asking:
        assert sum(str(number) in found[policy.id] for (number,) in lists.values()) == 1
    assert {policy.id for policy in bundle.windowed} - {policy.id for policy in asking} == {
        "hygiene/first-use-of-application",
        "hygiene/first-use-of-model",
    }
    assert [one.part for one in differences(shipped, bundle) if one.part.startswith("lists.")] != []
