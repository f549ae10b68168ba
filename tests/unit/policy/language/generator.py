"""Random conditions made from the rows of the operator table, so that a new row is tried without being named here."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from tests.unit.policy.language.schema import INTS, MEMBERS, STRINGS_, TYPES
from usageaudit.policy.language import (
    BOOL,
    DOUBLE,
    DURATION,
    INT,
    MAP,
    OBJECTS,
    OPERATORS,
    STRING,
    STRINGS,
    TIMESTAMP,
    Kind,
    Operator,
    Sort,
    Type,
    list_of,
    quote,
)

SCALARS = [BOOL, INT, DOUBLE, STRING, TIMESTAMP, DURATION]
LISTS_OF = [list_of(kind) for kind in (STRING, INT, DOUBLE, BOOL, TIMESTAMP, DURATION)]
PATTERNS = ["", "a", "^a.*b$", "(?i)É", "[^a]", "a.b", r"\d+", "^$", "real|labels"]
ZONES = ["UTC", "Europe/Paris", "America/St_Johns", "Asia/Kolkata", "+05:45", "-11:30", "Pacific/Apia"]


RANDOM = st.integers(0, 2**32).map(random.Random)
"""A source of choices for a test: many times faster than drawing each choice."""


class Generator:
    """Writes random expressions of a type; `bound` are the elements of macros around, by name.

    With `spine` only one operand of each operator is an expression again, so that it gets deep and stays small.
    """

    def __init__(self, rnd: random.Random, *, spine: bool = False) -> None:
        self.rnd = rnd
        self.spine = spine
        self.bound: dict[str, Type] = {}

    def of(self, kind: Type, depth: int) -> str:
        """Return an expression of a type."""
        rows = [row for row in OPERATORS if row.result == kind or (row.result is Sort.SAME and kind.scalar)]
        if depth <= 0 or not rows or (self.rnd.random() < 0.15 and not self.spine):
            return self.atom(kind)
        return self.row(self.rnd.choice(rows), kind, depth)

    def row(self, row: Operator, kind: Type, depth: int) -> str:
        """Return an application of a row, of a type where the row leaves it open."""
        if row.style == "macro":
            return self.macro(row, depth)
        if row.name == "has":
            return f"has({self.field(row.parameters[0])})"
        if row.name in ("timestamp", "duration"):
            # A constant text that is none is refused, so it is only met in fields.
            return f"{row.name}({self.rnd.choice(['text.a', 'text.b', 'text.id', 'text.deep.c'])})"
        chosen = self.rnd.randrange(len(row.parameters))
        operands = [
            self.operand(parameter, kind, 0 if self.spine and number != chosen else depth - 1)
            for number, parameter in enumerate(row.parameters)
        ]
        if row.name in ("&&", "||"):
            operands += [self.of(BOOL, 0 if self.spine else depth - 2) for _ in range(self.rnd.choice([0, 0, 1]))]
            return "(" + f" {row.name} ".join(operands) + ")"
        match row.style:
            case "infix":
                return f"({operands[0]} {row.name} {operands[1]})"
            case "prefix":
                return f"{row.name}({operands[0]})"
            case "ternary":
                return f"({operands[0]} ? {operands[1]} : {operands[2]})"
            case "index":
                return f"{operands[0]}[{operands[1]}]"
            case "function":
                return f"{row.name}({', '.join(operands)})"
            case _:
                return f"{operands[0]}.{row.name}({', '.join(operands[1:])})"

    def operand(self, parameter: Type | Sort, kind: Type, depth: int) -> str:
        """Return an expression that a parameter takes."""
        rnd = self.rnd
        match parameter:
            case Type():
                return self.of(parameter, depth)
            case Sort.NUMBER:
                return self.of(rnd.choice([INT, DOUBLE]), depth)
            case Sort.SAME:
                return self.of(kind, depth)
            case Sort.LIST:
                return self.of(rnd.choice([STRINGS, STRINGS, OBJECTS, *LISTS_OF]), depth)
            case Sort.PATTERN:
                return quote(rnd.choice(PATTERNS))
            case Sort.ZONE:
                return quote(rnd.choice(ZONES))
            case Sort.KEY:
                return quote(rnd.choice(STRINGS_))
            case _:
                return self.of(BOOL, depth)

    def macro(self, row: Operator, depth: int) -> str:
        """Return a macro over a list; its element may hide one of the same name."""
        kind = self.rnd.choice([STRINGS, OBJECTS, OBJECTS, list_of(INT)])
        operand = self.of(kind, 0)
        name = self.rnd.choice(["e", "f"])
        outer = dict(self.bound)
        self.bound[name] = kind.element or STRING
        predicate = self.of(BOOL, depth - 1)
        self.bound = outer
        return f"{operand}.{row.name}({name}, {predicate})"

    def field(self, parameter: Type | Sort) -> str:
        """Return what has() takes: a field, an object, a member of an element, or a key."""
        if parameter == MAP:
            return "labels"
        keys = [f"labels[{quote(key)}]" for key in ("a", "labels")]
        fields = [name for name, (kind, _) in TYPES.items() if kind != MAP]
        members = [f"{n}.{m}" for n, kind in self.bound.items() if kind not in SCALARS for m in MEMBERS]
        return self.rnd.choice([*fields, "text", "text.deep", "number", "list", "record", *keys, *members])

    def atom(self, kind: Type) -> str:
        """Return a field, an element's field or a constant of a type."""
        fields = [name for name, (found, _) in TYPES.items() if found == kind]
        for name, found in self.bound.items():
            if found == kind:
                fields += [name] * 3
            elif found not in SCALARS:
                fields += [f"{name}.{member}" for member, (inner, _) in MEMBERS.items() if inner == kind] * 3
        # The name of an element hides a field of the schema, never the other way round.
        if fields and self.rnd.random() < 0.65:
            return self.rnd.choice(fields)
        return self.constant(kind) if kind not in (MAP, OBJECTS) else self.rnd.choice(fields)

    def constant(self, kind: Type) -> str:
        """Return a literal of a type, or a named list."""
        rnd = self.rnd
        match kind.kind:
            case Kind.BOOL:
                return rnd.choice(["true", "false"])
            case Kind.INT:
                return f"({rnd.choice(INTS)})"
            case Kind.DOUBLE:
                return rnd.choice(["0.0", "0.5", "(-1.5)", "1e308", "9007199254740992.0", "1.0"])
            case Kind.STRING:
                return quote(rnd.choice(STRINGS_))
            case Kind.TIMESTAMP:
                texts = ["1970-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z"]
                return f'timestamp("{rnd.choice([*texts, "2024-03-31T01:00:00+00:00", "2024-12-31T23:59:59.9Z"])}")'
            case Kind.DURATION:
                return f'duration("{rnd.choice(["0", "1h30m", "-1.5s", "1us", "87600000h", "24h"])}")'
            case _:
                return self.list_literal(kind)

    def list_literal(self, kind: Type) -> str:
        """Return a list, named or written out, whose elements need not be constants."""
        element = kind.element or STRING
        named = {STRING: ["words"], INT: ["numbers"], DOUBLE: ["halves"]}.get(element, [])
        if named and self.rnd.random() < 0.4:
            return f"lists.{self.rnd.choice(named)}"
        items = [self.atom(element) for _ in range(self.rnd.choice([1, 1, 2, 3]))]
        return f"[{', '.join(items)}]"
