"""Finds out whether a condition can be true, and whether it can be false, whatever an event holds.

An answer "can't" is certain; "can" only means that no reason against it was found, with a bounded effort.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.policy.language.demands import COMPARE, MIRRORED, Demand, Effort, demand, some_value
from usageaudit.policy.language.tree import (
    Call,
    Const,
    Element,
    Field,
    Has,
    ListOf,
    Member,
    Named,
    Node,
    Possible,
    Quantified,
    children,
)
from usageaudit.policy.language.types import BOOL, STRING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_LOGIC = ("&&", "||", "?:")
MAX_CHOICES = 64
"""How many ways to make a condition true are looked at; with more, it is said that one of them works."""
MAX_EFFORT = 50_000
"""How many terms are looked at for one condition, each time counted; what is left then is said to be possible."""

Term = tuple[Node, bool]
"""A truth, and whether it must be false rather than true."""


class Possibilities:
    """Answers for the nodes of one tree; each is looked at once."""

    def __init__(self, effort: Effort | None = None) -> None:
        self._known: dict[int, Possible] = {}
        self._reads: dict[int, frozenset[object]] = {}
        self._effort = effort or Effort(MAX_EFFORT)

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
            condition, then, otherwise = (self.of(argument) for argument in arguments)
            true = (condition.true and then.true) or (condition.false and otherwise.true)
            false = (condition.true and then.false) or (condition.false and otherwise.false)
        elif name == "&&":
            below = [self.of(argument) for argument in arguments]
            true, false = all(b.true for b in below), any(b.false for b in below)
        elif name == "||":
            below = [self.of(argument) for argument in arguments]
            true, false = any(b.true for b in below), all(b.false for b in below)
        else:
            true, false = True, True
            if _plain(node):
                return Possible()
        if name in _LOGIC and self.apart(node):
            # Where each operand is about something else, none can exclude another.
            return Possible(true, false)
        true = true and satisfiable([(node, False)], self._effort)
        return Possible(true, false and satisfiable([(node, True)], self._effort))

    def reads(self, node: Node) -> frozenset[object]:
        """Return what a node reads."""
        if id(node) not in self._reads:
            self._reads[id(node)] = self._find_read(node)
        return self._reads[id(node)]

    def _find_read(self, node: Node) -> frozenset[object]:
        match node:
            case Field(path=path):
                return frozenset((path,))
            case Member(element=element, path=path):
                return frozenset(((element.number, path),))
            case Element(number=number):
                return frozenset((number,))
            case _:
                return frozenset().union(*map(self.reads, children(node)))

    def apart(self, node: Node) -> bool:
        """Whether no two of the nodes directly below a node read the same."""
        below = children(node)
        return len(below) < 2 or sum(len(self.reads(child)) for child in below) == len(self.reads(node))

    def once(self, node: Node) -> bool:
        """Whether a node reads nothing twice."""
        return self.apart(node) and all(map(self.once, children(node)))


def _plain(node: Call) -> bool:
    """Whether a test compares a text of the event with constants, which can turn out either way."""
    if len(node.arguments) != 2 or node.operator.name not in ("==", "!=", "in"):
        return False
    left, right = node.arguments
    text = isinstance(left, Field | Member | Element) and left.type == STRING
    return text and isinstance(right, Const) and right.value != ()


def satisfiable(terms: Iterable[Term], effort: Effort | None = None) -> bool:
    """Whether values can be found that make all terms what they must be; False is certain."""
    return _Search(effort or Effort(MAX_EFFORT)).some_way(list(terms), [])


class _Search:
    """Looks for a way to make terms what they must be, going through the alternatives one after another."""

    def __init__(self, effort: Effort) -> None:
        self._choices = 0
        self._effort = effort

    def some_way(self, terms: list[Term], literals: list[Term]) -> bool:
        """Whether terms and literals, which have no alternatives, can all hold."""
        literals, branching = list(literals), []
        while terms:
            node, negated = terms.pop()
            ways = _ways(node, negated=negated)
            if not ways:
                literals.append((node, negated))
            elif len(ways) == 1:
                terms.extend(ways[0])
            else:
                branching.append((node, negated))
            if not self._effort.allows(1):
                return True
        if not consistent(literals, self._effort):
            return False
        self._choices += 1
        if not branching or self._choices > MAX_CHOICES:
            return True
        (node, negated), *rest = sorted(branching, key=lambda term: len(_ways(term[0], negated=term[1])))
        return any(self.some_way([*way, *rest], literals) for way in _ways(node, negated=negated))


def _ways(node: Node, *, negated: bool) -> list[list[Term]]:
    """Return the ways to make a truth true (false, where negated), each some terms; none of a test of facts."""
    match node:
        case Named(body=body):
            return [[(body, negated)]]
        case Call(operator=row, arguments=(operand,)) if row.name == "!":
            return [[(operand, not negated)]]
        case Call(operator=row, arguments=arguments) if row.name in ("&&", "||"):
            terms = [(argument, negated) for argument in arguments]
            return [terms] if (row.name == "||") is negated else [[term] for term in terms]
        case Call(operator=row, arguments=(condition, then, otherwise)) if row.name == "?:" and node.type == BOOL:
            return [[(condition, False), (then, negated)], [(condition, True), (otherwise, negated)]]
        case _:
            return []


def consistent(literals: Sequence[Term], effort: Effort) -> bool:
    """Whether no two literals exclude each other, and no value is asked for that can't be; False is certain."""
    missing = {leaf for node, negated in literals if negated and isinstance(node, Has) for leaf in node.leaves}
    demands: dict[Node, list[Demand]] = {}
    orders: dict[tuple[Node, Node], set[int]] = {}
    for node, negated in literals:
        if missing and not isinstance(node, Has) and any(leaf in missing for leaf in _needed(node)):
            return False
        if isinstance(node, Has) and not negated and missing.issuperset(node.leaves):
            return False
        if (found := _order(node, negated=negated)) is not None:
            left, right, allowed = found
            orders.setdefault((left, right), {0} if left == right else {-1, 0, 1}).intersection_update(allowed)
        if (asked := demand(node, negated=negated)) is not None:
            demands.setdefault(asked.of, []).append(asked)
    return all(orders.values()) and all(some_value(node, found, effort) for node, found in demands.items())


def _needed(node: Node) -> Iterator[Node]:
    """Yield the fields without which a node is unknown."""
    match node:
        case Field() | Member():
            yield node
        case Call(operator=row, arguments=arguments) if row.name not in ("&&", "||", "!", "?:"):
            yield node
            for argument in arguments:
                yield from _needed(argument)
        case ListOf(items=items):
            for item in items:
                yield from _needed(item)
        case Quantified(operand=operand):
            yield from _needed(operand)
        case _:
            return


_ORDERS = {"==": {0}, "!=": {-1, 1}, "<": {-1}, "<=": {-1, 0}, ">": {1}, ">=": {0, 1}}


def _order(node: Node, *, negated: bool) -> tuple[Node, Node, set[int]] | None:
    """Return two values that a term compares, and which orders of them it allows; None for any other term."""
    if not isinstance(node, Call) or node.operator.name not in COMPARE:
        return None
    left, right = node.arguments
    if isinstance(left, Const) or isinstance(right, Const):
        return None
    name = node.operator.name
    if left.span.text > right.span.text:
        left, right, name = right, left, MIRRORED[name]
    allowed = _ORDERS[name]
    return left, right, {-1, 0, 1} - allowed if negated else set(allowed)
