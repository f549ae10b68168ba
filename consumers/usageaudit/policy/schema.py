"""What policies can name, and how to get it from an event: the event's data, its envelope, and the registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from usageaudit.events.fields import EVENT_FIELDS
from usageaudit.events.times import format_time
from usageaudit.policy.language import STRING, Leaf, Schema
from usageaudit.policy.model import NOT_REGISTERED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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


@dataclass(frozen=True, slots=True)
class Occurrence:
    """An event as policies see it: its data, its times in microseconds, its envelope, and the bundle's registry."""

    data: Any
    time: int
    record_time: int | None
    registry: Mapping[str, RegistryEntry]
    source: str | None = None
    event_id: str | None = None

    def value(self, path: Path) -> Any:
        """Return the value of a leaf as conditions compute with it: decimals are floats, times microseconds."""
        if path in _BESIDE:
            return _BESIDE[path](self)
        found: Any = self.data if path[0] != "registry" else self._registered()
        for name in path if path[0] != "registry" else path[1:]:
            found = getattr(found, name)
            if found is None:
                return None
        return float(found) if path in DECIMALS else found

    def shown(self, path: Path) -> Any:
        """Return the value of a leaf as JSON shows it: decimals as they were written, times in RFC 3339."""
        value = self.value(path)
        if value is None:
            return None
        if path in (EVENT_TIME, RECORD_TIME):
            return format_time(value)
        return str(self.data.cost.amount) if path in DECIMALS else msgspec.to_builtins(value)

    def _registered(self) -> RegistryEntry:
        return self.registry.get(self.data.application.name, NOT_REGISTERED)


_BESIDE: Mapping[Path, Callable[[Occurrence], Any]] = {
    EVENT_TIME: lambda event: event.time,
    RECORD_TIME: lambda event: event.record_time,
    SOURCE: lambda event: event.source,
    EVENT_ID: lambda event: event.event_id,
}
