"""Two consumers share four partitions; one falls asleep past its time-out, and wakes up in another world."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from tests.faults.campaign import LONG
from tests.faults.child import RECOVERING, WORKING
from tests.faults.harness import EVENTS, EXACT, Account, consumer, publish, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.clickhouse import ClickHouse
    from tests.servers.kafka import Kafka

DANGEROUS = ("before insert", "in the middle of an insert")
SOME = (*DANGEROUS, "after reading back", "before acknowledge")
"""The points of the short form."""
POINTS = [point for point in (*RECOVERING, *WORKING) if LONG or point in SOME]


@pytest.fixture(scope="module")
def busy_topic(quick_kafka: Kafka) -> str:
    """Return a topic with all the events of a race."""
    quick_kafka.create_topic("race", partitions=4)
    publish(quick_kafka.bootstrap, "race", EVENTS)
    return "race"


def _race(
    point: str, kafka: Kafka, topic: str, clickhouse: ClickHouse, folder: Path, *options: str
) -> tuple[Account, int]:
    """Let one consumer sleep at a point until the other has everything, wake it, and return the account of it."""
    name = f"race_{uuid.uuid4().hex[:12]}"
    clickhouse.execute(f"CREATE DATABASE {name}")
    stream = f"{kafka.url}?topic={topic}&group={name}&session_timeout_ms=1500"
    store = clickhouse.database_url(name)

    def account() -> Account:
        return Account(*clickhouse.execute(EXACT.replace("ledger", f"{name}.ledger"))[0])

    with consumer(folder, stream, store, "--at", point, "--nth", "3", "--do", "sleep", *options) as sleeper:
        wait_until(f"the first consumer asleep {point}", lambda: sleeper.asleep, 60, sleeper)
        with consumer(folder, stream, store, *options) as other:
            wait_until("the second consumer having everything", lambda: account().offsets == EVENTS, 120, other)
            sleeper.wake()
            assert sleeper.end() == 0
            assert other.end() == 0
    result = account()
    clickhouse.execute(f"DROP DATABASE {name} SYNC")
    return result, EVENTS


@pytest.mark.parametrize("point", POINTS)
def test_a_sleeper_that_wakes_up_changes_nothing(
    point: str, quick_kafka: Kafka, busy_topic: str, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    """However a consumer sleeps through its time-out and wakes, nothing is lost and nothing is there twice."""
    account, events = _race(point, quick_kafka, busy_topic, clickhouse, tmp_path)
    assert account == Account(rows=events, offsets=events, accepted=events)


@pytest.mark.parametrize("point", DANGEROUS)
def test_without_the_fence_the_sleeper_writes_again(
    point: str, quick_kafka: Kafka, busy_topic: str, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    """Negative control: without fencing the batch that the sleeper held lands a second time."""
    account, events = _race(point, quick_kafka, busy_topic, clickhouse, tmp_path, "--without", "fence")
    assert account.offsets == events
    assert account.rows > events
