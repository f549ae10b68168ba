"""Finds what the names of a condition mean: elements of macros, sub-conditions, lists, and fields of the schema."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, NamedTuple

from usageaudit.policy.language.operators import overloads
from usageaudit.policy.language.syntax import Ident, Select
from usageaudit.policy.language.tree import Call, Const, Element, Field, Member, Named
from usageaudit.policy.language.types import BOOL, DOUBLE, INT, MAP, OBJECT, STRING, TIMESTAMP, Type, list_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from usageaudit.policy.language.schema import Path, Schema
    from usageaudit.policy.language.source import Span
    from usageaudit.policy.language.syntax import Syntax
    from usageaudit.policy.language.tree import Condition, Node, Scalar


class Unknown(NamedTuple):
    """Why a name means nothing, and what may have been meant."""

    message: str
    hint: str = ""


class ObjectAt(NamedTuple):
    """A name that means an object of the schema, which only `has()` takes."""

    path: Path


class Names:
    """The names in force; macros push their elements on `elements` while their conditions are checked."""

    def __init__(self, schema: Schema, lists: Mapping[str, Sequence[Scalar]], lets: Mapping[str, Condition]) -> None:
        self.schema = schema
        self.elements: list[Element] = []
        self._lists = lists
        self._lets = lets
        self._types: dict[str, list[type[Scalar]]] = {}

    def find(self, tree: Ident | Select) -> Node | ObjectAt | Unknown | None:
        """Return what a name, or a chain of names with dots, means; None where it begins with another expression."""
        chain = _chain(tree)
        if chain is None:
            return None
        root, span = chain[0], tree.span
        for element in reversed(self.elements):
            if element.name == root:
                return _member(element, chain[1:], span)
        if root in self._lets:
            if len(chain) > 1:
                return Unknown(f"{root} is a sub-condition and has no fields")
            body = self._lets[root].root
            return Named(root, body, type=body.type, span=span)
        if root == "lists":
            return self._list(chain, span)
        return self._field(chain, span)

    def _list(self, chain: Path, span: Span) -> Node | Unknown:
        if len(chain) != 2:
            return Unknown("a list is named as lists.NAME")
        name = chain[1]
        if name not in self._lists:
            near = difflib.get_close_matches(name[:200], sorted(self._lists), n=1)
            return Unknown(f"unknown list lists.{name}", f"did you mean lists.{near[0]}?" if near else "")
        values = tuple(self._lists[name])
        if name not in self._types:
            # A list may be long, and named often.
            self._types[name] = list(set(map(type, values)))
        types = {_TYPES[python] for python in self._types[name]} or {STRING}
        if len(types) > 1:
            return Unknown(f"lists.{name} has values of several types: {', '.join(sorted(map(str, types)))}")
        return Const(values, name, type=list_of(types.pop()), span=span)

    def _field(self, chain: Path, span: Span) -> Node | ObjectAt | Unknown:
        schema = self.schema
        for end in range(len(chain), 0, -1):
            leaf = schema.leaves.get(chain[:end])
            if leaf is None:
                continue
            field = Field(chain[:end], leaf.required, type=leaf.type, span=span)
            rest = chain[end:]
            if not rest:
                return field
            if leaf.type == MAP and len(rest) == 1:
                return entry(field, Const(rest[0], type=STRING, span=span), span)
            hint = "exists, all and exists_one test the elements of a list" if leaf.members else ""
            if leaf.type == TIMESTAMP:
                hint = "its parts are asked for: event.time.getHours()"
            elif rest[0] == "size":
                hint = f"write {'.'.join(chain[:end])}.size()"
            return Unknown(f"{'.'.join(chain[:end])} is a {leaf.type} and has no field {rest[0]}", hint)
        if schema.is_object(chain):
            return ObjectAt(chain)
        name = ".".join(chain)
        if name in self._lists:
            return Unknown(f"unknown field {_short(name)}", f"did you mean lists.{name}?")
        otherwise = "" if len(chain) > 1 else f'a string is written in quotes: "{_short(name)}"'
        hint = _MEANT.get(name) or self._of_element(chain) or schema.advice(name, self._lets) or otherwise
        return Unknown(f"unknown field {_short(name)}", hint)

    def _of_element(self, chain: Path) -> str:
        """Return a hint where a chain names a field of the elements of a macro around it, by another name of these."""
        if len(chain) != 2 or self.schema.is_object(chain[:1]):
            return ""
        around = (element.name for element in reversed(self.elements) if chain[1] in element.members)
        return next((f"did you mean {name}.{chain[1]}?" for name in around), "")

    def members(self, operand: Node) -> Mapping[str, Field]:
        """Return the fields of the objects in a list, none for a list of anything else."""
        if not isinstance(operand, Field):
            return {}
        leaf = self.schema.leaves[operand.path]
        return {
            name: Field((*operand.path, name), member.required, type=member.type, span=operand.span)
            for name, member in leaf.members.items()
        }


def entry(operand: Node, key: Node, span: Span) -> Call:
    """Return the entry of a map."""
    (row,) = overloads("[]")
    return Call(row, (operand, key), type=STRING, span=span)


_ABSENT = "what is missing is tested with !has(..)"
_MEANT = {
    **dict.fromkeys(("None", "NULL", "Null", "nil", "undefined"), _ABSENT),
    **dict.fromkeys(("True", "TRUE", "yes"), "write true"),
    **dict.fromkeys(("False", "FALSE", "no"), "write false"),
}
"""What words of other languages are here."""
_TYPES: Mapping[type[bool | int | float | str], Type] = {bool: BOOL, int: INT, float: DOUBLE, str: STRING}


def _chain(tree: Syntax) -> Path | None:
    """Return the names of `a.b.c`, None where it begins with something else than a name."""
    names: list[str] = []
    while isinstance(tree, Select):
        names.append(tree.field)
        tree = tree.operand
    if not isinstance(tree, Ident):
        return None
    return (tree.name, *reversed(names))


def _member(element: Element, rest: Path, span: Span) -> Node | Unknown:
    if not rest:
        return Element(element.name, element.number, element.path, element.members, type=element.type, span=span)
    name, *further = rest
    if element.type != OBJECT:
        return Unknown(f"{element.name} is a {element.type} and has no field {name}")
    found = element.members.get(name)
    if found is None:
        near = difflib.get_close_matches(name[:200], sorted(element.members), n=1)
        hint = f"did you mean {element.name}.{near[0]}?" if near else f"it has {', '.join(sorted(element.members))}"
        return Unknown(f"unknown field {_short('.'.join((element.name, *rest)))}", hint)
    if further:
        return Unknown(f"{element.name}.{name} is a {found.type} and has no field {further[0]}")
    return Member(element, name, (*element.path, name), found.required, type=found.type, span=span)


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"
