"""The books of a test: what the ledger holds, what the group did and what waits, asked with no code of the product."""

# pyright brings stubs of an older kafka-python.
# pyright: reportAttributeAccessIssue=false, reportOptionalOperand=false

from __future__ import annotations

import struct
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import confluent_kafka
import orjson
from kafka import KafkaConsumer, TopicPartition

if TYPE_CHECKING:
    from tests.servers.clickhouse import ClickHouse
    from tests.servers.kafka import Kafka

# Each in its turn, and numbers rather than texts: sets of tens of millions have to fit the server's memory.
_OF_LOAD = "FROM {database}.ledger WHERE startsWith(event_id, '{name}-')"
_ROWS = f"SELECT count(), countIf(status = 'accepted') {_OF_LOAD}"
_OFFSETS = f"SELECT sum(offsets) FROM (SELECT uniqExact(offset) AS offsets {_OF_LOAD} GROUP BY partition)"
_NUMBERS = f"SELECT uniqExact(toUInt64(splitByChar('-', event_id)[-1]) AS number), max(number) + 1 {_OF_LOAD}"
_GROUPS = "__consumer_offsets"
_GROUP_METADATA = 2


@dataclass(frozen=True, slots=True)
class Account:
    """Rows of a load's events, their distinct offsets, accepted ones, distinct ids, and one more than the last id."""

    rows: int
    offsets: int
    accepted: int
    ids: int
    numbers: int

    @classmethod
    def exact(cls, events: int) -> Account:
        """Return the account of a load of which each event is there once."""
        return cls(events, events, events, events, events)


def account(clickhouse: ClickHouse, name: str, database: str = "default") -> Account:
    """Return the account of the load of this name."""
    queries = (query.format(database=database, name=name) for query in (_ROWS, _OFFSETS, _NUMBERS))
    ((count, accepted),), ((offsets,),), ((ids, numbers),) = map(clickhouse.execute, queries)
    return Account(count, offsets, accepted, ids, numbers)


def rows(clickhouse: ClickHouse, database: str = "default") -> int:
    """Return how many rows the ledger has, 0 where there is none yet."""
    where = f"database = '{database}' AND name = 'ledger'"
    found = clickhouse.execute(f"SELECT count() FROM system.tables WHERE {where}")
    return int(clickhouse.execute(f"SELECT count() FROM {database}.ledger")[0][0]) if found[0][0] else 0


def generation(kafka: Kafka, group: str) -> int:
    """Return the generation of a group, one higher after each rebalance, as the broker wrote it down last; else -1.

    The key of such a record is a version and the group, its value begins with a version, the kind of protocol and the
    generation: GroupMetadataKey.json and GroupMetadataValue.json of Kafka.
    """
    found = -1
    key = struct.pack(">hh", _GROUP_METADATA, len(group)) + group.encode()
    for record in _all_records(kafka, TopicPartition(_GROUPS, 0)):
        if record.key == key and record.value:
            (length,) = struct.unpack_from(">h", record.value, 2)
            (found,) = struct.unpack_from(">i", record.value, 4 + length)
    return int(found)


def _all_records(kafka: Kafka, partition: Any) -> list[Any]:
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap, enable_auto_commit=False)
    try:
        consumer.assign([partition])
        (end,) = consumer.end_offsets([partition]).values()
        consumer.seek_to_beginning(partition)
        records: list[Any] = []
        while consumer.position(partition) < end:
            records += consumer.poll(timeout_ms=1000).get(partition, [])
        return records
    finally:
        consumer.close()


def lag(kafka: Kafka, topic: str, group: str, partitions: int) -> int:
    """Return how many records the group has still to acknowledge."""
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=group, enable_auto_commit=False)
    try:
        every = [TopicPartition(topic, number) for number in range(partitions)]
        ends = consumer.end_offsets(every)
        return sum(end - (consumer.committed(partition) or 0) for partition, end in ends.items())
    finally:
        consumer.close()


def copies(kafka: Kafka, topic: str, partitions: int) -> Counter[str]:
    """Return how often the event of each id is on the topic."""
    settings = {"bootstrap.servers": kafka.bootstrap, "group.id": uuid.uuid4().hex, "enable.auto.commit": False}
    consumer = confluent_kafka.Consumer(settings)
    try:
        every = [confluent_kafka.TopicPartition(topic, number, 0) for number in range(partitions)]
        records = sum(consumer.get_watermark_offsets(partition)[1] for partition in every)
        found: Counter[str] = Counter()
        consumer.assign(every)
        while found.total() < records:
            values = (message.value() for message in consumer.consume(5_000, 1.0))
            found.update(orjson.loads(value)["id"] for value in values if value)
        return found
    finally:
        consumer.close()
