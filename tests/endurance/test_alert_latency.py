"""How long it takes from `emit` to the webhook's arrival, on Kafka and ClickHouse, with ten violations a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.endurance.alerting import alerting, policies
from tests.endurance.consuming import consuming, wait_until
from tests.endurance.figures import state
from tests.endurance.forms import SHARE, length
from tests.endurance.violating import USE_CASE, emitted_at, violating

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.clickhouse import ClickHouse
    from tests.servers.kafka import Kafka

RATE = 1_000 if SHARE else 200
SECONDS = length(4, 300)
EVERY = 100
MEDIAN, LATE = 2.0, 5.0
"""Seconds that the median and the 99th percentile may take."""


@pytest.mark.timeout(int(180 + 2 * SECONDS))
def test_a_violation_is_told_of_within_seconds(
    kafka: Kafka, clickhouse: ClickHouse, clickhouse_database: str, tmp_path: Path
) -> None:
    """Each violation arrives once, in about two seconds at the median and five at the 99th percentile."""
    topic, events = "alert-latency", int(RATE * SECONDS)
    kafka.create_topic(topic, 4)
    bundle = policies(tmp_path / "own", f'purpose.use_case == "{USE_CASE}"', "conversation_id")
    stream = f"{kafka.url}?topic={topic}"
    database = clickhouse_database.rpartition("/")[2]
    with (
        consuming(tmp_path, f"{stream}&group={topic}", clickhouse_database, policies=str(bundle)) as consumer,
        alerting(tmp_path, clickhouse_database, bundle) as told,
    ):
        wait_until("its partitions", lambda: len(consumer.said("partition taken over")) == 4, 60, consumer)
        begun = f"SELECT count() FROM {database}.alert_progress"
        wait_until("the dispatcher", lambda: bool(clickhouse.execute(begun)[0][0]), 60, consumer)
        with violating(stream, RATE, events, EVERY) as service:
            assert service.wait(2 * SECONDS + 60) == 0
        violations = -(-events // EVERY)
        wait_until("all alerts", lambda: len(told.arrivals) >= violations, 60, consumer)
    took = sorted(at - emitted_at(one.data["event_id"]) for at, one in told.arrivals)
    assert len({one.delivery_id for _, one in told.arrivals}) == len(took) == violations
    assert not told.refused
    median, late = took[len(took) // 2], took[int(len(took) * 0.99)]
    test = "from emit to a webhook"
    state(test, "rate", RATE, "events/s")
    state(test, "violations, each an alert", violations)
    state(test, "median", round(median, 2), "s", f"under {MEDIAN:g}")
    state(test, "99th percentile", round(late, 2), "s", f"under {LATE:g}")
    state(test, "longest", round(took[-1], 2), "s")
    if SHARE:  # a few seconds beside other tests tell nothing
        assert median < MEDIAN
        assert late < LATE
