"""kill -9 of the store at the system calls of an insert and of a takeover, and at random, while a consumer writes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.conftest import running, skip
from tests.faults import shim
from tests.faults.campaign import CONTROL_TRIES, LONG, TRIES, Audit, Campaign, campaign, report, wait_until
from tests.faults.servers import STARTS_SECONDS, ShimmedClickHouse, start_again_once_dead
from tests.faults.shim import Call, Moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.servers.kafka import Kafka

pytestmark = pytest.mark.timeout(3600 if LONG else 600)
BATCH = ("--records", "50")
FAULT = "kill -9"
POINTS = {
    "before a write of an insert": (Call.WRITE, Moment.BEFORE),
    "half-way through a write of an insert": (Call.WRITE, Moment.HALFWAY),
    "before a folder of an insert is made": (Call.MKDIR, Moment.BEFORE),
    "before the part is renamed into place": (Call.RENAME, Moment.BEFORE),
    "after the part is renamed into place": (Call.RENAME, Moment.AFTER),
}
LANDED = "after the part is renamed into place"
OF_RECOVERY = "a write of the fence, in recovery"
AT_RANDOM = "at random"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShimmedClickHouse]:
    """Yield a store that can be killed at a system call."""
    if reason := shim.lacking():
        skip(reason)
    with running(ShimmedClickHouse(tmp_path_factory.mktemp("shimmed-clickhouse"))) as server:
        yield server


def _calls_of_an_insert(one: Campaign, store: ShimmedClickHouse, kinds: Call) -> int:
    """Return how many such calls the next batches make, each."""
    store.shim.arm(kinds, _inserts(one, store), 10**6)
    before = _batches(one, store)
    wait_until("three more batches", lambda: _batches(one, store) >= before + 3)
    calls = store.shim.disarm()
    return max(calls // max(_batches(one, store) - before, 1), 1)


def _batches(one: Campaign, store: ShimmedClickHouse) -> int:
    return int(store.execute(f"SELECT uniqExact(partition, epoch, batch) FROM {one.name}.ledger")[0][0])


def _inserts(one: Campaign, store: ShimmedClickHouse) -> str:
    return f"{store.folder_of(one.name, 'ledger')}/tmp_insert"


def _kill_at(one: Campaign, store: ShimmedClickHouse, point: str, tries: int) -> None:
    """Kill the store at a point of an insert again and again, at another call of that kind each time."""
    kinds, moment = POINTS[point]
    calls, path = _calls_of_an_insert(one, store, kinds), _inserts(one, store)
    for number in range(tries):
        store.shim.arm(kinds, path, 1 + number * calls // tries, moment)
        _note_death(one, store)


def _kill_in_recovery(one: Campaign, store: ShimmedClickHouse, tries: int) -> None:
    """Kill the store when a batch has landed, and again when the takeover that follows raises the epoch."""
    inserts, fence = _inserts(one, store), store.folder_of(one.name, "fence")
    for number in range(tries):
        store.shim.arm(Call.RENAME, inserts, 1, Moment.AFTER)
        _note_death(one, store, recovers=False)
        store.shim.arm(Call.WRITE | Call.RENAME | Call.MKDIR, f"{fence}/tmp_insert", 1 + number % 8)
        _note_death(one, store)


def _kill_at_random(one: Campaign, store: ShimmedClickHouse, tries: int) -> None:
    for _ in range(tries):
        time.sleep(one.chance.uniform(0.05, 1.0))  # how long the store lives
        store.kill()
        one.faults.append(time.monotonic())
        store.start(STARTS_SECONDS)
        _wait_for_more(one)


def _note_death(one: Campaign, store: ShimmedClickHouse, *, recovers: bool = True) -> None:
    """Note a kill, start the store again, and let a batch be recorded: the next fault then meets no growing pause."""
    start_again_once_dead(store, store.shim)
    one.faults.append(time.monotonic())
    if recovers:
        _wait_for_more(one)


def _wait_for_more(one: Campaign) -> None:
    wait_until("a batch after the fault", lambda: one.last_recorded() > one.faults[-1], 240)


def _run(
    folder: Path, kafka: Kafka, store: ShimmedClickHouse, points: Sequence[str], tries: int, without: str = ""
) -> Audit:
    options = ("--without", without) if without else ()
    also = 0
    with campaign(folder, kafka, store) as one:
        consumer = one.consumer(*BATCH, *options)
        try:
            with one.traffic("--broken", "37", "--rate", "60"):
                wait_until("the first batch", lambda: "recorded: " in consumer.said())
                for point in points:
                    if point == OF_RECOVERY:
                        _kill_in_recovery(one, store, tries)
                        also += tries
                    elif point == AT_RANDOM:
                        _kill_at_random(one, store, tries)
                    else:
                        _kill_at(one, store, point, tries)
            assert consumer.end() == 0, consumer.said()
        finally:
            consumer.kill()
        one.finish(*options)
        audit = one.audit()
        point = points[0] if len(points) == 1 else "all points"
        report(one, audit, "store", FAULT, point, control=f"without {without}" if without else "", also=also)
    return audit


@pytest.mark.parametrize(
    "points",
    [(point,) for point in (*POINTS, OF_RECOVERY, AT_RANDOM)] if LONG else [(*POINTS, OF_RECOVERY, AT_RANDOM)],
    ids=lambda points: points[0] if len(points) == 1 else "all points",
)
def test_a_store_killed_at_a_point_again_and_again(
    points: Sequence[str], quick_kafka: Kafka, store: ShimmedClickHouse, tmp_path: Path
) -> None:
    """Wherever in an insert or a takeover the store is killed, it has each acknowledged event exactly once."""
    audit = _run(tmp_path, quick_kafka, store, points, TRIES)
    assert audit.exact, audit.found
    assert audit.events > 0


@pytest.mark.parametrize("point", [LANDED, OF_RECOVERY] if LONG else [LANDED])
def test_control_without_reading_back(point: str, quick_kafka: Kafka, store: ShimmedClickHouse, tmp_path: Path) -> None:
    """Negative control: a batch that landed and was not answered is recorded again by who does not read back."""
    assert _run(tmp_path, quick_kafka, store, [point], CONTROL_TRIES, "reading back").doubled > 0


@pytest.mark.parametrize(
    "point", [*[one for one in POINTS if one != LANDED], AT_RANDOM] if LONG else [next(iter(POINTS))]
)
def test_control_without_recording_first(
    point: str, quick_kafka: Kafka, store: ShimmedClickHouse, tmp_path: Path
) -> None:
    """Negative control: a batch that did not land is gone for who has committed it before."""
    assert _run(tmp_path, quick_kafka, store, [point], CONTROL_TRIES, "recording first").lost > 0
