"""The fused judge, held against the policies one by one."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.policy.bundles import TIME, bundle_of, data_of, policy
from tests.unit.policy.conditions import Random
from usageaudit.events import Actor, Application, Model, UsageEvent
from usageaudit.policy import compile_judge, explain_event
from usageaudit.verdicts import CLEAN, Exemption, Indeterminate, Violation

if TYPE_CHECKING:
    from usageaudit.policy import Bundle
    from usageaudit.verdicts import Verdicts

REGISTRY = json.dumps(
    {"a": {"sector": "b", "approved_use_cases": ["a"]}, "b": {"sector": "a"}, "é": {"approved_use_cases": []}}
)
LISTS = json.dumps({"some": ["a", "b"]})


def _expected(bundle: Bundle, *event: Any) -> set[tuple[Any, ...]]:
    """Return what must be recorded, from the explanation of each policy alone."""
    ignored = {policy.id for policy in bundle.policies if policy.on_unknown == "ignore"}
    return {
        (
            one.policy_id,
            one.policy_version,
            one.verdict,
            () if one.exception_id else one.missing_fields,
            one.exception_id,
        )
        for one in explain_event(bundle, *event)
        if one.verdict not in ("ok", "not_applicable")
        and (one.verdict != "indeterminate" or one.policy_id not in ignored)
    }


def _recorded(verdicts: Verdicts) -> list[tuple[Any, ...]]:
    return [
        *((one.policy_id, one.policy_version, "violation", one.missing_fields, None) for one in verdicts.violated),
        *((one.policy_id, one.policy_version, "exempted", (), one.exception_id) for one in verdicts.exempted),
        *((o.policy_id, o.policy_version, "indeterminate", o.missing_fields, None) for o in verdicts.indeterminate),
    ]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_fused_and_one_by_one_agree(seed: int) -> None:
    """Whatever the policies and the event, the fused judge records what each policy says alone, each once."""
    rnd = Random(random.Random(seed))
    bundle = bundle_of(*rnd.policies(), lists=LISTS, registry=REGISTRY)
    judge = compile_judge(bundle)
    for _ in range(10):
        data = data_of(**rnd.event())
        event = (data, rnd.time(), rnd.maybe(rnd.time()), rnd.maybe(rnd.word()), rnd.maybe(rnd.word()))
        verdicts = judge(*event)
        recorded = _recorded(verdicts)
        assert set(recorded) == _expected(bundle, *event)
        assert len(recorded) == len(set(recorded))
        assert (verdicts is CLEAN) is (not recorded)
        # Once more, from what the judge remembers.
        assert _recorded(judge(*event)) == recorded


@pytest.mark.parametrize(
    ("place", "remembered"),
    [
        ("actor.jurisdiction in lists.a", True),
        ("lists.a.exists(c, actor.jurisdiction.startsWith(c))", True),
        ("lists.a.exists(c, c == actor.jurisdiction || c == actor.sector)", False),
    ],
)
def test_what_is_left_open_is_found_out_once_for_the_fields_that_are_missing(place: str, *, remembered: bool) -> None:
    """Events that leave out the same share one verdict, unless more than that decides it; others have their own."""
    judge = compile_judge(bundle_of(policy(f'{place} && purpose.use_case == "x"'), lists="a: [FR, DE]"))

    def found(**fields: Any) -> Any:
        (one,) = judge(data_of(**fields), TIME).indeterminate
        return one

    nothing = found()
    again = found(model={"provider": "other"})
    assert again == nothing
    assert (again is nothing) is remembered
    assert {"actor.jurisdiction", "purpose.use_case"} <= set(nothing.missing_fields)
    assert found(actor={"id": "a", "jurisdiction": "FR"}).missing_fields == ("purpose.use_case",)
    assert "purpose.use_case" not in found(purpose={"use_case": "x"}).missing_fields


def _verdict(bundle: Bundle, time: int = TIME, **fields: Any) -> Verdicts:
    return compile_judge(bundle)(data_of(**fields), time)


def test_event_of_nobodys_concern_is_the_shared_clean_one() -> None:
    """An event that no policy has anything to say about allocates no verdicts."""
    assert _verdict(bundle_of(policy('purpose.use_case == "x"')), purpose={"use_case": "y"}) is CLEAN


def test_violation_carries_what_a_reviewer_needs() -> None:
    """A violation has severity, stage, the message filled in, and the evidence with null for what is missing."""
    bundle = bundle_of(
        policy(
            'purpose.use_case == "x"',
            message="{actor.organization} used {model.name} for {purpose.use_case}, {{not}} {input.modalities}, "
            "{cost.amount} {oversight.human_review} {event.time}",
            evidence=["cost.amount", "input.modalities", "actor.sector", "event.time", "content.signals", "labels"],
            severity="critical",
            stage="shadow",
        )
    )
    signals = [{"category": "c", "score": 0.5}]
    verdicts = _verdict(
        bundle,
        purpose={"use_case": "x"},
        cost={"amount": "1.50"},
        input={"modalities": ["text", "image"]},
        oversight={"human_review": True},
        content={"signals": signals},
        labels={"k": "v"},
    )
    [violation] = verdicts.violated
    assert violation == Violation(
        policy_id="test/a",
        policy_version=1,
        severity="critical",
        stage="shadow",
        message="unknown used gpt-4-turbo for x, {not} text, image, 1.50 true 2024-05-06T12:53:20Z",
        evidence=violation.evidence,
    )
    assert json.loads(violation.evidence) == {
        "cost.amount": "1.50",
        "input.modalities": ["text", "image"],
        "actor.sector": None,
        "event.time": "2024-05-06T12:53:20Z",
        "content.signals": signals,
        "labels": {"k": "v"},
    }


def test_message_and_evidence_are_bounded() -> None:
    """A value of a megabyte fills neither the message nor the evidence of each policy that the event violates."""
    bundle = bundle_of(policy("has(purpose.use_case)", message="{purpose.use_case}", evidence=["purpose.use_case"]))
    [violation] = _verdict(bundle, purpose={"use_case": "x" * 900_000}).violated
    assert len(violation.message) <= 200
    assert len(violation.evidence) < 3_000


@pytest.mark.parametrize(("stage", "judged"), [("draft", 0), ("shadow", 1), ("enforce", 1), ("retired", 0)])
def test_only_shadow_and_enforced_policies_are_judged(stage: str, judged: int) -> None:
    """Drafts and retired policies record nothing; a shadow policy is recorded with its stage."""
    violated = _verdict(bundle_of(policy(stage=stage)), purpose={"use_case": "x"}).violated
    assert len(violated) == judged
    assert all(one.stage == stage for one in violated)


def test_revision_is_chosen_by_the_events_time() -> None:
    """A revision holds from its first microsecond to just before its last, and outside of all there is no verdict."""
    bundle = bundle_of(
        policy(
            revisions=[
                {"version": 3, "from": "2024-05-01T00:00:00Z", "to": "2024-06-01T00:00:00Z", "when": "has(purpose)"},
                {"version": 1, "from": "2024-01-01T00:00:00Z", "to": "2024-05-01T00:00:00Z", "when": "has(input)"},
            ]
        )
    )
    judge = compile_judge(bundle)
    data = data_of(purpose={"use_case": "x"}, input={"data_classification": "y"})
    may = 1_714_521_600_000_000
    june, january = may + 31 * 86_400_000_000, may - 121 * 86_400_000_000
    versions = [
        [one.policy_version for one in judge(data, time).violated]
        for time in (january - 1, january, may - 1, may, june - 1, june)
    ]
    assert versions == [[], [1], [1], [3], [3], []]


EXCEPTION = {"id": "EX-1", "approved_by": "b", "reason": "c"}


@pytest.mark.parametrize(
    ("expires", "last"),
    [
        ("2024-05-06", 1_715_040_000_000_000),  # the end of that day in UTC
        ("2024-05-06T12:00:00+02:00", 1_714_989_600_000_000),
    ],
)
def test_exception_is_in_force_before_it_expires(expires: str, last: int) -> None:
    """A violation under a true exception is exempted until the exception expires by the event's time."""
    exception = {**EXCEPTION, "when": 'application.environment == "red-team"', "expires": expires}
    judge = compile_judge(bundle_of(policy(exceptions=[exception], message="m")))
    exempted = data_of(purpose={"use_case": "x"}, application={"environment": "red-team"})
    assert judge(exempted, last - 1).exempted == (Exemption("test/a", 1, "medium", "enforce", "m", "EX-1"),)
    assert judge(exempted, last - 1).violated == ()
    assert judge(exempted, last).exempted == ()
    assert len(judge(exempted, last).violated) == 1


def test_unknown_exception_does_not_apply() -> None:
    """Where it is not known whether an exception holds, the violation stands."""
    exception = {**EXCEPTION, "when": 'application.environment == "red-team"', "expires": "2030-01-01"}
    verdicts = _verdict(bundle_of(policy(exceptions=[exception])), purpose={"use_case": "x"})
    assert len(verdicts.violated) == 1
    assert verdicts.exempted == ()


@pytest.mark.parametrize("on_unknown", ["record", "violate", "ignore"])
def test_on_unknown_says_what_becomes_of_the_undecided(on_unknown: str) -> None:
    """An open verdict is recorded as such, counts as a violation that names the missing fields, or is left out."""
    verdicts = _verdict(
        bundle_of(policy('actor.sector == "x" && actor.type == "y"', on_unknown=on_unknown, message="m"))
    )
    missing = ("actor.sector", "actor.type")
    expected: dict[str, tuple[Any, Any]] = {
        "record": ((), (Indeterminate("test/a", 1, missing),)),
        "violate": ((Violation("test/a", 1, "medium", "enforce", "m", "{}", missing),), ()),
        "ignore": ((), ()),
    }
    assert (verdicts.violated, verdicts.indeterminate) == expected[on_unknown]


def test_applies_decides_first() -> None:
    """Where `applies` is false nothing is said, and where it is unknown the verdict is open, whatever else is known."""
    bundle = bundle_of(policy('actor.type == "y"', applies='actor.sector == "x"'))
    assert _verdict(bundle, actor={"sector": "z", "type": "y"}) is CLEAN
    assert _verdict(bundle, actor={"sector": "z"}) is CLEAN
    assert _verdict(bundle, actor={"type": "n"}).indeterminate == (Indeterminate("test/a", 1, ("actor.sector",)),)
    both = ("actor.sector", "actor.type")
    assert _verdict(bundle).indeterminate == (Indeterminate("test/a", 1, both),)


def test_verdicts_are_in_the_order_of_ids() -> None:
    """The order of what is recorded does not depend on how rules are looked up."""
    names = [f"p{number:02}" for number in range(20)]
    bundle = bundle_of(*(policy(f'purpose.use_case in ["x", "{name}"]', name=name) for name in reversed(names)))
    found = [one.policy_id for one in _verdict(bundle, purpose={"use_case": "x"}).violated]
    assert found == [f"test/{name}" for name in names]


def test_event_made_in_the_process_is_judged_as_a_decoded_one() -> None:
    """The judge takes the dataclass of an event as well as the decoder's struct."""
    judge = compile_judge(bundle_of(policy('model.provider == "x" && !has(purpose.use_case)')))
    event = UsageEvent(
        operation="chat", model=Model(provider="x", name="m"), actor=Actor(id="i"), application=Application(name="n")
    )
    assert len(judge(event, TIME).violated) == 1


def test_text_that_is_no_unicode_is_unknown_to_a_pattern() -> None:
    """A lone surrogate, which only an event made in the process can have, leaves a pattern open and breaks nothing."""
    bundle = bundle_of(*(policy(f'actor.id.matches("{letter}")', name=letter) for letter in "ab"))
    event = UsageEvent(
        operation="o", model=Model(provider="x", name="m"), actor=Actor(id="\ud800"), application=Application(name="n")
    )
    assert len(compile_judge(bundle)(event, TIME).indeterminate) == 2
    assert [one.verdict for one in explain_event(bundle, event, TIME)] == ["indeterminate"] * 2


def test_macro_over_a_list_made_of_an_outer_element_is_judged() -> None:
    """What is left open by macros within macros is told, whatever list the inner one goes over."""
    judge = compile_judge(bundle_of(policy("tools.all(t, [t, t.lowerAscii()].exists(u, u == actor.sector))")))
    (open_,) = judge(data_of(tools=["a"]), TIME).indeterminate
    assert open_.missing_fields == ("actor.sector",)
    assert judge(data_of(tools=["a"], actor={"sector": "a"}), TIME).violated
