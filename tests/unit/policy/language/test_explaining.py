"""Explanations: which parts decided a value, and which fields would have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.unit.policy.language.generator import RANDOM, Generator
from tests.unit.policy.language.schema import SCHEMA, TYPES, condition, event, locals_of, value
from usageaudit.policy.language import BOOL, Call, Has, Node, walk
from usageaudit.policy.python import Evaluator, Explainer, compile_condition, explain, local

if TYPE_CHECKING:
    import random

ITEM: dict[str, Any] = {"name": "n", "score": 0.5}
WORD = "w == 'a' || w == 'b'"
MACROS = [
    (f"list.words.exists(w, {WORD})", "", False, "the list is empty"),
    (f"list.words.exists(w, {WORD})", "xy", False, "none of 2 elements"),
    (f"list.words.exists(w, {WORD})", "xby", True, "element 2 of 3: w == 'b'"),
    (f"!list.words.exists(w, {WORD})", "a", False, "element 1 of 1: w == 'a'"),
    ("list.words.all(w, w < 'c')", "axb", False, "element 2 of 3"),
    ("list.words.all(w, w < 'c')", "ab", True, "all of 2 elements"),
    ("list.words.exists_one(w, w < 'c')", "axb", False, "elements 1, 3 of 3"),
    ("list.words.exists(w, w < 'c')", "xaaaaaaa", True, "elements 2, 3, 4, 5, 6 and 2 more of 8"),
]
CASES: list[tuple[str, dict[str, Any], bool | None, list[str], list[str]]] = [
    ("text.a == 'a' && text.b == 'b'", {"text": {"a": "x"}}, False, ["text.a == 'a'"], []),
    ("text.a == 'a' && text.b == 'b'", {"text": {"a": "a"}}, None, ["text.b == 'b'"], ["text.b"]),
    ("text.a == 'a' && text.b == 'b'", {}, None, ["text.a == 'a'", "text.b == 'b'"], ["text.a", "text.b"]),
    ("text.a == 'a' || truth.p", {"truth": {"p": True}}, True, ["truth.p"], []),
    ("text.a == 'a' || (truth.p && truth.q)", {"truth": {"p": False}}, None, ["text.a == 'a'"], ["text.a"]),
    ("!(text.a == 'a')", {"text": {"a": "x"}}, True, ["!(text.a == 'a')"], []),
    ("!(text.a == 'a' || truth.p)", {"text": {"a": "x"}}, None, ["truth.p"], ["truth.p"]),
    ("truth.p ? text.a == 'a' : text.b == 'b'", {}, None, ["truth.p"], ["truth.p"]),
    ("truth.p ? text.a == 'a' : text.b == 'b'", {"truth": {"p": True}}, None, ["truth.p", "text.a == 'a'"], ["text.a"]),
    ("number.i + number.j > 7", {"number": {"i": 1}}, None, ["number.i + number.j > 7"], ["number.j"]),
    ("number.i / number.j > 7", {"number": {"i": 1, "j": 0}}, None, ["number.i / number.j > 7"], []),
    ("labels['k'] == 'v'", {"labels": {"x": "y"}}, None, ["labels['k'] == 'v'"], ['labels["k"]']),
    ("'k' in labels", {"labels": {}}, None, ["'k' in labels"], ["labels"]),
    ("has(text.a)", {}, False, ["has(text.a)"], []),
    ("list.items.exists(s, s.count > 1)", {}, None, ["list.items.exists(s, s.count > 1)"], ["list.items"]),
    (
        "list.items.exists(s, s.count > 1 && s.word == 'w')",
        {"list": {"items": [{**ITEM, "count": 0}, {**ITEM, "count": 2}, {**ITEM, "word": "w"}]}},
        None,
        ["list.items.exists(s, s.count > 1 && s.word == 'w') (elements 2, 3 of 3)"],
        ["list.items.count", "list.items.word"],
    ),
    ("police && truth.q", {"truth": {"q": True}}, None, ["police: text.a == 'p'"], ["text.a"]),
    ("'a' in [text.a, text.b]", {"text": {"a": "a"}}, None, ["'a' in [text.a, text.b]"], ["text.b"]),
    ("text.a in lists.words", {"text": {"a": "a"}}, True, ["text.a in lists.words"], []),
    ("!police", {"text": {"a": "p"}}, False, ["police: text.a == 'p'"], []),
    ("truth.p\n  == truth.q", {}, None, ["truth.p == truth.q"], ["truth.p", "truth.q"]),
    *((text, {"list": {"words": [*words]}}, truth, [f"{text} ({why})"], []) for text, words, truth, why in MACROS),
]


@pytest.mark.parametrize(("text", "whole", "truth", "deciding", "missing"), CASES)
def test_an_explanation_names_what_decided(
    text: str, whole: dict[str, Any], truth: bool | None, deciding: list[str], missing: list[str]
) -> None:
    """A value comes with the parts that made it so, and an unknown one with the fields to declare, and no others."""
    lets = {"police": condition("text.a == 'p' || (has(text.b) && text.b == 'p')")}
    found = explain(condition(text, lets=lets), locals_of(whole))
    assert (found.value, list(found.deciding), list(found.missing)) == (truth, deciding, missing)


@settings(max_examples=400, deadline=None)
@given(RANDOM, st.integers(1, 4))
def test_only_missing_fields_can_decide_an_unknown_value(rnd: random.Random, depth: int) -> None:
    """While the fields named as missing stay unknown, so does the value, whatever other unknown fields become."""
    found = condition(Generator(rnd).of(BOOL, depth))
    # has() is about absence, so with it a value may change by any field that it tests.
    assume(not any(isinstance(node, Has) for node in walk(found.root)))
    explainer, evaluate = Explainer(found), compile_condition(found)
    values = locals_of(event(rnd))
    explanation = explainer.explain(values)
    assert explanation.value is evaluate(values)
    assert (explanation.value is None) or explanation.missing == ()
    assert explanation.deciding
    assume(explanation.value is None)
    filled = dict(values)
    for name, (kind, _) in TYPES.items():
        known = local(tuple(name.split(".")))
        labels = name == "labels" and not any(field.startswith("labels") for field in explanation.missing)
        if filled[known] is None and name not in explanation.missing and (name != "labels" or labels):
            filled[known] = locals_of(nested(name, value(rnd, kind, missing=0)))[known]
    assert evaluate(filled) is None


@settings(max_examples=400, deadline=None)
@given(RANDOM, st.integers(1, 4))
def test_the_parts_named_decide_alone(rnd: random.Random, depth: int) -> None:
    """A value stays what it is when every part that is not named becomes unknown."""
    found = condition(Generator(rnd).of(BOOL, depth))
    values = locals_of(event(rnd))
    explanation = explain(found, values)
    evaluator = Evaluator()

    def value(node: Node) -> object:
        """Return the value of a truth with its leaves unknown unless they are named."""
        match node:
            case Call(operator=row, arguments=arguments) if row.name in ("&&", "||"):
                truths = [value(argument) for argument in arguments]
                decisive = row.name == "||"
                return decisive if decisive in truths else None if None in truths else not decisive
            case Call(operator=row, arguments=(chosen, then, otherwise)) if row.name == "?:":
                truth = value(chosen)
                return None if truth is None else value(then if truth else otherwise)
            case Call(operator=row, arguments=(operand,)) if row.name == "!" and not leaf(operand):
                truth = value(operand)
                return None if truth is None else not truth
            case _:
                text = node.span.text
                named = any(one == text or one.startswith(f"{text} (") for one in explanation.deciding)
                return evaluator.value(node, values) if named else None

    def leaf(node: Node) -> bool:
        return not isinstance(node, Call) or node.operator.name not in ("&&", "||", "?:", "!")

    assert value(found.root) is explanation.value


def nested(name: str, inner: Any) -> dict[str, Any]:
    """Return an event with one field."""
    for part in reversed(name.split(".")):
        inner = {part: inner}
    return dict(inner)


def test_a_missing_field_is_a_field_of_the_schema() -> None:
    """Names of missing fields are those that authors write."""
    found = explain(condition("text.deep.c == 'a'"), {})
    assert tuple(found.missing[0].split(".")) in SCHEMA.leaves
