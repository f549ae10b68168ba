"""Finds out whether a condition can be true, and whether it can be false, whatever an event holds.

An answer "can't" is certain; "can" only means that no reason against it was found.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from math import inf, nextafter
from typing import TYPE_CHECKING, Any, cast

from usageaudit.policy.language.tree import Call, Const, Field, Has, Member, Named, Node, Quantified
from usageaudit.policy.language.types import BOOL, DOUBLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from usageaudit.policy.language.tree import Scalar


@dataclass(frozen=True, slots=True)
class Possible:
    """Whether a condition can be true, and whether it can be false; that it can be unknown goes without saying."""

    true: bool = True
    false: bool = True


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(frozen=True, slots=True)
class _Demand:
    """What a term asks of the value of a node: `holds(value, constant)`, or that it does not where `negated`."""

    of: Node
    compare: Callable[[Any, Any], bool]
    constant: object
    negated: bool

    def accepts(self, value: object) -> bool:
        return self.compare(value, self.constant) is not self.negated

    def landmarks(self) -> Iterator[Scalar]:
        """Yield values around which the answer may change."""
        constants = self.constant if isinstance(self.constant, frozenset) else (self.constant,)
        for constant in cast("tuple[Scalar, ...]", constants):
            yield from _around(constant, double=self.of.type == DOUBLE)


class Possibilities:
    """Answers for the nodes of one tree; each is looked at once."""

    def __init__(self) -> None:
        self._known: dict[int, Possible] = {}

    def of(self, node: Node) -> Possible:
        """Return whether a truth can be true and can be false."""
        if id(node) not in self._known:
            self._known[id(node)] = self._find(node)
        return self._known[id(node)]

    def _find(self, node: Node) -> Possible:
        match node:
            case Const(value=bool() as value):
                return Possible(value, not value)
            case Named(body=body):
                return self.of(body)
            case Has(leaves=leaves) if any(isinstance(leaf, Field | Member) and leaf.required for leaf in leaves):
                return Possible(false=False)
            case Quantified(operator=row, predicate=predicate):
                inner = self.of(predicate)
                return Possible(inner.true or row.name == "all", inner.false or row.name != "all")
            case Call() if node.type == BOOL:
                return self._call(node)
            case _:
                return Possible()

    def _call(self, node: Call) -> Possible:
        name, arguments = node.operator.name, node.arguments
        if name == "!":
            inner = self.of(arguments[0])
            return Possible(inner.false, inner.true)
        if name == "?:":
            results = [self.of(argument) for argument in arguments[1:]]
            return Possible(any(r.true for r in results), any(r.false for r in results))
        if name == "&&":
            below = [self.of(argument) for argument in arguments]
            true = all(b.true for b in below) and satisfiable(_terms(node, negated=False))
            return Possible(true, any(b.false for b in below))
        if name == "||":
            below = [self.of(argument) for argument in arguments]
            false = all(b.false for b in below) and satisfiable(_terms(node, negated=True))
            return Possible(any(b.true for b in below), false)
        return _comparison(node)


def _comparison(node: Call) -> Possible:
    name, arguments = node.operator.name, node.arguments
    if name in _COMPARE and arguments[0] == arguments[1]:
        # A value compared with itself.
        return Possible(*((True, False) if name in ("==", "<=", ">=") else (False, True)))
    return Possible(satisfiable([(node, False)]), satisfiable([(node, True)]))


def _terms(node: Node, *, negated: bool) -> list[tuple[Node, bool]]:
    """Return the terms that must all hold for a node to be true (false, where negated); each may itself be negated."""
    match node:
        case Named(body=body):
            return _terms(body, negated=negated)
        case Call(operator=row, arguments=arguments) if row.name == ("||" if negated else "&&"):
            return [term for argument in arguments for term in _terms(argument, negated=negated)]
        case Call(operator=row, arguments=(operand,)) if row.name == "!":
            return _terms(operand, negated=not negated)
        case _:
            return [(node, negated)]


def satisfiable(terms: list[tuple[Node, bool]]) -> bool:
    """Whether values can be found that make all terms hold, looking at one node's value at a time."""
    demands: dict[Node, list[_Demand]] = {}
    for term, negated in terms:
        demand = _demand(term, negated=negated)
        demands.setdefault(demand.of, []).append(demand)
    return all(_some_value(node, found) for node, found in demands.items())


def _demand(term: Node, *, negated: bool) -> _Demand:
    if isinstance(term, Call) and len(term.arguments) == 2:
        left, right = term.arguments
        name = term.operator.name
        if name in _COMPARE and isinstance(left, Const) and not isinstance(right, Const):
            left, right, name = right, left, _MIRRORED[name]
        if name in _COMPARE and isinstance(right, Const):
            return _Demand(left, _COMPARE[name], right.value, negated)
        # An empty list of the bundle's is there to be filled: nothing is told from it.
        if (
            name == "in"
            and isinstance(right, Const)
            and isinstance(right.value, tuple)
            and (right.value or not right.list_name)
        ):
            return _Demand(left, _within, frozenset(right.value), negated)
    return _Demand(term, operator.eq, True, negated)


def _within(value: object, values: object) -> bool:
    return value in cast("frozenset[object]", values)


def _some_value(node: Node, demands: list[_Demand]) -> bool:
    """Whether a value of a node exists that all demands accept: one of those around their constants then does."""
    if isinstance(node, Const):
        return all(demand.accepts(node.value) for demand in demands)
    bounds = node.operator.bounds if isinstance(node, Call) else None
    low, high = bounds or (-inf, inf)
    if bounds:
        landmarks = [*bounds, *(mark for demand in demands for mark in demand.landmarks())]
        inside = (mark for mark in landmarks if isinstance(mark, int | float) and low <= mark <= high)
        return any(all(demand.accepts(mark) for demand in demands) for mark in inside)
    if node.type == BOOL:
        return any(all(demand.accepts(value) for demand in demands) for value in (True, False))
    marks = (mark for demand in demands for mark in demand.landmarks())
    # An empty list has no landmarks; any other value than its elements is as good as this one.
    return any(all(demand.accepts(mark) for demand in demands) for mark in (*marks, *_anything(node)))


def _around(constant: Scalar, *, double: bool) -> tuple[Scalar, ...]:
    """Return a constant and the next values of a node's type beside it, and the least of all strings."""
    if isinstance(constant, bool):
        return (constant, not constant)
    if isinstance(constant, str):
        return (constant, constant + "\0", "")
    if double or isinstance(constant, float):
        number = float(constant)
        return (constant, number, nextafter(number, inf), nextafter(number, -inf))
    return (constant, constant + 1, constant - 1)


def _anything(node: Node) -> tuple[Scalar, ...]:
    return ("",) if str(node.type) == "string" else (0.5,) if node.type == DOUBLE else (0,)
