"""Coverage of tests: which parts of conditions they show true, false and unknown, and which they never do."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import MINIMAL
from tests.unit.policy.bundles import bundle_of, policy
from tests.unit.policy.language.reference import Evaluator
from usageaudit.policy.coverage import coverage
from usageaudit.policy.language import Origin, parse
from usageaudit.policy.schema import SCHEMA

if TYPE_CHECKING:
    from usageaudit.policy.coverage import Coverage, Part


def _covered(when: str, *events: dict[str, Any], lists: str = "some: [x]", **more: Any) -> Coverage:
    tests = [{"name": str(n), "expect": "ok", "event": {}, **event} for n, event in enumerate(events)]
    [found] = coverage(bundle_of(policy(when, tests=tests, **more), lists=lists))
    return found


def _never(found: Coverage) -> dict[str, tuple[str, ...]]:
    return {f"{part.condition}: {part.node.span.text}": part.never for part in found.undecided}


def _use(word: str | None, **more: Any) -> dict[str, Any]:
    return {"event": {"purpose": {"use_case": word}, **more}}


X, Y, OPEN = _use("x"), _use("y"), _use(None)
USE = 'purpose.use_case == "x"'
SECTOR = 'actor.sector == "p"'
CASES: list[tuple[str, list[dict[str, Any]], dict[str, Any], dict[str, tuple[str, ...]]]] = [
    (USE, [], {}, {f"version 1: {USE}": ("true", "false", "unknown")}),
    (USE, [X], {}, {f"version 1: {USE}": ("false", "unknown")}),
    (USE, [X, Y], {}, {f"version 1: {USE}": ("unknown",)}),
    (USE, [X, Y, OPEN], {}, {}),
    # What an operand is, is told where it stands, and a negation by what it negates.
    (f"!({USE})", [X], {}, {f"version 1: {USE}": ("false", "unknown")}),
    (
        f"{USE} && {SECTOR}",
        [_use("x", actor={"sector": "p"}), _use(None, actor={}), _use("x", actor={"sector": "q"})],
        {},
        {f"version 1: {USE}": ("false",)},
    ),
    # Behind has() nothing is unknown, so no test need show it.
    (f"has(purpose.use_case) && {USE}", [X, Y, OPEN], {}, {}),
    (f"has(purpose.use_case) ? {USE} : true", [X, Y, OPEN], {}, {}),
    ('model.name == "test"', [{}, {"event": {"model": {"name": "m"}}}], {}, {}),
    # Whether what reads a field twice can be unknown is not told, so it is not asked for.
    (
        "has(labels.k) && labels.k == 'v'",
        [{"event": {"labels": {"k": "v"}}}, {}],
        {},
        {"version 1: labels.k == 'v'": ("false",)},
    ),
    # The branch that is not chosen is not looked at.
    (
        f"oversight.human_review ? {USE} : {SECTOR}",
        [_use("x", oversight={"human_review": True}), _use("y", oversight={"human_review": True})],
        {},
        {
            f"version 1: oversight.human_review ? {USE} : {SECTOR}": ("unknown",),
            "version 1: oversight.human_review": ("false", "unknown"),
            f"version 1: {USE}": ("unknown",),
        },
    ),
    # A macro's condition is asked of each element.
    (
        'tools.exists(t, t == "a" || t == "b")',
        [{"event": {"tools": ["a", "c"]}}, {"event": {"tools": []}}, {}],
        {},
        {'version 1: t == "b"': ("true",)},
    ),
    # A list has no values that a test could change.
    (f"size(lists.some) > 0 && {USE}", [X, Y, OPEN], {}, {}),
    ('event.source == "//s"', [{"source": "//s"}, {}], {}, {}),
    # A sub-condition is told once, wherever it is named, and not at all where it is not.
    (
        "use || (use && has(input))",
        [X],
        {"let": {"use": USE, "other": SECTOR}},
        {
            f"let use: {USE}": ("false", "unknown"),
            "version 1: use || (use && has(input))": ("false",),
            "version 1: use && has(input)": ("true", "unknown"),
            "version 1: has(input)": ("true",),
        },
    ),
    # What does not apply is not looked at any further.
    (
        USE,
        [X],
        {"applies": SECTOR},
        {f"applies: {SECTOR}": ("true", "false"), f"version 1: {USE}": ("false", "unknown")},
    ),
    (
        USE,
        [_use("x", actor={"sector": "q"})],
        {"applies": SECTOR},
        {f"applies: {SECTOR}": ("true", "unknown"), f"version 1: {USE}": ("true", "false", "unknown")},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("when", "events", "more", "never"), CASES, ids=[str(n) for n in range(len(CASES))])
def test_what_no_test_shows_is_named(
    when: str, events: list[dict[str, Any]], more: dict[str, Any], never: dict[str, tuple[str, ...]]
) -> None:
    """Each part comes with the values that it can take and no test made it take, and no others."""
    assert _never(_covered(when, *events, **more)) == never


def test_a_condition_that_no_test_reaches_is_one_line() -> None:
    """Of a revision without a test the whole is named, not each part, and all of its parts count."""
    revisions = [
        {"version": 1, "when": f"{USE} && {SECTOR}", "to": "2024-05-01"},
        {"version": 2, "when": USE, "from": "2024-05-01"},
    ]
    found = _covered("", X, Y, OPEN, revisions=revisions)
    assert _never(found) == {f"version 1: {USE} && {SECTOR}": ("true", "false", "unknown")}
    assert (found.decided, len(found.parts)) == (1, 4)
    [part] = found.undecided
    assert part.diagnostic().message == "version 1: no test looks at this"
    assert part.diagnostic().file == "test/policies/0000.yaml"


def test_exceptions_are_looked_at_where_they_could_exempt() -> None:
    """An exception counts for events that violate, before it expires, where none before it exempts."""
    made = {"approved_by": "a", "reason": "b", "expires": "2030-01-01"}
    exceptions = [{"id": "A", "when": SECTOR, **made}, {"id": "B", "when": "has(input)", **made}]
    late = {**_use("x", input={"modalities": ["text"]}), "time": "2030-01-02"}
    found = _covered(USE, Y, late, exceptions=exceptions)
    assert _never(found)["exception A: " + SECTOR] == ("true", "false", "unknown")
    found = _covered(USE, _use("x", actor={"sector": "p"}), exceptions=exceptions)
    assert _never(found)["exception A: " + SECTOR] == ("false", "unknown")
    assert _never(found)["exception B: has(input)"] == ("true", "false")
    found = _covered(USE, OPEN, exceptions=exceptions, on_unknown="violate")
    assert _never(found)["exception B: has(input)"] == ("true",)
    found = _covered(USE, OPEN, exceptions=exceptions)
    assert _never(found)["exception B: has(input)"] == ("true", "false")


TEXTS = ("purpose.use_case", "actor.sector", "model.name")
WORDS = ("a", "b")


def _random_condition(rnd: random.Random, depth: int) -> str:
    if depth == 0 or rnd.random() < 0.2:
        text = rnd.choice(TEXTS)
        return rnd.choice(
            [
                f'{text} == "{rnd.choice(WORDS)}"', f"has({text})", f"{text} in lists.some", "has(input)",
                f'{text}.startsWith("a")', "oversight.human_review", f'tools.exists(t, t == "{rnd.choice(WORDS)}")',
            ]
        )  # fmt: skip
    parts = [_random_condition(rnd, depth - 1) for _ in range(2)]
    return rnd.choice([f"({parts[0]} && {parts[1]})", f"({parts[0]} || {parts[1]})", f"!({parts[0]})"])


def _random_event(rnd: random.Random) -> dict[str, Any]:
    def word() -> str | None:
        return rnd.choice([*WORDS, None])

    return {
        "purpose": {"use_case": word()},
        "actor": {"sector": word()},
        "model": {"name": rnd.choice(WORDS)},
        "oversight": {"human_review": rnd.choice([True, False, None])},
        "tools": rnd.choice([None, [], ["a"], ["a", "b"]]),
    }


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32).map(random.Random), st.integers(1, 3))
def test_what_was_seen_is_what_an_evaluator_of_its_own_finds(rnd: random.Random, depth: int) -> None:
    """Every part was seen with the values that a plain evaluator gives its text, true and false only where possible."""
    when = _random_condition(rnd, depth)
    events = [_random_event(rnd) for _ in range(4)]
    found = _covered(when, *({"event": event} for event in events), lists="some: [a]")

    def values(part: Part) -> set[Any]:
        tree = parse(part.node.span.text, origin=Origin("reference")).tree
        return {Evaluator(SCHEMA, {"some": ["a"]}, _whole(event)).eval(tree) for event in events}

    for part in found.parts:
        if "t ==" not in part.node.span.text or "exists" in part.node.span.text:
            assert part.seen == values(part)
        assert part.seen - {None} <= part.possible
    assert found.decided == sum({True, False} & part.possible <= part.seen for part in found.parts)


def _whole(event: dict[str, Any]) -> dict[str, Any]:
    required = {"actor": MINIMAL["actor"], "model": MINIMAL["model"]}
    return {**event, **{name: {**fields, **event[name]} for name, fields in required.items()}}


def test_shipped_policies_are_shown_both_ways() -> None:
    """What the tests of the code of conduct leave open is no more than a part that another one implies."""
    from usageaudit.policy import load_bundle

    found = list(coverage(load_bundle(["azure-openai-code-of-conduct"])))
    parts = sum(len(one.parts) for one in found)
    assert parts > 50
    assert sum(one.decided for one in found) >= 0.95 * parts
