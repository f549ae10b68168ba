from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.strategies import MINIMAL
from usageaudit.embedded_log import NewRecord
from usageaudit.errors import ConfigurationError, InvalidEvent, NotAcknowledged, PublishError, QueueFull
from usageaudit.publisher import Publisher, RecordPublisher
from usageaudit.publisher.buffer import ITEM_BYTES, Buffer
from usageaudit.testing import CapturingPublisher

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.publisher.conftest import AwayStream, Published

INVALID: dict[str, Any] = {**MINIMAL, "operation": "", "labels": {"note": 7}}


def _sequences(events: Published) -> list[int]:
    return [event.data.publisher.sequence for event in events]


def test_events_arrive_in_order(url: str, published: Callable[..., Published]) -> None:
    """Everything emitted before the publisher was left is in the stream, with the ids returned, in order."""
    with Publisher(url, source="/services/chat") as publisher:
        ids = [publisher.emit(MINIMAL) for _ in range(2_500)]
    events = published()
    assert [event.id for event in events] == ids
    assert _sequences(events) == list(range(1, 2_501))
    assert {event.source for event in events} == {"/services/chat"}


def test_threads_emit_at_once(url: str, published: Callable[..., Published]) -> None:
    """Events of several threads arrive once each, those of one thread in its order."""
    with Publisher(url, source="/s", on_full="block", max_queued=100) as publisher, ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: [publisher.emit(MINIMAL) for _ in range(400)], range(4)))
    arrived = [event.id for event in published()]
    assert sorted(arrived) == sorted(str(one) for many in made for one in many)
    place = {event_id: n for n, event_id in enumerate(arrived)}
    assert all([place[str(one)] for one in many] == sorted(place[str(one)] for one in many) for many in made)


def test_a_durable_event_is_in_the_stream(url: str, published: Callable[..., Published]) -> None:
    """When a durable emit returns, the event can be read, with everything that was emitted before it."""
    publisher = Publisher(url, source="/s", linger=3_600)
    before = publisher.emit(MINIMAL)
    event_id = publisher.emit(MINIMAL, durable=True)
    assert [event.id for event in published()] == [before, event_id]
    publisher.close()


def test_flush_does_not_linger(url: str, published: Callable[..., Published]) -> None:
    """A flush ships what waits for company, and returns 0 when everything is acknowledged."""
    publisher = Publisher(url, source="/s", linger=3_600)
    ids = [publisher.emit(MINIMAL) for _ in range(3)]
    assert publisher.flush() == 0
    assert [event.id for event in published()] == ids
    publisher.close()


def test_what_stats_say(url: str, away: AwayStream) -> None:
    """Every event is counted at one place: emitted = acknowledged + failed + queued; dropped and invalid apart."""
    with Publisher(url, source="/s") as publisher:
        publisher.emit(INVALID)
        publisher.emit(MINIMAL)
        assert publisher.flush() == 0
        stats = publisher.stats
    assert (stats.emitted, stats.acknowledged, stats.invalid, stats.dropped, stats.queued) == (1, 1, 1, 0, 0)
    publisher = Publisher(away.url, source="/s", max_queued=2)
    for _ in range(5):
        publisher.emit(MINIMAL)
    stats = publisher.stats
    assert (stats.emitted, stats.acknowledged, stats.dropped, stats.queued) == (2, 0, 3, 2)
    publisher.close(0)


def test_an_invalid_event_raises_nothing(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Without durable, an invalid event is counted and logged by its paths, and none of its content is."""
    with Publisher(url, source="/s") as publisher:
        assert publisher.emit({**INVALID, "operation": 1, "actor": {"id": "", "type": "hidden-content"}}) is None
        assert publisher.emit(object()) is None  # type: ignore[arg-type]
        assert publisher.stats.invalid == 2
    (line,) = caplog.messages
    assert "data.operation, data.actor.id, data.labels[…]" in line
    assert "hidden" not in caplog.text


def test_an_invalid_event_raises_where_it_must_be_durable(url: str) -> None:
    """With durable, an invalid event raises InvalidEvent with all its problems."""
    with Publisher(url, source="/s") as publisher:
        with pytest.raises(InvalidEvent) as caught:
            publisher.emit(INVALID, durable=True)
        assert publisher.stats.invalid == 1
    assert {problem.path for problem in caught.value.problems} == {"data.operation", "data.labels[…]"}


def test_a_full_queue_drops(away: AwayStream, caplog: pytest.LogCaptureFixture, published: Any) -> None:
    """A full queue takes nothing more and says so once; what it took arrives when the stream is back."""
    publisher = Publisher(away.url, source="/s", max_queued=10)
    ids = [publisher.emit(MINIMAL) for _ in range(500)]
    assert ids[10:] == [None] * 490
    assert publisher.stats.dropped == 490
    assert sum("event dropped" in message for message in caplog.messages) == 1
    away.come_back()
    assert publisher.flush() == 0
    publisher.close()
    events = published(away.folder)
    assert [event.id for event in events] == ids[:10]
    assert _sequences(events) == list(range(1, 11))


def test_a_drop_shows_as_a_gap(away: AwayStream, published: Any) -> None:
    """The numbers of dropped events are missing in the stream, so that the loss can be seen there."""
    publisher = Publisher(away.url, source="/s", max_queued=2)
    for _ in range(5):
        publisher.emit(MINIMAL)
    away.come_back()
    publisher.flush()
    publisher.emit(MINIMAL)
    publisher.close()
    assert _sequences(published(away.folder)) == [1, 2, 6]


def test_a_full_queue_blocks(away: AwayStream) -> None:
    """With on_full="block" an emit waits for room as long as it was told, and goes on when there is."""
    publisher = Publisher(away.url, source="/s", max_queued=1, on_full="block")
    publisher.emit(MINIMAL)
    started = time.monotonic()
    assert publisher.emit(MINIMAL, timeout=0.2) is None
    assert time.monotonic() - started >= 0.2
    threading.Timer(0.1, away.come_back).start()
    assert publisher.emit(MINIMAL, timeout=30) is not None
    assert publisher.close(30) == 0


def test_a_durable_event_that_finds_no_room(away: AwayStream) -> None:
    """A durable emit waits for room whatever on_full says, and raises QueueFull with the reason when there is none."""
    publisher = Publisher(away.url, source="/s", max_queued=1)
    publisher.emit(MINIMAL)
    with pytest.raises(QueueFull, match="the queue is full with 1 events"):
        publisher.emit(MINIMAL, durable=True, timeout=0.3)
    away.come_back()
    assert publisher.emit(MINIMAL, durable=True, timeout=30) is not None
    publisher.close()


def test_a_durable_event_that_is_not_acknowledged(away: AwayStream, published: Any) -> None:
    """A durable emit raises NotAcknowledged with the reason in time, and the event arrives once when it can."""
    publisher = Publisher(away.url, source="/s")
    with pytest.raises(NotAcknowledged, match=r"may still arrive: .*the folder can't be made"):
        publisher.emit(MINIMAL, id="late", durable=True, timeout=0.3)
    away.come_back()
    assert publisher.close(30) == 0
    assert [event.id for event in published(away.folder)] == ["late"]


def test_a_closed_publisher(url: str, published: Any) -> None:
    """After close an emit is dropped, or raises where it must be durable; closing again is no error."""
    publisher = Publisher(url, source="/s")
    publisher.emit(MINIMAL)
    assert publisher.close() == 0
    assert publisher.emit(MINIMAL) is None
    with pytest.raises(PublishError, match="was closed"):
        publisher.emit(MINIMAL, durable=True)
    assert publisher.stats.dropped == 2
    assert publisher.close() == 0
    assert len(published()) == 1


def test_leaving_with_events_unsent(away: AwayStream, caplog: pytest.LogCaptureFixture) -> None:
    """Leaving the context while the stream is away takes the time-out, and one line says how many were not sent."""
    with Publisher(away.url, source="/s", timeout=0.2) as publisher:
        for _ in range(7):
            publisher.emit(MINIMAL)
    assert "7 events were not acknowledged by the stream before the publisher was closed" in caplog.messages


def test_a_publisher_that_nobody_holds_ends(url: str, published: Any) -> None:
    """A publisher that was forgotten ships what it has, and its thread ends."""
    Publisher(url, source="/s").emit(MINIMAL)
    deadline = time.monotonic() + 20
    while any(thread.name == "usageaudit-publisher" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(published()) == 1


def test_memory_is_bounded_while_the_stream_is_away(away: AwayStream) -> None:
    """However much is emitted, the queue takes no more memory than it was given."""
    bound = 2_000_000
    publisher = Publisher(away.url, source="/s", max_queued=1_000_000, max_queued_bytes=bound)
    publisher.emit(MINIMAL)
    tracemalloc.start()
    for _ in range(20_000):
        publisher.emit({**MINIMAL, "labels": {"padding": "x" * 500}})
    used, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert publisher.stats.dropped > 15_000
    assert used < bound
    assert peak < bound * 1.2
    publisher.close(0)


@given(st.lists(st.integers(0, 4), max_size=30), st.integers(1, 6), st.integers(1, 3_000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_bounds_of_the_queue(sizes: list[int], most: int, most_bytes: int) -> None:
    """The queue holds no more records and bytes than it may, and one of any size when it is empty."""
    from usageaudit.embedded_log import NewRecord

    buffer = Buffer(most, most_bytes)
    taken = 0
    used = 0
    for size in sizes:
        record = NewRecord(None, bytes(size * 300))
        cost = ITEM_BYTES + size * 300
        fits = taken < most and (used + cost <= most_bytes or not taken)
        assert buffer.put(record) == fits
        taken, used = taken + fits, used + cost * fits
        assert (buffer.counts.queued, buffer.counts.queued_bytes) == (taken, used)


def test_wrong_parameters() -> None:
    """A URL or a parameter that is wrong is refused when the publisher is made, by its name."""
    for wrong, named in (
        ({"on_full": "explode"}, "on_full"),
        ({"timeout": -1}, "timeout"),
        ({"max_queued": 0}, "max_queued"),
        ({"linger": -1}, "linger"),
        ({"source": ""}, "source"),
    ):
        with pytest.raises(ConfigurationError, match=named):
            Publisher("embedded:x", **{"source": "/s", **wrong})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="stream URL"):
        Publisher("kafka", source="/s")


def test_asyncio(url: str, published: Any) -> None:
    """Coroutines emit durably side by side, each returning when its own event is in the stream."""

    async def use() -> list[str | None]:
        publisher = Publisher(url, source="/s", on_full="block", max_queued=20)
        ids = list(await asyncio.gather(*(publisher.aemit(MINIMAL, durable=True) for _ in range(100))))
        ids.append(await publisher.aemit(MINIMAL))
        assert await publisher.aemit(INVALID) is None
        with pytest.raises(InvalidEvent):
            await publisher.aemit(INVALID, durable=True)
        assert await publisher.aflush() == 0
        publisher.close()
        return ids

    ids = asyncio.run(use())
    assert sorted(str(one) for one in ids) == sorted(event.id for event in published())


def test_asyncio_goes_on_while_the_stream_is_away(away: AwayStream) -> None:
    """A coroutine that waits for an acknowledgement, or for room, does not hold up the others."""

    async def use() -> None:
        publisher = Publisher(away.url, source="/s", max_queued=1, on_full="block")
        waiting = [asyncio.create_task(publisher.aemit(MINIMAL, durable=True, timeout=0.5)) for _ in range(2)]
        waiting.append(asyncio.create_task(publisher.aemit(MINIMAL, timeout=0.5)))
        ticks = 0
        while not all(task.done() for task in waiting):
            await asyncio.sleep(0.005)
            ticks += 1
        assert ticks > 20
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results] == [NotAcknowledged, QueueFull, type(None)]
        publisher.close(0)

    asyncio.run(use())


def test_an_answer_to_a_loop_that_is_gone(away: AwayStream) -> None:
    """An acknowledgement that comes after the event loop was closed disturbs nothing."""
    publisher = Publisher(away.url, source="/s")

    async def use() -> None:
        with pytest.raises(NotAcknowledged):
            await publisher.aemit(MINIMAL, durable=True, timeout=0.05)

    asyncio.run(use())
    away.come_back()
    assert publisher.flush(30) == 0
    assert publisher.emit(MINIMAL, durable=True) is not None
    publisher.close()


def test_records_as_they_are(url: str, published: Any) -> None:
    """The lower publisher ships finished records, and tells of each in order that it is durable."""
    from usageaudit.publisher.encoder import EventEncoder

    encoder = EventEncoder("/s")
    told: list[object] = []
    with RecordPublisher(url) as records:
        for _ in range(300):
            records.put(encoder.encode(MINIMAL, None, None)[1], told.append)
    assert told == [None] * 300
    assert records.counts.acknowledged == 300
    assert _sequences(published()) == list(range(1, 301))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_flush_ships_what_a_thread_that_ended_left(url: str) -> None:
    """Where the sending thread has ended, flush starts another one instead of waiting for nobody."""
    record = NewRecord(None, orjson.dumps(MINIMAL))
    sender: list[threading.Thread] = []

    def end(_: PublishError | None) -> None:
        sender.append(threading.current_thread())
        records.put(record)
        sys.exit()

    with RecordPublisher(url) as records:
        records.put(record, end)
        records.flush(30.0)
        sender[0].join(30.0)
        assert records.counts.queued == 1
        assert records.flush(30.0) == 0
        assert records.counts.acknowledged == 2


def test_the_capturing_publisher() -> None:
    """The publisher for tests keeps events as a consumer reads them, and raises where the real one counts."""
    publisher = CapturingPublisher(source="/services/chat")
    event_id = publisher.emit(MINIMAL, time="2024-05-01T00:00:00Z")
    assert asyncio.run(publisher.aemit(MINIMAL, id="mine", durable=True)) == "mine"
    first, second = publisher.events
    assert (first.id, first.source, first.time) == (event_id, "/services/chat", 1_714_521_600_000_000)
    assert (first.data.model.name, second.id) == ("gpt-4-turbo", "mine")
    with pytest.raises(InvalidEvent):
        publisher.emit(INVALID)
    assert (publisher.stats.emitted, publisher.stats.invalid) == (2, 1)
    assert publisher.flush() == asyncio.run(publisher.aflush()) == publisher.close() == 0


def test_logging_is_left_alone(url: str) -> None:
    """The publisher logs to its own logger and adds no handler anywhere."""
    before = list(logging.getLogger().handlers)
    with Publisher(url, source="/s") as publisher:
        publisher.emit(INVALID)
    assert logging.getLogger().handlers == before
    assert logging.getLogger("usageaudit").handlers == logging.getLogger("usageaudit.publisher").handlers == []
