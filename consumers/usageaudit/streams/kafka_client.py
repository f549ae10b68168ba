"""kafka-python's consumer with types: one topic, read as a member of a consumer group.

The client has no types and few of its errors say what to do, so all of it is met here and in `fetching`, and what
leaves this file is typed, in seconds, and an error of ours.

Facts about kafka-python 3.0 that shape it: the listener is called on the client's I/O thread, where committing or
seeking raises; a wrong password, certificate or port all look like a time-out; of a partition that nobody ever
committed, polling raises until it has a position, paused or not.
"""

# pyright brings stubs of an older kafka-python.
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import structlog
from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import (
    AuthorizationError,
    CommitFailedError,
    CorruptRecordError,
    FencedInstanceIdError,
    GroupAuthorizationFailedError,
    InconsistentGroupProtocolError,
    InvalidSessionTimeoutError,
    KafkaError,
    LogTruncationError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RebalanceInProgressError,
    RetriableError,
    UnsupportedCodecError,
)
from kafka.structs import MemberState, OffsetAndMetadata

from usageaudit.errors import StreamUnavailable
from usageaudit.kafka_diagnosis import Causes, likely_cause
from usageaudit.streams import kafka_connecting
from usageaudit.streams.client_repairs import make_good
from usageaudit.streams.fetching import Clients, fetch_faster, record_of
from usageaudit.streams.kafka_connecting import connecting

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from usageaudit.stream_url import KafkaStreamAddress
    from usageaudit.streams.port import BatchLimits, Record

log = structlog.get_logger("usageaudit.stream")

REQUEST_SECONDS = 10.0
CLOSE_SECONDS = 5.0
RETRY_SECONDS = 0.1
MOST_RECORDS = 10_000
"""Records of one call of poll; the client's own limit of 500 costs more than it saves."""
SMALLEST_FETCH, LARGEST_FETCH = 1024 * 1024, 32 * 1024 * 1024
LARGEST_SHARE = 1024 * 1024
"""Of one partition in a fetch, since that much is set aside for each partition that is paused; at least one batch."""

CODEC_PACKAGES = {"snappy": "python-snappy", "zstd": "zstandard", "lz4": "lz4"}
"""What kafka-python needs to unpack records of a compression."""


class Change(NamedTuple):
    """Partitions that came to this member, or went away from it."""

    kind: Literal["assigned", "revoked"]
    numbers: tuple[int, ...]


class OutOfRange(Exception):
    """The position of a partition is not in the stream."""

    def __init__(self, number: int, offset: int) -> None:
        self.number, self.offset = number, offset
        super().__init__(number, offset)


class NotCommitted(Exception):
    """The group does not take the commit now: it is being rebalanced, or this member is no longer in it."""


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Runs on the I/O thread: stops what was assigned before anything of it is delivered, and says so to the loop."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self.changes: deque[Change] = deque()

    def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        self._consumer.pause(*assigned)
        self.changes.append(Change("assigned", _numbers(assigned)))

    def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        self.changes.append(Change("revoked", _numbers(revoked)))

    def on_partitions_lost(self, lost: Collection[Any]) -> None:
        self.changes.append(Change("revoked", _numbers(lost)))


class GroupConsumer:
    """A member of a consumer group that reads one topic. Not thread-safe."""

    def __init__(self, address: KafkaStreamAddress, group: str, limits: BatchLimits) -> None:
        self._address, self._group, self._topic = address, group, address.topic
        self._clients = Clients()
        self._causes = Causes()
        self._identity = ""
        with connecting(address, self._clients):
            self._consumer: Any = KafkaConsumer(**_settings(address, group, limits), kafka_client=self._clients)
        self._causes.listen()
        self._cluster: Any = self._clients.client.cluster
        self._unpacked = fetch_faster(self._consumer)
        self._listener = _Listener(self._consumer)
        self._consumer.subscribe([self._topic], listener=self._listener)
        try:
            self._require_topic()
        except StreamUnavailable:
            self.close()
            raise

    def identity(self) -> str:
        """Return the topic's id, which a recreated topic does not share, as far as the client has heard of it.

        Brokers before 2.8 give topics no id: the cluster's id and the topic's name are taken then.
        """
        topic_id = self._cluster.topic_id(self._topic)
        if topic_id is not None and topic_id.int:
            self._identity = str(topic_id)
        return self._identity or f"{self._cluster.cluster_id}/{self._topic}"

    def changes(self) -> Iterator[Change]:
        """Yield the changes of the assignment since the last call, oldest first."""
        while self._listener.changes:
            yield self._listener.changes.popleft()

    def poll(self, seconds: float, most: int) -> dict[int, Sequence[Record]]:
        """Fetch, and do what membership of the group needs.

        Raises OutOfRange, and StreamUnavailable for what waiting does not help against.
        """
        make_good(self._consumer)
        try:
            fetched = self._consumer.poll(timeout_ms=max(0, round(seconds * 1000)), max_records=most)
        except OffsetOutOfRangeError as error:
            ((partition, offset),) = error.args[0].items()
            raise OutOfRange(partition.partition, offset) from None
        except (NoOffsetForPartitionError, RetriableError):
            return {}
        except KafkaError as error:
            raise StreamUnavailable(self._explain(error)) from error
        if self._unpacked:
            return {partition.partition: records for partition, records in fetched.items()}
        return {
            partition.partition: [record_of(record) for record in records] for partition, records in fetched.items()
        }

    def pause(self, numbers: Collection[int]) -> None:
        """Deliver no records of these partitions until they are resumed."""
        self._consumer.pause(*map(self._partition, numbers))

    def resume(self, numbers: Collection[int]) -> None:
        """Deliver records of these partitions again."""
        self._consumer.resume(*map(self._partition, numbers))

    def seek(self, number: int, offset: int) -> None:
        """Go on at an offset, throwing away what was fetched."""
        self._consumer.seek(self._partition(number), offset)

    def position(self, number: int) -> int:
        """Return the offset that is fetched next: behind what was delivered, and behind control records."""
        with self._asking("finding the position"):
            position: int = self._consumer.position(self._partition(number), timeout_ms=0)
            return position

    def caught_up(self, number: int) -> bool:
        """Tell whether everything was delivered that the last fetch said there is."""
        end = self.highwater(number)
        return end is None or self.position(number) >= end

    def highwater(self, number: int) -> int | None:
        """Return the end of an assigned partition as the last fetch said it, None where there was none."""
        partition = self._partition(number)
        if partition not in self._consumer.assignment():
            return None
        end: int | None = self._consumer.highwater(partition)
        return end

    def ends(self, numbers: Collection[int], seconds: float) -> dict[int, int]:
        """Return the ends of partitions, none where no broker answers in time."""
        partitions = [self._partition(number) for number in numbers]
        try:
            found = self._consumer.end_offsets(partitions, timeout_ms=seconds * 1000)
        except KafkaError:
            return {}
        return {partition.partition: offset for partition, offset in found.items()}

    def committed(self, number: int) -> int | None:
        """Return the group's committed offset. Raises StreamUnavailable."""
        with self._asking("reading the committed offset"):
            offset: int | None = self._consumer.committed(self._partition(number), timeout_ms=REQUEST_SECONDS * 1000)
            return offset

    def beginning(self, number: int) -> int:
        """Return the first offset that is there. Raises StreamUnavailable."""
        partition = self._partition(number)
        with self._asking("finding the first offset"):
            first: int = self._consumer.beginning_offsets([partition], timeout_ms=REQUEST_SECONDS * 1000)[partition]
            return first

    def end(self, number: int) -> int:
        """Return the offset behind the last record that is not in an open transaction. Raises StreamUnavailable."""
        partition = self._partition(number)
        with self._asking("finding the last offset"):
            last: int = self._consumer.end_offsets([partition], timeout_ms=REQUEST_SECONDS * 1000)[partition]
            return last

    def commit(self, offsets: dict[int, int], seconds: float) -> None:
        """Commit, trying again for so long. Raises NotCommitted and StreamUnavailable."""
        wanted = {self._partition(number): OffsetAndMetadata(offset, "", -1) for number, offset in offsets.items()}
        until = time.monotonic() + seconds
        with self._asking("committing"):
            while True:
                try:
                    return self._commit(wanted, max(until - time.monotonic(), 0.0))
                except RetriableError:
                    if time.monotonic() + RETRY_SECONDS >= until:
                        raise
                    time.sleep(RETRY_SECONDS)

    def _commit(self, wanted: Any, seconds: float) -> None:
        try:
            self._consumer.commit(wanted, timeout_ms=seconds * 1000)
        except (CommitFailedError, RebalanceInProgressError) as error:
            raise NotCommitted from error

    def membership_lost(self) -> bool:
        """Tell whether the group has put this member out, whatever it was assigned."""
        return bool(self._consumer.group_metadata().state == MemberState.UNJOINED)

    def stable(self) -> bool:
        """Tell whether the group takes commits: this member has joined and no rebalance is going on."""
        return bool(self._consumer.group_metadata().state == MemberState.STABLE)

    def connected(self) -> bool:
        """Tell whether there is a connection to any broker."""
        found = any(self._clients.client.connected(broker.node_id) for broker in self._cluster.brokers())
        if found:
            self._causes.forget()
        return found

    def has_topic(self) -> bool:
        """Tell whether the topic is there, and this login may see it, as far as the client has heard."""
        return bool(self._cluster.partitions_for_topic(self._topic))

    def refresh(self) -> None:
        """Ask the brokers anew what the topic is, waiting for the answer for a moment."""
        answer = self._cluster.request_update()
        until = time.monotonic() + REQUEST_SECONDS
        while not answer.is_done and time.monotonic() < until:
            time.sleep(0.01)

    def why_away(self) -> str:
        """Return what the client said last about connections that failed, and the likely cause."""
        lines = self._causes.lines
        found = likely_cause(self._address, lines)
        return found[1] if found else (lines[-1][:300] if lines else "")

    def close(self) -> None:
        """Leave the group."""
        self._causes.close()
        self._consumer.close(autocommit=False, timeout_ms=CLOSE_SECONDS * 1000)

    def _partition(self, number: int) -> Any:
        return TopicPartition(self._topic, number)

    def _require_topic(self) -> None:
        self.refresh()
        if self._topic in self._cluster.unauthorized_topics:
            raise StreamUnavailable(
                f"{self._address}: this login may not read topic {self._topic}; allow it READ on the topic and on "
                f"group {self._group}"
            )
        if not self.has_topic() and not self.connected():
            places = ", ".join(f"{one.host}:{one.port}" for one in self._cluster.brokers())
            raise StreamUnavailable(
                f"{self._address} answered, and says that its brokers are at {places}, where they can't be reached "
                f"from here: correct advertised.listeners of the brokers ({self.why_away()})"
            )
        if not self.has_topic():
            raise StreamUnavailable(no_topic(self._address))

    def _explain(self, error: KafkaError) -> str:
        """Say what is wrong and what to do, for errors that trying again does not mend."""
        group = self._group
        match error:
            case FencedInstanceIdError():
                why = f"another process joined group {group} as instance={self._address.instance}; give each its own"
            case GroupAuthorizationFailedError():
                why = f"this login may not join group {group}; allow it READ on the group"
            case AuthorizationError():
                why = f"this login lacks a right; allow it READ on topic {self._topic} and on group {group}"
            case InconsistentGroupProtocolError():
                why = f"group {group} has members of another kind; read as another group with ?group="
            case InvalidSessionTimeoutError():
                why = "the brokers allow no such session_timeout_ms (group.min.session.timeout.ms and the maximum)"
            case UnsupportedCodecError():
                why = _codec_advice(str(error))
            case CorruptRecordError():
                why = "a record batch is damaged; if it is so on the broker's disk, restore it from a replica"
            case LogTruncationError():
                why = "the brokers lost records after an unclean election; offsets are used twice, so take a new topic"
            case _:
                why = "is a broker down, or has the topic been deleted?"
        return f"{self._address}, topic {self._topic}: {why} ({str(error)[:300]})"

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        try:
            yield
        except KafkaError as error:
            raise StreamUnavailable(f"{what} failed: {self._explain(error)}") from error


def _settings(address: KafkaStreamAddress, group: str, limits: BatchLimits) -> dict[str, Any]:
    # A fetch is compressed, and is held beside the records that are unpacked already.
    fetch = min(max(limits.bytes // 4, SMALLEST_FETCH), LARGEST_FETCH)
    return {
        **address.client_settings(),
        "client_id": "usageaudit-consumer",
        "group_id": group,
        "group_instance_id": address.instance,
        "session_timeout_ms": address.session_timeout_ms,
        "heartbeat_interval_ms": min(1_000, address.session_timeout_ms // 4),  # how soon a rebalance is noticed
        "partition_assignment_strategy": [CooperativeStickyAssignor],
        "enable_auto_commit": False,
        "auto_offset_reset": "none",  # any other value skips expired records in silence
        "isolation_level": "read_committed",
        "allow_auto_create_topics": False,
        "max_poll_records": MOST_RECORDS,
        "fetch_max_bytes": fetch,
        "max_partition_fetch_bytes": min(fetch // 8, LARGEST_SHARE),
        "fetch_max_wait_ms": 100,  # a partition that is resumed waits for the fetch that is under way
        "metadata_max_age_ms": 60_000,  # a recreated topic is noticed that late at the latest
        "bootstrap_timeout_ms": int(kafka_connecting.CONNECT_SECONDS * 1000),
        "reconnect_backoff_max_ms": 5_000,
        "metrics_enabled": False,
    }


def _numbers(partitions: Collection[Any]) -> tuple[int, ...]:
    return tuple(sorted(partition.partition for partition in partitions))


def no_topic(address: KafkaStreamAddress) -> str:
    """Say that the topic is not there, and what to do."""
    return (
        f"{address} has no topic {address.topic} that this login may see; create it with `usageaudit topic create`, "
        "or name another one in the URL with ?topic="
    )


def _codec_advice(said: str) -> str:
    """Name the package that unpacks records which can't be unpacked here."""
    package = next((name for codec, name in CODEC_PACKAGES.items() if codec in said), None)
    if package is None:
        return "records are compressed in a way that is not known here; set the topic's compression.type=lz4"
    return (
        f"records are compressed with what is not installed here: pip install {package}, and restart; or set the "
        "topic's compression.type=lz4, for later records"
    )
