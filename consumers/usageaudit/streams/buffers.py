"""What was fetched of a partition and not delivered yet, cut into batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usageaudit.streams.port import BatchLimits, Record

RECORD_OVERHEAD = 256
"""Roughly what a record costs in memory beside its bytes."""


@dataclass(slots=True)
class Buffer:
    """Records of one partition in the order of their offsets.

    `covered` is the offset at which the next batch begins, `position` the one at which fetching goes on: beyond the
    last record where control records follow it. `since` is the monotonic time in seconds of the first record, or of
    the first step over control records alone; `served` that of the last cut, so that partitions take turns.
    """

    covered: int
    position: int
    since: float = 0.0
    served: float = 0.0
    bytes: int = 0
    records: list[Record] = field(default_factory=list)

    @property
    def pending(self) -> bool:
        """Whether there is something to deliver, if only the news that the partition went on."""
        return self.position > self.covered

    @property
    def memory(self) -> int:
        """Bytes that the records take in memory, roughly."""
        return self.bytes + RECORD_OVERHEAD * len(self.records)

    def add(self, records: Sequence[Record], now: float) -> None:
        """Append what was fetched next."""
        if not self.pending:
            self.since = now
        self.records.extend(records)
        self.bytes += total_bytes(records)
        self.position = records[-1].offset + 1

    def advance(self, position: int, now: float) -> None:
        """Note that fetching went on without records."""
        if position > self.position:
            if not self.pending:
                self.since = now
            self.position = position

    def full(self, limits: BatchLimits) -> bool:
        """Tell whether the next batch can't grow any more."""
        return len(self.records) >= limits.records or self.bytes >= limits.bytes

    def cut(self, limits: BatchLimits, now: float) -> tuple[list[Record], int]:
        """Take the records of the next batch and the offset at which it ends; a single record may exceed the bytes."""
        self.served = now
        count = self._fitting(limits)
        taken, self.records = self.records[:count], self.records[count:]
        self.bytes = self.bytes - total_bytes(taken) if self.records else 0
        self.covered = taken[-1].offset + 1 if self.records else self.position
        return taken, self.covered

    def _fitting(self, limits: BatchLimits) -> int:
        count = min(len(self.records), limits.records)
        if self.bytes <= limits.bytes:
            return count
        total = 0
        for place, record in enumerate(self.records[:count]):
            total += record_bytes(record)
            if total > limits.bytes:
                return max(place, 1)
        return count


def record_bytes(record: Record) -> int:
    """Return the bytes of a record's value and headers."""
    return len(record.value or b"") + _header_bytes(record.headers)


def total_bytes(records: Sequence[Record]) -> int:
    """Return the bytes of the values and headers of records.

    Records that were fetched together share one object where their headers are the same, so it is measured once.
    """
    total, size = 0, 0
    headers: Sequence[tuple[str, bytes | None]] | None = None
    for record in records:
        if record.headers is not headers:
            headers = record.headers
            size = _header_bytes(headers)
        total += size + len(record.value or b"")
    return total


def _header_bytes(headers: Sequence[tuple[str, bytes | None]]) -> int:
    return sum(len(name) + len(value or b"") for name, value in headers)
