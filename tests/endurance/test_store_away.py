"""The store away for minutes and slow for minutes, while events go on coming."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.conftest import running
from tests.endurance import books
from tests.endurance.books import Account
from tests.endurance.consuming import ConsumerService, consuming, wait_until
from tests.endurance.figures import state
from tests.endurance.forms import SHARE, length
from tests.endurance.load import loading
from tests.endurance.memory import MIB, peak, resident, watching
from tests.servers.kafka import Kafka

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers.clickhouse import ClickHouse

PARTITIONS = 4
AWAY_SECONDS = length(5, 600)
RATE = 5_000 if SHARE else 3_000
UNDISTURBED = int(length(20_000, 1_000_000))
"""Events of the backlog to compare with: enough for the merging of parts, which comes later, to be in its rate."""
FULL_SPEED = 0.7 if SHARE else 0.2
"""How much of the rate before is full speed; a few seconds on a busy machine tell less than minutes."""
SLOW_SECONDS = length(5, 600)
SLOW_RATE = 300
INSERT_SECONDS = 10 if SHARE else 4
SESSION_MS = INSERT_SECONDS * 600
"""Shorter than one insert of the slow store: a consumer that stopped sending heartbeats would be put out at once."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Yield a broker that keeps everything."""
    keeping = {"log.retention.bytes": "-1", "log.retention.ms": "-1"}
    with running(Kafka(tmp_path_factory.mktemp("keeping-kafka"), keeping)) as server:
        yield server


def _stream(kafka: Kafka, topic: str, session_ms: int = SESSION_MS) -> str:
    return f"{kafka.url}?topic={topic}&group={topic}&session_timeout_ms={session_ms}"


def _assert_one_membership(kafka: Kafka, group: str, before: int, consumer: ConsumerService) -> None:
    """Assert that the group was not rebalanced since, by the broker's own record and by the consumer's log."""
    assert books.generation(kafka, group) == before
    assert len(consumer.said("the group moved partitions")) == 1


def _joined(kafka: Kafka, group: str, consumer: ConsumerService, partitions: int = PARTITIONS) -> int:
    wait_until("its partitions", lambda: len(consumer.said("partition taken over")) == partitions, 60, consumer)
    return books.generation(kafka, group)


@pytest.mark.timeout(300 + 4 * AWAY_SECONDS)
def test_a_store_that_is_away_costs_nothing_but_time(
    broker: Kafka, start_clickhouse: Callable[..., ClickHouse], tmp_path: Path
) -> None:
    """While the store is away the consumer stays in its group and does not grow; then it catches up at full speed."""
    topic, clickhouse, events = "away", start_clickhouse(), int(RATE * AWAY_SECONDS)
    broker.create_topic(topic, PARTITIONS)
    with loading(tmp_path, broker.bootstrap, topic, "before", UNDISTURBED) as load:
        load.finish(300)
    with consuming(tmp_path, _stream(broker, topic), clickhouse.url) as consumer, watching(consumer.pid) as memory:
        generation = _joined(broker, topic, consumer)
        undisturbed = UNDISTURBED / wait_until(
            "the undisturbed events", lambda: books.rows(clickhouse) >= UNDISTURBED, 300, consumer
        )
        busy = peak(consumer.pid)
        clickhouse.kill()
        with loading(tmp_path, broker.bootstrap, topic, "away", events, RATE) as load:
            assert load.finish(AWAY_SECONDS * 2 + 60) == events
        assert consumer.said("waiting for the store")
        waiting = resident(consumer.pid)
        clickhouse.start()
        noticed = wait_until("the first event", lambda: books.rows(clickhouse) > UNDISTURBED, 60, consumer)
        first = books.rows(clickhouse)
        whole = UNDISTURBED + events
        took = wait_until("all events", lambda: books.rows(clickhouse) >= whole, 120 + events / 2_000, consumer)
        _assert_one_membership(broker, topic, generation, consumer)
        most = peak(consumer.pid)
        assert consumer.end() == 0
    assert books.account(clickhouse, "away") == Account.exact(events)
    assert books.account(clickhouse, "before") == Account.exact(UNDISTURBED)
    test = "store away"
    state(test, "time away", AWAY_SECONDS, "s")
    state(test, "rate of events meanwhile", RATE, "events/s")
    rate = (whole - first) / took if first < whole else undisturbed
    state(test, "events in the ledger exactly once", events, bound=f"{events:,}")
    state(test, "rebalances of the group", 0, bound="0")
    state(test, "rate of a backlog before", round(undisturbed), "events/s")
    state(test, "rate of catching up", round(rate), "events/s", f"at least {FULL_SPEED} of that before")
    state(test, "first row after the store was back", round(noticed, 1), "s", "under 20")
    state(test, "peak memory before", round(busy / MIB), "MiB")
    state(test, "memory while away", round(waiting / MIB), "MiB")
    state(test, "peak memory", round(most / MIB), "MiB", "under 1,024")
    assert memory.most < 1024 * MIB
    assert most < 1024 * MIB
    assert rate > FULL_SPEED * undisturbed
    assert noticed < 20


@pytest.mark.timeout(300 + 3 * SLOW_SECONDS)
def test_a_slow_store_puts_nobody_out_of_the_group(
    broker: Kafka, start_clickhouse: Callable[..., ClickHouse], tmp_path: Path
) -> None:
    """With inserts that take longer than the group waits for a silent member, the consumer stays and is exact."""
    topic, clickhouse, events = "slow", start_clickhouse(), int(SLOW_RATE * SLOW_SECONDS)
    broker.create_topic(topic)
    with consuming(tmp_path, _stream(broker, topic), clickhouse.url) as consumer:
        generation = _joined(broker, topic, consumer, 1)
        for number in range(4):  # no sleep may be longer than three seconds
            clickhouse.execute(f"ALTER TABLE ledger ADD CONSTRAINT slow_{number} CHECK sleep({INSERT_SECONDS / 4}) = 0")
        with loading(tmp_path, broker.bootstrap, topic, "slow", events, SLOW_RATE) as load:
            assert load.finish(SLOW_SECONDS + 60) == events
        for number in range(4):
            clickhouse.execute(f"ALTER TABLE ledger DROP CONSTRAINT slow_{number}")
        took = wait_until("all events", lambda: books.rows(clickhouse) >= events, 90, consumer)
        _assert_one_membership(broker, topic, generation, consumer)
        assert consumer.end() == 0
    assert books.account(clickhouse, "slow") == Account.exact(events)
    inserts, shortest = _inserts(clickhouse)
    test = "store slow"
    state(test, "time of an insert", INSERT_SECONDS, "s")
    state(test, "time with such inserts", SLOW_SECONDS, "s")
    state(test, "rate of events meanwhile", SLOW_RATE, "events/s")
    state(test, "events in the ledger exactly once", events, bound=f"{events:,}")
    state(test, "inserts so slow", inserts, bound="at least 1")
    state(test, "session time-out of the group", SESSION_MS / 1000, "s", "less than an insert")
    state(test, "rebalances of the group", 0, bound="0")
    state(test, "lag gone after the store was quick again", round(took, 1), "s")
    assert inserts > 0
    assert shortest > SESSION_MS


def _inserts(clickhouse: ClickHouse) -> tuple[int, int]:
    """Return how many inserts into the ledger were slow, and the milliseconds of the shortest of them."""
    clickhouse.execute("SYSTEM FLUSH LOGS")
    found = clickhouse.execute(
        "SELECT count(), min(query_duration_ms) FROM system.query_log WHERE type = 'QueryFinish' "
        f"AND startsWith(query_id, 'ingest/') AND query_duration_ms >= {INSERT_SECONDS} * 1000"
    )
    return int(found[0][0]), int(found[0][1])


def test_a_silent_consumer_is_put_out(
    broker: Kafka, clickhouse: ClickHouse, clickhouse_database: str, tmp_path: Path
) -> None:
    """Negative control: a consumer that is frozen beyond the session's time-out shows in the group's generation."""
    topic = "silent"
    broker.create_topic(topic)
    with consuming(tmp_path, _stream(broker, topic, 1_500), clickhouse_database) as consumer:
        generation = _joined(broker, topic, consumer, 1)
        consumer.process.send_signal(signal.SIGSTOP)
        wait_until("the group noticing", lambda: books.generation(broker, topic) > generation, 30)
        consumer.process.send_signal(signal.SIGCONT)
        wait_until("it joining again", lambda: len(consumer.said("the group moved partitions")) > 1, 60, consumer)
