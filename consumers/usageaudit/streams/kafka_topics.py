"""Creates a topic of Kafka as an audit log needs it, and reads how one is set up."""

# pyright brings stubs of an older kafka-python.
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    AuthorizationError,
    InvalidReplicationFactorError,
    KafkaError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from kafka.protocol.consumer import OffsetSpec

from usageaudit.errors import ConfigurationError, StreamUnavailable
from usageaudit.streams import kafka_connecting
from usageaudit.streams.fetching import Clients
from usageaudit.streams.kafka_client import REQUEST_SECONDS, no_topic
from usageaudit.streams.kafka_connecting import connecting
from usageaudit.streams.topic_checks import LARGEST_RECORD, TopicState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.stream_url import KafkaStreamAddress

RETENTION_MS = 14 * 24 * 3600 * 1000
_NO_ERROR = 0


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """How a topic is to be created; `in_sync` replicas have to hold an event before it counts as published."""

    partitions: int = 12
    replication: int = 3
    in_sync: int | None = None
    retention_ms: int = RETENTION_MS

    @property
    def settings(self) -> dict[str, str]:
        """The settings of the topic."""
        in_sync = max(1, self.replication - 1) if self.in_sync is None else self.in_sync
        return {
            "cleanup.policy": "delete",
            "retention.ms": str(self.retention_ms),
            "retention.bytes": "-1",
            "min.insync.replicas": str(in_sync),
            "unclean.leader.election.enable": "false",
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(LARGEST_RECORD),
            "compression.type": "lz4",
        }


class KafkaTopics:
    """Looks after the topic of a URL. Every call may raise StreamUnavailable."""

    def __init__(self, address: KafkaStreamAddress) -> None:
        self._address = address
        clients = Clients()
        with connecting(address, clients):
            self._admin: Any = KafkaAdminClient(
                **address.client_settings(),
                client_id="usageaudit-topic",
                request_timeout_ms=int(REQUEST_SECONDS * 1000),
                bootstrap_timeout_ms=int(kafka_connecting.CONNECT_SECONDS * 1000),
                kafka_client=clients,
            )

    def create(self, plan: TopicPlan) -> bool:
        """Create the topic where it does not exist; tell whether it had to. Raises ConfigurationError."""
        topic = {
            "num_partitions": plan.partitions,
            "replication_factor": plan.replication,
            "configs": plan.settings,
        }
        with self._asking("creating the topic"):
            try:
                self._admin.create_topics({self._address.topic: topic}, wait_for_metadata=True)
            except TopicAlreadyExistsError:
                return False
            except InvalidReplicationFactorError:
                brokers = len(self._admin.describe_cluster()["brokers"])
                raise ConfigurationError(
                    f"{self._address} has {brokers} brokers, too few for {plan.replication} replicas of each "
                    f"partition: start more, or give --replication {brokers} where that is enough"
                ) from None
        return True

    def state(self) -> TopicState:
        """Return how the topic is set up."""
        with self._asking("looking at the topic"):
            (found,) = self._admin.describe_topics([self._address.topic])
            if found["error_code"] != _NO_ERROR or not found["partitions"]:
                raise StreamUnavailable(no_topic(self._address))
            partitions = {one["partition_index"]: one for one in found["partitions"]}
            leaderless = frozenset(n for n, one in partitions.items() if one["leader_id"] < 0)
            return TopicState(
                self._address.topic,
                {n: len(one["replica_nodes"]) for n, one in partitions.items()},
                {n: len(one["isr_nodes"]) for n, one in partitions.items()},
                leaderless,
                self._settings(),
                self._newest(set(partitions) - leaderless),
            )

    def close(self) -> None:
        """Close the connections."""
        self._admin.close()

    def _settings(self) -> dict[str, str]:
        resource = ConfigResource(ConfigResourceType.TOPIC, self._address.topic)
        found = self._admin.describe_configs([resource], config_filter="all")
        values = found.get("topic", {}).get(self._address.topic, {})
        return {name: str(one["value"]) for name, one in values.items()}

    def _newest(self, numbers: set[int]) -> int | None:
        """Return the latest time of a record; brokers before 3.0 are not asked."""
        wanted = {TopicPartition(self._address.topic, number): OffsetSpec.MAX_TIMESTAMP for number in numbers}
        try:
            found = self._admin.list_partition_offsets(wanted, timeout_ms=REQUEST_SECONDS * 1000)
        except KafkaError:
            return None
        return max((one.timestamp for one in found.values() if one.timestamp > 0), default=None)

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        address = self._address
        try:
            yield
        except UnknownTopicOrPartitionError as error:
            raise StreamUnavailable(no_topic(address)) from error
        except AuthorizationError as error:
            raise StreamUnavailable(
                f"{address}: {what} is not allowed to this login: creating needs CREATE and DESCRIBE on topic "
                f"{address.topic}, checking DESCRIBE and DESCRIBE_CONFIGS"
            ) from error
        except KafkaError as error:
            raise StreamUnavailable(f"{address}: {what} {address.topic} failed: {error}") from error
