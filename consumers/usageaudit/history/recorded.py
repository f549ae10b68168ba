"""Events as they were recorded, read back from the ledger so that policies can be asked about them in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usageaudit.cloudevents import decode_recorded
from usageaudit.errors import InvalidEvent
from usageaudit.history.comparing import LIMITS
from usageaudit.history.spans import moment
from usageaudit.policy.schema import Occurrence
from usageaudit.policy.sql.text import literal

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from usageaudit.policy import Bundle
    from usageaudit.stores.port import Store

Key = tuple[int, str, str]
"""Time in microseconds, source and id of an event."""
_RAW = """SELECT toUnixTimestamp64Micro(event_time), event_source, event_id, raw, content_mode,
    toUnixTimestamp64Milli(record_time)
FROM ledger WHERE status = 'accepted' AND (event_time, event_source, event_id) IN ({keys})"""
_KEYS_IN_A_STATEMENT = 1_000


def occurrences(store: Store, keys: Sequence[Key], bundle: Bundle) -> Mapping[Key, Occurrence]:
    """Return recorded events as policies see them, with the registry of a bundle; what can't be read is left out."""
    found: dict[Key, Occurrence] = {}
    for start in range(0, len(keys), _KEYS_IN_A_STATEMENT):
        for row in _rows(store, keys[start : start + _KEYS_IN_A_STATEMENT]):
            occurrence = _occurrence(row, bundle)
            if occurrence is not None:
                found[int(row[0]), str(row[1]), str(row[2])] = occurrence
    return found


def _rows(store: Store, keys: Collection[Key]) -> Sequence[tuple[Any, ...]]:
    listed = ", ".join(f"({moment(time)}, {literal(source)}, {literal(event_id)})" for time, source, event_id in keys)
    return store.query(_RAW.format(keys=listed), None, LIMITS).rows if keys else ()


def _occurrence(row: tuple[Any, ...], bundle: Bundle) -> Occurrence | None:
    time, source, event_id, raw, mode, record_time = row
    value = raw.encode() if isinstance(raw, str) else raw
    try:
        event = decode_recorded(value, mode, source, event_id, time)
    except InvalidEvent:
        return None
    moment = None if record_time is None else record_time * 1000
    return Occurrence(event.data, event.time, moment, bundle.registry, event.source, event.id)
