"""Writes a typed condition as a text that is the same for conditions of the same meaning.

Places, comments and white space are left out, sub-conditions of `let` stand where they are named, and what has no order
is sorted: the operands of `&&`, `||`, `==` and `!=`, and the lists that `in` and the macros look through.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from usageaudit.policy.language import Call, Const, Element, Field, Has, ListOf, Member, Named, Quantified

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usageaudit.policy.language import Node

_FLAT = ("&&", "||")
"""Associative, and an operand that is there twice says nothing more."""
_SYMMETRIC = ("==", "!=")


@dataclass(frozen=True, slots=True)
class _Scope:
    """How many macros are around a node, the depth of each by its number, and whether names stay names."""

    depth: int = 0
    elements: Mapping[int, int] | None = None
    by_name: bool = False

    def of_let(self) -> _Scope:
        """Return the scope of a sub-condition: it reads no element of the macros around its name."""
        return replace(self, elements={})

    def inside(self, element: Element) -> _Scope:
        """Return the scope of a macro's predicate."""
        elements = {**(self.elements or {}), element.number: self.depth}
        return replace(self, depth=self.depth + 1, elements=elements)


def form_of(node: Node, *, by_name: bool = False) -> str:
    """Return the text of a condition's tree.

    `by_name` leaves the names of lists and sub-conditions as they are, in place of what they stand for.
    """
    return _form(node, _Scope(by_name=by_name))


def _form(node: Node, scope: _Scope) -> str:
    match node:
        case Const():
            return _constant(node, scope)
        case Field() | Has():
            return f"({'has' if isinstance(node, Has) else 'field'} {'.'.join(node.path)})"
        case Element():
            return f"(element {(scope.elements or {})[node.number]})"
        case Member():
            return f"(member {_form(node.element, scope)} {node.name})"
        case ListOf():
            return f"(list {' '.join(_form(item, scope) for item in node.items)})"
        case Named():
            return f"(let {node.name})" if scope.by_name else _form(node.body, scope.of_let())
        case Quantified():
            operand = _looked_through(node.operand, scope, counted=node.operator.name == "exists_one")
            return f"({node.operator.name} {operand} {_form(node.predicate, scope.inside(node.element))})"
        case Call():
            return _call(node, scope)


def _call(node: Call, scope: _Scope) -> str:
    name = node.operator.name
    if name in _FLAT:
        return _joined(name, sorted(set(_operands(node, name, scope))))
    if name in _SYMMETRIC:
        return _joined(name, sorted(_form(one, scope) for one in node.arguments))
    if name == "in":
        element, operand = node.arguments
        return _joined(name, [_form(element, scope), _looked_through(operand, scope)])
    return _joined(name, [_form(one, scope) for one in node.arguments])


def _joined(name: str, operands: list[str]) -> str:
    return operands[0] if name in _FLAT and len(operands) == 1 else f"({name} {' '.join(operands)})"


def _operands(node: Node, name: str, scope: _Scope) -> Iterator[str]:
    """Yield the operands of nested calls of one operator, as if they were one call."""
    if isinstance(node, Named) and not scope.by_name:
        yield from _operands(node.body, name, scope.of_let())
    elif isinstance(node, Call) and node.operator.name == name:
        for argument in node.arguments:
            yield from _operands(argument, name, scope)
    else:
        yield _form(node, scope)


def _looked_through(node: Node, scope: _Scope, *, counted: bool = False) -> str:
    """Return the text of a list whose order says nothing, nor how often an element is there unless `counted`."""
    if isinstance(node, Const) and isinstance(node.value, tuple) and not (scope.by_name and node.list_name):
        texts = list(map(json.dumps, node.value))
        return f"(any-order {node.type} {' '.join(sorted(texts if counted else set(texts)))})"
    return _form(node, scope)


def _constant(node: Const, scope: _Scope) -> str:
    if scope.by_name and node.list_name:
        return f"(list {node.list_name})"
    return f"({node.type} {json.dumps(node.value)})"
