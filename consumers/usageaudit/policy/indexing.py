"""Finds by what values of an event a rule can be looked up, so that most rules need not be tested for most events.

A clue is a part of a condition that must hold for the condition to hold. All rules with clues of one kind about one
subject are found by one look-up; where the subject is unknown all of them may still be undecided.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from usageaudit.policy.language import Call, Const, Element, Field, Node, Quantified, equality, terms

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from usageaudit.policy.language import Scalar
    from usageaudit.policy.model import Policy, Revision

Kind = Literal["equal", "member", "match", ">", ">=", "<", "<="]
"""A field equals one of some values, a list has one of them, a pattern is in a text, a number is beyond another."""
SMALL = 6
"""So many rules are tested one after another rather than looked up."""
MAX_LEVELS = 3
"""So many look-ups lie below each other."""
_MIRRORED: dict[str, Kind] = {">": "<", ">=": "<=", "<": ">", "<=": ">="}


class Way(NamedTuple):
    """What is looked up: a subject, and how."""

    kind: Kind
    subject: Node


@dataclass(frozen=True, slots=True)
class Clue:
    """A part of a condition that must hold: `values` are those to equal or to have, the pattern, or the bound."""

    way: Way
    values: frozenset[Scalar]
    term: Node


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A revision of a policy; `whole` where its condition is nothing but its one clue."""

    policy: Policy
    revision: Revision
    clues: tuple[Clue, ...] = field(init=False)
    whole: bool = field(init=False)

    def __post_init__(self) -> None:
        parts = list(terms(self.revision.when.root))
        object.__setattr__(self, "clues", tuple(clue for part in parts if (clue := _clue(part)) is not None))
        bounded = self.revision.start is not None or self.revision.end is not None
        object.__setattr__(self, "whole", len(parts) == 1 and not bounded)

    def clue(self, way: Way) -> Clue:
        """Return the narrowest clue of a way that the rule has."""
        return min((clue for clue in self.clues if clue.way == way), key=lambda clue: len(clue.values))


def choose(rules: Sequence[Rule], numbers: Sequence[int], done: Sequence[Way]) -> dict[Way, list[int]]:
    """Return the rules to look up, by the way to do it; those that are left out are tested one by one.

    What many different values are asked for tells more rules apart than what few are asked for; a rule with many
    values is found under each of them.
    """
    if len(done) >= MAX_LEVELS:
        return {}
    asked: dict[Way, set[Scalar]] = {}
    for clue in _open(rules, numbers, done):
        asked.setdefault(clue.way, set()).update(clue.values)
    chosen: dict[Way, list[int]] = {}
    for number in numbers:
        clues = list(_open(rules, [number], done))
        # A pattern is worth remembering for each text; anything else is tested as quickly as it is looked up.
        if clues and (len(numbers) > SMALL or all(clue.way.kind == "match" for clue in clues)):
            best = max(clues, key=lambda clue: _worth(clue, asked[clue.way]))
            chosen.setdefault(best.way, []).append(number)
    return chosen


def _open(rules: Sequence[Rule], numbers: Sequence[int], done: Sequence[Way]) -> Iterator[Clue]:
    for number in numbers:
        yield from (clue for clue in rules[number].clues if clue.way not in done)


def _worth(clue: Clue, asked: set[Scalar]) -> float:
    match clue.way.kind:
        case "equal":
            return len(asked) / max(1, len(clue.values))
        case "member":
            return len(asked) / max(1, len(clue.values)) / 2
        case "match":
            return 2
        case _:
            return 2 if len(asked) > 1 else 0


def _clue(term: Node) -> Clue | None:
    if (test := equality(term)) is not None:
        return Clue(Way("equal", _field_of(term)), test[1], term)
    match term:
        case Quantified():
            return _exists(term)
        case Call(operator=row, arguments=(left, right)) if row.name in _MIRRORED:
            return _compared(term, left, right)
        case Call(operator=row, arguments=(Const(value=str() as value), Field() as subject)) if row.name == "in":
            return Clue(Way("member", subject), frozenset([value]), term)
        case Call(operator=row, arguments=(Field() as subject, Const(value=str() as value))) if row.name == "matches":
            return Clue(Way("match", subject), frozenset([value]), term)
        case _:
            return None


def _field_of(test: Node) -> Node:
    arguments = test.arguments if isinstance(test, Call) else ()
    return next(argument for argument in arguments if isinstance(argument, Field))


def _exists(term: Quantified) -> Clue | None:
    match term.predicate:
        case Call(operator=row, arguments=(Element(number=number), Const(value=value))) if row.name in ("in", "=="):
            if term.operator.name != "exists" or not isinstance(term.operand, Field) or number != term.element.number:
                return None
            values = value if isinstance(value, tuple) else (value,)
            return Clue(Way("member", term.operand), frozenset(values), term)
        case _:
            return None


def _compared(term: Call, left: Node, right: Node) -> Clue | None:
    kind: Kind = _MIRRORED[_MIRRORED[term.operator.name]]
    if isinstance(left, Const):
        left, right, kind = right, left, _MIRRORED[kind]
    if not isinstance(right, Const) or isinstance(left, Const) or isinstance(right.value, tuple | str | bool):
        return None
    return Clue(Way(kind, left), frozenset([right.value]), term)
