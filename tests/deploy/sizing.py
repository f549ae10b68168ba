"""Measures what docs/sizing.md is about: `python -m tests.deploy.sizing [--events N]` prints its table.

Real servers, started for this; the consumer as it is shipped, with the three shipped packs; events drawn from a seed.
Processor time is what the kernel counted, so it holds on a machine that does other things, too; wall time would not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from kafka import KafkaProducer

from tests.benchmarks.events import usage_events
from tests.benchmarks.meter import measuring
from tests.servers.clickhouse import ClickHouse
from tests.servers.kafka import Kafka
from usageaudit.cloudevents import STRUCTURED_HEADERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.benchmarks.meter import Cost

PARTITIONS = 4
PACKS = "azure-openai-code-of-conduct,eu-ai-act-article-5,hygiene"
PROGRAM = str(Path(sys.executable).with_name("usageaudit"))
FIGURES = {
    "value": "bytes of an event's value, as JSON",
    "kafka": "bytes an event in a partition of Kafka, compressed with lz4",
    "consumer": "processor time of the consumer, µs an event",
    "rate": "events a second for one busy core of the consumer",
    "clickhouse": "processor time of ClickHouse to record, µs an event",
    "merge": "processor time of ClickHouse to merge all into one part, µs an event",
    "memory": "memory of the consumer at most, MB",
    "parts": "bytes an event in the ledger, as inserted",
    "merged": "bytes an event in the ledger, merged",
    "raw": "of these the event's own bytes (column raw)",
}


def _publish(kafka: Kafka, topic: str, count: int) -> int:
    """Publish as a publisher does, and return the bytes of all values."""
    kafka.create_topic(topic, partitions=PARTITIONS)
    producer = KafkaProducer(
        bootstrap_servers=kafka.bootstrap, compression_type="lz4", linger_ms=50, batch_size=256 * 1024, acks="all"
    )
    total = 0
    for event in usage_events(count):
        total += len(event.value)
        producer.send(topic, value=event.value, key=event.key, headers=[*STRUCTURED_HEADERS])
    producer.flush()
    producer.close()
    return total


def _consume(kafka: Kafka, clickhouse: ClickHouse, topic: str, database: str) -> Cost:
    clickhouse.execute(f"CREATE DATABASE {database}")
    settings = {
        "USAGEAUDIT_STREAM": f"{kafka.url}?topic={topic}&group={database}",
        "USAGEAUDIT_STORE": clickhouse.database_url(database),
        "USAGEAUDIT_POLICIES": PACKS,
    }
    with measuring(clickhouse.pid, kafka.pid) as measured:
        measured.child([PROGRAM, "consume", "--until-caught-up"], settings)
    if measured.cost is None:
        raise RuntimeError("nothing was measured")
    return measured.cost


def _size(clickhouse: ClickHouse, database: str, table: str = "ledger") -> int:
    ((size,),) = clickhouse.execute(
        f"SELECT sum(bytes_on_disk) FROM system.parts WHERE database = '{database}' AND table = '{table}' AND active"
    )
    return int(size)


def measure(events: int, folder: Path) -> Mapping[str, float]:
    """Return the figures by their names in FIGURES."""
    with Kafka(folder / "kafka") as kafka, ClickHouse(folder / "clickhouse", "25.8") as clickhouse:
        _publish(kafka, "few", 8)
        values = _publish(kafka, "many", events)
        logs = sum(file.stat().st_size for file in (folder / "kafka" / "logs").glob("many-*/*.log"))
        cost = _consume(kafka, clickhouse, "many", "many").net_of(_consume(kafka, clickhouse, "few", "few"))
        parts = _size(clickhouse, "many")
        with measuring(clickhouse.pid, kafka.pid) as merging:
            clickhouse.execute("OPTIMIZE TABLE many.ledger FINAL")
        merged = _size(clickhouse, "many")
        # Of compact parts the server does not know the sizes of columns, so this one is written by itself.
        clickhouse.execute(
            "CREATE TABLE many.raw (raw String CODEC(ZSTD(1))) ENGINE = MergeTree ORDER BY tuple()"
            " AS SELECT raw FROM many.ledger ORDER BY event_time, event_source, event_id"
        )
        raw = _size(clickhouse, "many", "raw")
    merge = merging.cost.clickhouse if merging.cost else 0.0
    return {
        "value": values / events,
        "kafka": logs / events,
        "consumer": cost.consumer / events * 1e6,
        "rate": events / cost.consumer,
        "clickhouse": cost.clickhouse / events * 1e6,
        "merge": merge / events * 1e6,
        "memory": cost.memory / 1e6,
        "parts": parts / events,
        "merged": merged / events,
        "raw": raw / events,
    }


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options.events, Path(folder))
    lines = [f"| {FIGURES[name]} | {value:,.1f} |" for name, value in found.items()]
    sys.stdout.write("\n".join(["| what | measured |", "|---|---|", *lines]) + "\n")


if __name__ == "__main__":
    main()
