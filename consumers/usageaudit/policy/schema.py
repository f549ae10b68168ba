"""What policies can name, and how to get it from an event: the event's data, its envelope, and the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import to_builtins

from usageaudit.events.fields import EVENT_FIELDS
from usageaudit.events.times import format_time
from usageaudit.policy.language import STRING, Leaf, Schema
from usageaudit.policy.model import NOT_REGISTERED

if TYPE_CHECKING:
    from usageaudit.policy.language import Path
    from usageaudit.policy.model import RegistryEntry

SOURCE: Path = ("event", "source")
EVENT_ID: Path = ("event", "id")
EVENT_TIME: Path = ("event", "time")
RECORD_TIME: Path = ("record", "time")

_ENVELOPE = {
    SOURCE: Leaf(STRING, doc="CloudEvents source: the service that published the event."),
    EVENT_ID: Leaf(STRING, doc="CloudEvents id, unique within its source."),
}
SCHEMA = Schema({**Schema.of(EVENT_FIELDS).leaves, **_ENVELOPE})
"""Every name that a condition, a message or the evidence may use."""
DECIMALS = frozenset(field.path for field in EVENT_FIELDS if field.kind == "decimal")


Reader = Callable[["Occurrence"], Any]
"""Reads a value off an event, None where the event does not have it."""


class Occurrence(NamedTuple):
    """An event as policies see it: its data, its times in microseconds, its envelope, and the bundle's registry."""

    data: Any
    time: int
    record_time: int | None
    registry: Mapping[str, RegistryEntry]
    source: str | None = None
    event_id: str | None = None


@cache
def value_of(path: Path) -> Reader:
    """Return the reader of a leaf as conditions compute with it: decimals are floats, times microseconds."""
    if path in _BESIDE:
        return _BESIDE[path]
    if path[0] == "registry":
        entry_field = attrgetter(path[1])
        return lambda event: entry_field(event.registry.get(event.data.application.name, NOT_REGISTERED))
    read = _data(path)
    if path not in DECIMALS:
        return read
    return lambda event: None if (text := read(event)) is None else float(text)


@cache
def shown_of(path: Path) -> Reader:
    """Return the reader of a leaf as JSON shows it: decimals as they were written, times in RFC 3339."""
    if path in (EVENT_TIME, RECORD_TIME):
        micros = value_of(path)
        return lambda event: None if (time := micros(event)) is None else format_time(time)
    read = _data(path) if path in DECIMALS else value_of(path)
    if SCHEMA.leaves[path].type.scalar:
        return read
    return lambda event: to_builtins(read(event))


def _data(path: Path) -> Reader:
    *parents, last = path

    def read(event: Occurrence) -> Any:
        found = event.data
        for name in parents:
            found = getattr(found, name)
            if found is None:
                return None
        return getattr(found, last)

    return read


_BESIDE: Mapping[Path, Reader] = {
    EVENT_TIME: attrgetter("time"),
    RECORD_TIME: attrgetter("record_time"),
    SOURCE: attrgetter("source"),
    EVENT_ID: attrgetter("event_id"),
}
