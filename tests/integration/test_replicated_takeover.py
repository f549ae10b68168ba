"""Taking a partition over between owners that speak to different replicas: nothing lands twice, nothing is lost.

Each protection has its control: without the epoch, without KILL QUERY on the old owner's replica, without waiting for
the new owner's replica to catch up, the same course doubles rows. USAGEAUDIT_TEST_REPLICATED_RACES sets the number of
races, 150 in the long form (USAGEAUDIT_TEST_FAULTS=long), and the controls' is a tenth of it.
"""

from __future__ import annotations

import random
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.faults.report import Line, append
from tests.integration.test_takeover import HeldBlock, Owner
from tests.ledger_blocks import ledger_block
from tests.replicated import (
    BUNDLE_HASH,
    DEADLINE_S,
    OFFSETS,
    RACES,
    WeakenedReplicas,
    differences,
    new_partition,
    take_over,
)
from usageaudit.embedded_log import EmbeddedLog, NewRecord
from usageaudit.errors import Fenced, OutcomeUnknown, StoreUnavailable
from usageaudit.integrity import verify
from usageaudit.stores.ledger import Ledger
from usageaudit.streams.inspection import inspect
from usageaudit.streams.port import Partition

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.replicated import Connect
    from tests.servers.cluster import Cluster, Replica

CONTROLS = max(2, RACES // 10)
BATCH = 50
TAKEN_OVER, BETWEEN = "taken over while the old owner writes through another replica", "between replicas"

pytestmark = [pytest.mark.clickhouse, pytest.mark.timeout(600 + 20 * RACES)]


def _report(tries: int, differences: Sequence[tuple[int, int]], point: str = BETWEEN, control: str = "") -> None:
    lost, doubled = (sum(one[place] for one in differences) for place in (0, 1))
    append(Line("replicas", TAKEN_OVER, point, tries, tries * len(OFFSETS), lost, doubled, control))


def test_races_between_owners_on_different_replicas_double_and_lose_nothing(connect: Connect, cluster: Cluster) -> None:
    """Whenever the takeover comes while the old owner writes elsewhere, each offset is there once, on every replica."""
    dice, found = random.Random(7), []
    owners = {replica: (Ledger(connect(replica)), Ledger(connect(replica))) for replica in cluster.replicas}
    for race in range(RACES):
        first, second = dice.sample(cluster.replicas, k=2)
        partition, old = new_partition(), owners[first][0]
        _race(old, owners[second][1], partition, old.fence(partition, "old"), dice.uniform(0, 0.4))
        found.append(differences(connect, cluster, partition))
        assert found[-1] == (0, 0), f"race {race}"
    _report(RACES, found)


def _race(old: Ledger, new: Ledger, partition: Partition, epoch: int, seconds: float) -> None:
    """Take over while the old owner writes one batch after the other."""

    def write() -> None:
        for number, start in enumerate(range(0, len(OFFSETS), BATCH), start=1):
            try:
                block = ledger_block(OFFSETS[start : start + BATCH])
                old.record(block, partition, epoch, number, bundle=BUNDLE_HASH)
            except (Fenced, OutcomeUnknown, StoreUnavailable):
                return

    thread = threading.Thread(target=write)
    thread.start()
    threading.Event().wait(seconds)  # another moment each time; whichever comes is right
    take_over(new, partition)
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def _over_paused_sender(connect: Connect, cluster: Cluster, *, kills: bool) -> tuple[int, int]:
    """Take over while the old owner's block is half-way, then let the old owner finish."""
    partition, first, second = new_partition(), *cluster.replicas[:2]
    old, new = Ledger(connect(first)), Ledger(WeakenedReplicas(connect(second), kills=kills))
    block = ledger_block(OFFSETS, kind=HeldBlock)
    assert isinstance(block, HeldBlock)
    with Owner().recording(old, block, partition, old.fence(partition, "old")):
        assert block.under_way.wait(DEADLINE_S)
        take_over(new, partition)
        block.let_go.set()
    return differences(connect, cluster, partition)


def test_an_insert_under_way_on_another_replica_does_not_land(connect: Connect, cluster: Cluster) -> None:
    """The old owner's block, sent to its end on its replica after the takeover through another, is not written."""
    assert _over_paused_sender(connect, cluster, kills=True) == (0, 0)


def test_control_without_kill_an_insert_under_way_lands_twice(connect: Connect, cluster: Cluster) -> None:
    """Where KILL ends nothing, the same course writes every row twice."""
    found = [_over_paused_sender(connect, cluster, kills=False) for _ in range(CONTROLS)]
    assert found == [(0, len(OFFSETS))] * CONTROLS
    _report(CONTROLS, found, control="no KILL QUERY")


def _over_sleeping_owner(connect: Connect, cluster: Cluster, *, epochs: bool) -> tuple[int, int]:
    """Take over while the old owner has not begun to write, then let it write."""
    partition, owner, first, second = new_partition(), Owner(), *cluster.replicas[:2]
    old, new = Ledger(WeakenedReplicas(connect(first), epochs=epochs)), Ledger(connect(second))
    epoch = old.fence(partition, "old")
    take_over(new, partition)
    with owner.recording(old, ledger_block(OFFSETS), partition, epoch):
        pass
    assert isinstance(owner.outcome[0], Fenced if epochs else type(None))
    return differences(connect, cluster, partition)


def test_an_insert_that_begins_later_on_another_replica_is_refused(connect: Connect, cluster: Cluster) -> None:
    """An old owner that slept through the takeover is Fenced through its own replica."""
    assert _over_sleeping_owner(connect, cluster, epochs=True) == (0, 0)


def test_control_without_the_epoch_an_old_owner_writes_again(connect: Connect, cluster: Cluster) -> None:
    """Where no epoch refuses, the old owner's rows are there twice."""
    found = [_over_sleeping_owner(connect, cluster, epochs=False) for _ in range(CONTROLS)]
    assert found == [(0, len(OFFSETS))] * CONTROLS
    _report(CONTROLS, found, control="no epoch")


def _over_lagging_replica(connect: Connect, cluster: Cluster, database: str, *, catches_up: bool) -> tuple[int, int]:
    """Take over through a replica that has not fetched what the old owner wrote; it fetches when it is waited for."""
    partition, first, lagging = new_partition(), cluster.replicas[0], cluster.replicas[2]
    old, new = (
        Ledger(connect(first)),
        Ledger(WeakenedReplicas(connect(lagging), catches_up=catches_up)),
    )
    new.present(partition, 0)  # has its connection, which a new one would begin with catching up
    lagging.execute(f"SYSTEM STOP FETCHES {database}.ledger")
    try:
        old.record(ledger_block(OFFSETS), partition, old.fence(partition, "old"), 1, bundle=BUNDLE_HASH)
        thread = threading.Thread(target=take_over, args=(new, partition))
        thread.start()
        _await_waiting(lagging, thread)
    finally:
        lagging.execute(f"SYSTEM START FETCHES {database}.ledger")
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    return differences(connect, cluster, partition)


def _await_waiting(replica: Replica, thread: threading.Thread) -> None:
    """Wait until a takeover is over, or waits for a replica to catch up."""
    give_up = time.monotonic() + DEADLINE_S
    waiting = "SELECT count() FROM system.processes WHERE query LIKE 'SYSTEM SYNC REPLICA%'"
    while thread.is_alive() and replica.execute(waiting) == [(0,)]:
        assert time.monotonic() < give_up


def test_a_replica_that_lags_is_waited_for(connect: Connect, cluster: Cluster, replicated_database: str) -> None:
    """What the old owner recorded and the new owner's replica has not fetched yet is not written again."""
    assert _over_lagging_replica(connect, cluster, replicated_database, catches_up=True) == (0, 0)


def test_control_without_catching_up_what_is_recorded_is_written_again(
    connect: Connect, cluster: Cluster, replicated_database: str
) -> None:
    """Where the new owner reads back from a replica that lags, every row is there twice."""
    found = [_over_lagging_replica(connect, cluster, replicated_database, catches_up=False) for _ in range(CONTROLS)]
    assert found == [(0, len(OFFSETS))] * CONTROLS
    _report(CONTROLS, found, control="no SYSTEM SYNC REPLICA")


def test_verify_waits_for_a_replica_that_lags(
    connect: Connect, cluster: Cluster, replicated_database: str, tmp_path: Path
) -> None:
    """What a replica has not fetched yet is not missing: it catches up before it is counted."""
    first, lagging = cluster.replicas[0], cluster.replicas[2]
    with closing(EmbeddedLog.open(tmp_path)) as log:
        log.append("usage-events", [NewRecord(None, b"x") for _ in OFFSETS])
        partition = Partition(log.identity, "usage-events", 0)
    old, asked, found = Ledger(connect(first)), connect(lagging), list[str]()
    epoch = old.fence(partition, "owner")
    asked.execute("SELECT 1")  # has its connection, which a new one would begin with catching up

    def look() -> None:
        with closing(inspect(f"embedded:{tmp_path}")) as stream:
            found.extend(one.kind for one in verify(asked, stream).problems if one.stream == partition.stream)
        found.append("verified")

    lagging.execute(f"SYSTEM STOP FETCHES {replicated_database}.ledger")
    try:
        old.record(ledger_block(OFFSETS), partition, epoch, 1, bundle=BUNDLE_HASH)
        thread = threading.Thread(target=look)
        thread.start()
        _await_waiting(lagging, thread)
    finally:
        lagging.execute(f"SYSTEM START FETCHES {replicated_database}.ledger")
    thread.join(DEADLINE_S)
    assert found == ["verified"]
