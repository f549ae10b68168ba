"""Conditions that can't be true, or false: what is found is right, and of simple conditions nothing is missed."""

from __future__ import annotations

import time
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.policy.language.generator import RANDOM
from tests.unit.policy.language.reference import Evaluator
from tests.unit.policy.language.schema import LISTS, SCHEMA, condition
from usageaudit.policy.language import Origin, parse
from usageaudit.policy.language.outcomes import outcomes
from usageaudit.policy.language.possible import Possibilities

if TYPE_CHECKING:
    import random

TEXTS: list[str | None] = [None, "", "a", "a\0", "b", "b\0", "é", "é\0", "real_time"]
INTS: list[int | None] = [None, -1, 0, 1, 2, 3, 4]
BOOLS: list[bool | None] = [None, True, False]
ATOMS = [
    *(f"text.a {op} '{word}'" for op in ("==", "!=", "<", "<=", ">", ">=") for word in "ab"),
    *(f"number.i {op} {bound}" for op in ("==", "!=", "<", "<=", ">", ">=") for bound in (0, 1, 3)),
    *("number.i > 0.5", "number.i < 1.0", "number.i == 1.5", "2.5 >= number.i"),
    *("text.a in lists.words", "text.a in ['b']", "text.a in []", "number.i in [0, 3]"),
    *("has(text.a)", "has(number.i)", "has(truth.p)", "has(truth)", "truth.p", "truth.p == true", "true", "false"),
]
"""Tests whose outcome changes only between the values above: those decide what is possible."""
LETS = {"first": "text.a == 'a'", "second": "has(text.a) && number.i > 1"}


def _formula(rnd: random.Random, depth: int) -> str:
    if depth == 0 or rnd.random() < 0.15:
        return rnd.choice([*ATOMS, *LETS] if rnd.random() < 0.8 else [*LETS])
    left, right, other = (_formula(rnd, depth - 1) for _ in range(3))
    both = f"({left} && {right})"
    return rnd.choice([both, both, f"({left} || {right})", f"!({left})", f"({left} ? {right} : {other})"])


def _truths(text: str) -> set[Any]:
    """Return the values of a condition over all events of the small domain, as the plain evaluator finds them."""
    for name, body in LETS.items():
        text = text.replace(name, f"({body})")
    tree = parse(text, origin=Origin("reference")).tree
    found = set()
    for word, number, truth in product(TEXTS, INTS, BOOLS):
        whole = {"text": {"a": word}, "number": {"i": number}, "truth": {"p": truth}}
        found.add(Evaluator(SCHEMA, LISTS, whole).eval(tree))
    return found


@settings(max_examples=400, deadline=None)
@given(RANDOM, st.integers(1, 3))
def test_what_is_possible_is_what_all_events_show(rnd: random.Random, depth: int) -> None:
    """Over tests of single fields, a condition can be true, or false, exactly where some event makes it so."""
    text = _formula(rnd, depth)
    lets = {name: condition(body) for name, body in LETS.items()}
    found = condition(text, lets=lets)
    possible, truths = Possibilities().of(found.root), _truths(text)
    assert (possible.true, possible.false) == (True in truths, False in truths), text
    said = {d.message for d in found.warnings if d.column == 1 and d.width == len(text)}
    assert True not in truths or "this is never true" not in said
    assert truths == {True} or "this is always true" not in said
    assert False not in truths or "this is true wherever it is known" not in said


@settings(max_examples=200, deadline=None)
@given(RANDOM, st.integers(1, 3))
def test_no_outcome_that_events_show_is_left_out(rnd: random.Random, depth: int) -> None:
    """What a test could show of a condition is among the outcomes that coverage asks for, unknown aside."""
    text = _formula(rnd, depth)
    found = condition(text, lets={name: condition(body) for name, body in LETS.items()})
    assert _truths(text) - {None} <= outcomes(found.root)[id(found.root)]


NEVER = [
    "text.a == text.b && text.a != text.b",
    "text.a < text.b && text.b <= text.a",
    "text.a == 'x' && text.a.startsWith('y')",
    "text.a in ['ab', 'ac'] && text.a.endsWith('d')",
    "text.a == 'x' && !text.a.contains('x')",
    "!has(text.a) && text.a == 'x'",
    "!has(text.a) && !(text.a == 'x')",
    "!has(text.a) && text.a.size() > 3",
    "!has(number) && number.j == 1",
    "!has(list.words) && list.words.exists(w, w == 'a')",
    "!has(labels.k) && labels['k'] == 'v'",
    "!has(labels) && labels['k'] == 'v'",
    "number.i > 9223372036854775807",
    "number.i > 5.0 && number.i < 6.0",
    "number.x > 5.0 && !(number.x > 4.0)",
    "text.a == 'x' && (text.a == 'y' || text.a == 'z')",
    "(text.a == 'x' || text.a == 'y') && text.a == 'z'",
    "(truth.p ? text.a == 'x' : text.a == 'y') && text.a == 'z'",
    "(truth.p ? text.a == 'x' : truth.q) && !truth.p && !truth.q",
    "event.time < timestamp('2024-01-01T00:00:00Z') && event.time.getMonth() > 5 && event.time.getMonth() < 5",
    "list.items.exists(s, !has(s.word) && s.word == 'a')",
]


@pytest.mark.parametrize("text", NEVER)
def test_a_contradiction_is_found(text: str) -> None:
    """Two values compared both ways, tests of what is missing, texts that do not fit: none of it can be true."""
    assert any(d.message == "this is never true" for d in condition(text).warnings)


SOUND = [
    "text.a <= text.b && text.b <= text.a",
    "text.a == text.b && text.b == text.id",
    "!has(text.a) && text.b == 'x'",
    "has(text) && !has(text.a)",
    "!has(labels['k']) && labels['l'] == 'v'",
    "list.items.exists(s, !has(s.word)) && list.items.exists(s, has(s.word) && s.word == 'a')",
    "list.items.exists(s, !has(s.word) && list.items.exists(t, t.name == s.name && has(t.word) && t.word == 'a'))",
    "(has(text.a) ? text.a : text.b) == 'x' && !has(text.a)",
    "number.i >= 9223372036854775807",
    "text.a in ['ab', 'ac'] && text.a.endsWith('c')",
    "text.a.startsWith('a') && text.a.startsWith('b')",
]
"""The last can't be true, either; it is not looked into, so nothing is said."""


@pytest.mark.parametrize("text", SOUND)
def test_what_could_be_true_is_not_called_a_contradiction(text: str) -> None:
    """Different elements, fields and entries are told apart."""
    assert not any(d.message == "this is never true" for d in condition(text).warnings)


@pytest.mark.parametrize(
    "text",
    [
        " && ".join(f"text.a != 'word {n}'" for n in range(2500)) + " && text.a == 'x' && text.a == 'y'",
        " && ".join(f"(text.a == '{n}' || text.b == '{n}')" for n in range(1000)),
        " || ".join(f"(text.a == '{n}' && text.b == '{n}')" for n in range(1000)),
        "(" * 30 + "truth.p" + " && (truth.q || text.a == 'a'))" * 30,
        "text.a in [" + ", ".join(f"'{n}'" for n in range(6000)) + "] && text.a != 'x'",
    ],
    ids=["terms", "choices", "alternatives", "nested", "list"],
)
def test_the_search_is_bounded(text: str) -> None:
    """The largest conditions are looked at in a moment, whatever their shape."""
    started = time.process_time()
    condition(text)
    assert time.process_time() - started < 5
