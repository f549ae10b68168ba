"""kill -9 of the consumer at every point of its protocol, and of the store while it writes."""

from __future__ import annotations

import json
import random
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.faults.child import POINTS
from tests.faults.harness import EXACT, Account, consumer, publish, steady, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers.clickhouse import ClickHouse
    from tests.servers.kafka import Kafka

KILLED_EVENTS = 6_000
SIGKILLED = -9


@pytest.fixture(scope="module")
def small_topic(quick_kafka: Kafka) -> str:
    """Return a topic with enough events for a few batches a partition."""
    quick_kafka.create_topic("kills", partitions=4)
    publish(quick_kafka.bootstrap, "kills", KILLED_EVENTS)
    return "kills"


def _kill_then_finish(
    point: str, nth: int, kafka: Kafka, topic: str, clickhouse: ClickHouse, folder: Path, *options: str
) -> Account:
    """Kill a consumer at a point, let another one finish, and return the account of it."""
    name = f"kill_{uuid.uuid4().hex[:12]}"
    clickhouse.execute(f"CREATE DATABASE {name}")
    stream = f"{kafka.url}?topic={topic}&group={name}&session_timeout_ms=1500"
    store = clickhouse.database_url(name)
    shared = ("--records", "500", "--until-caught-up", *options)
    with consumer(folder, stream, store, "--at", point, "--nth", str(nth), *shared) as victim:
        assert victim.wait() == SIGKILLED, victim.log.read_text()
    with consumer(folder, stream, store, *shared) as heir:
        assert heir.wait() == 0, heir.log.read_text()
    account = Account(*clickhouse.execute(EXACT.replace("ledger", f"{name}.ledger"))[0])
    clickhouse.execute(f"DROP DATABASE {name} SYNC")
    return account


@pytest.mark.parametrize("nth", [1, 4])
@pytest.mark.parametrize("point", POINTS)
def test_a_killed_consumer_leaves_the_ledger_exact(
    point: str, nth: int, quick_kafka: Kafka, small_topic: str, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    """Wherever a consumer is killed, the next one records what is missing and nothing else."""
    account = _kill_then_finish(point, nth, quick_kafka, small_topic, clickhouse, tmp_path)
    assert account == Account(rows=KILLED_EVENTS, offsets=KILLED_EVENTS, accepted=KILLED_EVENTS)


def test_without_reading_back_a_batch_lands_twice(
    quick_kafka: Kafka, small_topic: str, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    """Negative control: trusting the committed offset alone doubles a batch that was not acknowledged."""
    account = _kill_then_finish("before acknowledge", 2, quick_kafka, small_topic, clickhouse, tmp_path, "--forgetful")
    assert account.offsets == KILLED_EVENTS
    assert account.rows > KILLED_EVENTS


def test_a_store_killed_during_inserts_leaves_the_ledger_exact(
    quick_kafka: Kafka, start_clickhouse: Callable[..., ClickHouse], tmp_path: Path
) -> None:
    """A store that is killed again and again while it is written to has, in the end, everything once."""
    clickhouse, events = start_clickhouse(), 20_000
    quick_kafka.create_topic("store-kills", partitions=4)
    publish(quick_kafka.bootstrap, "store-kills", events)
    stream = f"{quick_kafka.url}?topic=store-kills&group=store-kills"
    chance = random.Random(7)
    with consumer(tmp_path, stream, clickhouse.database_url("default"), "--records", "200") as running:
        wait_until("the first rows", lambda: _rows(clickhouse) > 0, 60, running)
        for _ in range(8):
            time.sleep(chance.uniform(0.05, 0.4))  # how long the store lives before it is killed
            clickhouse.kill()
            clickhouse.start()
        wait_until("all events", lambda: _rows(clickhouse) >= events, 120, running)
        assert running.end() == 0
    assert Account(*clickhouse.execute(EXACT)[0]) == Account(rows=events, offsets=events, accepted=events)


def _rows(clickhouse: ClickHouse) -> int:
    tables = clickhouse.execute("SELECT count() FROM system.tables WHERE database = 'default' AND name = 'ledger'")
    return int(clickhouse.execute("SELECT count() FROM ledger")[0][0]) if tables[0][0] else 0


def test_memory_is_bounded_while_the_store_is_away(
    quick_kafka: Kafka, start_clickhouse: Callable[..., ClickHouse], tmp_path: Path
) -> None:
    """With the store gone and far more waiting on the stream than fits a batch, the consumer stays below 1 GiB."""
    clickhouse, events = start_clickhouse(), 120_000
    quick_kafka.create_topic("store-away", partitions=4)
    publish(quick_kafka.bootstrap, "store-away", 100)
    stream = f"{quick_kafka.url}?topic=store-away&group=store-away"
    store = clickhouse.database_url("default")
    with consumer(tmp_path, stream, store, "--records", "50000") as waiting:
        wait_until("the first rows", lambda: _rows(clickhouse) == 100, 60, waiting)
        clickhouse.kill()
        publish(quick_kafka.bootstrap, "store-away", events, padding=1_200)
        wait_until("the consumer noticing", lambda: "waiting for the store" in waiting.log.read_text(), 60, waiting)
        wait_until("its memory staying as it is", steady(lambda: waiting.peak_memory), 60, waiting)
        assert waiting.peak_memory < 1024**3
        clickhouse.start()
        wait_until("all events", lambda: _rows(clickhouse) >= events + 100, 120, waiting)
        assert waiting.peak_memory < 1024**3
        assert waiting.end() == 0


@pytest.mark.parametrize("point", POINTS)
def test_the_embedded_pair_survives_kills(point: str, tmp_path: Path) -> None:
    """Wherever the one process of the embedded pair is killed, running it again makes the ledger exact."""
    from tests.acceptance.conftest import Pair
    from tests.strategies import MINIMAL, envelope

    pair = Pair("embedded:./data", "embedded:./data", tmp_path)
    lines = "".join(json.dumps(envelope(MINIMAL, id=f"e-{number}")) + "\n" for number in range(2_000))
    pair.run("publish", "-", text=lines)
    place = f"embedded:{tmp_path / 'data'}"
    shared = ("--records", "500", "--until-caught-up")
    with consumer(tmp_path, place, place, "--at", point, "--nth", "1", *shared) as victim:
        assert victim.wait() == SIGKILLED, victim.log.read_text()
    pair.consume()
    [row] = pair.query(
        "SELECT count() AS rows, uniqExact(offset) AS offsets FROM stream_records WHERE status='accepted'"
    )
    assert row == {"rows": 2_000, "offsets": 2_000}
