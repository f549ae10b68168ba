"""Looking at a stream from outside: bounds, what offsets hold, and holes that hold no record."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaProducer

from tests.acceptance.conftest import Pair
from usageaudit.embedded_log import EmbeddedLog, NewRecord
from usageaudit.errors import StreamUnavailable
from usageaudit.events.examples import example_events
from usageaudit.streams.inspection import Bounds, inspect

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.kafka import Kafka


def test_embedded_stream_is_looked_at(tmp_path: Path) -> None:
    """Bounds and records of the file are those that were appended, trimmed ones aside."""
    log = EmbeddedLog.open(tmp_path)
    log.append("usage-events", [NewRecord(None, b"x") for _ in range(5)])
    log.commit("usageaudit", "usage-events", 0, 4)
    log.trim("usage-events", 0, 2)
    looked_at = inspect(f"embedded:{tmp_path}")
    try:
        assert looked_at.identity == log.identity
        assert looked_at.bounds() == [Bounds(0, begin=2, end=5, committed=4)]
        assert looked_at.records(0, 3, 9) == [3, 4]
        assert looked_at.records(0, 0, 2) == [2]
    finally:
        looked_at.close()
        log.close()


def test_looking_makes_no_stream(tmp_path: Path) -> None:
    """Where nothing was published there is nothing to look at, and nothing is made."""
    with pytest.raises(StreamUnavailable, match="nothing was published there yet"):
        inspect(f"embedded:{tmp_path}")
    assert list(tmp_path.iterdir()) == []


def test_unknown_topics_are_named(kafka: Kafka) -> None:
    """A topic that the broker does not have is said, and not created."""
    with pytest.raises(StreamUnavailable, match="has no topic no-such-topic"):
        inspect(f"{kafka.url}?topic=no-such-topic")


def test_transactions_leave_holes_that_are_explained(
    kafka: Kafka, topic: str, clickhouse_database: str, tmp_path: Path
) -> None:
    """Offsets of transaction markers and of aborted records have no row, and `verify` counts them as explained."""
    pair = Pair(f"{kafka.url}?topic={topic}&group=group-{topic}", clickhouse_database, tmp_path)
    producer: Any = KafkaProducer(
        bootstrap_servers=kafka.url.removeprefix("kafka://"), transactional_id=f"id-{topic}", acks="all"
    )
    producer.init_transactions()
    for number, commits in enumerate((True, False, True)):
        producer.begin_transaction()
        for copy in range(2):
            event = {**example_events()["minimal"], "id": f"{number}-{copy}"}
            producer.send(topic, json.dumps(event).encode(), partition=0)
        producer.flush()
        producer.commit_transaction() if commits else producer.abort_transaction()
    producer.close()
    counts = json.loads(pair.consume())
    assert counts["accepted"] == 4
    rows = [json.loads(line) for line in pair.run("verify", "--format=ndjson").splitlines()]
    (row,) = [one for one in rows if one["partition"] == 0]
    assert (row["consumed"], row["missing"], row["explained"], row["behind"]) == (4, 4, 4, 0)
