"""The publisher that services use."""

from __future__ import annotations

import queue
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, Self

from usageaudit.errors import ConfigurationError, InvalidEvent, NotAcknowledged, PublishError
from usageaudit.publisher.drops import Drops
from usageaudit.publisher.encoder import EventEncoder
from usageaudit.publisher.process import call_at_exit, call_at_worker_exit, call_in_child
from usageaudit.publisher.protocol import PublisherStats
from usageaudit.publisher.records import (
    LINGER_SECONDS,
    MAX_QUEUED,
    MAX_QUEUED_BYTES,
    MAX_SPOOL_BYTES,
    RecordPublisher,
)
from usageaudit.publisher.spool.folder import AUTOMATIC, chosen_folder
from usageaudit.stream_url import parse_stream_url

if TYPE_CHECKING:
    import asyncio
    import os
    from collections.abc import Mapping
    from datetime import datetime
    from types import TracebackType

    from usageaudit.embedded_log import NewRecord
    from usageaudit.events.model import UsageEvent
    from usageaudit.publisher.buffer import Done

    Event = UsageEvent | Mapping[str, Any]
    Time = datetime | str | None

TIMEOUT_SECONDS = 10.0
DROPPED = "event dropped"
INVALID = "invalid event not published"


class Publisher:
    """Publishes usage events to a stream, in threads of its own: `emit` never waits for disk or network.

    `stream_url` says where the stream is, see `usageaudit.stream_url`. `source` names the service as a CloudEvents
    source does; together with the event's id it identifies an event for ever, so it must not name a person.

    On its way to Kafka an event waits in a spool, a file of this process in the folder `spool`, of `max_spool_bytes` at
    most; "auto" is the folder that USAGEAUDIT_SPOOL names, or else one in the user's folder for state, and None does
    without. The embedded stream is a local file itself and has no spool.

    At most `max_queued` events, and `max_queued_bytes` of memory, wait to be spooled, or for the stream where there is
    no spool. What `emit` does with an event beyond that is `on_full`: "drop" it, or "block" for `timeout` seconds and
    drop it then. `timeout` is also how long durable events, `flush` and `close` wait unless they are told otherwise.
    Events leave the queue in groups: the first of one waits for others for `linger` seconds.

    Threads may share a publisher. A forked child has an empty queue, new threads, a new spool and a new instance id;
    the parent ships what the parent emitted. At the end of the process the queue is flushed for 5 seconds at most, and
    what the stream has not acknowledged then stays in the spool.

    Raises ConfigurationError for a URL or a parameter that is wrong; whether the stream can be reached shows later.
    """

    def __init__(
        self,
        stream_url: str,
        *,
        source: str,
        on_full: Literal["drop", "block"] = "drop",
        timeout: float = TIMEOUT_SECONDS,
        max_queued: int = MAX_QUEUED,
        max_queued_bytes: int = MAX_QUEUED_BYTES,
        linger: float = LINGER_SECONDS,
        spool: str | os.PathLike[str] | None = AUTOMATIC,
        max_spool_bytes: int = MAX_SPOOL_BYTES,
    ) -> None:
        if on_full not in ("drop", "block"):
            raise ConfigurationError(f"Publisher: on_full is {on_full!r}; it must be 'drop' or 'block'")
        if timeout < 0:
            raise ConfigurationError(f"Publisher: timeout is {timeout}; it must not be negative")
        self._source, self._timeout, self._blocks = source, timeout, on_full == "block"
        self._start_over()
        self._records = RecordPublisher(
            stream_url,
            max_queued=max_queued,
            max_queued_bytes=max_queued_bytes,
            linger=linger,
            spool=chosen_folder(spool, parse_stream_url(stream_url)),
            max_spool_bytes=max_spool_bytes,
        )
        call_at_exit(self._at_exit)
        call_in_child(self._start_over)

    def _start_over(self) -> None:
        self._encoder = EventEncoder(self._source)
        self._drops = Drops(self._source, self._encoder.instance)
        self._dropped = False

    @property
    def instance(self) -> str:
        """The id of this publisher in this process, which its events carry as `publisher.instance`."""
        return self._encoder.instance

    @property
    def stats(self) -> PublisherStats:
        """What became of the events of this process so far."""
        counts, complaints, backlog = self._records.counts, self._records.complaints, self._records.backlog
        return PublisherStats(
            emitted=counts.added,
            acknowledged=counts.acknowledged,
            dropped=complaints.total(DROPPED),
            invalid=complaints.total(INVALID),
            failed=counts.failed,
            queued=counts.queued,
            spooled=backlog.records,
            spool_bytes=backlog.bytes,
            oldest_spooled_seconds=backlog.oldest_seconds,
        )

    def emit(
        self,
        event: UsageEvent | Mapping[str, Any],
        *,
        id: str | None = None,  # noqa: A002  the attribute's name in CloudEvents
        time: datetime | str | None = None,
        durable: bool = False,
        timeout: float | None = None,
    ) -> str | None:
        """Publish one event and return its id.

        `event` is a UsageEvent or a mapping of the same form. `id` is made here where it is None: a UUID of version 7.
        `time` is when the use began, as a datetime with a zone or as RFC 3339 text; None is now.

        Without `durable` the event is queued and None returned where that failed: an event that is invalid or finds no
        room is counted in `stats` and logged, and nothing is raised. With `durable` the event is on disk when this
        returns, in the spool or the embedded stream; without a spool Kafka has acknowledged it.

        Raises, with `durable` only: InvalidEvent; QueueFull where the queue had no room within `timeout` seconds;
        NotAcknowledged where the event was not durable by then, after which it may still arrive; PublishError where it
        never will.
        """
        wait = self._timeout if timeout is None else timeout
        if durable:
            return self._emit_durable(event, id, time, wait)
        with suppress(InvalidEvent, PublishError):
            event_id, record = self._encode(event, id, time)
            self._queue(record, wait if self._blocks else 0.0)
            return event_id
        return None

    def _emit_durable(self, event: Event, event_id: str | None, time: Time, wait: float) -> str:
        give_up = monotonic() + wait
        event_id, record = self._encode(event, event_id, time)
        outcome: queue.SimpleQueue[PublishError | None] = queue.SimpleQueue()
        self._queue(record, wait, outcome.put)
        try:
            error = outcome.get(timeout=max(0.0, give_up - monotonic()))
        except queue.Empty:
            raise self._not_acknowledged(event_id, wait) from None
        if error is not None:
            raise error
        return event_id

    async def aemit(
        self,
        event: UsageEvent | Mapping[str, Any],
        *,
        id: str | None = None,  # noqa: A002
        time: datetime | str | None = None,
        durable: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109  the same meaning as in `emit`
    ) -> str | None:
        """Do what `emit` does without holding up the event loop."""
        wait = self._timeout if timeout is None else timeout
        if durable:
            return await self._aemit_durable(event, id, time, wait)
        with suppress(InvalidEvent, PublishError):
            event_id, record = self._encode(event, id, time)
            await self._aqueue(record, wait if self._blocks else 0.0)
            return event_id
        return None

    async def _aemit_durable(self, event: Event, event_id: str | None, time: Time, wait: float) -> str:
        import asyncio

        give_up = monotonic() + wait
        event_id, record = self._encode(event, event_id, time)
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[PublishError | None] = loop.create_future()

        def done(error: PublishError | None) -> None:
            with suppress(RuntimeError):  # the loop was closed; nobody waits any more
                loop.call_soon_threadsafe(answer, error)

        def answer(error: PublishError | None) -> None:
            if not outcome.done():  # it is, where the wait timed out
                outcome.set_result(error)

        await self._aqueue(record, wait, done)
        try:
            error = await asyncio.wait_for(outcome, max(0.0, give_up - monotonic()))
        except TimeoutError:
            raise self._not_acknowledged(event_id, wait) from None
        if error is not None:
            raise error
        return event_id

    def flush(self, timeout: float | None = None) -> int:
        """Ship what was emitted at once and wait until it is acknowledged; return how many events are not."""
        return self._records.flush(self._timeout if timeout is None else timeout)

    async def aflush(self, timeout: float | None = None) -> int:  # noqa: ASYNC109
        """Do what `flush` does without holding up the event loop."""
        import asyncio

        return await asyncio.to_thread(self.flush, timeout)

    def close(self, timeout: float | None = None) -> int:
        """Flush, take in no more events and end the threads; return how many events were not acknowledged."""
        wait = self._timeout if timeout is None else timeout
        give_up = monotonic() + wait
        self._report_drops(wait, at_once=True)
        return self._records.close(max(0.0, give_up - monotonic()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._records.report_left(self.close(), "the publisher was closed")

    def _encode(self, event: Event, event_id: str | None, time: Time) -> tuple[str, NewRecord]:
        try:
            return self._encoder.encode(event, event_id, time)
        except InvalidEvent as error:
            self._records.complaints.add(INVALID, ", ".join(problem.path for problem in error.problems))
            raise

    def _queue(self, record: NewRecord, wait: float, done: Done | None = None) -> None:
        try:
            self._records.put(record, done, urgent=done is not None, wait=wait)
        except PublishError as error:
            self._drop(error)
            raise
        if self._drops.waiting:
            self._report_drops()

    async def _aqueue(self, record: NewRecord, wait: float, done: Done | None = None) -> None:
        try:
            await self._records.aput(record, done, urgent=done is not None, wait=wait)
        except PublishError as error:
            self._drop(error)
            raise
        if self._drops.waiting:
            self._report_drops()

    def _drop(self, error: PublishError) -> None:
        self._records.complaints.add(DROPPED, str(error))
        if not self._dropped:
            self._dropped = True
            call_at_worker_exit(self._at_exit)  # before that of the records, which came first
        self._drops.add()

    def _at_exit(self) -> None:
        self._report_drops(at_once=True)

    def _report_drops(self, wait: float = 0.0, *, at_once: bool = False) -> None:
        """Publish that events were dropped, as there is room again; where there is not, that waits."""
        if (taken := self._drops.take(at_once=at_once)) is None:
            return
        record, report = taken
        try:
            self._records.put(record, wait=wait)
        except PublishError:
            self._drops.put_back(report)

    def _not_acknowledged(self, event_id: str, wait: float) -> NotAcknowledged:
        reason = self._records.last_error or "the stream does not answer, is slow, or many events wait before it"
        return NotAcknowledged(
            f"event {event_id} was not acknowledged within {wait} s and stays queued, so it may still arrive: {reason}"
        )
