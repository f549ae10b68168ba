"""What brokers do to records - retention, compaction, compression, new partitions - and what a ledger makes of it."""

from __future__ import annotations

import json
import time
import uuid
from contextlib import ExitStack
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.structs import TopicPartition
from structlog.testing import capture_logs

from tests.conftest import running
from tests.servers.kafka import Kafka
from tests.strategies import MINIMAL, envelope
from usageaudit.errors import RetentionOvertook, StreamUnavailable
from usageaudit.integrity import verify
from usageaudit.pipeline.policies import Policies
from usageaudit.pipeline.service import ConsumerConfig, run_consumer
from usageaudit.stores.address import open_store
from usageaudit.stores.migrate import migrate
from usageaudit.streams import kafka, kafka_client
from usageaudit.streams.inspection import inspect
from usageaudit.streams.opening import open_stream
from usageaudit.streams.port import BatchLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from usageaudit.pipeline.activity import Counts
    from usageaudit.stores.port import Store
    from usageaudit.streams.port import Batch, Stream

pytestmark = pytest.mark.kafka
QUICK = BatchLimits(seconds=0.02)
PATIENCE = 60.0
EAGER = {
    "log.retention.check.interval.ms": "200",
    "log.initial.task.delay.ms": "100",
    "log.cleaner.backoff.ms": "200",
    "log.segment.delete.delay.ms": "100",
}
"""A broker that looks for what to delete and what to compact all the time, instead of every five minutes."""


@pytest.fixture(scope="module")
def eager_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Yield a broker that deletes and compacts soon."""
    with running(Kafka(tmp_path_factory.mktemp("eager-kafka"), EAGER)) as server:
        yield server


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield an embedded store with all tables, shared: topics have names of their own."""
    opened = open_store(f"embedded:{tmp_path_factory.mktemp('store')}")
    migrate(opened)
    yield opened
    opened.close()


class Topic:
    """A topic of the broker with a group of its own, and the ledger that it is recorded in."""

    def __init__(self, kafka: Kafka, store: Store, stack: ExitStack) -> None:
        self.kafka, self.store, self._stack = kafka, store, stack
        self.name = f"usage-events-{uuid.uuid4().hex[:12]}"
        self.url = f"{kafka.url}?topic={self.name}&group=group-{self.name}"
        self.admin: Any = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        stack.callback(self.admin.close)

    def create(self, partitions: int = 1, **configs: str) -> None:
        """Create it; the names of settings are written with underscores."""
        self.kafka.create_topic(self.name, partitions, {name.replace("_", "."): one for name, one in configs.items()})

    def event(self, number: int) -> bytes:
        """Return a valid event that is of this topic alone."""
        return json.dumps(envelope(MINIMAL, id=f"{self.name}-{number}")).encode()

    def configure(self, **configs: str) -> None:
        """Change settings."""
        settings = {name.replace("_", "."): one for name, one in configs.items()}
        self.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, self.name, settings)])

    def publish(self, values: Sequence[bytes | None], keys: Sequence[bytes | None] = (None,), **options: Any) -> None:
        """Append records to partition 0, a batch each, with the keys in turn."""
        producer: Any = KafkaProducer(
            bootstrap_servers=self.kafka.bootstrap, max_request_size=8 << 20, compression_type="lz4"
        )
        try:
            for place, value in enumerate(values):
                key = keys[place % len(keys)]
                producer.send(self.name, value, key=key, partition=0, **options).get(PATIENCE)
        finally:
            producer.close()

    def begin(self) -> int:
        """Return the first offset of partition 0 that is there."""
        consumer: Any = KafkaConsumer(bootstrap_servers=self.kafka.bootstrap)
        try:
            partition = TopicPartition(self.name, 0)
            return int(consumer.beginning_offsets([partition])[partition])
        finally:
            consumer.close()

    def open(self) -> Stream:
        """Open a reader."""
        stream = open_stream(self.url, limits=QUICK)
        self._stack.callback(stream.close)
        return stream

    def consume(self) -> Counts:
        """Record all that is there now."""
        return run_consumer(
            ConsumerConfig(self.url, limits=QUICK, until_caught_up=True), self.store, Policies(("hygiene",)), Event()
        )

    def offsets(self) -> list[int]:
        """Return the offsets that are in the ledger."""
        sql = "SELECT offset FROM stream_records WHERE topic = {topic:String} ORDER BY offset"
        return [int(offset) for (offset,) in self.store.execute(sql, {"topic": self.name}).rows]

    def statuses(self) -> dict[str, int]:
        """Return how many rows have which status."""
        sql = "SELECT status, count() FROM stream_records WHERE topic = {topic:String} GROUP BY status"
        return {str(status): int(count) for status, count in self.store.execute(sql, {"topic": self.name}).rows}

    def explained(self) -> tuple[list[str], int]:
        """Verify; return the kinds of problems of this topic, and how many offsets were explained."""
        looked_at = inspect(self.url)
        try:
            found = verify(self.store, looked_at, 0.0)
        finally:
            looked_at.close()
        kinds: list[str] = [problem.kind for problem in found.problems if problem.where.startswith(self.name)]
        return kinds, sum(report.explained for report in found.partitions if report.topic == self.name)


@pytest.fixture
def topic(eager_kafka: Kafka, store: Store) -> Iterator[Topic]:
    """Yield a topic that is yet to be created."""
    with ExitStack() as stack:
        yield Topic(eager_kafka, store, stack)


def until(done: Callable[[], object], what: str) -> None:
    """Wait until something is so."""
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end, f"waited {PATIENCE} s for {what}"


def next_batch(stream: Stream, offset: int = 0) -> Batch:
    """Return the next batch with records; partitions that come are started at an offset."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for partition in stream.assigned():
            stream.start(partition, offset)
        if (batch := stream.poll(0.2)) is not None and batch.records:
            return batch
    raise AssertionError("no batch came")


def test_retention_overtakes_a_stopped_consumer(topic: Topic) -> None:
    """What the broker deleted while nothing consumed is a finding with its exact range, and the rest is recorded."""
    topic.create(segment_ms="100")
    topic.publish([topic.event(n) for n in range(5)])
    assert topic.consume().accepted == 5
    topic.publish([topic.event(n) for n in range(5, 10)])
    topic.configure(retention_ms="1")
    until(lambda: topic.begin() == 10, "retention to delete everything")
    topic.configure(retention_ms="-1")
    topic.publish([topic.event(n) for n in range(10, 13)])
    assert topic.consume().accepted == 3
    assert topic.offsets() == [0, 1, 2, 3, 4, 10, 11, 12]
    keys = topic.store.execute("SELECT group_key FROM findings WHERE kind = 'offset_gap'").rows
    assert [str(key).rsplit("/", 4)[1:] for (key,) in keys if topic.name in str(key)] == [[topic.name, "0", "5", "10"]]
    assert topic.explained() == (["dropped_by_stream"], 0)


@pytest.mark.parametrize("protected", [True, False])
def test_expired_records_are_never_skipped_in_silence(
    topic: Topic, protected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running reader is told the range that was deleted before it; with the client's own reset it would not be."""
    if not protected:
        settings = kafka_client._settings
        monkeypatch.setattr(kafka_client, "_settings", lambda *a: {**settings(*a), "auto_offset_reset": "earliest"})
    topic.create()
    topic.publish([topic.event(n) for n in range(10)])
    topic.admin.delete_records({TopicPartition(topic.name, 0): 6})
    stream = topic.open()
    if not protected:
        assert next_batch(stream, 2).records[0].offset == 6
        return
    with pytest.raises(RetentionOvertook) as caught:
        next_batch(stream, 2)
    assert (caught.value.first, caught.value.last) == (2, 6)


def test_a_log_that_was_truncated_is_not_read_on(topic: Topic) -> None:
    """Where the partition ends before what was read already, its offsets are used anew: said, and nothing delivered."""
    topic.create()
    topic.publish([topic.event(n) for n in range(3)])
    stream = topic.open()
    with pytest.raises(StreamUnavailable, match=r"ends before offset 9.*the brokers lost records"):
        next_batch(stream, 9)


def test_holes_of_compaction_are_explained(topic: Topic) -> None:
    """Offsets that compaction removed have no row, and `verify` counts them as explained."""
    topic.create(
        cleanup_policy="compact", segment_ms="100", min_cleanable_dirty_ratio="0.01", max_compaction_lag_ms="1"
    )
    topic.publish([topic.event(n) for n in range(6)], keys=[b"a", b"b"])
    topic.publish([topic.event(6)], keys=[b"c"])
    looked_at = inspect(topic.url)

    def compacted() -> bool:
        topic.publish(
            [topic.event(0)], keys=[b"roll"]
        )  # a segment is closed, and so compacted, when another one begins
        return set(looked_at.records(0, 0, 6)) == {4, 5, 6}

    until(compacted, "compaction")
    looked_at.close()
    topic.consume()
    first, *others = topic.offsets()
    assert first == 4
    assert others[:2] == [5, 6]
    kinds, explained = topic.explained()
    assert kinds == []
    assert explained == others[-1] + 1 - first - len(topic.offsets())


def test_null_and_huge_records_harm_nobody(topic: Topic) -> None:
    """Records without a value, without a key, with very many or very large headers and of the largest size are rows."""
    topic.create(max_message_bytes=str(4 << 20))
    topic.publish([topic.event(1), None, b""], keys=[None, b"key", b""])
    topic.publish([topic.event(2)], headers=[(f"name-{n}", b"x" * 100) for n in range(2_000)])
    topic.publish([topic.event(3)], headers=[("large", b"x" * 500_000), ("empty", b""), ("ключ", b"\xff")])
    topic.publish([b"x" * (2 << 20), b"{" * 100_000, topic.event(4)])
    counts = topic.consume()
    assert (counts.accepted, counts.rejected, counts.consumed) == (4, 4, 8)
    assert topic.statuses() == {"accepted": 4, "rejected": 4}
    assert topic.offsets() == list(range(8))
    assert topic.explained() == ([], 0)


@pytest.mark.parametrize("codec", ["uncompressed", "gzip", "lz4"])
def test_compressions_that_need_no_package(topic: Topic, codec: str) -> None:
    """Batches that the broker compressed anew are read."""
    topic.create(compression_type=codec)
    topic.publish([topic.event(n) for n in range(3)])
    stream, found = topic.open(), list[bytes | None]()
    while len(found) < 3:
        found += [record.value for record in next_batch(stream).records]
    assert found == [topic.event(n) for n in range(3)]


@pytest.mark.parametrize(("codec", "package"), kafka_client.CODEC_PACKAGES.items())
def test_a_package_that_is_lacking_is_named(
    topic: Topic, codec: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without what unpacks a batch the reader says what to install and stays where it is; with it nothing was lost."""
    topic.create(compression_type=codec)
    topic.publish([topic.event(n) for n in range(3)])
    stream = topic.open()
    with monkeypatch.context() as lacking:
        lacking.setattr(f"kafka.codec.has_{codec}", lambda: False)
        for _ in range(2):
            with pytest.raises(StreamUnavailable, match=f"pip install {package}"):
                next_batch(stream)
    if codec == "lz4":  # the others are not installed with this package
        assert [record.offset for record in next_batch(stream).records] == [0, 1, 2]


@pytest.mark.parametrize("repaired", [True, False])
def test_partitions_that_are_added_are_read(topic: Topic, repaired: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Partitions that are added are read from their first record on, also where the group answers between two polls.

    Without what makes the client good it throws such an answer away, and reads nothing more.
    """
    settings = kafka_client._settings
    monkeypatch.setattr(kafka_client, "_settings", lambda *a: {**settings(*a), "metadata_max_age_ms": 500})
    if not repaired:
        monkeypatch.setattr(kafka_client, "make_good", lambda _: None)
    topic.create(partitions=1)
    topic.publish([topic.event(0)])
    stream = topic.open()
    assert next_batch(stream).partition.number == 0
    topic.admin.create_partitions({topic.name: 3})
    producer: Any = KafkaProducer(bootstrap_servers=topic.kafka.bootstrap)
    for number in (1, 2):
        producer.send(topic.name, topic.event(number), partition=number)
    producer.close()
    found: set[int] = set()

    def all_read() -> bool:
        for partition in stream.assigned():
            stream.start(partition, 0)
        if (batch := stream.poll(0.0)) is not None and batch.records:
            found.add(batch.partition.number)
        time.sleep(0.2)  # the group answers while nobody waits
        return found >= {1, 2}

    if repaired:
        until(all_read, "the added partitions")
        return
    end = time.monotonic() + 5
    while time.monotonic() < end:
        assert not all_read()


def test_a_topic_that_is_deleted_is_missed(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    """A running reader whose topic is deleted says so in the log, and goes on polling."""
    settings = kafka_client._settings
    monkeypatch.setattr(kafka_client, "_settings", lambda *a: {**settings(*a), "metadata_max_age_ms": 500})
    monkeypatch.setattr(kafka, "AWAY_SECONDS", 0.5)
    topic.create()
    topic.publish([topic.event(0)])
    stream = topic.open()
    next_batch(stream)
    topic.admin.delete_topics([topic.name])

    def missed() -> bool:
        assert stream.poll(0.2) is None
        return any("the topic is gone" in line["event"] for line in lines)

    with capture_logs() as lines:
        until(missed, "a warning")


def test_changes_of_the_topic_are_noticed_in_time(tmp_path: Path) -> None:
    """What the documents promise about added partitions and recreated topics is what the client is told."""
    from usageaudit.stream_url import KafkaStreamAddress

    settings = kafka_client._settings(KafkaStreamAddress(("127.0.0.1:9",)), "group", QUICK)
    assert settings["metadata_max_age_ms"] == 60_000
