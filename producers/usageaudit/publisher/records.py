"""Publishes records as they are: the queue, the thread that ships it, and what becomes of both at fork and exit.

The Publisher of events stands on this; so does everything that publishes records which are events already.
"""

from __future__ import annotations

import functools
import threading
import weakref
from time import monotonic
from typing import TYPE_CHECKING, Self

from usageaudit.errors import ConfigurationError, PublishError, QueueFull
from usageaudit.publisher.buffer import Buffer, Counts, Done
from usageaudit.publisher.complaints import Complaints, logger
from usageaudit.publisher.process import call_at_exit, call_in_child
from usageaudit.publisher.sender import Sender
from usageaudit.stream_url import KafkaStreamAddress, parse_stream_url

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from usageaudit.embedded_log import NewRecord
    from usageaudit.errors import StreamUnavailable
    from usageaudit.publisher.port import Outlet
    from usageaudit.stream_url import StreamAddress

EXIT_SECONDS = 5.0
STOP_SECONDS = 1.0
MAX_QUEUED = 10_000
MAX_QUEUED_BYTES = 64 * 1024 * 1024
LINGER_SECONDS = 0.02
ROOM_SECONDS = 0.01
"""How often a coroutine that waits for room in the queue looks for it."""


class RecordPublisher:
    """A bounded queue of records and the thread that ships them in order. Threads may share it.

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
    ) -> None:
        if max_queued < 1 or max_queued_bytes < 1 or linger < 0:
            raise ConfigurationError("Publisher: max_queued and max_queued_bytes must be positive, linger not negative")
        self._new_outlet = _adapter(parse_stream_url(stream_url))
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
        self._outlet: Outlet | None = None
        self._sender: Sender | None = None
        self._starting = False
        self.complaints = Complaints()

    @property
    def counts(self) -> Counts:
        """What became of the records of this process so far."""
        return self._buffer.counts

    @property
    def last_error(self) -> str:
        """Why the stream did not take the last group; empty where it did."""
        return self._sender.last_error if self._sender else ""

    @property
    def lasting_error(self) -> StreamUnavailable | ConfigurationError | None:
        """Why the stream did not take the last group, where trying again alone will not help; None otherwise.

        The publisher tries again nevertheless, since somebody may do something about it.
        """
        return self._sender.lasting_error if self._sender else None

    def put(self, record: NewRecord, done: Done | None = None, *, urgent: bool = False, wait: float = 0.0) -> None:
        """Queue a record, waiting up to `wait` seconds for room; `urgent` ones do not wait for others.

        `done` is called by the sender's thread with None once the record is durable, or with what went wrong for good.
        Raises QueueFull where there was no room in time, PublishError after `close`.
        """
        sender = self._sender
        if sender is None or not sender.alive:
            self._start_sender()
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

    def _start_sender(self) -> None:
        with self._lock:
            # Two senders would ship everything twice: a signal handler that emits can come in here a second time.
            if self._closed or self._starting or (self._sender is not None and self._sender.alive):
                return
            self._starting = True
            try:
                self._outlet = self._new_outlet(self.complaints)
                self._sender = Sender(self._buffer, self._outlet, self._linger, self.complaints)
                self._sender.start()
            except RuntimeError as error:  # the interpreter is shutting down
                raise PublishError(f"the publisher's thread can't be started: {error}") from error
            finally:
                self._starting = False

    def flush(self, timeout: float) -> int:
        """Ship what is queued now, at once; return how many records were not acknowledged within so many seconds."""
        if self._sender is not None and not self._sender.alive and self._buffer.counts.queued:
            self._start_sender()
        return self._buffer.drain(timeout)

    def close(self, timeout: float) -> int:
        """Take in no more, flush, and let go of the stream; return how many records were not acknowledged."""
        with self._lock:
            self._closed = True
        self._buffer.close()
        left = self._buffer.drain(timeout)
        if self._sender is not None:
            self._sender.stop(STOP_SECONDS)
        return left

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(EXIT_SECONDS)

    def _at_exit(self) -> None:
        if self._closed:
            return
        if left := self.close(EXIT_SECONDS):
            logger.error("%d events were not acknowledged by the stream before the process ended", left)

    def _in_child(self) -> None:
        if self._outlet is not None:
            self._outlet.abandon()
        self._start_over()


def _adapter(address: StreamAddress) -> Callable[[Complaints], Outlet]:
    """Return what makes the writing side of the stream, importing no client but its own.

    Not in the publisher's thread, where a fork could leave a half-imported module to the child.
    """
    if isinstance(address, KafkaStreamAddress):
        from usageaudit.publisher.kafka import KafkaOutlet

        return functools.partial(KafkaOutlet, address)
    from usageaudit.publisher.embedded import EmbeddedOutlet

    return functools.partial(EmbeddedOutlet, address)
