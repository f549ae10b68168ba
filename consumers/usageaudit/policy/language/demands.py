"""What terms of a condition ask of one value, and whether any value could meet all of it."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from math import ceil, floor, inf, nextafter
from sys import float_info
from typing import TYPE_CHECKING, Any, cast

from usageaudit.policy.language.tree import Call, Const, Node
from usageaudit.policy.language.types import BOOL, DOUBLE, INT, INT_MAX, INT_MIN, STRING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from usageaudit.policy.language.tree import Scalar

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_TEXT: dict[str, Callable[[Any, Any], bool]] = {
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": operator.contains,
}
MAX_VALUES = 1_000
"""Lists with more values are not looked into."""


class Effort:
    """How much may still be spent on looking for values; where that is not enough, there is said to be one."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def allows(self, steps: int) -> bool:
        """Spend some steps, and return whether there were as many."""
        self._left -= steps
        return self._left >= 0


@dataclass(frozen=True, slots=True)
class Demand:
    """What a term asks of the value of a node: that `test` accepts it with the constant, or not, where `negated`.

    `exact` demands are such that values around their constants stand for all others.
    """

    of: Node
    test: Callable[[Any, Any], bool]
    constant: object
    negated: bool
    exact: bool = True

    def accepts(self, value: object) -> bool:
        """Whether a value meets the demand."""
        return self.test(value, self.constant) is not self.negated

    def values(self) -> frozenset[object] | None:
        """Return the only values that can meet the demand, None where they are not a few that can be listed."""
        if self.test is within and not self.negated:
            return cast("frozenset[object]", self.constant)
        if (self.test is operator.eq and not self.negated) or (self.test is operator.ne and self.negated):
            return frozenset((self.constant,))
        return None

    def landmarks(self) -> Iterator[Scalar]:
        """Yield values around which the answer may change."""
        constants = self.constant if isinstance(self.constant, frozenset) else (self.constant,)
        for constant in cast("Iterable[Scalar]", constants):
            yield from _around(constant, self.of)


def within(value: object, values: object) -> bool:
    """Whether a value is one of some values."""
    return value in cast("frozenset[object]", values)


def demand(term: Node, *, negated: bool) -> Demand | None:
    """Return what a term asks of one value; where it is not about one, of its own truth.

    None stands for one that is not looked into.
    """
    if isinstance(term, Call) and len(term.arguments) == 2:
        left, right = term.arguments
        name = term.operator.name
        if name in COMPARE and isinstance(left, Const) and not isinstance(right, Const):
            left, right, name = right, left, MIRRORED[name]
        if isinstance(right, Const) and name in COMPARE:
            return Demand(left, COMPARE[name], right.value, negated)
        if isinstance(right, Const) and name in _TEXT:
            return Demand(left, _TEXT[name], right.value, negated, exact=False)
        if name == "in" and isinstance(right, Const) and isinstance(right.value, tuple):
            if len(right.value) > MAX_VALUES:
                return None
            if right.value or not right.list_name:
                return Demand(left, within, frozenset(right.value), negated)
            # An empty list of the bundle is there to be filled, so nothing is told from it.
    return Demand(term, operator.eq, True, negated)


def some_value(node: Node, demands: list[Demand], effort: Effort) -> bool:
    """Whether a value of a node exists that meets all demands; False is certain."""
    values = [found for one in demands if (found := one.values()) is not None]
    only = min(values, key=len) if values else None
    tried: Iterable[object]
    if isinstance(node, Const):
        tried = (node.value,)
    elif only is not None:
        tried = only
    elif node.type == BOOL:
        tried = (True, False)
    else:
        demands = [one for one in demands if one.exact]
        tried = (*(mark for one in demands for mark in one.landmarks()), *_anything(node))
    known = [value for value in tried if _in_bounds(value, node)]
    if not effort.allows(len(known) * len(demands)):
        return True
    return any(all(one.accepts(value) for one in demands) for value in known)


def _in_bounds(value: object, node: Node) -> bool:
    """Whether a node can have a value at all."""
    low, high = (node.operator.bounds if isinstance(node, Call) else None) or (-inf, inf)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return True
    if node.type == INT:
        return max(low, INT_MIN) <= value <= min(high, INT_MAX) and value == floor(value)
    return low <= value <= high and abs(value) != inf


def _around(constant: Scalar, node: Node) -> tuple[Scalar, ...]:
    """Return a constant and the next values of a node's type beside it."""
    if isinstance(constant, bool):
        return (constant, not constant)
    if isinstance(constant, str):
        return (constant, constant + "\0")
    if node.type == DOUBLE:
        number = float(constant)
        return (constant, number, nextafter(number, inf), nextafter(number, -inf))
    return (floor(constant), ceil(constant), floor(constant) + 1, ceil(constant) - 1)


def _anything(node: Node) -> tuple[Scalar, ...]:
    """Return values of a node's type that stand for those beyond all constants."""
    if node.type == STRING:
        return ("",)
    if node.type == DOUBLE:
        return (0.5, float_info.max, -float_info.max)
    bounds = node.operator.bounds if isinstance(node, Call) else None
    return bounds or ((0, INT_MIN, INT_MAX) if node.type == INT else (0,))
