"""The bounded queue between the threads that emit and the one that sends."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usageaudit.errors import PublishError

if TYPE_CHECKING:
    from usageaudit.embedded_log import NewRecord

ITEM_BYTES = 400
"""What an event takes in memory beside its key and value."""

Done = Callable[[PublishError | None], None]
"""Told, in the sender's thread, that a record was acknowledged (None) or refused for good."""


@dataclass(slots=True)
class Item:
    """A record that waits to be acknowledged; `number` counts those of the buffer, `reason` is why it was refused."""

    record: NewRecord
    done: Done | None
    number: int
    reason: str = ""

    @property
    def bytes(self) -> int:
        """The memory that it takes."""
        return ITEM_BYTES + len(self.record.value or b"") + len(self.record.key or b"")


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the records: `added` = `acknowledged` + `failed` + `queued`."""

    added: int
    acknowledged: int
    failed: int
    queued: int
    queued_bytes: int


class Buffer:
    """A queue bounded by records and bytes. A record counts until it is acknowledged, on its way to the stream too."""

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self._max_records, self._max_bytes = max_records, max_bytes
        self._lock = threading.RLock()  # re-entrant: a signal handler may emit
        self._arrived = threading.Condition(self._lock)
        self._settled = threading.Condition(self._lock)
        self._waiting: deque[Item] = deque()
        self._taken: list[Item] = []
        self._bytes = self._added = self._acknowledged = self._failed = 0
        self._group = 1
        self._urgent = 0
        self._idle = False
        self._closed = False

    @property
    def counts(self) -> Counts:
        """What became of the records so far."""
        with self._lock:
            queued = len(self._waiting) + len(self._taken)
            return Counts(self._added, self._acknowledged, self._failed, queued, self._bytes)

    def put(self, record: NewRecord, done: Done | None = None, *, urgent: bool = False, wait: float = 0.0) -> bool:
        """Append a record, waiting so many seconds for room; False where there was none or the buffer is closed.

        An `urgent` one leaves at once, with everything before it.
        """
        item = Item(record, done, 0)
        size = item.bytes
        with self._lock:
            if not self._has_room(size) and not self._await_room(size, wait):
                return False
            self._added += 1
            item.number = self._added
            self._waiting.append(item)
            self._bytes += size
            if urgent:
                self._urgent = item.number
            if urgent or self._idle or len(self._waiting) == self._group:
                self._arrived.notify()
            return True

    def _has_room(self, size: int) -> bool:
        """Tell whether a record fits; one that is larger than the bound itself fits an empty buffer."""
        queued = len(self._waiting) + len(self._taken)
        fits = queued < self._max_records and (self._bytes + size <= self._max_bytes or not queued)
        return fits and not self._closed

    def _await_room(self, size: int, wait: float) -> bool:
        if wait > 0:
            self._settled.wait_for(lambda: self._closed or self._has_room(size), wait)
        return self._has_room(size)

    def take(self, records: int, size: int, linger: float) -> list[Item]:
        """Return the next group for the sender, at most so many records and bytes; none once it is closed and empty.

        Waits for a first record, and from there on until the group is full, but no longer than `linger` seconds.
        """
        with self._lock:
            self._group = records
            self._idle = True
            self._arrived.wait_for(lambda: self._waiting or self._closed)
            self._idle = False
            self._arrived.wait_for(lambda: self._is_due(records), linger)
            while self._waiting and len(self._taken) < records and size > 0:
                item = self._waiting.popleft()
                size -= item.bytes
                self._taken.append(item)
            return list(self._taken)

    def _is_due(self, records: int) -> bool:
        full = len(self._waiting) >= records
        return full or self._closed or (bool(self._waiting) and self._urgent >= self._waiting[0].number)

    def settle(self, acknowledged: Sequence[Item], failed: Sequence[Item]) -> None:
        """Forget the records of the group that was taken which are done with; the others go first next time."""
        gone = {item.number for item in (*acknowledged, *failed)}
        with self._lock:
            self._acknowledged += len(acknowledged)
            self._failed += len(failed)
            self._bytes -= sum(item.bytes for item in (*acknowledged, *failed))
            self._waiting.extendleft(item for item in reversed(self._taken) if item.number not in gone)
            self._taken = []
            self._settled.notify_all()

    def drain(self, wait: float) -> int:
        """Wait until everything that is queued now is done with; return how much of it is not."""
        with self._lock:
            last = self._urgent = self._added
            self._arrived.notify()
            self._settled.wait_for(lambda: self._oldest() > last, wait)
            return sum(item.number <= last for item in (*self._taken, *self._waiting))

    def _oldest(self) -> int:
        first = self._taken or self._waiting
        return first[0].number if first else self._added + 1

    @property
    def closed(self) -> bool:
        """Tell whether it takes in no more."""
        return self._closed

    def close(self) -> None:
        """Take in no more, and let the sender end."""
        with self._lock:
            self._closed = True
            self._arrived.notify_all()
            self._settled.notify_all()
