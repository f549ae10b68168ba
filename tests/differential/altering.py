"""Alters what an operator gives, in a typed tree, for one back end or the other.

An altered operator is the operator, and around it one that answers wrongly where it is true, false or unknown; where
the result is no truth, where it is known or unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from usageaudit.policy.language import (
    BOOL,
    DOUBLE,
    STRING,
    Call,
    Has,
    ListOf,
    Logic,
    Named,
    Operator,
    Quantified,
    Sort,
)
from usageaudit.policy.language.signatures import Sql

if TYPE_CHECKING:
    from usageaudit.policy.language import Node, Type

_VALUE = "({t} := {0.value})"
_RIGHT_LOGIC = Logic("{0.may_be_true}", "{0.may_be_false}", "{0.value}")


@dataclass(frozen=True, slots=True)
class Alteration:
    """Python that answers wrongly, and SQL, which is empty where only Python has what is altered."""

    python: Logic
    sql: str


RIGHT_ANSWER = "nothing"
"""The name of the alteration that alters nothing."""
_RIGHT = Alteration(_RIGHT_LOGIC, "{0}")
_TRUE = Logic(f"({_VALUE} is None)", "True", f"(False if {_VALUE} is True else {{t}})")
_FALSE = Logic("True", f"({_VALUE} is None)", f"(True if {_VALUE} is False else {{t}})")
_UNKNOWN = Logic(f"({_VALUE} is True)", f"({_VALUE} is not True)", f"(False if {_VALUE} is None else {{t}})")


def _in_part(name: str, wrong: Logic) -> dict[str, Alteration]:
    """Return the alterations of the value alone, and of the truths that a judge tests."""
    return {
        f"{name}, the value": Alteration(replace(_RIGHT_LOGIC, value=wrong.value), ""),
        f"{name}, the truths": Alteration(replace(wrong, value=_RIGHT_LOGIC.value), ""),
    }


_OF_TRUTHS = {
    RIGHT_ANSWER: _RIGHT,
    "true": Alteration(_TRUE, "if({0} = 1, 0, {0})"),
    "false": Alteration(_FALSE, "if({0} = 0, 1, {0})"),
    "unknown": Alteration(_UNKNOWN, "ifNull({0}, 0)"),
    **_in_part("true", _TRUE),
    **_in_part("false", _FALSE),
    **_in_part("unknown", _UNKNOWN),
}


def _of_others(python: str, sql: str, absent: str) -> dict[str, Alteration]:
    known = replace(_RIGHT_LOGIC, value=f"(None if {_VALUE} is None else {python})")
    unknown = replace(_RIGHT_LOGIC, value=f"({absent} if {_VALUE} is None else {{t}})")
    return {
        RIGHT_ANSWER: _RIGHT,
        "known": Alteration(known, sql),
        "unknown": Alteration(unknown, f"ifNull({{0}}, {absent})"),
    }


_OF_STRINGS = _of_others("{t} + 'a'", "concat({0}, 'a')", "''")
_OF_DOUBLES = _of_others("{t} + {t} + 1.0", "({0} + {0} + 1.0)", "0.0")
_OF_WHOLE_NUMBERS = _of_others("{t} + 1", "({0} + 1)", "0")


def alterations(row: Operator) -> list[str]:
    """Return the names of what can be wrong with an operator; `has` is never unknown."""
    kinds = (BOOL, STRING) if row.result is Sort.SAME else (row.result,)
    names = dict.fromkeys(name for kind in kinds for name in _alterations_of(kind) if name != RIGHT_ANSWER)
    return [name for name in names if row.name != "has" or name in ("true", "false")]


def in_sql(name: str) -> bool:
    """Whether SQL has what an alteration alters."""
    return any(forms[name].sql for forms in (_OF_TRUTHS, _OF_STRINGS) if name in forms)


def _alterations_of(kind: object) -> dict[str, Alteration]:
    if kind == BOOL:
        return _OF_TRUTHS
    return _OF_STRINGS if kind == STRING else _OF_DOUBLES if kind == DOUBLE else _OF_WHOLE_NUMBERS


def altered(node: Node, row: Operator, name: str) -> Node:
    """Return a tree in which an operator is altered wherever it is applied."""
    whole = _with_children(node, row, name)
    if not isinstance(whole, Call | Has | Quantified) or whole.operator != row:
        return whole
    alteration = _alterations_of(whole.type).get(name)
    return (
        whole
        if alteration is None
        else Call(_around(alteration, whole.type), (whole,), type=whole.type, span=whole.span)
    )


def _around(alteration: Alteration, kind: Type) -> Operator:
    sql = Sql(alteration.sql or "{0}")
    return Operator("altered", (kind,), kind, "function", alteration.python, sql, "Gives a wrong answer.")


def _with_children(node: Node, row: Operator, name: str) -> Node:
    match node:
        case Call(arguments=arguments):
            return replace(node, arguments=tuple(altered(child, row, name) for child in arguments))
        case ListOf(items=items):
            return replace(node, items=tuple(altered(child, row, name) for child in items))
        case Quantified(operand=operand, predicate=predicate):
            return replace(node, operand=altered(operand, row, name), predicate=altered(predicate, row, name))
        case Named(body=body):
            return replace(node, body=altered(body, row, name))
        case _:
            return node
