"""A store that is away while events come in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.campaign import LONG
from tests.faults.harness import consumer, publish, steady, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers.clickhouse import ClickHouse
    from tests.servers.kafka import Kafka


def _rows(clickhouse: ClickHouse) -> int:
    tables = clickhouse.execute("SELECT count() FROM system.tables WHERE database = 'default' AND name = 'ledger'")
    return int(clickhouse.execute("SELECT count() FROM ledger")[0][0]) if tables[0][0] else 0


@pytest.mark.skipif(not LONG, reason="the short form is tests/endurance/test_store_away.py")
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
