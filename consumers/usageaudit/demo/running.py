"""Runs the demonstration on the embedded stream and store: publishes everything, then consumes it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
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
from usageaudit.pipeline.policies import Policies
from usageaudit.pipeline.service import ConsumerConfig, run_consumer
from usageaudit.policy import load_bundle
from usageaudit.publisher import RecordPublisher
from usageaudit.stores.migrate import migrate
from usageaudit.stream_url import DEFAULT_GROUP, DEFAULT_TOPIC, EmbeddedStreamAddress
from usageaudit.streams.port import BatchLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from usageaudit.demo.week import SimulatedEvent
    from usageaudit.pipeline.activity import Counts
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


def consume(folder: Path, store: Store, policies: tuple[str, ...], progress: Progress) -> Counts:
    """Consume what was published, in a thread of its own, so that this one can show how far it is."""
    config = ConsumerConfig(
        str(EmbeddedStreamAddress(folder)), limits=BatchLimits(records=_BATCH_RECORDS), until_caught_up=True
    )
    stop = threading.Event()
    with closing(EmbeddedLog.open(folder)) as log, ThreadPoolExecutor(1) as pool:
        consuming = pool.submit(_consume, config, store, Policies(policies), stop)
        try:
            while wait([consuming], _LOOK_SECONDS).not_done:
                numbers = log.partitions(TOPIC)
                done = sum(log.committed(GROUP, TOPIC, number) or 0 for number in numbers)
                progress(done, sum(log.end(TOPIC, number) for number in numbers))
        finally:
            stop.set()
    return consuming.result()


def _consume(config: ConsumerConfig, store: Store, policies: Policies, stop: threading.Event) -> Counts:
    with closing(store.another()) as own:
        migrate(own)
        return run_consumer(config, own, policies, stop)


def policies_changed(policies: tuple[str, ...]) -> list[str]:
    """Return the policies that have a revision in force from the day of the change. Raises BundleError."""
    start = to_micros(datetime.combine(CHANGE, time.min, UTC))
    return [
        policy.id
        for policy in load_bundle(policies).policies
        if any(revision.start == start for revision in policy.revisions)
    ]
