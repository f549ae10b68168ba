"""Generated code: what it may rely on, and what may be relied on of it."""

from __future__ import annotations

import pytest

from tests.unit.policy.language.reference import Evaluator
from tests.unit.policy.language.schema import LISTS, SCHEMA, condition, locals_of
from usageaudit.policy.language import OPERATORS, Call, Field, Logic, Origin, Strict, parse, quote, walk
from usageaudit.policy.python import TRUE, Constants, compile_condition, execute, lower, nullable

HARMFUL = "'\"\n\\{0}{x}{t}__import__('os').system('false')\x00\u2028"


def test_an_author_writes_no_code() -> None:
    """Text of a condition is in the code as a literal only, whatever quotes, braces or line ends it has."""
    text = f"text.a == {quote(HARMFUL)} && labels[{quote(HARMFUL)}] == 'v' && text.b in [{quote(HARMFUL)}]"
    values = {"v_text_a": HARMFUL, "v_text_b": HARMFUL, "v_labels": {HARMFUL: "v"}}
    found = condition(text)
    assert compile_condition(found)(values) is True
    code = lower(found, Constants())
    assert HARMFUL not in code.value
    compile(code.value, "code", "eval")


def test_equal_conditions_have_equal_code() -> None:
    """Code depends on what a condition means, so equal parts of policies can be computed once."""
    constants = Constants()
    one = lower(condition("number.i + 1 > 2 && text.a in lists.words"), constants)
    two = lower(condition("number.i+1>2&&text.a in ['a', 'é', 'real_time']"), constants)
    assert one.value == two.value
    assert one.may_be_true == two.may_be_true


def test_a_part_can_be_given() -> None:
    """A part that a judge knows already, or has computed, is not computed again."""
    found = condition("text.a == 'x' && text.b == 'y'")
    first, second = [node for node in walk(found.root) if isinstance(node, Call) and node.operator.name == "=="]
    constants = Constants()
    code = lower(found, constants, {first: TRUE, second: nullable("shared", second.type, frozenset(["shared"]))})
    assert code.names == {"shared"}
    execute(f"def may_be_false(shared):\n    return {code.may_be_false}\n", constants.namespace)
    may_be_false = constants.namespace["may_be_false"]
    assert callable(may_be_false)
    assert [may_be_false(value) for value in (True, False, None)] == [False, True, True]


def test_an_equality_costs_one_comparison() -> None:
    """A test of a field against a constant needs no separate look at whether the field is there."""
    code = lower(condition("text.a == 'x'"), Constants())
    assert code.may_be_false == "(not (v_text_a == 'x'))"
    code = lower(condition("text.a in lists.words"), Constants())
    assert code.may_be_false == "(not (v_text_a in c_0))"


@pytest.mark.parametrize(
    "wrap", ["!({})", "({}) && truth.q", "({}) ? truth.p : truth.q", "truth.q == ({})", "list.words.exists(w, {})"]
)
def test_deep_conditions_are_computed(wrap: str) -> None:
    """A condition as deep as the language allows compiles and is computed in time that grows with its size only."""
    text = "truth.p || text.a == 'a'"
    for _ in range(58):
        text = wrap.format(text)
    evaluate = compile_condition(condition(text))
    tree = parse(text, origin=Origin("reference")).tree
    for whole in ({}, {"truth": {"p": True, "q": False}}, {"text": {"a": "b"}, "list": {"words": ["a"]}}):
        assert evaluate(locals_of(whole)) is Evaluator(SCHEMA, LISTS, whole).eval(tree)


def test_sums_of_many_terms_are_computed() -> None:
    """A long sum is a deep tree, and is cut off where the language's limit of depth is."""
    found = condition(" + ".join(["number.i"] * 60) + " == 60")
    assert compile_condition(found)({"v_number_i": 1}) is True
    assert compile_condition(found)({"v_number_i": 2**62}) is None


def test_a_text_with_surrogates_is_unknown_to_patterns() -> None:
    """A string that is no Unicode, which a decoder should have refused, does not stop the judge."""
    assert compile_condition(condition("text.a.matches('a')"))({"v_text_a": "\ud800"}) is None


def test_templates_name_what_exists() -> None:
    """Every function that a row of the operator table calls is there, and every function is called by a row."""
    called: set[str] = set()
    for row in OPERATORS:
        cells = [row.python.known] if isinstance(row.python, Strict) else []
        if isinstance(row.python, Logic):
            cells = [row.python.may_be_true, row.python.may_be_false, row.python.value]
        words = "".join(c if c.isalnum() or c == "_" else " " for cell in cells for c in cell + " ").split()
        called |= {word for word in words if word.startswith("op_")}
    assert called == {name for name in Constants().namespace if name.startswith("op_")}


def test_fields_of_a_condition_are_its_local_names() -> None:
    """What code reads is what the tree names, so a judge knows which fields to take from an event."""
    found = condition("text.a == 'x' || has(text.deep) || labels.k == 'v' || list.items.exists(s, s.score > 0.5)")
    paths = {node.path for node in walk(found.root) if isinstance(node, Field)}
    assert lower(found, Constants()).names == {"v_" + "_".join(path) for path in paths}
