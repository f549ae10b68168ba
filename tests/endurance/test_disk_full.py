"""The disk full under stream and store: said clearly, nothing acknowledged lost, and on by itself with room again."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, NoReturn

import pytest

from tests.conftest import running
from tests.endurance import books
from tests.endurance.consuming import OUT_OF_REACH, consuming, environment, run, wait_until
from tests.endurance.disks import small_disk
from tests.endurance.figures import state
from tests.servers.clickhouse import ClickHouse
from tests.strategies import MINIMAL
from usageaudit.errors import NotAcknowledged, PublishError
from usageaudit.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.endurance.consuming import ConsumerService
    from tests.endurance.disks import Disk
    from tests.servers.kafka import Kafka

SMALL, LARGER = 48, 256
"""MiB."""
ROOM = 4 * 1024 * 1024
FIRST, EVENTS = 500, 2_500
FULL = re.compile("disk is full|No space left on device")
EVENT = {**MINIMAL, "labels": {"padding": "x" * 1_000}}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Yield a small disk."""
    with small_disk(tmp_path / "disk", SMALL) as mounted:
        yield mounted


def _publish(stream: str, first: int, count: int) -> None:
    with Publisher(stream, source="//tests", on_full="block", timeout=60) as publisher:
        for number in range(first, first + count):
            assert publisher.emit(EVENT, id=f"e-{number}") is not None
        assert publisher.flush(60) == 0


def _ids(stream: str, store: str) -> list[str]:
    """Return the ids of all events that were accepted, after everything on the stream was recorded."""
    env = environment(stream=stream, store=store)
    run("consume", "--until-caught-up", env=env)
    run("verify", env=env)
    lines = run("query", "SELECT event_id FROM usage_events LIMIT 1000000", "--format=ndjson", env=env).splitlines()
    return [json.loads(line)["event_id"] for line in lines if line.startswith('{"event_id"')]


def test_stream_without_room(disk: Disk, tmp_path: Path) -> None:
    """With the disk of the embedded stream full a durable emit says so; with room again all that waited is sent."""
    stream, store = f"embedded:{disk.path / 'data'}", f"embedded:{tmp_path / 'store'}"
    acknowledged: list[str] = []
    with Publisher(stream, source="//tests", timeout=20) as publisher:
        acknowledged.append(publisher.emit(EVENT, id="first", durable=True) or "")
        disk.fill(ROOM)
        with pytest.raises(NotAcknowledged, match=FULL):
            _emit_until_refused(publisher, acknowledged)
        refused = f"e-{len(acknowledged)}"
        queued = [publisher.emit(EVENT, id=f"q-{number}") for number in range(100)]
        assert None not in queued
        disk.enlarge(LARGER)
        begun = time.monotonic()
        assert publisher.flush(60) == 0
        seconds = time.monotonic() - begun
    recorded = _ids(stream, store)
    assert sorted(recorded) == sorted([*acknowledged, refused, *map(str, queued)])
    test = "disk full under the embedded stream"
    state(test, "acknowledged events lost", 0, bound="0")
    state(test, "all sent after there was room", round(seconds, 1), "s")


def _emit_until_refused(publisher: Publisher, acknowledged: list[str]) -> NoReturn:
    """Emit durable events, noting those that were acknowledged, until that raises."""
    while True:
        acknowledged.append(publisher.emit(EVENT, id=f"e-{len(acknowledged)}", durable=True, timeout=2) or "")


def _recorded(env: Mapping[str, str]) -> int:
    """Return how many rows the ledger has."""
    answer = run("query", "SELECT count() AS rows FROM stream_records", "--format=ndjson", env=env)
    return int(json.loads(answer.splitlines()[0])["rows"])


def _says(consumer: ConsumerService) -> bool:
    """Tell whether the consumer said that the disk is full."""
    return FULL.search(consumer.log.read_text()) is not None


def _survives(folder: Path, stream: str, store: str, disk: Disk, *, enlarge: bool) -> float:
    """Fill the store's disk under a running consumer, kill it, start another, and then let there be room again.

    Returns the seconds until everything was recorded after that.
    """
    env = environment(stream=stream, store=store)
    _publish(stream, 0, FIRST)
    run("consume", "--until-caught-up", env=env)
    with consuming(folder, stream, store) as first:
        wait_until("its partition", lambda: first.said("partition taken over") != [], 60, first)
        disk.fill()
        _publish(stream, FIRST, EVENTS - FIRST)
        wait_until("it saying so", lambda: _says(first), 60, first)
    with consuming(folder, stream, store) as second:
        wait_until("the next one saying so", lambda: _says(second), 60, second)
        if second.process.poll() is not None:
            assert second.process.returncode == OUT_OF_REACH
        disk.enlarge(LARGER) if enlarge else disk.empty()
        begun = time.monotonic()
        if second.process.poll() is not None:
            run("consume", "--until-caught-up", env=env)
        else:
            wait_until("all rows", lambda: _recorded(env) == EVENTS, 120, second, every=0.5)
        seconds = time.monotonic() - begun
        second.end()
    assert sorted(_ids(stream, store)) == sorted(f"e-{number}" for number in range(EVENTS))
    return seconds


def test_spool_without_room(disk: Disk, start_kafka: Callable[..., Kafka]) -> None:
    """With the disk of the spool full a durable emit says so; with room again nothing that was acknowledged is lost."""
    kafka, topic, acknowledged = start_kafka(), "spool-full", list[str]()
    kafka.create_topic(topic)
    with Publisher(f"{kafka.url}?topic={topic}", source="//tests", spool=disk.path / "spool") as publisher:
        acknowledged.append(publisher.emit(EVENT, id="first", durable=True) or "")
        kafka.pause()
        disk.fill(ROOM)
        with pytest.raises(PublishError, match=FULL):
            _emit_until_refused(publisher, acknowledged)
        before = len(acknowledged)
        disk.enlarge(LARGER)
        acknowledged.append(publisher.emit(EVENT, id="there is room", durable=True, timeout=30) or "")
        kafka.resume()
        begun = time.monotonic()
        assert publisher.flush(60) == 0
        seconds = time.monotonic() - begun
    on_the_stream = books.copies(kafka, topic, 1)
    assert set(acknowledged) <= on_the_stream.keys()
    test = "disk full under the spool, the broker away"
    state(test, "durable events before it was full", before)
    state(test, "acknowledged events lost", 0, bound="0")
    state(test, "all shipped after there was room and a broker", round(seconds, 1), "s")


def test_embedded_store_without_room(disk: Disk, tmp_path: Path) -> None:
    """With the disk of the embedded store full the consumer says so, waits, and goes on by itself."""
    stream, store = f"embedded:{tmp_path / 'stream'}", f"embedded:{disk.path / 'store'}"
    seconds = _survives(tmp_path, stream, store, disk, enlarge=False)
    _state_recovery("disk full under the embedded store, its consumer killed meanwhile", seconds)


def test_clickhouse_without_room(disk: Disk, tmp_path: Path) -> None:
    """With the disk of a ClickHouse server full the consumer says so, waits, and goes on by itself."""
    with running(ClickHouse(disk.path / "clickhouse")) as clickhouse:
        seconds = _survives(tmp_path, f"embedded:{tmp_path / 'stream'}", clickhouse.url, disk, enlarge=True)
    _state_recovery("disk full under a ClickHouse server, its consumer killed meanwhile", seconds)


def _state_recovery(test: str, seconds: float) -> None:
    state(test, "events in the ledger exactly once", EVENTS, bound=f"{EVENTS:,}")
    state(test, "all recorded after there was room", round(seconds, 1), "s", "under 120")
