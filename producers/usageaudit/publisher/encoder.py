"""Turns an event into the record that goes to the stream, and refuses what the consumer would refuse."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
import orjson

from usageaudit.cloudevents import (
    MAX_RECORD_BYTES,
    STRICT_DATA,
    STRUCTURED_HEADERS,
    decode,
    encode_structured,
    partition_key,
)
from usageaudit.embedded_log import NewRecord
from usageaudit.errors import ConfigurationError, InvalidEvent, Problem
from usageaudit.events.marks import MAX_COUNT
from usageaudit.events.model import UsageEvent
from usageaudit.events.times import MAX_TIME, parse_time, to_micros
from usageaudit.events.validation import problems_in
from usageaudit.publisher.ids import EventIds, new_instance
from usageaudit.publisher.unwritable import SET, unwritable

_UNUSABLE = (TypeError, ValueError, RecursionError)
"""What reading an object raises that is no event; msgspec's errors are ValueErrors."""


class EventEncoder:
    """Validates events, gives them ids and numbers, and serialises them as structured CloudEvents."""

    def __init__(self, source: str) -> None:
        if not _is_name(source):
            raise ConfigurationError("Publisher: source must name the service, as '/services/chat' does")
        self._source = source
        self.instance = new_instance()
        self._ids = EventIds()
        self._sequence = itertools.count(1)
        stamp = orjson.dumps({"instance": self.instance, "version": _library_version()})
        self._stamp = b',"publisher":' + stamp[:-1] + b',"sequence":'

    def encode(
        self, event: UsageEvent | Mapping[str, Any], event_id: str | None, moment: datetime | str | None
    ) -> tuple[str, NewRecord]:
        """Return the event's id and its record; raises InvalidEvent, naming every problem."""
        event_id = self._ids.next() if event_id is None else _checked_id(event_id)
        micros = time.time_ns() // 1_000 if moment is None else _micros(moment)
        data, is_checked = _read(event)
        if not is_checked or len(data) > MAX_RECORD_BYTES // 2:
            decode(self._value(event_id, micros, data, MAX_COUNT), STRUCTURED_HEADERS)
        value = self._value(event_id, micros, data, next(self._sequence))
        return event_id, NewRecord(partition_key(self._source, event_id), value, STRUCTURED_HEADERS)

    def _value(self, event_id: str, micros: int, data: bytes, sequence: int) -> bytes:
        stamped = b"%b%b%d}}" % (data[:-1], self._stamp, sequence)
        return encode_structured(event_id=event_id, source=self._source, time=micros, data=stamped)


def _library_version() -> str | None:
    from importlib import metadata  # as long to import as the rest of this module

    try:
        return metadata.version("usageaudit")
    except metadata.PackageNotFoundError:  # run from a copy of the source
        return None


def _is_name(text: object) -> bool:
    try:
        return isinstance(text, str) and bool(text.encode())
    except UnicodeEncodeError:
        return False


def _checked_id(event_id: str) -> str:
    if not _is_name(event_id):
        raise InvalidEvent([Problem("id", "must be a string of Unicode that is not empty")])
    return event_id


def _micros(moment: datetime | str) -> int:
    try:
        micros = to_micros(moment) if isinstance(moment, datetime) else parse_time(moment)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidEvent([Problem("time", str(error))]) from None
    if not 0 <= micros < MAX_TIME:
        raise InvalidEvent([Problem("time", "must lie from 1970 to 2105")])
    return micros


def _read(event: UsageEvent | Mapping[str, Any]) -> tuple[bytes, bool]:
    """Return the JSON of an event, and whether it is known that the consumer takes it; raises InvalidEvent."""
    try:
        data = _fast(event)
        return (_exact(event), False) if data is None else (data, True)
    except InvalidEvent:
        raise
    except Exception as error:
        raise InvalidEvent([Problem("data", f"reading the event raised {type(error).__name__}")]) from error


def _fast(event: UsageEvent | Mapping[str, Any]) -> bytes | None:
    """Return the JSON of an event that the consumer reads the fast way, without its nulls; None for any other."""
    try:
        data = msgspec.convert(event, STRICT_DATA, from_attributes=True)
        data.publisher = None
        encoded = msgspec.json.encode(data)
    except _UNUSABLE:
        return None
    if b"[" in encoded:
        _refuse_sets(event)
    return None if b":null" in encoded else encoded  # an infinite number becomes null


def _refuse_sets(event: UsageEvent | Mapping[str, Any]) -> None:
    """Raise InvalidEvent for a set, which msgspec takes for a list, in an order that differs between processes."""
    try:
        orjson.dumps(event)  # refuses sets, and is faster than looking for them here
    except TypeError:
        if problems := [one for one in unwritable(event) if one.message == SET]:
            raise InvalidEvent(problems) from None


def _is_event_like(event: object) -> bool:
    return isinstance(event, Mapping) or (dataclasses.is_dataclass(event) and not isinstance(event, type))


def _exact(event: UsageEvent | Mapping[str, Any]) -> bytes:
    """Return the JSON of an event that is valid after all, its unknown fields kept; raises InvalidEvent otherwise."""
    if not _is_event_like(event):
        kind = type(event).__name__
        raise InvalidEvent([Problem("data", f"must be a UsageEvent or a mapping of the same form, not {kind}")])
    try:
        plain = dict(event) if isinstance(event, Mapping) else dataclasses.asdict(event)
        plain.pop("publisher", None)
        encoded = json.dumps(plain, separators=(",", ":")).encode()
    except _UNUSABLE as error:
        raise InvalidEvent(
            unwritable(event) or [Problem("data", f"can't be written as JSON: {type(error).__name__}")]
        ) from None
    if problems := problems_in(UsageEvent, encoded, "data"):
        raise InvalidEvent(unwritable(event) or problems)
    return encoded
