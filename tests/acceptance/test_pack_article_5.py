"""The pack of the EU AI Act's Article 5: what each prohibition says of every variation of the facts that it reads."""

from __future__ import annotations

import itertools
import json
import shutil
import string
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.policy.article_5 import CLAUSES, DETECTED, MEMBER_STATES, REGISTRY
from tests.unit.policy.bundles import write
from tests.unit.policy.clauses import data_with, variations
from usageaudit.policy import compile_judge, load_bundle
from usageaudit.policy.explain import PolicyExplainer
from usageaudit.policy.folders import shipped_packs
from usageaudit.policy.schema import Occurrence

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.policy.clauses import Facts
    from usageaudit.policy import Bundle, PolicyExplanation

PACK = "eu-ai-act-article-5"
APPLIES_FROM = 1_738_454_400_000_000
"""2025-02-02T00:00:00Z in microseconds."""
LABEL = "labels__eu_ai_act_exception"
PARTY = ({"actor.on_behalf_of.organization": "client"},)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a bundle that uses the pack and registers some applications."""
    files = {"bundle.yaml": f"name: acme\nuses: [{PACK}]\n", "registry.yaml": json.dumps(REGISTRY)}
    return load_bundle([write(tmp_path_factory.mktemp("acme"), files)])


def _places(*more: dict[str, Any]) -> dict[str, list[Any]]:
    """Return the choices of where the parties are."""
    return {
        "actor__jurisdiction": ["FR", "US-CA"],
        "actor__on_behalf_of__jurisdiction": ["DE-BY", "US-CA", *PARTY, *more],
    }


def _of_detected(clause: str) -> list[Facts]:
    use, category = DETECTED[clause]
    signals = [[], [{"category": category, "score": 0.79}], [{"category": "other", "score": 1.0}]]
    return variations(
        purpose__use_case=[use, "chat"],
        content__signals=[*signals, [{"category": "other", "score": 0.1}, {"category": category, "score": 0.8}]],
        actor__jurisdiction=["FR", "DE-BY", "EU", "US-CA", "SEN"],
        actor__on_behalf_of__jurisdiction=["DE-BY", "US-CA", *PARTY],
        application__name=["lab-it", "desk-us"],
        **{LABEL: ["supports_human_assessment", "medical"]} if clause == "predictive-policing" else {},
    )


CAPTURE = [{"input.capture.device": "phone"}]
IDENTIFICATION = {
    "purpose__use_case": ["facial_recognition", "image_analysis"],
    "input__capture__timing": ["real_time", "post_event"],
    "input__capture__place": ["public_space", "stadium", "workplace"],
    "actor__sector": ["law_enforcement", "retail"],
}
VARIATIONS: dict[str, list[Facts]] = {
    **{clause: _of_detected(clause) for clause in DETECTED},
    "emotion-inference-at-work-and-school": variations(
        purpose__use_case=["emotion_recognition", "image_analysis", "candidate_screening", "chat"],
        input__modalities=[[], ["text"], ["text", "audio"]],
        input__capture__place=["workplace", "school", "public_space", *CAPTURE],
        output__inferred_attributes=[[], ["age", "emotion"], ["fatigue"]],
        actor__jurisdiction=["FR", "US-CA"],
        **{LABEL: ["medical", "wellbeing"]},
    ),
    "biometric-categorisation": [
        *variations(
            purpose__use_case=["biometric_categorisation", "chat"],
            input__modalities=[["text"], ["image"]],
            input__capture__place=CAPTURE,
            output__inferred_attributes=[[], ["age", "race"], ["age"]],
            actor__sector=["law_enforcement", "retail"],
            actor__on_behalf_of__sector=["law_enforcement", "retail", *PARTY],
            actor__jurisdiction=[{"actor.jurisdiction": "FR", "actor.on_behalf_of.jurisdiction": "FR"}],
        ),
        *variations(
            output__inferred_attributes=[["religion"]],
            input__modalities=[["audio"]],
            actor__sector=["retail"],
            application__name=["watch", "lab-it"],
            **_places(),
            **{LABEL: ["dataset_labelling", "safety"]},
        ),
    ],
    "real-time-remote-biometric-identification": [
        *variations(**IDENTIFICATION, **_places({"actor.on_behalf_of.sector": "law_enforcement"})),
        *variations(
            **IDENTIFICATION,
            application__name=["watch", "lab-it"],
            input__capture__setting=["in_the_wild", "controlled"],
        ),
        *variations(
            purpose__use_case=["facial_recognition"],
            input__capture__timing=[{"input.capture.timing": "real_time", "input.capture.place": "stadium"}],
            actor__sector=[{"actor.sector": "law_enforcement", "actor.jurisdiction": "FR"}],
            purpose__reference=["A-17"],
            **{LABEL: ["victim_search", "imminent_threat", "criminal_suspect", "medical"]},
        ),
    ],
}


def _explained(bundle: Bundle, clause: str, variations: list[Facts]) -> list[PolicyExplanation]:
    policy = bundle.policy(f"{PACK}/{clause}")
    assert policy is not None
    explainer = PolicyExplainer(policy)
    return [
        explainer.explain(Occurrence(data_with(facts), APPLIES_FROM, None, bundle.registry)) for facts in variations
    ]


@pytest.mark.parametrize("clause", VARIATIONS)
def test_every_variation_gets_the_verdict_of_the_act_in_plain_python(bundle: Bundle, clause: str) -> None:
    """Each combination of facts, said or left out, gets the verdict and the missing fields of the Act read anew."""
    oracle = CLAUSES[clause]
    seen = set()
    for facts, found in zip(VARIATIONS[clause], _explained(bundle, clause, VARIATIONS[clause]), strict=True):
        expected = oracle.verdict(facts)
        assert found.verdict == expected, facts
        if expected == "indeterminate":
            assert set(found.missing_fields) == oracle.deciding(facts), facts
        seen.add(expected)
    assert seen == {"violation", "ok", "indeterminate", "not_applicable"}


WEAKENED = [
    ("social-scoring", " && s.score >= 0.8", ""),
    ("social-scoring", "|| application_in_union", ""),
    ("social-scoring", "CZ|DE|DK", "CZ|DK"),
    ("predictive-policing", "&& !exception", ""),
    ("emotion-inference-at-work-and-school", "|| of_candidates", ""),
    ("biometric-categorisation", "law_enforcement ? false : true", "has(actor.id) || law_enforcement"),
    ("biometric-categorisation", "|| (!has(input.modalities) && has(input.capture))", ""),
    ("real-time-remote-biometric-identification", "&& has(purpose.reference)", ""),
    ("real-time-remote-biometric-identification", "&& !controlled", ""),
]


@pytest.mark.parametrize(("clause", "old", "new"), WEAKENED)
def test_the_variations_notice_a_policy_that_was_changed(clause: str, old: str, new: str, tmp_path: Path) -> None:
    """A condition from which a part was taken differs from the Act in one of the variations."""
    shutil.copytree(shipped_packs()[PACK], tmp_path / PACK)
    file = tmp_path / PACK / "policies" / f"{clause}.yaml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    write(tmp_path, {f"{PACK}/policies/{clause}.yaml": text.replace(old, new)})
    write(tmp_path, {f"{PACK}/registry.yaml": json.dumps(REGISTRY)})
    changed = _explained(load_bundle([tmp_path / PACK]), clause, VARIATIONS[clause])
    assert any(
        one.verdict != CLAUSES[clause].verdict(facts) for facts, one in zip(VARIATIONS[clause], changed, strict=True)
    )


def test_each_practice_is_a_policy_that_rests_on_its_point() -> None:
    """There is a policy for each point of Article 5(1), in force from 2 February 2025, and tested in all four ways."""
    bundle = load_bundle([PACK])
    assert {policy.id.removeprefix(f"{PACK}/") for policy in bundle.policies} == set(CLAUSES) == set(VARIATIONS)
    points = set()
    for policy in bundle.policies:
        (basis,) = policy.basis
        assert basis.document.startswith("Regulation (EU) 2024/1689")
        points.add(basis.clause.removeprefix("Article 5(1), first subparagraph, point "))
        assert [(one.start, one.end) for one in policy.revisions] == [(APPLIES_FROM, None)]
        assert "Readings taken." in policy.description
        assert "Reach (Article 2(1))" in policy.description
        assert {"violation", "ok", "indeterminate", "not_applicable"} == {test.expect for test in policy.tests}
    assert points == {f"({letter})" for letter in "abcdefgh"}


def test_the_union_is_its_member_states() -> None:
    """The 27 Member States, their parts, the Union and its own code of Greece are within reach, and nothing else is."""
    bundle = load_bundle([PACK])
    assert len(bundle.lists["european_union"]) == len(set(bundle.lists["european_union"]))
    assert set(bundle.lists["european_union"]) == {*MEMBER_STATES, "EU", "EL"}
    assert len(MEMBER_STATES) == 27
    codes = list(map("".join, itertools.product(string.ascii_uppercase, repeat=2)))
    for places, reached in ((codes, {*MEMBER_STATES, "EU", "EL"}), ([f"{one}-1" for one in codes], MEMBER_STATES)):
        facts: list[Facts] = [{"purpose.use_case": "social_scoring", "actor.jurisdiction": place} for place in places]
        found = zip(places, _explained(bundle, "social-scoring", facts), strict=True)
        assert {place[:2] for place, one in found if one.verdict == "violation"} - {"EL"} == set(reached) - {"EL"}


def test_the_vocabulary_has_every_use_that_the_pack_names() -> None:
    """A declared practice is a word of the vocabulary, so that declaring it is not a violation of the hygiene pack."""
    lists = load_bundle([PACK, "hygiene"]).lists
    named = {word for name, words in lists.items() if name.endswith("_uses") for word in words}
    assert named | set(lists["uses_on_people"]) <= set(lists["use_cases"])


def test_the_registry_brings_a_use_within_reach_and_takes_none_out(bundle: Bundle) -> None:
    """An application registered in the Union is reached whatever its actor; one registered elsewhere shields nobody."""
    declared: Facts = {"purpose.use_case": "social_scoring"}
    for place, application, verdict in (
        ("US", "lab-it", "violation"), (None, "lab-it", "violation"), ("US", "desk-us", "not_applicable"),
        (None, "desk-us", "indeterminate"), ("FR", "desk-us", "violation"), ("US", "unheard-of", "not_applicable"),
    ):  # fmt: skip
        facts = {**declared, "application.name": application, **({"actor.jurisdiction": place} if place else {})}
        (found,) = _explained(bundle, "social-scoring", [facts])
        assert found.verdict == verdict, facts


def test_evidence_tells_what_the_event_said_from_what_the_registry_says(bundle: Bundle) -> None:
    """A violation that rests on the registry shows the actor's and the registered jurisdiction as two facts."""
    data = data_with({"purpose.use_case": "social_scoring", "application.name": "lab-it", "actor.jurisdiction": "US"})
    (found,) = compile_judge(bundle)(data, APPLIES_FROM).violated
    evidence = json.loads(found.evidence)
    assert evidence["actor.jurisdiction"] == "US"
    assert evidence["registry.jurisdiction"] == "IT-25"


def test_an_ordinary_use_in_the_union_records_nothing(bundle: Bundle) -> None:
    """Summarising letters in the Union, with the purpose declared, is clean, as it is where nobody says where."""
    judge = compile_judge(bundle)
    for place in ({"actor.jurisdiction": "FR", "actor.sector": "finance"}, {}):
        verdicts = judge(data_with({"purpose.use_case": "summarization", **place}), APPLIES_FROM)
        assert (verdicts.violated, verdicts.indeterminate) == ((), ())
