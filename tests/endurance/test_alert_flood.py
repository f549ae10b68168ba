"""A hundred thousand violations within a minute: few alerts, bounded memory, and the intake of events hardly slower.

Each pair of runs has the same events, once with a dispatcher and once without; which comes first alternates. Steady is
a rate below what the machine can do; the backlog is there before the consumer starts, which takes all the machine has.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.endurance import books
from tests.endurance.alerting import alerting, policies
from tests.endurance.consuming import consuming, environment, run, wait_until
from tests.endurance.figures import state
from tests.endurance.forms import SHARE
from tests.endurance.load import loading
from tests.endurance.memory import MIB, peak

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.clickhouse import ClickHouse
    from tests.servers.kafka import Kafka

PAIRS = 5 if SHARE else 1
EVENTS = 250_000 if SHARE else 5_000
VIOLATIONS = EVENTS * 2 // 5
"""Of every 500 events of the load, 200 are not of this provider."""
WHEN = 'model.provider != "azure.ai.openai"'
RATE = 8_000.0
SLOWER = 0.9
MEMORY = 512 * MIB
PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class Run:
    """Events recorded a second, alerts that arrived, and the most memory that the dispatcher had."""

    rate: float
    alerts: int = 0
    memory: int = 0


@pytest.mark.parametrize("rate", [RATE, 0.0] if SHARE else [0.0], ids=["steady", "backlog"] if SHARE else ["backlog"])
@pytest.mark.timeout(int(120 + PAIRS * EVENTS / 500))
def test_a_flood_is_few_alerts_and_slows_nothing(
    rate: float, kafka: Kafka, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    """With a dispatcher at work the ledger takes in at least nine tenths of what it takes in without, at the median."""
    bundle = policies(tmp_path / "own", WHEN, "application.name")
    ratios, told = [], []
    for pair in range(PAIRS):
        found = {}
        for alerted in (True, False) if pair % 2 else (False, True):
            folder = tmp_path / f"flood-{rate:.0f}-{pair}-{alerted}".lower()
            folder.mkdir()
            with _database(clickhouse, folder.name.replace("-", "_")) as url:
                found[alerted] = _run(folder, kafka, clickhouse, url, bundle, rate, alerted=alerted)
        ratios.append(found[True].rate / found[False].rate)
        told.append(found[True])
        kind = "steady" if rate else "backlog"
        print(f"{kind}: {found[True]} {found[False]} {ratios[-1]:.3f}", flush=True)
    test = f"{VIOLATIONS:,} violations among {EVENTS:,} events, {f'at {rate:,.0f}/s' if rate else 'as a backlog'}"
    median = statistics.median(ratios)
    state(test, "pairs", PAIRS)
    state(test, "intake with alerts", round(statistics.median(one.rate for one in told)), "events/s")
    state(test, "intake with alerts to that without, median", round(median, 3), "", f"at least {SLOWER:g}")
    state(test, "the same, lowest of the pairs", round(min(ratios), 3))
    state(test, "alerts", max(one.alerts for one in told), "", "at most 60")
    state(test, "most memory of the dispatcher", round(max(one.memory for one in told) / MIB), "MiB", "under 512")
    assert all(0 < one.alerts <= 60 for one in told)  # as many as there are applications
    assert max(one.memory for one in told) < MEMORY
    if SHARE:  # a short run beside other tests tells nothing
        assert median >= SLOWER


@contextmanager
def _database(clickhouse: ClickHouse, name: str) -> Iterator[str]:
    """Have a database of its own for a run, so that none merges what another one wrote."""
    clickhouse.execute(f"CREATE DATABASE {name}")
    try:
        yield clickhouse.database_url(name)
    finally:
        clickhouse.execute(f"DROP DATABASE {name} SYNC")


def _run(
    folder: Path, kafka: Kafka, clickhouse: ClickHouse, url: str, bundle: Path, rate: float, *, alerted: bool
) -> Run:
    """Record the events, and return how fast that was."""
    topic, database = folder.name, url.rpartition("/")[2]
    kafka.create_topic(topic, PARTITIONS)
    run("migrate", env=environment(store=url))
    if not rate:
        with loading(folder, kafka.bootstrap, topic, topic, EVENTS) as load:
            load.finish(300)
    with ExitStack() as stack:
        told = stack.enter_context(alerting(folder, url, bundle)) if alerted else None
        if told:
            progress = f"SELECT count() FROM {database}.alert_progress"
            wait_until("the dispatcher", lambda: bool(clickhouse.execute(progress)[0][0]), 60)
        stream = f"{kafka.url}?topic={topic}&group={topic}"
        consumer = stack.enter_context(consuming(folder, stream, url, policies=str(bundle)))
        wait_until("its partitions", lambda: len(consumer.said("partition taken over")) == PARTITIONS, 60, consumer)
        if rate:
            stack.enter_context(loading(folder, kafka.bootstrap, topic, topic, EVENTS, rate))
        wait_until("the first", lambda: books.rows(clickhouse, database) > 0, 60, consumer, every=0.02)
        first, begun = books.rows(clickhouse, database), time.monotonic()
        wait_until("all events", lambda: books.rows(clickhouse, database) >= EVENTS, 600, consumer)
        intake = (EVENTS - first) / (time.monotonic() - begun)
        if told is None:
            return Run(intake)
        decided = f"SELECT uniqExact(violation_id) FROM {database}.alert_decisions"
        wait_until("all decisions", lambda: clickhouse.execute(decided)[0][0] == VIOLATIONS, 120, consumer)
        opened = f"SELECT uniqExact(alert_id) FROM {database}.alert_decisions"
        alerts = int(clickhouse.execute(opened)[0][0])
        wait_until("all alerts", lambda: len({one.delivery_id for _, one in told.arrivals}) >= alerts, 60, consumer)
        return Run(intake, alerts, peak(told.pid))
