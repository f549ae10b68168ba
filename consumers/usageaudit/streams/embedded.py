"""The stream in one file: the reader of a group, alone in its folder, that hands out batches of one partition.

Records that the group has acknowledged are deleted once they are a week old, a little at a time, so that the file
does not grow for ever.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from usageaudit.embedded_log import EmbeddedLog
from usageaudit.errors import ConfigurationError, RetentionOvertook, StreamUnavailable
from usageaudit.streams.buffers import total_bytes
from usageaudit.streams.port import Batch, BatchLimits, Partition, Record

if TYPE_CHECKING:
    from pathlib import Path

    from usageaudit.stream_url import EmbeddedStreamAddress

FIRST_WAIT, LONGEST_WAIT = 0.002, 0.05
"""Seconds between two looks at the file for new records: a look costs some 20 microseconds."""
KEPT_SECONDS = 7 * 24 * 3600.0
TRIM_EVERY_SECONDS = 10.0
TRIM_RECORDS = 20_000
_GROUP = re.compile(r"[A-Za-z0-9._-]{1,200}")


@dataclass(slots=True)
class _Progress:
    """Where a partition's next batch begins, since when there has been something for it, and when the last one left."""

    covered: int
    since: float | None = None
    served: float = 0.0


@dataclass(slots=True)
class EmbeddedStream:
    """Reads one topic of an embedded stream; see the port for what each call promises.

    Raises StreamUnavailable where another process reads for the same group, ConfigurationError for an unusable folder.
    `kept_seconds` is how old an acknowledged record gets before it is deleted.
    """

    address: EmbeddedStreamAddress
    limits: BatchLimits = field(default_factory=BatchLimits)
    group: str | None = None
    kept_seconds: float = KEPT_SECONDS
    _group: str = field(init=False)
    _log: EmbeddedLog = field(init=False)
    _lock: int = field(init=False)
    _progress: dict[int, _Progress] = field(default_factory=dict)
    _trim_after: float = 0.0
    _closed: bool = False

    def __post_init__(self) -> None:
        self._group = self.group or self.address.group
        self._open()

    def _open(self) -> None:
        """Open the file as the group's only reader. Raises ConfigurationError and StreamUnavailable."""
        log = EmbeddedLog.open(self.address.directory)
        with ExitStack() as undo:
            undo.callback(log.close)
            lock = _lock(self.address.directory, self._group)
            undo.callback(os.close, lock)
            log.create_topic(self.address.topic)
            undo.pop_all()
        self._log, self._lock = log, lock

    def _follow(self) -> None:
        """Go over to what stands in the place of a file that was removed or replaced: another stream, from its start.

        Raises StreamUnavailable, and may be called again.
        """
        if self._closed or not self._log.gone:
            return
        self._let_go()
        try:
            self._open()
        except ConfigurationError as error:
            raise StreamUnavailable(str(error)) from error

    def poll(self, seconds: float) -> Batch | None:
        """Return the next complete batch, waiting at most so long."""
        self._follow()
        until = time.monotonic() + seconds
        wait = FIRST_WAIT
        while True:
            now = time.monotonic()
            if (number := self._next_due(now)) is not None and (batch := self._read(number)) is not None:
                return batch
            if now >= until:
                self._trim(now)
                return None
            time.sleep(min(wait, until - now))
            wait = min(2 * wait, LONGEST_WAIT)

    def assigned(self) -> list[Partition]:
        """Return the partitions that have not been started, none before `poll` has opened a replaced file anew."""
        if self._log.gone:
            return []
        numbers = self._log.partitions(self.address.topic)
        return [self._partition(number) for number in numbers if number not in self._progress]

    def owns(self, partition: Partition) -> bool:
        """Tell whether this is a partition of this stream: the lock gives them all to this reader."""
        return not self._log.gone and partition == self._partition(partition.number)

    def committed(self, partition: Partition) -> int | None:
        """Return where the group goes on."""
        return self._log.committed(self._group, self.address.topic, partition.number) if self.owns(partition) else None

    def beginning(self, partition: Partition) -> int:
        """Return the first offset that is there."""
        return self._log.begin(self.address.topic, partition.number)

    def end(self, partition: Partition) -> int:
        """Return the offset that the next record will get."""
        return self._log.end(self.address.topic, partition.number)

    def highwater(self, partition: Partition) -> int | None:
        """Return the offset that the next record will get; the file is here, so it is never out of date."""
        return self._log.end(self.address.topic, partition.number) if self.owns(partition) else None

    def connected(self) -> bool:
        """Tell whether the file is the one that was opened."""
        return not self._log.gone

    def start(self, partition: Partition, offset: int) -> None:
        """Deliver the partition from an offset on."""
        if self.owns(partition):
            self._progress[partition.number] = _Progress(offset)

    def release(self, partition: Partition) -> None:
        """Stop delivering the partition; it is listed as assigned again."""
        if self.owns(partition):
            self._progress.pop(partition.number, None)

    def acknowledge(self, partition: Partition, next_offset: int) -> None:
        """Commit an offset, durably."""
        if self.owns(partition) and partition.number in self._progress:
            self._log.commit(self._group, self.address.topic, partition.number, next_offset)
            self._trim(time.monotonic())

    def rest(self, seconds: float) -> None:
        """Wait; nothing is read meanwhile."""
        time.sleep(seconds)

    def close(self) -> None:
        """Let the next reader in."""
        self._closed = True
        self._let_go()

    def _let_go(self) -> None:
        self._progress.clear()
        self._log.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _partition(self, number: int) -> Partition:
        return Partition(self._log.identity, self.address.topic, number)

    def _next_due(self, now: float) -> int | None:
        """Return the partition that was served longest ago, of those with enough records or some for long enough.

        Raises RetentionOvertook.
        """
        due: dict[int, float] = {}
        for number, progress in self._progress.items():
            waiting = self._log.end(self.address.topic, number) - progress.covered
            if waiting <= 0:
                continue
            progress.since = now if progress.since is None else progress.since
            if waiting >= self.limits.records or now >= progress.since + self.limits.seconds:
                due[number] = progress.served
        return min(due, key=lambda number: due[number], default=None)

    def _read(self, number: int) -> Batch | None:
        topic, progress = self.address.topic, self._progress[number]
        end = self._log.end(topic, number)
        stored = self._log.read(topic, number, progress.covered, self.limits.records, self.limits.bytes)
        first = stored[0].offset if stored else self._log.begin(topic, number)
        if first > progress.covered:
            raise RetentionOvertook(topic, number, progress.covered, first)
        if not stored:
            return None
        records = [Record(record.offset, record.timestamp, record.value, record.headers) for record in stored]
        while len(records) > 1 and total_bytes(records) > self.limits.bytes:
            records.pop()
        progress.covered, progress.served = records[-1].offset + 1, time.monotonic()
        if progress.covered >= end:
            progress.since = None  # what is left, if anything, came after `end` was asked for
        return Batch(self._partition(number), records, progress.covered)

    def _trim(self, now: float) -> None:
        """Delete some of the records that are acknowledged and old enough, now and then."""
        if now < self._trim_after:
            return
        self._trim_after = now + TRIM_EVERY_SECONDS
        topic = self.address.topic
        oldest = round((time.time() - self.kept_seconds) * 1000)
        for number in self._progress:
            first = self._log.begin(topic, number)
            last = min(self._log.committed(self._group, topic, number) or 0, first + TRIM_RECORDS)
            if last > first:
                self._log.trim(topic, number, self._first_younger(number, first, last, oldest))

    def _first_younger(self, number: int, first: int, last: int, oldest: int) -> int:
        """Return the first offset of [first, last) whose record is not older, by halving; times hardly ever go back."""
        while first < last:
            middle = (first + last) // 2
            (record, *_) = self._log.read(self.address.topic, number, middle, 1, 1)
            if record.timestamp < oldest:
                first = middle + 1
            else:
                last = middle
        return first


def _lock(directory: Path, group: str) -> int:
    """Lock a group's reading for this process. Raises ConfigurationError and StreamUnavailable."""
    if not _GROUP.fullmatch(group):
        raise ConfigurationError(f"group {group[:60]!r} is not 1 to 200 letters, digits, dots, dashes and underscores")
    path = directory / f"consumer-{group}.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; the consumer needs to write in this folder") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise StreamUnavailable(
            f"group {group} of the embedded stream in {directory} is read by process {owner or '?'} already; stop that "
            "one, or read as another group"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
    return descriptor
