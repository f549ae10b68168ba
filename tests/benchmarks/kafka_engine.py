"""ClickHouse's own Kafka engine: it reads the topic, and a materialized view judges in SQL and fills the table.

No process of ours is in the path, so nothing checks an event, recovers exactly or says what is unknown: it delivers at
least once, two-valued, and a record of the wrong shape stops it or leaves empty columns.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from tests.benchmarks.peers import EVENT_NAMES, TABLE
from tests.benchmarks.policies import policies, sql_violated
from usageaudit.events.fields import EVENT_FIELDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usageaudit.events.fields import EventField

BLOCK = 65_536
FLUSH_MS = 500
THREADS = 2
_TYPES = {
    "string": "String",
    "int": "UInt64",
    "double": "Float64",
    "bool": "Bool",
    "decimal": "Decimal(18, 9)",
    "strings": "Array(LowCardinality(String))",
    "map": "Map(LowCardinality(String), String)",
}


def statements(database: str, bootstrap: str, topic: str, group: str) -> list[str]:
    """Return the statements after the last of which the engine consumes the topic into the table that is there."""
    settings = {
        "kafka_broker_list": bootstrap,
        "kafka_topic_list": topic,
        "kafka_group_name": group,
        "kafka_format": "RawBLOB",
        "kafka_num_consumers": THREADS,
        "kafka_thread_per_consumer": 1,
        "kafka_max_block_size": BLOCK,
        "kafka_poll_max_batch_size": BLOCK,
        "kafka_flush_interval_ms": FLUSH_MS,
    }
    said = ", ".join(f"{name} = {value!r}" for name, value in settings.items())
    return [
        f"CREATE TABLE {database}.topic (raw String) ENGINE = Kafka SETTINGS {said}",
        f"CREATE MATERIALIZED VIEW {database}.judged TO {database}.{TABLE} AS {_select(f'{database}.topic')}",
    ]


def has_joined(database: str) -> str:
    """Return a query of whether the engine has been given partitions to read."""
    return f"SELECT sum(length(assignments.partition_id)) > 0 FROM system.kafka_consumers WHERE database = '{database}'"


def stop(database: str) -> list[str]:
    """Return the statements that end the consumption and keep the table."""
    return [f"DROP TABLE {database}.judged SYNC", f"DROP TABLE {database}.topic SYNC"]


def _select(source: str) -> str:
    """Return the view: the record read once as a nested tuple, its parts as columns, the policies over those."""
    read = (
        f"SELECT *, _topic, _partition, _offset, _timestamp_ms, JSONExtract(raw, '{_tuple_type()}') AS e FROM {source}"
    )
    names = {field.column: f"e.data.{field.name}" for field in EVENT_FIELDS if field.kind != "objects"}
    for field in EVENT_FIELDS:
        names |= {f"{field.column}_{member.column}": f"e.data.{field.name}.{member.name}" for member in field.members}
    values = {
        "ingest_time": "now64(3)",
        "topic": "_topic",
        "partition": "_partition",
        "offset": "_offset",
        "record_time": "_timestamp_ms",
        "status": "'accepted'",
        "payload_bytes": "length(raw)",
        "event_source": "e.source",
        "event_id": "e.id",
        "event_time": "parseDateTime64BestEffort(e.time, 6, 'UTC')",
        **{name: names[name] for name in EVENT_NAMES},
        "raw": "raw",
    }
    columns = ", ".join(f"{value} AS `{name}`" for name, value in values.items())
    filled = ", ".join(f"`{name}`" for name in values)
    return f"SELECT {filled}, {sql_violated(policies())} AS violated FROM (SELECT {columns} FROM ({read}))"


def _tuple_type() -> str:
    return f"Tuple(id String, source String, time String, data {_nested(EVENT_FIELDS)})"


def _nested(fields: Sequence[EventField], depth: int = 0) -> str:
    """Return the type of an object of which these are the leaves."""
    below: dict[str, list[Any]] = defaultdict(list)
    for field in fields:
        below[field.path[depth]].append(field)
    parts = []
    for name, leaves in below.items():
        is_leaf = len(leaves[0].path) == depth + 1
        parts.append(f"{name} {_leaf(leaves[0]) if is_leaf else _nested(leaves, depth + 1)}")
    return f"Tuple({', '.join(parts)})"


def _leaf(field: EventField) -> str:
    if field.kind == "objects":
        return f"Array({_nested(field.members)})"
    plain = _TYPES[field.kind]
    if field.kind in ("strings", "map"):
        return plain
    inner = plain if field.required else f"Nullable({plain})"
    return f"LowCardinality({inner})" if field.kind == "string" and field.stored.low_cardinality else inner
