"""The syntax tree: a condition as it was written, before its names and types are known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usageaudit.policy.language.source import Source, Span
    from usageaudit.policy.language.types import Type


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What every node has: its place, and how deep the tree below it is. Neither takes part in comparison."""

    span: Span = field(compare=False, repr=False)
    depth: int = field(default=1, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A number, string or truth value with its type; null has neither value nor type."""

    value: bool | int | float | str | None
    type: Type | None


@dataclass(frozen=True, slots=True)
class Ident(Node):
    """A name without a dot before it."""

    name: str


@dataclass(frozen=True, slots=True)
class Select(Node):
    """A field of something: `operand.field`."""

    operand: Syntax
    field: str


@dataclass(frozen=True, slots=True)
class Index(Node):
    """An entry of something: `operand[key]`."""

    operand: Syntax
    key: Syntax


@dataclass(frozen=True, slots=True)
class ListLiteral(Node):
    """A list written out: `[a, b]`."""

    items: tuple[Syntax, ...]


@dataclass(frozen=True, slots=True)
class Call(Node):
    """An operator, function or method; of a method the first argument is what stands before the dot.

    Operators go by their symbols (`&&` and `||` with two or more arguments), the ternary by `?:`, the unary minus by
    `-` with one argument.
    """

    name: str
    arguments: tuple[Syntax, ...]
    method: bool = False


@dataclass(frozen=True, slots=True)
class Has(Node):
    """The macro `has(operand)`."""

    operand: Syntax


@dataclass(frozen=True, slots=True)
class Macro(Node):
    """The macros `operand.exists(variable, predicate)`, `all` and `exists_one`."""

    name: str
    operand: Syntax
    variable: str
    predicate: Syntax


Syntax = Literal | Ident | Select | Index | ListLiteral | Call | Has | Macro


@dataclass(frozen=True, slots=True)
class Expr:
    """A parsed condition: its tree, and the text it came from."""

    tree: Syntax
    source: Source = field(compare=False, repr=False)
