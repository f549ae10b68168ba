"""Says why a condition has its value: the parts that decided it, and the fields that would have."""

from __future__ import annotations

import re
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

_BREAK = re.compile(r"\s*\n\s*")
_JOINING = ("&&", "||", "!", "?:")
_SHOWN = 5
"""How many elements of a list are named."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The value of a condition, and why.

    `deciding` are the texts of the parts that decided it, in the order of the condition: of a sub-condition behind its
    name, of a macro with the elements that decided it. `missing` are the fields that are unknown and would have decided
    it, sorted: of an element's field the path through the list.
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
            case Named(name=name, body=body):
                yield from (f"{name}: {text}" for text in self._deciding(body, values))
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
            case Call(operator=row, arguments=(Quantified() as operand,)) if row.name == "!":
                yield written(node) + self._elements_of(operand, values)
            case Quantified():
                yield written(node) + self._elements_of(node, values)
            case _:
                yield written(node)

    def _elements_of(self, node: Quantified, values: Values) -> str:
        """Return which elements decided a macro, counted from 1, and what in its condition did where that is a part."""
        elements = self._evaluator.elements(node, values)
        if elements is None:
            return ""
        if not elements:
            return " (the list is empty)"
        whole = self._value(node, values)
        truths = [self._value(node.predicate, inner) for inner in elements]
        decided = [index for index, truth in enumerate(truths) if truth is _sought(node.operator.name, whole)]
        if not decided or (len(decided) == len(truths) > 1):
            return f" ({'all' if decided else 'none'} of {len(truths)} elements)"
        why = dict.fromkeys(text for index in decided for text in self._deciding(node.predicate, elements[index]))
        said = f": {', '.join(why)}" if len(why) < sum(1 for _ in _texts(node.predicate)) else ""
        numbers = _counted([index + 1 for index in decided])
        return f" ({numbers} of {len(truths)}{said})"

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


def written(node: Node) -> str:
    """Return a part as its author wrote it, in one line where no comment stands in it."""
    text = node.span.text
    return text if "//" in text else _BREAK.sub(" ", text)


def _sought(name: str, whole: object) -> bool | None:
    """Return which truth of a macro's condition decides it."""
    if whole is None:
        return None
    return bool(whole) if name == "all" else True


def _counted(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:_SHOWN]))
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return f"element{'s' if len(numbers) > 1 else ''} {shown}{more}"


def _texts(node: Node) -> Iterator[str]:
    """Yield all parts of a condition that could be named one by one."""
    if isinstance(node, Call) and node.operator.name in _JOINING:
        for argument in node.arguments:
            yield from _texts(argument)
    else:
        yield written(node)


def _joins(node: Node) -> bool:
    """Whether a node is made of conditions that can be named one by one."""
    return isinstance(node, Named) or (isinstance(node, Call) and node.operator.name in _JOINING)
