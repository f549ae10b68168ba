"""The two kinds of stream that a test can run against: each publishes, trims and opens readers in the same words."""

import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from kafka import KafkaAdminClient, KafkaProducer
from kafka.structs import TopicPartition

from tests.servers.kafka import Kafka
from usageaudit.embedded_log import EmbeddedLog, NewRecord
from usageaudit.partitioning import partition_of
from usageaudit.streams.opening import open_stream
from usageaudit.streams.port import BatchLimits, Partition, Stream

PARTITIONS = 3
Headers = Sequence[tuple[str, bytes | None]]


class Source(Protocol):
    """A topic of three partitions."""

    def publish(
        self, number: int, values: Sequence[bytes | None], headers: Headers = (), timestamp: int | None = None
    ) -> None:
        """Append records to a partition; they are there when this returns."""

    def trim(self, number: int, before: int) -> None:
        """Delete the records of a partition before an offset."""

    def open(self, limits: BatchLimits | None = None, group: str = "audit") -> Stream:
        """Open a reader; it is closed at the end of the test if it was not before."""
        ...

    def another(self) -> "Source":
        """Return another, empty topic."""
        ...


class EmbeddedSource:
    """A topic in a file."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory, self._stack = directory, stack
        self.topic = f"usage-events-{uuid.uuid4().hex[:12]}"
        self.log = EmbeddedLog.open(directory / self.topic)
        stack.callback(self.log.close)
        self.log.create_topic(self.topic, PARTITIONS)
        self._keys: dict[int, bytes] = {}
        for key in (str(n).encode() for n in range(100)):
            self._keys.setdefault(partition_of(key, PARTITIONS), key)

    @property
    def url(self) -> str:
        """The URL of the topic."""
        return f"embedded:{self.directory / self.topic}?topic={self.topic}"

    def publish(
        self, number: int, values: Sequence[bytes | None], headers: Headers = (), timestamp: int | None = None
    ) -> None:
        self.log.append(self.topic, [NewRecord(self._keys[number], value, headers, timestamp) for value in values])

    def trim(self, number: int, before: int) -> None:
        self.log.trim(self.topic, number, before)

    def open(self, limits: BatchLimits | None = None, group: str = "audit") -> Stream:
        stream = open_stream(self.url, group=group, limits=limits)
        self._stack.callback(stream.close)
        return stream

    def another(self) -> "EmbeddedSource":
        return EmbeddedSource(self.directory, self._stack)


class KafkaSource:
    """A topic of a broker; the producer is shared by all sources of a test."""

    def __init__(self, kafka: Kafka, stack: ExitStack, producer: Any = None, partitions: int = PARTITIONS) -> None:
        self._kafka, self._stack = kafka, stack
        self.topic = f"usage-events-{uuid.uuid4().hex[:12]}"
        kafka.create_topic(self.topic, partitions=partitions)
        if producer is None:
            producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, compression_type="lz4")
            stack.callback(producer.close)
        self.producer = producer

    @property
    def url(self) -> str:
        """The URL of the topic."""
        return f"{self._kafka.url}?topic={self.topic}"

    def publish(
        self, number: int, values: Sequence[bytes | None], headers: Headers = (), timestamp: int | None = None
    ) -> None:
        for value in values:
            options = {"key": b"key", "partition": number, "headers": list(headers), "timestamp_ms": timestamp}
            self.producer.send(self.topic, value, **options)
        self.producer.flush()

    def trim(self, number: int, before: int) -> None:
        admin: Any = KafkaAdminClient(bootstrap_servers=self._kafka.bootstrap)
        try:
            admin.delete_records({TopicPartition(self.topic, number): before})
        finally:
            admin.close()

    def open(self, limits: BatchLimits | None = None, group: str = "audit", options: str = "") -> Stream:
        stream = open_stream(self.url + options, group=f"{group}-{self.topic}", limits=limits)
        self._stack.callback(stream.close)
        return stream

    def another(self) -> "KafkaSource":
        return KafkaSource(self._kafka, self._stack, self.producer)


def start_all(stream: Stream, partitions: int = PARTITIONS, seconds: float = 20.0) -> list[Partition]:
    """Start all partitions where the group left them, or at their beginning; return them by number."""
    started: dict[int, Partition] = {}
    until = time.monotonic() + seconds
    while len(started) < partitions:
        assert time.monotonic() < until, f"only {sorted(started)} were assigned"
        for partition in stream.assigned():
            committed = stream.committed(partition)
            stream.start(partition, stream.beginning(partition) if committed is None else committed)
            started[partition.number] = partition
        if len(started) < partitions:
            assert stream.poll(0.2) is None, "a partition delivers before all are started"
    return [started[number] for number in sorted(started)]
