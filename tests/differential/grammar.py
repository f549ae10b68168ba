"""Random conditions, directed by types and by the operator table: a row that is added there is drawn without a change.

A constant that an expression is compared with is, more often than not, a value that the expression has for one of a few
events, so that conditions come out true, false and unknown alike.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.differential import pools
from usageaudit.policy import SCHEMA
from usageaudit.policy.language import (
    BOOL,
    DOUBLE,
    DURATION,
    INT,
    MAP,
    OBJECT,
    OBJECTS,
    OPERATORS,
    STRING,
    STRINGS,
    TIMESTAMP,
    InvalidCondition,
    Kind,
    Leaf,
    Operator,
    Origin,
    Sort,
    Type,
    check,
    list_of,
    parse,
    quote,
)
from usageaudit.policy.python import compile_condition

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping, Sequence

    from usageaudit.policy.language import Condition
    from usageaudit.policy.language.signatures import Parameter
    from usageaudit.policy.python import Values

SCALARS = (BOOL, INT, DOUBLE, STRING, TIMESTAMP, DURATION)
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_ORDERED = (INT, DOUBLE, STRING, TIMESTAMP, DURATION)
_OBJECTS = sorted({".".join(path[:end]) for path in SCHEMA.leaves for end in range(1, len(path))})
_SELDOM = ("?:", "timestamp", "duration")
_DEPTH = 3


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a bundle adds to the names of an event: its lists, and sub-conditions by their texts."""

    lists: Mapping[str, tuple[str | int | float | bool, ...]]
    lets: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Scope:
    """The element of a macro."""

    name: str
    type: Type
    members: Mapping[str, Leaf]


class Grammar:
    """Writes conditions; `values` are those of a few events, for constants that meet them."""

    def __init__(self, rnd: random.Random, vocabulary: Vocabulary, values: Sequence[Values]) -> None:
        self._rnd = rnd
        self._vocabulary = vocabulary
        self._values = values
        self._scopes: list[_Scope] = []
        self._by_result = {kind: [row for row in OPERATORS if row.result in (kind, Sort.SAME)] for kind in SCALARS}
        self._lets = _conditions(vocabulary)

    def condition(self, row: Operator) -> str:
        """Return a condition in which an operator is applied."""
        rnd = self._rnd
        drawn = rnd.random()
        if drawn < 0.25:
            return self._within_macro(row)
        test = self._test_of(row, _DEPTH)
        if drawn < 0.55:
            return test
        other = self._expression(BOOL, 1)
        forms = (f"({test}) && ({other})", f"({other}) || ({test})", f"!({test})", f"({other}) ? ({test}) : ({other})")
        return rnd.choice((*forms, f"({other}) ? ({other}) : ({test})", f"({test}) ? ({other}) : !({other})"))

    def checked(self, text: str, kind: Type | None = BOOL) -> Condition:
        """Return a condition of this text; raises InvalidCondition."""
        return check(
            parse(text, origin=Origin("random")),
            SCHEMA,
            lists=self._vocabulary.lists,
            lets=self._lets,
            expected=kind,
        )

    def _within_macro(self, row: Operator) -> str:
        """Return a macro over a list, whose condition has the operator in it."""
        rnd = self._rnd
        macro = rnd.choice(("exists", "all", "exists_one"))
        operand, kind, members = self._list(1)
        with self._element(kind, members) as name:
            predicate = self._test_of(row, 2)
            if rnd.random() < 0.3:
                predicate = f"({predicate}) {rnd.choice(('&&', '||'))} ({self._expression(BOOL, 1)})"
        return f"{operand}.{macro}({name}, {predicate})"

    def _test_of(self, row: Operator, depth: int) -> str:
        kind = row.result if isinstance(row.result, Type) else self._rnd.choice(SCALARS)
        applied = self._apply(row, kind, depth)
        return applied if kind == BOOL and self._rnd.random() < 0.9 else self._compared(applied, kind)

    def _compared(self, text: str, kind: Type) -> str:
        """Return a comparison of an expression, mostly with a value that it has."""
        symbols = COMPARISONS if kind in _ORDERED else COMPARISONS[:2]
        symbol = self._rnd.choice((*symbols, "==", "=="))
        return f"({text}) {symbol} ({self._meeting(text, kind)})"

    # -- expressions

    def _expression(self, kind: Type, depth: int) -> str:
        if depth <= 0 or self._rnd.random() < 0.35:
            return self._leaf(kind)
        # What is there for all types, or unknown more often than not, would crowd out the rest.
        rows = [row for row in self._by_result[kind] if row.name not in _SELDOM or self._rnd.random() < 0.2]
        if not rows:
            return self._leaf(kind)
        row = self._rnd.choice(rows)
        return f"({self._apply(row, kind, depth - 1)})"

    def _apply(self, row: Operator, kind: Type, depth: int) -> str:
        """Return an operator applied to random operands; `kind` is that of the result."""
        if row.style == "macro":
            return self._quantified(row, depth)
        if row.name == "has":
            return f"has({'labels' if row.parameters == (MAP,) else self._anything_with_a_name()})"
        if row.name == "in" or row.parameters[:2] in ((Sort.NUMBER, Sort.NUMBER), (STRING, STRING)):
            return self._meeting_pair(row, depth)
        operands = [self._operand(parameter, kind, depth) for parameter in row.parameters]
        if row.name in ("&&", "||") and self._rnd.random() < 0.4:
            operands.append(self._expression(BOOL, depth - 1))
        return _written(row, operands, self._rnd)

    def _operand(self, parameter: Parameter, kind: Type, depth: int) -> str:
        rnd = self._rnd
        match parameter:
            case Sort.NUMBER:
                return self._expression(rnd.choice((INT, DOUBLE)), depth)
            case Sort.SAME:
                return self._expression(kind, depth)
            case Sort.LIST:
                return self._list(depth)[0]
            case Sort.PATTERN:
                return quote(rnd.choice(pools.PATTERNS))
            case Sort.ZONE:
                return quote(rnd.choice(pools.ZONES))
            case Sort.KEY:
                return quote(rnd.choice(pools.KEYS))
            case Type(kind=Kind.LIST, element=Type() as element):
                return self._list_of(element, depth)
            case Type() if parameter == MAP:
                return "labels"
            case Type():
                return self._expression(parameter, depth)
            case _:
                raise TypeError(f"no operand for a parameter {parameter}")

    def _meeting_pair(self, row: Operator, depth: int) -> str:
        """Return an operator of two operands, the second of which often is, or has in it, a value of the first."""
        first, second = row.parameters
        kind = self._rnd.choice((INT, DOUBLE)) if first is Sort.NUMBER else first
        if not isinstance(kind, Type):
            raise TypeError(f"{row.signature} has an operand of no type")
        left = self._expression(kind, depth)
        drawn = self._rnd.random()
        if row.name == "in" and second != MAP and drawn < 0.03:
            right = "[]"  # goes with values of any type
        elif drawn < 0.4:
            right = self._operand(second, kind, depth)
        elif isinstance(second, Type) and second.element is not None:
            right = self._list_with(left, kind, second.element, depth)
        else:
            other = self._rnd.choice((INT, DOUBLE, kind, kind)) if second is Sort.NUMBER else kind
            right = self._meeting(left, other) if second != MAP else "labels"
        if row.name == "contains" and self._rnd.random() < 0.3:
            right = quote(self._rnd.choice(("", "a", "b", "\0", "é", "%", "\n")))
        return _written(row, [left, right], self._rnd)

    def _list_with(self, text: str, kind: Type, element: Type, depth: int) -> str:
        """Return a list literal of element type with a value of the expression in it, among others."""
        value = self._meeting(text, element if {kind, element} == {INT, DOUBLE} else kind)
        items = [value, *(self._literal(element) for _ in range(self._rnd.randrange(3)))]
        if self._rnd.random() < 0.3:
            items.append(self._expression(element, depth - 1))
        self._rnd.shuffle(items)
        return f"[{', '.join(items)}]"

    def _meeting(self, text: str, kind: Type) -> str:
        """Return a constant that an expression equals for some event, or else any expression of its type."""
        if self._scopes or self._rnd.random() < 0.2:
            return self._leaf(kind)
        try:
            compute = compile_condition(self.checked(text, None))
        except InvalidCondition:
            return self._literal(kind)
        found = [value for values in self._values if (value := compute(values)) is not None]
        return pools.write(self._near(self._rnd.choice(found), kind), kind) if found else self._literal(kind)

    def _near(self, value: object, kind: Type) -> object:
        """Return a value itself, or sometimes one beside it, as far as the type has one."""
        if kind in (INT, DURATION, TIMESTAMP) and isinstance(value, int) and self._rnd.random() < 0.2:
            return value + self._rnd.choice((-1, 1)) if abs(value) < 2**57 else value
        if kind == INT and isinstance(value, float):
            return int(value) if abs(value) < 2.0**63 else 0
        return value

    # -- leaves

    def _leaf(self, kind: Type) -> str:
        rnd = self._rnd
        scoped = self._scoped(kind)
        if scoped and rnd.random() < 0.6:
            return rnd.choice(scoped)
        if kind == BOOL and self._vocabulary.lets and rnd.random() < 0.3:
            return rnd.choice(sorted(self._vocabulary.lets))
        fields = [".".join(path) for path, leaf in SCHEMA.leaves.items() if leaf.type == kind]
        if kind == STRING:
            fields += [f"labels[{quote(rnd.choice(pools.KEYS))}]", "labels.team", "labels.a"]
        if kind == DURATION:
            fields = ["(record.time - event.time)"]
        return rnd.choice(fields) if fields and rnd.random() < 0.75 else self._literal(kind)

    def _scoped(self, kind: Type) -> list[str]:
        """Return the elements of macros around, and the members of those that are objects, of a type."""
        found = [scope.name for scope in self._scopes if scope.type == kind]
        return found + [
            f"{scope.name}.{name}"
            for scope in self._scopes
            for name, leaf in scope.members.items()
            if leaf.type == kind
        ]

    def _literal(self, kind: Type) -> str:
        rnd = self._rnd
        match kind.kind:
            case Kind.BOOL:
                value: object = rnd.random() < 0.5
            case Kind.INT:
                value = rnd.choice(
                    rnd.choice((pools.INTS, pools.NEGATIVE_INTS, (0, 1, 2, 3, 7), (pools.any_int(rnd),)))
                )
            case Kind.DOUBLE:
                value = rnd.choice((*pools.MEASURES, pools.any_double(rnd))) * rnd.choice((1, 1, 1, -1))
            case Kind.STRING:
                value = rnd.choice(
                    rnd.choice((pools.WORDS, pools.WORDS, pools.ODD_TEXTS, pools.TIME_TEXTS, (pools.any_text(rnd),)))
                )
            case Kind.TIMESTAMP:
                value = rnd.choice((*pools.MOMENTS, *pools.FAR_MOMENTS))
            case _:
                value = rnd.choice(pools.SPANS)
        return pools.write(value, kind)

    def _anything_with_a_name(self) -> str:
        rnd = self._rnd
        drawn = rnd.random()
        if drawn < 0.2:
            return rnd.choice(_OBJECTS)
        if drawn < 0.3:
            return f"labels[{quote(rnd.choice(pools.KEYS))}]"
        members = [f"{scope.name}.{name}" for scope in self._scopes for name in scope.members]
        if members and drawn < 0.7:
            return rnd.choice(members)
        return ".".join(rnd.choice([path for path, leaf in SCHEMA.leaves.items() if leaf.type != MAP]))

    # -- lists and macros

    def _list(self, depth: int) -> tuple[str, Type, Mapping[str, Leaf]]:
        """Return any list, the type of its elements, and the members of those that are objects."""
        rnd = self._rnd
        if rnd.random() < 0.35:
            path = rnd.choice([path for path, leaf in SCHEMA.leaves.items() if leaf.type == OBJECTS])
            return ".".join(path), OBJECT, SCHEMA.leaves[path].members
        element = STRING if rnd.random() < 0.7 else rnd.choice(SCALARS)
        return self._list_of(element, depth), element, {}

    def _list_of(self, element: Type, depth: int) -> str:
        rnd = self._rnd
        drawn = rnd.random()
        named = [f"lists.{name}" for name, values in self._vocabulary.lists.items() if _kind_of(values) == element]
        if element == STRING and drawn < 0.55:
            scoped = self._scoped(STRINGS)
            fields = [".".join(path) for path, leaf in SCHEMA.leaves.items() if leaf.type == list_of(element)]
            return rnd.choice(scoped if scoped and rnd.random() < 0.6 else fields)
        if named and drawn < 0.7:
            return rnd.choice(named)
        least = 0 if element == STRING else 1
        items = [self._literal(element) for _ in range(rnd.randrange(least, 4))]
        if drawn > 0.85 and items:
            items[-1] = self._expression(element, depth - 1)
        return f"[{', '.join(items)}]"

    def _quantified(self, row: Operator, depth: int) -> str:
        operand, kind, members = self._list(depth)
        with self._element(kind, members) as name:
            predicate = self._predicate(name, kind, depth)
        return f"{operand}.{row.name}({name}, {predicate})"

    def _predicate(self, name: str, kind: Type, depth: int) -> str:
        """Return a condition on an element: often a plain test of it, which a back end may have a quick form for."""
        rnd = self._rnd
        if kind in SCALARS and rnd.random() < 0.3:
            if rnd.random() < 0.5:
                return f"{name} in {self._list_of(kind, depth)}"
            return f"{name} {rnd.choice(('==', '!='))} {self._leaf(kind)}"
        return self._expression(BOOL, max(depth, 1))

    @contextmanager
    def _element(self, kind: Type, members: Mapping[str, Leaf]) -> Iterator[str]:
        """Give a name to the element of a macro while its condition is written; it may hide that of a macro around."""
        around = self._scopes
        name = self._rnd.choice(("x", "y", "z"))
        self._scopes = [*(scope for scope in around if scope.name != name), _Scope(name, kind, members)]
        yield name
        self._scopes = around


def _written(row: Operator, operands: list[str], rnd: random.Random) -> str:
    name, style = row.name, row.style
    if style == "either":
        style = rnd.choice(("method", "function"))
    match style:
        case "infix":
            return f" {name} ".join(f"({operand})" for operand in operands)
        case "prefix":
            return f"{name}({operands[0]})"
        case "ternary":
            return "({}) ? ({}) : ({})".format(*operands)
        case "index":
            return f"{operands[0]}[{operands[1]}]"
        case "function":
            return f"{name}({', '.join(operands)})"
        case _:
            return f"({operands[0]}).{name}({', '.join(operands[1:])})"


def _kind_of(values: tuple[object, ...]) -> Type:
    first = values[0] if values else ""
    return BOOL if isinstance(first, bool) else {int: INT, float: DOUBLE}.get(type(first), STRING)


def _conditions(vocabulary: Vocabulary) -> dict[str, Condition]:
    """Return the sub-conditions; each may name those before it."""
    lets: dict[str, Condition] = {}
    for name, text in vocabulary.lets.items():
        lets[name] = check(parse(text, origin=Origin(name)), SCHEMA, lists=vocabulary.lists, lets=lets)
    return lets
