"""What the names of a condition mean: the event's fields, its times, and the registry entry of its application."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from usageaudit.policy.language.types import BOOL, DOUBLE, INT, MAP, OBJECTS, STRING, STRINGS, TIMESTAMP, Type

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from usageaudit.events.fields import EventField

Path = tuple[str, ...]

_NAMED = 8
"""How many fields of an object a hint names."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A scalar, a list or a map that has a name; `members` are the fields of a list's objects, by name."""

    type: Type
    required: bool = False
    doc: str = ""
    members: Mapping[str, Leaf] = field(default_factory=lambda: MappingProxyType({}))


_KINDS = {
    "string": STRING,
    "int": INT,
    "double": DOUBLE,
    "bool": BOOL,
    "decimal": DOUBLE,
    "strings": STRINGS,
    "objects": OBJECTS,
    "map": MAP,
}

TIMES: Mapping[Path, Leaf] = MappingProxyType(
    {
        ("event", "time"): Leaf(TIMESTAMP, required=True, doc="When the use of the model began."),
        ("record", "time"): Leaf(TIMESTAMP, doc="The time of the stream's record, given by producer or broker."),
    }
)
"""The times of an event, which stand beside its data."""

REGISTRY: Mapping[Path, Leaf] = MappingProxyType(
    {
        ("registry", "owner"): Leaf(STRING, doc="Who answers for the application."),
        ("registry", "team"): Leaf(STRING, doc="The team that runs it."),
        ("registry", "sector"): Leaf(STRING, doc="The sector it is used in."),
        ("registry", "jurisdiction"): Leaf(STRING, doc="Where it is used: ISO 3166."),
        ("registry", "approved_use_cases"): Leaf(STRINGS, doc="The use cases it is approved for."),
        ("registry", "data_classes"): Leaf(STRINGS, doc="The classes of data it may handle."),
    }
)
"""The bundle's registry entry of the event's `application.name`: all unknown where there is none."""


@dataclass(frozen=True)
class Schema:
    """The leaves that conditions may name, by path; every proper prefix of a path names an object."""

    leaves: Mapping[Path, Leaf]
    _below: Mapping[Path, tuple[Path, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        below: dict[Path, list[Path]] = {}
        for path in self.leaves:
            for end in range(1, len(path)):
                below.setdefault(path[:end], []).append(path)
        object.__setattr__(self, "_below", {path: tuple(found) for path, found in below.items()})

    @classmethod
    def of(cls, fields: Iterable[EventField]) -> Schema:
        """Return the schema of an event's fields, with the times and the registry beside them."""
        return cls({**{f.path: _leaf(f) for f in fields}, **TIMES, **REGISTRY})

    def is_object(self, path: Path) -> bool:
        """Whether a path names an object: something lies below it."""
        return path in self._below

    def leaves_below(self, path: Path) -> tuple[Path, ...]:
        """Return the paths of the leaves below an object, in the schema's order."""
        return self._below.get(path, ())

    def advice(self, name: str, others: Iterable[str] = ()) -> str:
        """Return what to write for an unknown name: a leaf, one of some others, or what an object has.

        It is the leaf that the name is the last part of, or what looks most like it; empty where nothing does.
        """
        ending = next((".".join(path) for path in self.leaves if path[-1] == name), "")
        if ending:
            return f"did you mean {ending}?"
        others = set(others)
        leaves = {".".join(path) for path in self.leaves} | others
        known = leaves | {".".join(path) for path in self._below}
        found = difflib.get_close_matches(name[:200], sorted(known), n=1, cutoff=0.6)
        if not found or found[0] in leaves:
            return f"did you mean {found[0]}?" if found else ""
        # An object is refused itself: what it has is of more help.
        below = [".".join(path) for path in self.leaves_below(tuple(found[0].split(".")))]
        more = ", .." if len(below) > _NAMED else ""
        return f"{found[0]} has {', '.join(below[:_NAMED])}{more}"


def _leaf(field: EventField) -> Leaf:
    members = {".".join(member.path): _leaf(member) for member in field.members}
    return Leaf(_KINDS[field.kind], field.required, field.doc, MappingProxyType(members))
