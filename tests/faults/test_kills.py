"""kill -9 of the store while it writes, and at every point of the one process of the embedded pair."""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.child import RECOVERING, WORKING
from tests.faults.harness import EXACT, Account, consumer, publish, steady, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers.clickhouse import ClickHouse
    from tests.servers.kafka import Kafka

SIGKILLED = -9
EMBEDDED_POINTS = [point for point in (*RECOVERING, *WORKING) if point != "before the answer to an insert"]
"""An embedded store answers in the call."""


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


@pytest.mark.parametrize("point", EMBEDDED_POINTS)
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
