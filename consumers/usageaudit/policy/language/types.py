"""The types of the condition language: a small closed set, those of CEL that an event can hold."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a type is, apart from the type of a list's elements."""

    BOOL = "bool"
    INT = "int"
    DOUBLE = "double"
    STRING = "string"
    TIMESTAMP = "timestamp"
    DURATION = "duration"
    LIST = "list"
    OBJECT = "object"
    MAP = "map"


@dataclass(frozen=True, slots=True)
class Type:
    """A type; `element` is that of a list's elements."""

    kind: Kind
    element: Type | None = None

    def __str__(self) -> str:
        return f"list({self.element})" if self.element else self.kind.value

    @property
    def scalar(self) -> bool:
        """Whether a value of this type is one value, not a list, an object or a map."""
        return self.kind not in (Kind.LIST, Kind.OBJECT, Kind.MAP)


BOOL = Type(Kind.BOOL)
INT = Type(Kind.INT)
"""A signed 64-bit integer."""
DOUBLE = Type(Kind.DOUBLE)
"""A finite binary64 number."""
STRING = Type(Kind.STRING)
TIMESTAMP = Type(Kind.TIMESTAMP)
"""Microseconds since 1970 in UTC, from year 1 to 9999."""
DURATION = Type(Kind.DURATION)
"""Microseconds, 10,000 years at most either way."""
OBJECT = Type(Kind.OBJECT)
"""An object of the event, or an element of a list of objects; its fields are named, never compared as a whole."""
MAP = Type(Kind.MAP)
"""A map of strings to strings."""

INT_MIN, INT_MAX = -(2**63), 2**63 - 1


def list_of(element: Type) -> Type:
    """Return the type of lists of an element type."""
    return Type(Kind.LIST, element)


STRINGS = list_of(STRING)
OBJECTS = list_of(OBJECT)
