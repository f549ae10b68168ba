"""Finds out which truth values each part of a condition can take, so that tests are not asked for impossible ones.

True and false are left out only where they are certainly impossible. Unknown is looked for with one field missing at a
time and all others there: it is left out where that never leaves a part open, as behind `has()`, and so is what only
an overflow or a text that is no time leaves open.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from usageaudit.policy.language.checker import path_of
from usageaudit.policy.language.possible import Possibilities
from usageaudit.policy.language.signatures import Strict
from usageaudit.policy.language.tree import Call, Const, Field, Has, ListOf, Member, Named, Node, Quantified, walk
from usageaudit.policy.language.types import BOOL

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from usageaudit.policy.language.schema import Path

Truth = bool | None
Truths = frozenset[Truth]
"""Truth values, None for unknown; of a part that is no truth, True stands for any known value."""

_EITHER: Truths = frozenset((True, False))
_KNOWN: Truths = frozenset((True,))
_UNKNOWN: Truths = frozenset((None,))
_NONE: Truths = frozenset()


def outcomes(root: Node, *, given: Collection[Path] = ()) -> Mapping[int, Truths]:
    """Return, by `id()` of the node, the values that each truth of a tree can take where it is looked at.

    `given` are fields that are never missing, as required fields are. A branch of `? :` is looked at only where it is
    chosen, the condition of a macro only where its list has elements.
    """
    optional = {path_of(node) for node in walk(root) if _may_be_missing(node)} - {*given}
    found: dict[int, Truths] = {}
    possible = Possibilities()
    for missing in ((), *sorted(optional)):
        _Outcomes(missing, possible, found, given).of(root)
    return found


def _may_be_missing(node: Node) -> bool:
    if isinstance(node, Field | Member):
        return not node.required
    return isinstance(node, Call) and node.operator.name == "[]"


class _Outcomes:
    """Looks at a tree with one field missing."""

    def __init__(
        self, missing: Path, possible: Possibilities, found: dict[int, Truths], given: Collection[Path]
    ) -> None:
        self._missing, self._possible, self._found, self._given = missing, possible, found, given

    def of(self, node: Node) -> Truths:
        """Return the values that a node can take, and keep them."""
        truths = self._find(node)
        if node.type == BOOL:
            possible = self._possible.of(node)
            impossible = {value for value, can in ((True, possible.true), (False, possible.false)) if not can}
            truths -= impossible
            # Where two parts are about the same field, one may decide whatever leaves the other open.
            certain = truths if self._possible.once(node) else truths - _UNKNOWN
            self._found[id(node)] = self._found.get(id(node), _NONE) | certain
        return truths

    def _find(self, node: Node) -> Truths:
        match node:
            case Named(body=body):
                return self.of(body)
            case Has():
                return self._has(node)
            case Quantified():
                return self._quantified(node)
            case Call() if not isinstance(node.operator.python, Strict):
                return self._logic(node)
            case Call(arguments=below) | ListOf(items=below):
                return self._strict(node, below)
            case Const(value=bool() as value):
                return frozenset((value,))
            case _ if self._missing and path_of(node) == self._missing:
                return _UNKNOWN
            case _:
                return _EITHER if node.type == BOOL else _KNOWN

    def _has(self, node: Has) -> Truths:
        if any(not _may_be_missing(leaf) or path_of(leaf) in self._given for leaf in node.leaves):
            return frozenset((True,))
        tested = path_of(node.leaves[0])[: len(self._missing)]
        alone = len(node.leaves) == 1 and tested == self._missing
        return frozenset((False,)) if alone and self._missing else _EITHER

    def _quantified(self, node: Quantified) -> Truths:
        over = self.of(node.operand)
        if over == _UNKNOWN:
            return _UNKNOWN
        # Of an empty list, all() is true and the others are false.
        empty = node.operator.name == "all"
        return self.of(node.predicate) | {empty} | (over & _UNKNOWN)

    def _strict(self, node: Call | ListOf, below: Iterable[Node]) -> Truths:
        operands = [self.of(operand) for operand in below]
        if self._missing and path_of(node) == self._missing:
            return _UNKNOWN
        if any(operand == _UNKNOWN for operand in operands):
            return _UNKNOWN
        unknown = _UNKNOWN if any(None in operand for operand in operands) else _NONE
        return (_EITHER if node.type == BOOL else _KNOWN) | unknown

    def _logic(self, node: Call) -> Truths:
        name, arguments = node.operator.name, node.arguments
        if name == "?:":
            return self._chosen(arguments)
        below = [self.of(argument) for argument in arguments]
        if name == "!":
            return frozenset(None if value is None else not value for value in below[0])
        # Of two operands at a time, as there may be many.
        decisive = name == "||"
        result = below[0]
        for operand in below[1:]:
            result = frozenset(_joined(pair, decisive=decisive) for pair in product(result, operand))
        return result

    def _chosen(self, arguments: tuple[Node, ...]) -> Truths:
        condition = self.of(arguments[0])
        result = condition & _UNKNOWN
        for value, branch in ((True, arguments[1]), (False, arguments[2])):
            if value in condition:
                result |= self.of(branch)
        return result


def _joined(values: tuple[Truth, ...], *, decisive: bool) -> Truth:
    """Return the conjunction of values, or their disjunction where true is what decides."""
    if decisive in values:
        return decisive
    return None if None in values else not decisive
