"""The three paths, each run and measured on a topic: what it takes to start it, and when it is done."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from clickhouse_driver import Client
from confluent_kafka import Producer

from tests.benchmarks import kafka_engine, ours
from tests.benchmarks.events import usage_events
from tests.benchmarks.meter import Cost, cpu_seconds, measuring
from tests.benchmarks.peers import TABLE, create_table
from usageaudit.cloudevents import STRUCTURED_HEADERS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.benchmarks.meter import Measured
    from tests.servers.clickhouse import ClickHouse
    from tests.servers.kafka import Kafka

Name = Literal["ours", "idiomatic", "kafka_engine"]
NAMES: tuple[Name, ...] = ("ours", "idiomatic", "kafka_engine")
PARTITIONS = 4
CHILD_SECONDS = ENGINE_SECONDS = 300.0
POLL_EVERY = 1_000


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic and how many events are in it."""

    name: str
    events: int


@dataclass(frozen=True, slots=True)
class Bench:
    """Real servers, a connection to the store, and the bundle of policies."""

    kafka: Kafka
    clickhouse: ClickHouse
    client: Any
    bundle: Path

    def publish(self, count: int) -> Topic:
        """Publish so many events to a new topic, as the publisher would: compressed, keyed, in structured mode."""
        topic = Topic(f"usage-events-{uuid.uuid4().hex[:8]}", count)
        self.kafka.create_topic(topic.name, partitions=PARTITIONS)
        settings = {"bootstrap.servers": self.kafka.bootstrap, "compression.type": "lz4", "linger.ms": 20}
        settings |= {"partitioner": "murmur2_random", "queue.buffering.max.messages": 1_000_000, "acks": "all"}
        producer = Producer(settings)
        for number, event in enumerate(usage_events(count)):
            producer.produce(topic.name, event.value, event.key, headers=[*STRUCTURED_HEADERS])
            if number % POLL_EVERY == 0:
                producer.poll(0)
        if left := producer.flush(60):
            raise TimeoutError(f"{left} events were not published")
        return topic

    def run(self, path: Name, topic: Topic) -> tuple[Cost, str]:
        """Run a path on a topic; return what it cost and the database in which its ledger is.

        Merges are put off: when ClickHouse begins one depends on how many parts there happen to be. What merging costs
        is measured apart, by one merge of everything.
        """
        database = f"{path}_{uuid.uuid4().hex[:8]}"
        prepare, go = {
            "ours": (self._migrate, self._ours),
            "idiomatic": (self._create, self._idiomatic),
            "kafka_engine": (self._create, self._engine),
        }[path]
        self.client.execute(f"CREATE DATABASE {database}")
        prepare(topic, database)
        self.client.execute(f"SYSTEM STOP MERGES {database}.{TABLE}")
        with measuring(self.clickhouse.pid, self.kafka.pid) as measured:
            go(topic, database, measured)
        if path == "kafka_engine":
            self._execute(kafka_engine.stop(database))
        if measured.cost is None:
            raise RuntimeError("the measurement was not completed")
        return replace(measured.cost, merge=self._merge(database)), database

    def _merge(self, database: str) -> float:
        self.client.execute(f"SYSTEM START MERGES {database}.{TABLE}")
        before = cpu_seconds(self.clickhouse.pid)
        self.client.execute(f"OPTIMIZE TABLE {database}.{TABLE} FINAL")
        return cpu_seconds(self.clickhouse.pid) - before

    def drop(self, database: str) -> None:
        """Drop what a path wrote."""
        self.client.execute(f"DROP DATABASE {database} SYNC")

    def _migrate(self, topic: Topic, database: str) -> None:
        environment = {**os.environ, **ours.environment(self.kafka, self.clickhouse, topic.name, database)}
        subprocess.run(ours.MIGRATE, env=environment, check=True, timeout=CHILD_SECONDS, stdout=subprocess.DEVNULL)

    def _create(self, topic: Topic, database: str) -> None:
        self.client.execute(create_table(database))

    def _ours(self, topic: Topic, database: str, measured: Measured) -> None:
        environment = ours.environment(self.kafka, self.clickhouse, topic.name, database)
        measured.child(ours.command(self.bundle), environment)

    def _idiomatic(self, topic: Topic, database: str, measured: Measured) -> None:
        options = {
            "--bootstrap": self.kafka.bootstrap,
            "--topic": topic.name,
            "--http-port": str(self.clickhouse.http_port),
            "--database": database,
            "--group": database,
        }
        said = [word for option in options.items() for word in option]
        measured.child([sys.executable, "-m", "tests.benchmarks.idiomatic", *said], {})

    def _engine(self, topic: Topic, database: str, measured: Measured) -> None:
        self._execute(kafka_engine.statements(database, self.kafka.bootstrap, topic.name, database))
        joined = kafka_engine.has_joined(database)
        measured.between(
            lambda: bool(self.client.execute(joined)[0][0]),
            lambda: self._rows(database) >= topic.events,
            ENGINE_SECONDS,
        )

    def _execute(self, statements: list[str]) -> None:
        for statement in statements:
            self.client.execute(statement)

    def _rows(self, database: str) -> int:
        return int(self.client.execute(f"SELECT count() FROM {database}.{TABLE}")[0][0])


@contextmanager
def bench(kafka: Kafka, clickhouse: ClickHouse, bundle: Path) -> Iterator[Bench]:
    """Yield a bench on running servers."""
    with Client(host="127.0.0.1", port=clickhouse.port) as client:
        yield Bench(kafka, clickhouse, client, bundle)
