"""Publishes records as they are: the queue, the thread that ships it, and what becomes of both at fork and exit.

The Publisher of events stands on this; so does everything that publishes records which are events already.
"""

from __future__ import annotations

import functools
import threading
import time
import weakref
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Self

from usageaudit.errors import ConfigurationError, PublishError, QueueFull
from usageaudit.publisher.adapter import adapter
from usageaudit.publisher.buffer import Buffer, Counts, Done
from usageaudit.publisher.complaints import Complaints, logger
from usageaudit.publisher.process import call_at_exit, call_at_worker_exit, call_in_child
from usageaudit.publisher.shipping import Shipping
from usageaudit.stream_url import parse_stream_url

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from usageaudit.embedded_log import NewRecord
    from usageaudit.errors import StreamUnavailable
    from usageaudit.publisher.spool.source import SpoolSource
    from usageaudit.stream_url import StreamAddress

EXIT_SECONDS = 5.0
MAX_QUEUED = 10_000
MAX_QUEUED_BYTES = 64 * 1024 * 1024
MAX_SPOOL_BYTES = 2 * 1024 * 1024 * 1024
"""A little more than ten minutes of a thousand events of 1.5 kB a second take."""
MIN_SPOOL_BYTES = 4 * 1024 * 1024
LINGER_SECONDS = 0.02
ROOM_SECONDS = 0.01
"""How often a coroutine that waits for room in the queue looks for it."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in the spools that a process ships from, its own and adopted ones.

    `oldest_seconds` is how long the oldest record has been there, None where there is none.
    """

    records: int = 0
    bytes: int = 0
    oldest_seconds: float | None = None


class RecordPublisher:
    """A bounded queue of records and the threads that ship them in order. Threads may share it.

    With a `spool` folder, the queue is moved to a file of this process there, of `max_spool_bytes` at most, and shipped
    from it; a record is durable when it is in the file. Without, it is durable when the stream has it.

    Records beyond `max_queued`, or beyond `max_queued_bytes` of memory, are not taken. A record waits up to `linger`
    seconds for others to be shipped with. A forked child starts with an empty queue of its own; what the parent queued
    stays the parent's. At the end of the process the queue is flushed for EXIT_SECONDS at most.
    """

    def __init__(
        self,
        stream_url: str,
        *,
        max_queued: int = MAX_QUEUED,
        max_queued_bytes: int = MAX_QUEUED_BYTES,
        linger: float = LINGER_SECONDS,
        spool: Path | None = None,
        max_spool_bytes: int = MAX_SPOOL_BYTES,
    ) -> None:
        if max_queued < 1 or max_queued_bytes < 1 or linger < 0:
            raise ConfigurationError("Publisher: max_queued and max_queued_bytes must be positive, linger not negative")
        if max_spool_bytes < MIN_SPOOL_BYTES:
            raise ConfigurationError(f"Publisher: max_spool_bytes must be {MIN_SPOOL_BYTES:,} or more")
        address = parse_stream_url(stream_url)
        self._new_outlet = adapter(address)
        self._new_spool = None if spool is None else _spooling(spool, address, max_spool_bytes)
        self._limits = (max_queued, max_queued_bytes)
        self._linger = linger
        self._closed = False
        self._start_over()
        call_at_exit(self._at_exit)
        call_in_child(self._in_child)

    def _start_over(self) -> None:
        self._lock = threading.RLock()  # re-entrant: a signal handler may emit
        self._buffer = Buffer(*self._limits)
        weakref.finalize(self, self._buffer.close).atexit = False  # nobody holds this any more: the thread may end
        self._spool: SpoolSource | None = None
        self._shipping: Shipping | None = None
        self._starting = False
        self.complaints = Complaints()

    @property
    def counts(self) -> Counts:
        """What became of the records of this process so far."""
        if (spool := self._spool) is None:
            return self._buffer.counts
        acknowledged, failed = spool.acknowledged, spool.failed + spool.lost
        queue = self._buffer.counts  # after those of the spool, which were counted here before
        failed += queue.failed
        left = max(0, queue.added - acknowledged - failed)
        return Counts(queue.added, acknowledged, failed, left, queue.queued_bytes)

    @property
    def backlog(self) -> Backlog:
        """What waits in spools."""
        spools = self._spool.spools if self._spool else []
        oldest = min((spool.oldest for spool in spools if spool.oldest is not None), default=None)
        age = None if oldest is None else max(0.0, time.time() - oldest / 1e3)
        return Backlog(sum(spool.pending for spool in spools), sum(spool.bytes for spool in spools), age)

    @property
    def last_error(self) -> str:
        """Why the spool or the stream did not take the last group; empty where they did."""
        return self._shipping.last_error if self._shipping else ""

    @property
    def lasting_error(self) -> StreamUnavailable | ConfigurationError | None:
        """Why the last group was not taken, where trying again alone will not help; None otherwise.

        The publisher tries again nevertheless, since somebody may do something about it.
        """
        return self._shipping.lasting_error if self._shipping else None

    def put(self, record: NewRecord, done: Done | None = None, *, urgent: bool = False, wait: float = 0.0) -> None:
        """Queue a record, waiting up to `wait` seconds for room; `urgent` ones do not wait for others.

        `done` is called by a thread of the publisher with None once the record is durable, or with what went wrong for
        good. Raises QueueFull where there was no room in time, PublishError after `close`.
        """
        shipping = self._shipping
        if shipping is None or not shipping.alive:
            self._start()
        if not self._buffer.put(record, done, urgent=urgent, wait=wait):
            if self._closed:
                raise PublishError("the publisher was closed; emit before that, or make a new one")
            raise QueueFull(f"{self._describe_queue()}; {self.last_error or 'events come faster than they leave'}")

    async def aput(
        self, record: NewRecord, done: Done | None = None, *, urgent: bool = False, wait: float = 0.0
    ) -> None:
        """Do what `put` does without holding up the event loop."""
        import asyncio

        give_up = monotonic() + wait
        while True:
            try:
                return self.put(record, done, urgent=urgent)
            except QueueFull:
                if monotonic() >= give_up:
                    raise
            await asyncio.sleep(ROOM_SECONDS)

    def _describe_queue(self) -> str:
        counts = self._buffer.counts
        return f"the queue is full with {counts.queued:,} events of {counts.queued_bytes:,} bytes"

    def _start(self) -> None:
        with self._lock:
            # Two senders would ship everything twice: a signal handler that emits can come in here a second time.
            if self._closed or self._starting or (self._shipping is not None and self._shipping.alive):
                return
            self._starting = True
            try:
                if self._shipping is None:
                    self._shipping = self._new_shipping()
                    call_at_worker_exit(self._at_exit)
                self._shipping.start()
            except RuntimeError as error:  # the interpreter is shutting down
                raise PublishError(f"the publisher's thread can't be started: {error}") from error
            finally:
                self._starting = False

    def _new_shipping(self) -> Shipping:
        self._spool = self._new_spool(self.complaints) if self._new_spool else None
        outlet = self._new_outlet(self.complaints)
        return Shipping(self._buffer, outlet, self._spool, self._linger, self.complaints)

    def flush(self, timeout: float) -> int:
        """Ship what is queued now, at once; return how many records were not acknowledged within so many seconds."""
        if self._shipping is None:
            return 0
        if not self._shipping.alive and self.counts.queued:
            self._start()
        return self._shipping.drain(timeout)

    def close(self, timeout: float) -> int:
        """Take in no more, flush, and let go of the stream; return how many records it has not acknowledged.

        With a spool, what is queued is written to it in any case, and a stream that is known to be away not waited for.
        """
        with self._lock:
            self._closed = True
        self._buffer.close()
        if self._shipping is None:
            return 0
        self._shipping.drain(timeout, patient=False)
        self._shipping.stop()
        return self.counts.queued  # what was acknowledged meanwhile is not in it any more

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(EXIT_SECONDS)

    def _at_exit(self) -> None:
        if self._closed:
            return
        self.report_left(self.close(EXIT_SECONDS), "the process ended")

    def report_left(self, left: int, ending: str) -> None:
        """Log how many events the stream has not acknowledged at an ending, and what becomes of them."""
        spooled = self._spool.own_pending if self._spool else 0
        if spooled:
            logger.warning("%d events stay in the spool until the next process or `usageaudit spool drain`", spooled)
        if left > spooled:
            logger.error("%d events were not acknowledged by the stream before %s", left - spooled, ending)

    def _in_child(self) -> None:
        if self._shipping is not None:
            self._shipping.abandon()
        self._start_over()


def _spooling(folder: Path, address: StreamAddress, max_bytes: int) -> Callable[[Complaints], SpoolSource]:
    from usageaudit.publisher.spool.folder import stream_name
    from usageaudit.publisher.spool.source import SpoolSource

    return functools.partial(SpoolSource, folder, stream_name(address), max_bytes)
