"""Our parser beside cel-go's: what both take, they read alike, and what only one takes is listed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conformance.cel.reasons import UNCHECKED, reasons
from tests.conformance.cel.trees import flattened, written
from usageaudit.policy.language import InvalidCondition, Origin, parse, unparse

if TYPE_CHECKING:
    from tests.conformance.cel.cases import Case
    from usageaudit.policy.language import Expr

READ_OTHERWISE = {
    "m.existsOne(v, f)": "another spelling of exists_one, which is a call here",
    "-" * 32 + "19": "cel-go counts the signs, here the last one belongs to the number: both give 19",
}
TAKEN_HERE = {
    "has(m)": "has() takes a name without a dot",
    "[].existsOne(__result__, __result__)": "existsOne is no macro here, and __result__ is a name like any other",
}


def test_trees_agree(conformance: tuple[Case, ...], parser_cases: tuple[Case, ...]) -> None:
    """What both parsers take, they read alike, node by node."""
    both = [(case, expr) for case in (*conformance, *parser_cases) if case.tree and (expr := _parsed(case))]
    differing = [case.text for case, expr in both if written(expr.tree) != flattened(case.tree)]
    assert len(both) > 1200
    assert set(differing) == set(READ_OTHERWISE)


def test_what_is_written_is_read_again(conformance: tuple[Case, ...], parser_cases: tuple[Case, ...]) -> None:
    """The text that is made of a tree parses to the same tree."""
    for case in (*conformance, *parser_cases):
        if expr := _parsed(case):
            assert parse(unparse(expr.tree), origin=Origin("again")).tree == expr.tree, case.text


def test_what_is_refused_is_left_out(conformance: tuple[Case, ...], parser_cases: tuple[Case, ...]) -> None:
    """What cel-go's parser takes and ours does not is left out for a reason that is seen in the syntax."""
    refused = [case for case in (*conformance, *parser_cases) if case.tree and not _parsed(case)]
    assert len(refused) > 1000
    assert [case.text for case in refused if not set(reasons(case)) - {UNCHECKED}] == []


def test_what_breaks_the_grammar_is_refused(conformance: tuple[Case, ...], parser_cases: tuple[Case, ...]) -> None:
    """What cel-go's parser refuses, ours does, but for nesting, where cel-go goes down 32 levels and ours 64."""
    broken = [case for case in (*conformance, *parser_cases) if not case.tree and "recursion" not in case.error]
    assert len(broken) > 150
    assert {case.text for case in broken if _parsed(case)} == set(TAKEN_HERE)


def _parsed(case: Case) -> Expr | None:
    try:
        return parse(case.text, origin=Origin(case.name))
    except InvalidCondition:
        return None
