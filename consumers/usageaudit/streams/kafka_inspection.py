"""Looks at a topic of Kafka with a consumer that joins no group."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kafka import KafkaConsumer
from kafka.errors import KafkaError
from kafka.structs import TopicPartition

from usageaudit.errors import StreamUnavailable
from usageaudit.streams import kafka_connecting
from usageaudit.streams.fetching import Clients
from usageaudit.streams.inspection import Bounds
from usageaudit.streams.kafka_client import REQUEST_SECONDS, no_topic
from usageaudit.streams.kafka_connecting import connecting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from usageaudit.stream_url import KafkaStreamAddress

_LOOK_SECONDS = 10.0


class KafkaInspection:
    """Looks at one topic; see `Inspection`. Raises StreamUnavailable where no broker or no topic is there."""

    def __init__(self, address: KafkaStreamAddress) -> None:
        self._address = address
        self.topic = address.topic
        clients = Clients()
        with connecting(address, clients):
            self._consumer: Any = KafkaConsumer(**_settings(address), kafka_client=clients)
        self._cluster: Any = clients.client.cluster
        self._numbers = self._partitions()
        topic_id = self._cluster.topic_id(self.topic)
        fallback = f"{self._cluster.cluster_id}/{self.topic}"
        self.identity = str(topic_id) if topic_id is not None and topic_id.int else fallback

    def _partitions(self) -> list[int]:
        answer = self._consumer.partitions_for_topic(self.topic)
        if not answer:
            self.close()
            raise StreamUnavailable(no_topic(self._address))
        return sorted(answer)

    def bounds(self) -> list[Bounds]:
        """Return the partitions of the topic."""
        partitions = [TopicPartition(self.topic, number) for number in self._numbers]
        milliseconds = REQUEST_SECONDS * 1000
        with self._asking():
            first = self._consumer.beginning_offsets(partitions, timeout_ms=milliseconds)
            last = self._consumer.end_offsets(partitions, timeout_ms=milliseconds)
            committed = {one: self._consumer.committed(one, timeout_ms=milliseconds) for one in partitions}
        return [Bounds(one.partition, first[one], last[one], committed[one]) for one in partitions]

    def records(self, number: int, first: int, last: int) -> Sequence[int]:
        """Return which of the offsets hold a record: control records and those of aborted transactions do not count."""
        partition = TopicPartition(self.topic, number)
        found: list[int] = []
        with self._asking():
            self._consumer.assign([partition])
            self._consumer.seek(partition, first)
            until = time.monotonic() + _LOOK_SECONDS
            while self._consumer.position(partition) <= last:
                if time.monotonic() > until:
                    raise StreamUnavailable(f"{self._address}: offsets {first} to {last} could not be read in time")
                fetched = self._consumer.poll(timeout_ms=200).get(partition, [])
                found += [record.offset for record in fetched if record.offset <= last]
        return found

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close(autocommit=False)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except KafkaError as error:
            raise StreamUnavailable(f"{self._address}, topic {self.topic}: {type(error).__name__}: {error}") from error


def _settings(address: KafkaStreamAddress) -> dict[str, Any]:
    return {
        **address.client_settings(),
        "client_id": "usageaudit-inspection",
        "group_id": address.group,  # to be asked for its offsets; without a subscription it is not joined
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "isolation_level": "read_committed",
        "allow_auto_create_topics": False,
        "bootstrap_timeout_ms": int(kafka_connecting.CONNECT_SECONDS * 1000),
        "metrics_enabled": False,
    }
