"""Consumers of two versions beside each other in one group, with kills in between: the record is exact."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import orjson
import pytest
from kafka import KafkaProducer

from tests.evolution.versions import BEFORE_APPROVALS, BEFORE_REJUDGED, THIS, Place, Version, pinned
from tests.strategies import MINIMAL, envelope

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers.clickhouse import ClickHouse
    from tests.servers.kafka import Kafka

ROUNDS = int(os.environ.get("USAGEAUDIT_TEST_UPGRADE_ROUNDS", "1"))
"""How often the upgrade is done on a new topic and database; in each, two consumers of either version are killed."""
WAIT_SECONDS = 240
PER_SECOND = 300


class Traffic:
    """Events that go to a topic until told to stop, with a field that old consumers lack in every third."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.sent = 0
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=20)
        self._topic, self._stop = topic, threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        while not self._stop.wait(0.1):
            for _ in range(PER_SECOND // 10):
                data = {**MINIMAL, "novelty": 1} if self.sent % 3 == 0 else MINIMAL
                event = envelope(data, id=f"e-{self.sent}", time=f"2026-05-17T09:{self.sent // 600 % 60:02}:00Z")
                self._producer.send(self._topic, orjson.dumps(event), key=b"%d" % self.sent)
                self.sent += 1

    def end(self) -> int:
        """Stop, wait for the acknowledgements, and return how many events were sent."""
        self._stop.set()
        self._thread.join()
        self._producer.flush()
        self._producer.close()
        return self.sent


@contextmanager
def _ended(processes: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Have every process gone when the block ends."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _wait(place: Place, what: str, condition: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > until:
            log = (place.folder / "processes.log").read_text(encoding="utf-8")[-6000:]
            raise AssertionError(f"waited {WAIT_SECONDS} s in vain for: {what}\n{log}")
        time.sleep(0.2)


@pytest.mark.parametrize("commit", [BEFORE_APPROVALS, BEFORE_REJUDGED] if ROUNDS > 1 else [BEFORE_APPROVALS])
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_rolling_upgrade_is_exact(
    kafka: Kafka, topic: str, clickhouse: ClickHouse, clickhouse_database: str, tmp_path: Path, commit: str, number: int
) -> None:
    """Old consumers go on while the store is migrated and new ones join; kills of both lose and double nothing."""
    del number
    old = pinned(commit, tmp_path / "old")
    stream = f"{kafka.url}?topic={topic}&group=group-{topic}&session_timeout_ms=2000"
    place = Place(stream, clickhouse_database, tmp_path)
    database = clickhouse_database.rpartition("/")[2].partition("?")[0]
    counted = f"SELECT count(), uniqExact(partition, offset), countIf(status = 'accepted') FROM {database}.ledger"

    def owners() -> int:
        """Return how many owners wrote rows; each partition counts its own epochs."""
        return int(clickhouse.execute(f"SELECT uniqExact(partition, epoch) FROM {database}.ledger")[0][0])

    place.run(old, "migrate")
    traffic = Traffic(kafka.bootstrap, topic)
    processes = [place.start(old, "consume") for _ in range(2)]

    def replace(dying: int, version: Version) -> None:
        """Kill a consumer, start another, and wait until partitions were taken over and written."""
        processes[dying].kill()
        processes[dying].wait()
        before = owners()
        processes.append(place.start(version, "consume"))
        _wait(place, "rows of another owner", lambda: owners() > before)

    with _ended(processes):
        try:
            _wait(place, "rows of the old consumers", lambda: owners() > 0)
            migrated = place.run(THIS, "migrate", "--format=ndjson").splitlines()
            assert json.loads(migrated[-1])["version"] > 4
            replace(0, THIS)
            replace(2, THIS)
            replace(1, THIS)
        finally:
            sent = traffic.end()
        _wait(place, "all rows", lambda: int(clickhouse.execute(counted)[0][0]) >= sent)
        refused = place.try_(old, "consume", "--until-caught-up")
        for process in processes[3:]:
            process.terminate()
            assert process.wait(60) == 0
    assert refused.returncode == 2
    assert "install the version that migrated the store" in refused.stderr
    assert clickhouse.execute(counted) == [(sent, sent, sent)]
    consumed = [json.loads(line)["consumed"] for line in place.run(THIS, "verify", "--format=ndjson").splitlines()]
    assert sum(consumed) == sent
    assert place.query(THIS, "unknown-fields")[0]["events"] == -(-sent // 3)
