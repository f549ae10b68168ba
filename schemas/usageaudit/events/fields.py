"""The fields of the usage event as a flat table, derived from its types.

Ledger columns, the names that policies read and the documentation are made from this table and nothing else.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from typing_extensions import Doc

from usageaudit.events.marks import DecimalText, Stored
from usageaudit.events.model import UsageEvent

Kind = Literal["string", "int", "double", "bool", "decimal", "strings", "objects", "map"]
"""`strings` is a list of strings, `objects` a list of objects with `members`, `map` a map of strings to strings."""


@dataclass(frozen=True, slots=True)
class EventField:
    """A leaf of the event: its path below `data`, what it holds and how it is stored."""

    path: tuple[str, ...]
    kind: Kind
    required: bool
    doc: str
    stored: Stored
    members: tuple[EventField, ...] = ()

    @property
    def name(self) -> str:
        """The dotted path, as policies write it: `actor.sector`."""
        return ".".join(self.path)

    @property
    def column(self) -> str:
        """The path with underscores, as the ledger calls it: `actor_sector`."""
        return "_".join(self.path)


@dataclass(frozen=True, slots=True)
class _Hint:
    """A type annotation taken apart: the bare type and the marks around it."""

    bare: Any
    marks: tuple[Any, ...]

    @classmethod
    def of(cls, hint: Any) -> _Hint:
        """Strip Annotated and `| None`, collecting marks from the outside in."""
        marks: list[Any] = []
        while True:
            if get_origin(hint) is Annotated:
                hint, *found = get_args(hint)
                marks.extend(found)
                continue
            choices = [choice for choice in get_args(hint) if choice is not NoneType]
            if NoneType in get_args(hint) and len(choices) == 1:
                hint = choices[0]
                continue
            return cls(hint, tuple(marks))

    def find(self, kind: type[Any]) -> Any | None:
        """Return the first mark of a kind."""
        return next((mark for mark in self.marks if isinstance(mark, kind)), None)

    @property
    def doc(self) -> str:
        """The description of the field."""
        doc = self.find(Doc)
        return doc.documentation if doc else ""


def fields_of(owner: Any, prefix: tuple[str, ...] = (), *, below_optional: bool = False) -> tuple[EventField, ...]:
    """Return the leaves of a dataclass in order; `below_optional` where a parent may be absent."""
    hints = get_type_hints(owner, include_extras=True)
    leaves: list[EventField] = []
    for field in dataclasses.fields(owner):
        hint = _Hint.of(hints[field.name])
        optional = below_optional or field.default is not dataclasses.MISSING
        path = (*prefix, field.name)
        if dataclasses.is_dataclass(hint.bare):
            leaves.extend(fields_of(hint.bare, path, below_optional=optional))
        else:
            leaves.append(_leaf(path, hint, required=not optional))
    return tuple(leaves)


def _leaf(path: tuple[str, ...], hint: _Hint, *, required: bool) -> EventField:
    stored = hint.find(Stored) or Stored()
    kind = _kind(hint)
    members: tuple[EventField, ...] = ()
    if kind == "objects":
        members = fields_of(get_args(hint.bare)[0])
    return EventField(path, kind, required, hint.doc, stored, members)


def _kind(hint: _Hint) -> Kind:
    origin = get_origin(hint.bare)
    if origin is list:
        return "objects" if dataclasses.is_dataclass(get_args(hint.bare)[0]) else "strings"
    if origin is dict:
        return "map"
    if hint.find(DecimalText):
        return "decimal"
    kinds: dict[Any, Kind] = {str: "string", int: "int", float: "double", bool: "bool"}
    return kinds[hint.bare]


EVENT_FIELDS: tuple[EventField, ...] = fields_of(UsageEvent)
"""Every leaf of the usage event, in the order of its definition."""
