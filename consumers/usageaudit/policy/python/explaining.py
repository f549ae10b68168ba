"""Says why a condition has its value: the parts that decided it, and the fields that would have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from usageaudit.policy.language.tree import (
    Call,
    Condition,
    Const,
    Element,
    Field,
    Has,
    ListOf,
    Member,
    Named,
    Node,
    Quantified,
)
from usageaudit.policy.language.unparse import quote
from usageaudit.policy.python.compiling import Values, compile_node
from usageaudit.policy.python.constants import Constants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Explanation:
    """The value of a condition, and why.

    `deciding` are the texts of the parts that decided it, in the order of the condition. `missing` are the fields that
    are unknown and would have decided it, sorted: of an element's field the path through the list.
    """

    value: bool | None
    deciding: tuple[str, ...]
    missing: tuple[str, ...]


def explain(condition: Condition, values: Values) -> Explanation:
    """Return the explanation of one condition for the values of one event."""
    return Explainer(condition).explain(values)


class Evaluator:
    """Gives the values of parts of conditions; each part is compiled when it is first asked for.

    Parts are known by `id()`, so an evaluator must not outlive the conditions that it is asked about.
    """

    def __init__(self) -> None:
        self._constants = Constants()
        self._compiled: dict[int, Callable[[Values], object]] = {}

    def value(self, node: Node, values: Values) -> object:
        """Return the value of a node, None where it is unknown; `values` has those of elements around it, too."""
        if id(node) not in self._compiled:
            self._compiled[id(node)] = compile_node(node, self._constants)
        return self._compiled[id(node)](values)

    def elements(self, node: Quantified, values: Values) -> tuple[Values, ...] | None:
        """Return the values with each element of a macro's list in turn, None where the list is unknown."""
        found = cast("Iterable[object] | None", self.value(node.operand, values))
        return None if found is None else tuple({**values, f"e_{node.element.number}": one} for one in found)


class Explainer:
    """Explains one condition for many events; each part is compiled when it is first asked for."""

    def __init__(self, condition: Condition) -> None:
        self._root = condition.root
        self._evaluator = Evaluator()
        self._value = self._evaluator.value

    def explain(self, values: Values) -> Explanation:
        """Return value, deciding parts and missing fields."""
        value = cast("bool | None", self._value(self._root, values))
        deciding = tuple(dict.fromkeys(self._deciding(self._root, values)))
        return Explanation(value, deciding, self.missing(values) if value is None else ())

    def missing(self, values: Values) -> tuple[str, ...]:
        """Return the fields that are unknown and would have decided the value, none where it is known."""
        return tuple(sorted(set(self._missing(self._root, values))))

    def _deciding(self, node: Node, values: Values) -> Iterator[str]:
        value = self._value(node, values)
        match node:
            case Named(body=body):
                yield from self._deciding(body, values)
            case Call(operator=row, arguments=arguments) if row.name in ("&&", "||"):
                for argument in arguments:
                    if self._value(argument, values) is value:
                        yield from self._deciding(argument, values)
            case Call(operator=row, arguments=(condition, then, otherwise)) if row.name == "?:":
                yield from self._deciding(condition, values)
                truth = self._value(condition, values)
                if truth is not None:
                    yield from self._deciding(then if truth else otherwise, values)
            case Call(operator=row, arguments=(operand,)) if row.name == "!" and _joins(operand):
                yield from self._deciding(operand, values)
            case _:
                yield node.span.text

    def _missing(self, node: Node, values: Values) -> Iterator[str]:
        """Yield the missing fields below a node, none where its value is known."""
        if self._value(node, values) is not None:
            return
        match node:
            case Field(path=path) | Member(path=path):
                yield ".".join(path)
            case Call(operator=row, arguments=(Field(path=path), Const(value=key))) if row.name == "[]":
                yield f"{'.'.join(path)}[{quote(str(key))}]"
            case Call(operator=row, arguments=(condition, then, otherwise)) if row.name == "?:":
                truth = self._value(condition, values)
                chosen = condition if truth is None else then if truth else otherwise
                yield from self._missing(chosen, values)
            case Call(arguments=below) | ListOf(items=below):
                yield from self._missing_in(below, values)
            case Quantified():
                yield from self._missing_in_elements(node, values)
            case Named(body=body):
                yield from self._missing(body, values)
            case Const() | Element() | Has():
                return

    def _missing_in(self, nodes: Iterable[Node], values: Values) -> Iterator[str]:
        for node in nodes:
            yield from self._missing(node, values)

    def _missing_in_elements(self, node: Quantified, values: Values) -> Iterator[str]:
        elements = self._evaluator.elements(node, values)
        if elements is None:
            yield from self._missing(node.operand, values)
        for inner in elements or ():
            yield from self._missing(node.predicate, inner)


def _joins(node: Node) -> bool:
    """Whether a node is made of conditions that can be named one by one."""
    if isinstance(node, Named):
        return _joins(node.body)
    return isinstance(node, Call) and node.operator.name in ("&&", "||", "!", "?:")
