"""Most of what the machine can do, for half an hour, with random faults: flat memory, exact books, no lag at the end.

The load generator, the broker, the store and the consumer share the processors, in the measurement of the capacity,
too. USAGEAUDIT_TEST_ENDURANCE_SEED names the seed of the faults; the one that is drawn otherwise is printed.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.conftest import running
from tests.endurance import books
from tests.endurance.books import Account
from tests.endurance.consuming import OUT_OF_REACH, ConsumerService, wait_until
from tests.endurance.figures import state
from tests.endurance.forms import SHARE, length
from tests.endurance.load import Load, loading
from tests.endurance.memory import MIB, MemoryWatch
from tests.servers.kafka import Kafka

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers.clickhouse import ClickHouse

SEED = int(os.environ.get("USAGEAUDIT_TEST_ENDURANCE_SEED") or random.randrange(10**6))
PARTITIONS = 4
TOPIC = GROUP = "soak"
CAPACITY_EVENTS = int(length(20_000, 900_000))
SECONDS = length(10, 1_800)
SHARE_OF_CAPACITY = 0.7
BETWEEN_FAULTS = 30.0
"""Mean seconds from the end of a fault to the next one."""
SETTLE_SECONDS = 120.0
FLOOR_SECONDS = 30.0
FLAT = 64
"""MiB an hour of growth, at most; what is measured over half an hour scatters."""
PAUSES = (0.5, 8.0)
LAG_GONE = 180.0
RETENTION = {"retention.bytes": str(512 * MIB), "segment.bytes": str(64 * MIB)}
"""Of each partition: minutes of the load, which is longer than any outage, and less than all of it."""


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Yield a broker that looks for what is too old or too much every few seconds."""
    with running(Kafka(tmp_path_factory.mktemp("soak-kafka"), {"log.retention.check.interval.ms": "5000"})) as server:
        yield server


@dataclass(slots=True)
class Machine:
    """The three processes, and what can be done to them."""

    kafka: Kafka
    clickhouse: ClickHouse
    folder: Path
    draw: random.Random
    consumer: ConsumerService = field(init=False)
    done: Counter[str] = field(default_factory=Counter)
    memory: MemoryWatch = field(default_factory=MemoryWatch)

    def __post_init__(self) -> None:
        self.start_consumer()

    def start_consumer(self) -> None:
        """Start a consumer."""
        stream = f"{self.kafka.url}?topic={TOPIC}&group={GROUP}&session_timeout_ms=6000"
        self.consumer = ConsumerService(self.folder, stream, self.clickhouse.url)

    def strike(self, *, kill_consumer: bool) -> str:
        """Do one thing, drawn at random of those that were done least, and undo it; return what it was."""
        faults: dict[str, Callable[[], None]] = {
            "kill -9 of the store": lambda: self._again(self.clickhouse, self.clickhouse.kill),
            "restart of the store": lambda: self._again(self.clickhouse, self.clickhouse.stop),
            "kill -9 of the broker": lambda: self._again(self.kafka, self.kafka.kill),
            "restart of the broker": lambda: self._again(self.kafka, self.kafka.stop),
            "pause of the store": lambda: self._pause(self.clickhouse),
            "pause of the broker": lambda: self._pause(self.kafka),
        }
        if kill_consumer:
            faults |= {"kill -9 of the consumer": self._kill_consumer, "kill -9 of a new consumer": self._kill_twice}
        fewest = min(self.done[name] for name in faults)
        name = self.draw.choice([name for name in sorted(faults) if self.done[name] == fewest])
        faults[name]()
        self.done[name] += 1
        return name

    def _again(self, server: Kafka | ClickHouse, end: Callable[[], None]) -> None:
        end()
        time.sleep(self.draw.uniform(0, 2))
        server.start()

    def _pause(self, server: Kafka | ClickHouse) -> None:
        server.pause()
        time.sleep(self.draw.uniform(*PAUSES))
        server.resume()

    def _kill_consumer(self) -> None:
        self.consumer.kill()
        self.start_consumer()

    def _kill_twice(self) -> None:
        self._kill_consumer()
        time.sleep(self.draw.uniform(0, 4))
        self._kill_consumer()

    def look(self) -> None:
        """Note the consumer's memory; start it again, as a supervisor does, where it found no server at its start."""
        if (code := self.consumer.process.poll()) is not None:
            assert code == OUT_OF_REACH, self.consumer.log.read_text()[-3000:]
            assert not self.consumer.said("partition taken over"), self.consumer.log.read_text()[-3000:]
            self.start_consumer()
            self.done["start of the consumer without a server"] += 1
        self.memory.look(self.consumer.pid)

    def has_no_lag(self) -> bool:
        """Tell whether all that is on the topic was acknowledged."""
        self.look()
        return books.lag(self.kafka, TOPIC, GROUP, PARTITIONS) == 0

    def slopes(self) -> list[float]:
        """Return the growth of each consumer that lived long enough, in MiB an hour."""
        found = (samples.floor(FLOOR_SECONDS).slope(SETTLE_SECONDS) for samples in self.memory.samples.values())
        return [slope / MIB for slope in found if slope is not None]

    def run(self, load: Load) -> None:
        """Let faults happen while the load runs. The consumer is killed in the first third of the time only.

        So one process lives through the rest, with every other fault, for long enough to see it grow.
        """
        begun = time.monotonic()
        due = begun + self.draw.expovariate(1 / BETWEEN_FAULTS)
        while load.process.poll() is None and time.monotonic() < begun + 3 * SECONDS + 300:
            self.look()
            if time.monotonic() >= due:
                name = self.strike(kill_consumer=time.monotonic() < begun + SECONDS / 3)
                print(f"{time.monotonic() - begun:7.1f} s: {name}", flush=True)
                due = time.monotonic() + self.draw.expovariate(1 / BETWEEN_FAULTS)
            time.sleep(0.5)


def _capacity(machine: Machine) -> float:
    """Return the events per second from the first one published to the last one recorded, both at full speed."""
    kafka, clickhouse = machine.kafka, machine.clickhouse
    with loading(machine.folder, kafka.bootstrap, TOPIC, "capacity", CAPACITY_EVENTS) as load:
        begun = time.monotonic()
        wait_until("the first event", lambda: load.last["sent"] > 0, 60)
        begun = time.monotonic()
        load.finish(600)
        wait_until("its events", lambda: books.rows(clickhouse) >= CAPACITY_EVENTS, 600, machine.consumer)
    return CAPACITY_EVENTS / (time.monotonic() - begun)


@pytest.mark.skipif(not SHARE, reason="a measurement: make endurance")
@pytest.mark.timeout(int(300 + 4 * SECONDS))
def test_a_soak_with_random_faults(broker: Kafka, start_clickhouse: Callable[..., ClickHouse], tmp_path: Path) -> None:
    """At most of the capacity and with faults at random, nothing is lost or doubled, nothing grows, lag goes away."""
    print(f"seed {SEED}", flush=True)
    broker.create_topic(TOPIC, PARTITIONS, RETENTION)
    machine = Machine(broker, start_clickhouse(), tmp_path, random.Random(SEED))
    try:
        wait_until("partitions", lambda: len(machine.consumer.said("partition taken over")) == PARTITIONS, 60)
        capacity = _capacity(machine)
        rate = SHARE_OF_CAPACITY * capacity
        with loading(tmp_path, broker.bootstrap, TOPIC, "soak", int(rate * SECONDS), rate) as load:
            machine.run(load)
            events = load.finish(300)
        no_lag = wait_until("no lag", machine.has_no_lag, LAG_GONE, machine.consumer, every=0.5)
        assert machine.consumer.end() == 0
    finally:
        machine.consumer.kill()
    assert events == int(rate * SECONDS)
    assert books.account(machine.clickhouse, "soak") == Account.exact(events)
    assert books.account(machine.clickhouse, "capacity") == Account.exact(CAPACITY_EVENTS)
    assert books.rows(machine.clickhouse) == events + CAPACITY_EVENTS
    _state(machine, capacity, events, no_lag)


def _state(machine: Machine, capacity: float, events: int, no_lag: float) -> None:
    test = "soak"
    state(test, "time", SECONDS, "s")
    state(test, "seed", SEED)
    state(test, "capacity", round(capacity), "events/s")
    state(test, "rate", round(SHARE_OF_CAPACITY * capacity), "events/s", f"{SHARE_OF_CAPACITY:.0%} of it")
    state(test, "events in the ledger exactly once", events, bound="all")
    for name, times in sorted(machine.done.items()):
        state(test, name, times, "times")
    state(test, "lag gone after the load ended", round(no_lag, 1), "s", f"under {LAG_GONE:.0f}")
    state(test, "most memory of a consumer", round(machine.memory.most / MIB), "MiB", "under 1,024")
    slopes = machine.slopes()
    for slope in slopes:
        state(test, "growth of the consumer's memory", round(slope, 1), "MiB/h", f"under {FLAT}")
    assert machine.memory.most < 1024 * MIB
    assert all(slope < FLAT for slope in slopes)
