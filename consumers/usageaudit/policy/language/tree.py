"""The typed tree: a condition whose names, types and operators are known; every back end lowers this."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usageaudit.policy.language.diagnostics import Diagnostic
    from usageaudit.policy.language.schema import Path
    from usageaudit.policy.language.signatures import Operator
    from usageaudit.policy.language.source import Source, Span
    from usageaudit.policy.language.types import Type

Scalar = bool | int | float | str
Value = Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """What every node has: its type, and its place, which takes no part in comparison: equal nodes mean the same."""

    type: Type
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Const(Typed):
    """A constant: a literal, a list of them, or a named list of the bundle. Times and durations are microseconds."""

    value: Value
    list_name: str | None = None


@dataclass(frozen=True, slots=True)
class Field(Typed):
    """A leaf of the schema."""

    path: Path
    required: bool


@dataclass(frozen=True, slots=True)
class Element(Typed):
    """The element that a macro goes over; `number` counts the macros around it, the outermost is 0.

    `path` is that of the list, empty where it is no field; `members` are the fields of an element that is an object.
    """

    name: str = field(compare=False)
    number: int
    path: Path
    members: Mapping[str, Field] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Member(Typed):
    """A field of an element that is an object; `path` begins with the path of the list."""

    element: Element
    name: str
    path: Path
    required: bool


@dataclass(frozen=True, slots=True)
class ListOf(Typed):
    """A list whose elements are not all constants."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Call(Typed):
    """An operator applied to operands; `&&` and `||` have two or more."""

    operator: Operator
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Has(Typed):
    """Whether any of some fields is present: the field itself, or all leaves of an object."""

    operator: Operator
    path: Path
    leaves: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Quantified(Typed):
    """A macro over a list; `predicate` reads `element`."""

    operator: Operator
    operand: Node
    element: Element
    predicate: Node


@dataclass(frozen=True, slots=True)
class Named(Typed):
    """A sub-condition of `let`, put in place of its name."""

    name: str
    body: Node


Node = Const | Field | Element | Member | ListOf | Call | Has | Quantified | Named


@dataclass(frozen=True, slots=True)
class Possible:
    """Whether a truth can be true, and whether it can be false; that it can be unknown goes without saying."""

    true: bool = True
    false: bool = True


@dataclass(frozen=True, slots=True)
class Condition:
    """A checked condition: its tree, its text, and the warnings about it.

    `size` says how much work it is: the nodes of its tree, those of a sub-condition counted wherever it is named, and a
    tenth of the instructions of its regular expressions. `possible` says how it can turn out.
    """

    root: Node
    source: Source = field(compare=False, repr=False)
    warnings: tuple[Diagnostic, ...] = field(default=(), compare=False)
    size: int = field(default=1, compare=False)
    possible: Possible = field(default=Possible(), compare=False)

    @property
    def type(self) -> Type:
        """The type of its value."""
        return self.root.type


def children(node: Node) -> tuple[Node, ...]:
    """Return the nodes directly below a node."""
    match node:
        case Call():
            return node.arguments
        case ListOf():
            return node.items
        case Has():
            return node.leaves
        case Quantified():
            return (node.operand, node.predicate)
        case Named():
            return (node.body,)
        case _:
            return ()


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and all nodes below it, each before those below."""
    yield node
    for child in children(node):
        yield from walk(child)


def fields_read(condition: Condition) -> tuple[Path, ...]:
    """Return the paths of the schema's leaves that a condition reads, sorted; of a list of objects the list's."""
    return tuple(sorted({node.path for node in walk(condition.root) if isinstance(node, Field)}))


def lists_read(condition: Condition) -> tuple[str, ...]:
    """Return the names of the bundle's lists that a condition reads, sorted."""
    found = {node.list_name for node in walk(condition.root) if isinstance(node, Const)}
    return tuple(sorted(name for name in found if name))


def terms(node: Node) -> Iterator[Node]:
    """Yield what must all hold for a node to hold: the operands of its top-level conjunctions, or itself."""
    if isinstance(node, Named):
        yield from terms(node.body)
    elif isinstance(node, Call) and node.operator.name == "&&":
        for argument in node.arguments:
            yield from terms(argument)
    else:
        yield node


def equality(node: Node) -> tuple[Path, frozenset[Scalar]] | None:
    """Return the field and the constants of a test that the field equals one of them, None for any other node."""
    if not isinstance(node, Call) or len(node.arguments) != 2:
        return None
    left, right = node.arguments
    if node.operator.name == "==" and isinstance(left, Const):
        left, right = right, left
    if not isinstance(left, Field) or not isinstance(right, Const) or not left.type.scalar:
        return None
    if node.operator.name == "==" and not isinstance(right.value, tuple):
        return left.path, frozenset([right.value])
    if node.operator.name == "in" and isinstance(right.value, tuple):
        return left.path, frozenset(right.value)
    return None


def equalities(condition: Condition) -> list[tuple[Path, frozenset[Scalar]]]:
    """Return the equality tests that must all hold for a condition to hold, for indexing by a field's value.

    Where the field is unknown the condition may still be unknown, so an index also has to meet unknown values.
    """
    found = (equality(term) for term in terms(condition.root))
    return [test for test in found if test is not None]
