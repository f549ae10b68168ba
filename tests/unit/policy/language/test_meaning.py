"""What conditions mean: generated code against an evaluator written apart from it."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.unit.policy.language.generator import RANDOM, SCALARS, Generator
from tests.unit.policy.language.reference import Evaluator
from tests.unit.policy.language.schema import LISTS, SCHEMA, condition, event, locals_of
from usageaudit.policy.language import (
    BOOL,
    DURATION,
    OPERATORS,
    STRING,
    Call,
    Condition,
    Has,
    Named,
    Node,
    Operator,
    Quantified,
    Sort,
    Strict,
    Type,
    parse,
)
from usageaudit.policy.language.source import Origin
from usageaudit.policy.python import Constants, compile_condition, execute, lower

if TYPE_CHECKING:
    from collections.abc import Callable

THOROUGH = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def expected(text: str, whole: Any) -> Any:
    """Return the value that the reference gives."""
    return Evaluator(SCHEMA, LISTS, whole).eval(parse(text, origin=Origin("reference")).tree)


def same(left: object, right: object) -> bool:
    """Whether two values are the same: a truth is no number, and 1 is no 1.0."""
    if isinstance(left, bool) or isinstance(right, bool) or left is None or right is None:
        return left is right
    return left == right and isinstance(left, float) == isinstance(right, float)


def pair(found: Condition) -> Callable[[dict[str, object]], tuple[object, object]]:
    """Compile the pair "may be true", "may be false" of a condition."""
    constants = Constants()
    code = lower(found, constants)
    reads = "".join(f"    {name} = values[{name!r}]\n" for name in code.names)
    source = f"def both(values):\n{reads}    return {code.may_be_true}, {code.may_be_false}\n"
    execute(source, constants.namespace)
    both: Any = constants.namespace["both"]
    return both  # type: ignore[no-any-return]


@THOROUGH
@given(RANDOM, st.integers(0, 5))
def test_generated_code_means_what_the_reference_says(rnd: random.Random, depth: int) -> None:
    """A condition over an event is true, false or unknown as the reference says, in every form of its code."""
    text = Generator(rnd).of(BOOL, depth)
    note(text)
    found = condition(text)
    evaluate, both = compile_condition(found), pair(found)
    for _ in range(8):
        whole = event(rnd)
        note(repr(whole))
        truth = expected(text, whole)
        assert evaluate(locals_of(whole)) is truth
        assert both(locals_of(whole)) == (truth is not False, truth is not True)


def applied(row: Operator, rnd: random.Random) -> tuple[str, Type]:
    """Return an expression whose outermost operator is a row, and its type."""
    kind = row.result if isinstance(row.result, Type) else rnd.choice([*SCALARS, STRING])
    return Generator(rnd).row(row, kind, rnd.choice([1, 2])), kind


def label(row: Operator) -> str:
    """Return a name for a row in reports."""
    return row.signature.replace(" ", "")


@pytest.mark.parametrize("row", OPERATORS, ids=label)
def test_each_operator_is_exercised(row: Operator) -> None:
    """Each row of the table agrees with the reference on known values, on unknown ones, and at every limit tried."""
    rnd = random.Random(label(row))
    outcomes = {"True", "False"} if row.result == BOOL else {"known"}
    outcomes |= set() if row.name == "has" else {"unknown"}
    seen: set[str] = set()
    for tried in range(600):
        if tried > 40 and seen >= outcomes:
            return
        text, kind = applied(row, rnd)
        found = condition(text, expected=kind)
        evaluate = compile_condition(found)
        whole = event(rnd)
        wanted = expected(text, whole)
        assert same(evaluate(locals_of(whole)), wanted), (text, whole)
        if kind == BOOL:
            assert pair(found)(locals_of(whole)) == (wanted is not False, wanted is not True), (text, whole)
        seen.add("unknown" if wanted is None else str(wanted) if kind == BOOL else "known")
    pytest.fail(f"only {seen} came out")


def altered(row: Operator) -> list[Operator]:
    """Return rows that differ from one in a single cell of its lowering."""
    python = row.python
    if isinstance(python, Strict):
        wrong = [replace(python, known=f"not ({python.known})")] if row.result == BOOL else []
        wrong = wrong or [replace(python, known="None", partial=True)]
        # No field is a duration, so none can be None beside a constant.
        if python.on_none is not None and DURATION not in row.parameters:
            wrong.append(replace(python, on_none=not python.on_none))
        return [replace(row, python=cell) for cell in wrong]
    cells = [replace(python, value="None")]
    for name in ("may_be_true", "may_be_false"):
        cells += [replace(python, **{name: cell}) for cell in ("True", "False")]
    return [replace(row, python=cell) for cell in cells]


def with_row(node: Node, old: Operator, new: Operator) -> Node:
    """Return a tree with one row in place of another."""
    match node:
        case Call():
            row = new if node.operator == old else node.operator
            return replace(node, operator=row, arguments=tuple(with_row(a, old, new) for a in node.arguments))
        case Quantified():
            row = new if node.operator == old else node.operator
            operand, predicate = with_row(node.operand, old, new), with_row(node.predicate, old, new)
            return replace(node, operator=row, operand=operand, predicate=predicate)
        case Has():
            return replace(node, operator=new if node.operator == old else node.operator)
        case Named():
            return replace(node, body=with_row(node.body, old, new))
        case _:
            return node


def differs(row: Operator, wrong: Operator, rnd: random.Random) -> bool:
    """Whether the comparison with the reference notices a row that is wrong, in a few hundred tries."""
    for _ in range(600):
        text, kind = applied(row, rnd)
        found = condition(text, expected=kind)
        broken = replace(found, root=with_row(found.root, row, wrong))
        whole = event(rnd)
        wanted = expected(text, whole)
        values = locals_of(whole)
        if not same(compile_condition(broken)(values), wanted):
            return True
        if kind == BOOL and tuple(map(bool, pair(broken)(values))) != (wanted is not False, wanted is not True):
            return True
    return False


@pytest.mark.parametrize("row", OPERATORS, ids=label)
def test_an_altered_operator_is_noticed(row: Operator) -> None:
    """The comparison would notice if any cell of a row's lowering were another: it is no formality."""
    for wrong in altered(row):
        assert differs(row, wrong, random.Random(label(row))), wrong.python


def test_every_operator_has_an_overload_for_each_sort() -> None:
    """The generator knows each sort of parameter, so that no row is left out of the comparison in silence."""
    sorts = {parameter for row in OPERATORS for parameter in row.parameters if isinstance(parameter, Sort)}
    assert sorts == set(Sort)
