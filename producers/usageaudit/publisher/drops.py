"""Counts the events that found no room, and makes the report that says so on the stream when there is room again."""

from __future__ import annotations

import threading
import time

from usageaudit.cloudevents import STRUCTURED_HEADERS, partition_key
from usageaudit.dropped import DroppedEvents, encode_dropped
from usageaudit.embedded_log import NewRecord
from usageaudit.publisher.ids import EventIds

EVERY_SECONDS = 10.0
"""Reports come no faster than this: where events are dropped now and then, each would cost an event of its own."""


class Drops:
    """The drops of one instance that were not reported yet; `waiting` tells whether there are any."""

    def __init__(self, source: str, instance: str) -> None:
        self._source, self._instance = source, instance
        self._lock = threading.RLock()  # re-entrant: a signal handler may emit
        self._ids = EventIds()
        self._count = self._first = self._last = 0
        self._reported_at = -EVERY_SECONDS
        self.waiting = False

    def add(self) -> None:
        """Count an event that was dropped now."""
        now = time.time_ns() // 1_000
        with self._lock:
            self._first = self._first if self._count else now
            self._last = max(now, self._first)
            self._count += 1
            self.waiting = True

    def take(self, *, at_once: bool = False) -> tuple[NewRecord, DroppedEvents] | None:
        """Return the report of all drops so far; None where there are none, or the last report was just now."""
        with self._lock:
            if not self._count or not (at_once or time.monotonic() >= self._reported_at + EVERY_SECONDS):
                return None
            report = DroppedEvents(self._source, self._instance, self._count, self._first, self._last)
            self._count, self.waiting = 0, False
            self._reported_at = time.monotonic()
        event_id = self._ids.next()
        value = encode_dropped(event_id, time.time_ns() // 1_000, report)
        return NewRecord(partition_key(self._source, event_id), value, STRUCTURED_HEADERS), report

    def put_back(self, report: DroppedEvents) -> None:
        """Count again what could not be reported after all."""
        with self._lock:
            self._last = max(self._last, report.last) if self._count else report.last
            self._first = report.first
            self._count += report.dropped
            self.waiting = True
            self._reported_at = -EVERY_SECONDS
