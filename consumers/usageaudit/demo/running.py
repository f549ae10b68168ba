"""Runs the demonstration on the embedded stream and store: publishes everything, then consumes it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING

import orjson

from usageaudit.cloudevents import STRUCTURED_HEADERS, encode_structured, partition_key
from usageaudit.demo.mishaps import bad_records, resent
from usageaudit.demo.questions import CHANGE
from usageaudit.demo.scenarios import scenarios
from usageaudit.demo.week import SEED, events_of_week
from usageaudit.embedded_log import EmbeddedLog, NewRecord
from usageaudit.errors import StreamUnavailable
from usageaudit.events.times import to_micros
from usageaudit.pipeline.service import ConsumerConfig, run_consumer
from usageaudit.policy import load_bundle
from usageaudit.publisher import RecordPublisher
from usageaudit.stream_url import DEFAULT_GROUP, DEFAULT_TOPIC, EmbeddedStreamAddress
from usageaudit.streams.port import BatchLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from usageaudit.demo.week import SimulatedEvent
    from usageaudit.pipeline.consume import Counts
    from usageaudit.stores.port import Store

    Progress = Callable[[int, int], None]
    """Told how many records of how many are done."""

PARTITIONS = 4
TOPIC, GROUP = DEFAULT_TOPIC, DEFAULT_GROUP
ACKNOWLEDGED_SECONDS = 60.0
_REPORT_EVERY = 500
_BATCH_RECORDS = 2_500
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Published:
    """How many records were published of each kind."""

    scenarios: int
    week: int
    resent: int
    bad: int

    @property
    def records(self) -> int:
        """All of them."""
        return self.scenarios + self.week + self.resent + self.bad


def publish(folder: Path, progress: Progress) -> Published:
    """Publish the scenarios, the week, what is sent again and what is no event. Raises StreamUnavailable."""
    stream = EmbeddedLog.open(folder)
    stream.create_topic(TOPIC, PARTITIONS)
    stream.close()
    week = events_of_week()
    told = [scenario.event for scenario in scenarios()]
    again, bad = resent(week, SEED), bad_records()
    published = Published(len(told), len(week), len(again), len(bad))
    records = [*_records(told), *_records(week), *_records(again), *(NewRecord(None, one) for one in bad)]
    with RecordPublisher(str(EmbeddedStreamAddress(folder))) as publisher:
        for number, record in enumerate(records):
            publisher.put(record, wait=ACKNOWLEDGED_SECONDS)
            if number % _REPORT_EVERY == 0:
                progress(publisher.counts.acknowledged, len(records))
        if publisher.flush(ACKNOWLEDGED_SECONDS):
            raise StreamUnavailable(f"{folder}: the stream did not acknowledge everything: {publisher.last_error}")
    progress(len(records), len(records))
    return published


def _records(events: Iterable[SimulatedEvent]) -> Iterator[NewRecord]:
    for event in events:
        value = encode_structured(
            event_id=event.id, source=event.source, time=event.time, data=orjson.dumps(event.data)
        )
        yield NewRecord(partition_key(event.source, event.id), value, STRUCTURED_HEADERS)


class _Consuming(threading.Thread):
    """The consumer in a thread of its own, so that the main thread can show how far it is."""

    def __init__(self, config: ConsumerConfig, store: Store) -> None:
        super().__init__(name="usageaudit-demo-consumer", daemon=True)
        self.stop = threading.Event()
        self.counts: Counts | None = None
        self.error: BaseException | None = None
        self._config, self._store = config, store

    def run(self) -> None:
        store = self._store.another()
        try:
            self.counts = run_consumer(self._config, store, self.stop)
        except BaseException as error:  # noqa: BLE001  raised again in the thread that waits
            self.error = error
        finally:
            store.close()


def consume(folder: Path, store: Store, policies: tuple[str, ...], progress: Progress) -> Counts:
    """Consume what was published. Raises what the consumer raises."""
    config = ConsumerConfig(
        str(EmbeddedStreamAddress(folder)), policies, limits=BatchLimits(records=_BATCH_RECORDS), until_caught_up=True
    )
    consuming = _Consuming(config, store)
    log = EmbeddedLog.open(folder)
    try:
        consuming.start()
        while consuming.is_alive():
            consuming.join(_LOOK_SECONDS)
            numbers = log.partitions(TOPIC)
            done = sum(log.committed(GROUP, TOPIC, number) or 0 for number in numbers)
            progress(done, sum(log.end(TOPIC, number) for number in numbers))
    finally:
        consuming.stop.set()
        consuming.join()
        log.close()
    if consuming.error is not None:
        raise consuming.error
    if consuming.counts is None:
        raise StreamUnavailable("the consumer ended without a result")
    return consuming.counts


def policies_changed(policies: tuple[str, ...]) -> list[str]:
    """Return the policies that have a revision in force from the day of the change. Raises BundleError."""
    start = to_micros(datetime.combine(CHANGE, time.min, UTC))
    return [
        policy.id
        for policy in load_bundle(policies).policies
        if any(revision.start == start for revision in policy.revisions)
    ]
