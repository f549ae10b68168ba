"""Replicas that are killed, paused, removed and added: what is refused meanwhile, and that all is exact afterwards."""

from __future__ import annotations

import datetime as dt
import random
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.faults.harness import consumer, publish, wait_until
from tests.faults.report import Line, append
from tests.integration.test_takeover import HeldBlock, Owner
from tests.ledger_blocks import ledger_block
from tests.replicated import BUNDLE_HASH, DEADLINE_S, OFFSETS, RACES, differences, new_partition, rows_of, take_over
from tests.servers.cluster import NAME
from usageaudit.errors import OutcomeUnknown, StoreUnavailable
from usageaudit.stores.address import open_store
from usageaudit.stores.ledger import Finding, Ledger

if TYPE_CHECKING:
    from pathlib import Path

    from tests.replicated import Connect
    from tests.servers.cluster import Cluster, Replica
    from tests.servers.kafka import Kafka
    from usageaudit.streams.port import Partition

TRIES = max(1, RACES // 7)
KILLS = max(3, RACES // 5)
EVENTS = 1_000 * KILLS
WAITED_FOR_S = 4
"""Less than a replica that does not answer is waited for."""
POINTS = ("after poll", "in the middle of an insert", "after insert", "before acknowledge", "after fence")

pytestmark = [pytest.mark.clickhouse, pytest.mark.timeout(600 + 20 * RACES)]


def _fence_and_record(ledger: Ledger, partition: Partition, offsets: range = OFFSETS) -> int:
    epoch = ledger.fence(partition, "owner")
    ledger.record(ledger_block(offsets), partition, epoch, 1, bundle=BUNDLE_HASH)
    return epoch


def test_a_replica_out_of_reach_refuses_takeovers(connect: Connect, cluster: Cluster) -> None:
    """Nobody takes over while a replica is away, and the error names it and says what to do; reading goes on."""
    first, second, away = cluster.replicas
    partition, old, new = new_partition(), Ledger(connect(first)), Ledger(connect(second))
    _fence_and_record(old, partition, range(100))
    away.kill()
    try:
        with pytest.raises(StoreUnavailable, match=f"replica {away.name} can't be reached.*SYSTEM DROP REPLICA"):
            new.fence(partition, "new")
        with pytest.raises(StoreUnavailable, match=f"replica {away.name} can't be reached"):
            old.fence(partition, "old")
        assert Ledger(connect(away)).end(partition) == 100
    finally:
        away.start()
    take_over(new, partition)
    assert differences(connect, cluster, partition) == (0, 0)


def test_an_owner_writes_on_while_a_replica_is_away(connect: Connect, cluster: Cluster) -> None:
    """Two of three replicas are most of them; the third has every row soon after its return."""
    first, _, away = cluster.replicas
    partition, ledger = new_partition(), Ledger(connect(first))
    epoch = _fence_and_record(ledger, partition, range(50))
    away.kill()
    try:
        for number, start in enumerate(range(50, 200, 50), start=2):
            block = ledger_block(range(start, start + 50))
            ledger.record(block, partition, epoch, number, bundle=BUNDLE_HASH)
    finally:
        away.start()
    assert differences(connect, cluster, partition) == (0, 0)


def test_an_owner_whose_replica_dies_between_batches_writes_on_through_another(
    connect: Connect, cluster: Cluster
) -> None:
    """A batch that was not begun needs no takeover: the next replica takes it, under the same epoch."""
    dies = cluster.replicas[0]
    partition, ledger = new_partition(), Ledger(connect(dies))
    epoch = _fence_and_record(ledger, partition, range(100))
    dies.kill()
    try:
        ledger.record(ledger_block(range(100, 200)), partition, epoch, 2, bundle=BUNDLE_HASH)
        assert ledger.end(partition) == 200
    finally:
        dies.start()
    assert differences(connect, cluster, partition) == (0, 0)


def test_a_replica_that_answers_nothing_refuses_takeovers(connect: Connect, cluster: Cluster) -> None:
    """A replica that hangs, its port open, counts as away: an insert may go on there when it wakes up."""
    first, _, hangs = cluster.replicas
    partition, ledger = new_partition(), Ledger(connect(first))
    _fence_and_record(ledger, partition)
    hangs.pause()
    try:
        with pytest.raises(StoreUnavailable, match=f"replica {hangs.name} can't be reached"):
            ledger.fence(partition, "new")
    finally:
        hangs.resume()
    take_over(ledger, partition)
    assert differences(connect, cluster, partition) == (0, 0)


def test_a_replica_that_the_url_does_not_list_refuses_takeovers(
    cluster: Cluster, replicated_database: str, connect: Connect
) -> None:
    """A replica that runs and is not a host of the URL can't be fenced either: the error says to list it."""
    *listed, left_out = cluster.replicas
    hosts = ",".join(f"127.0.0.1:{one.port}" for one in listed)
    store = open_store(f"clickhouse://default@{hosts}/{replicated_database}?cluster={NAME}")
    with pytest.raises(StoreUnavailable, match=f"replica {left_out.name} can't be reached.*list it in the store's URL"):
        Ledger(store).fence(new_partition(), "owner")
    store.close()


def test_nothing_is_acknowledged_while_most_replicas_are_away(connect: Connect, cluster: Cluster) -> None:
    """One of three is not most of them: the owner is told, and all is exact when the others are back."""
    first, *others = cluster.replicas
    partition, ledger = new_partition(), Ledger(connect(first))
    epoch = _fence_and_record(ledger, partition, range(100))
    for other in others:
        other.kill()
    try:
        with pytest.raises((StoreUnavailable, OutcomeUnknown)):
            ledger.record(ledger_block(range(100, 200)), partition, epoch, 2, bundle=BUNDLE_HASH)
    finally:
        for other in others:
            other.start()
    take_over(ledger, partition)
    assert differences(connect, cluster, partition) == (0, 0)


def test_a_finding_outlives_the_replica_that_it_was_written_to(
    connect: Connect, cluster: Cluster, replicated_database: str
) -> None:
    """A finding on one replica alone is not taken for kept; when the writer goes on another replica has it."""
    first, *others = cluster.replicas
    ledger, finding = Ledger(connect(first)), _finding()
    for other in others:
        other.execute(f"SYSTEM STOP FETCHES {replicated_database}.findings_log")
    try:
        with pytest.raises(StoreUnavailable, match="only 1 replicas have all"):
            ledger.add_finding(finding)
    finally:
        for other in others:
            other.execute(f"SYSTEM START FETCHES {replicated_database}.findings_log")
    ledger.add_finding(finding)
    first.pause()
    try:
        kept = f"SELECT count() FROM {replicated_database}.findings_log WHERE finding_id = '{finding.finding_id}'"
        assert [(1,)] in [other.execute(kept) for other in others]
    finally:
        first.resume()


def _finding() -> Finding:
    now = dt.datetime.now(dt.UTC)
    return Finding(uuid.uuid4().hex, "offset_gap", "notice", "dropped", now, now)


def test_a_replica_that_is_away_is_asked_last(connect: Connect, cluster: Cluster) -> None:
    """One that hangs costs the batches after the first no time."""
    first, hangs, _ = cluster.replicas
    partition, ledger = new_partition(), Ledger(connect(first))
    epoch = _fence_and_record(ledger, partition, range(50))
    hangs.pause()
    try:
        ledger.record(ledger_block(range(50, 100)), partition, epoch, 2, bundle=BUNDLE_HASH)
        begin = time.monotonic()
        ledger.record(ledger_block(range(100, 200)), partition, epoch, 3, bundle=BUNDLE_HASH)
        assert time.monotonic() - begin < WAITED_FOR_S
    finally:
        hangs.resume()
    assert differences(connect, cluster, partition) == (0, 0)


def test_a_server_that_is_listed_twice_counts_once(
    cluster: Cluster, replicated_database: str, connect: Connect
) -> None:
    """The same replica under two hosts of the URL is one that has a batch, not two."""
    first, *others = cluster.replicas
    store = open_store(f"{cluster.url(replicated_database).replace('default@', f'default@127.0.0.1:{first.port},')}")
    partition, ledger = new_partition(), Ledger(store)
    epoch = _fence_and_record(ledger, partition, range(100))
    for other in others:
        other.execute(f"SYSTEM STOP FETCHES {replicated_database}.ledger")
    try:
        with pytest.raises(OutcomeUnknown, match="only 1 replicas have all"):
            ledger.record(ledger_block(range(100, 200)), partition, epoch, 2, bundle=BUNDLE_HASH)
    finally:
        for other in others:
            other.execute(f"SYSTEM START FETCHES {replicated_database}.ledger")
    take_over(ledger, partition)
    store.close()
    assert differences(connect, cluster, partition) == (0, 0)


def _over_killed_replica(connect: Connect, cluster: Cluster) -> tuple[int, int]:
    """Kill the replica that has half of a block, start it again, and take over through another."""
    dies, second, _ = cluster.replicas
    partition, old, owner = new_partition(), Ledger(connect(dies)), Owner()
    block = ledger_block(OFFSETS, kind=HeldBlock)
    assert isinstance(block, HeldBlock)
    with owner.recording(old, block, partition, old.fence(partition, "old")):
        assert block.under_way.wait(DEADLINE_S)
        dies.kill()
        block.let_go.set()
    dies.start()
    assert isinstance(owner.outcome[0], OutcomeUnknown)
    take_over(Ledger(connect(second)), partition)
    return differences(connect, cluster, partition)


def test_a_replica_killed_while_it_receives_a_block(connect: Connect, cluster: Cluster) -> None:
    """The sender does not know what became of the block; after a takeover every offset is there once."""
    found = [_over_killed_replica(connect, cluster) for _ in range(TRIES)]
    assert found == [(0, 0)] * TRIES
    _report("kill -9 of the replica that is written to", "while it receives a block", found)


def _over_only_copy(connect: Connect, cluster: Cluster, database: str) -> tuple[int, int]:
    """Kill the only replica that has a block while the others are to catch up, start it again, and take over."""
    dies, *others = cluster.replicas
    partition, old, owner = new_partition(), Ledger(connect(dies)), Owner()
    epoch = old.fence(partition, "old")
    for other in others:
        other.execute(f"SYSTEM STOP FETCHES {database}.ledger")
    try:
        with owner.recording(old, ledger_block(OFFSETS), partition, epoch):
            _await_rows(dies, database, partition)
            dies.kill()
    finally:
        for other in others:
            other.execute(f"SYSTEM START FETCHES {database}.ledger")
    dies.start()
    assert isinstance(owner.outcome[0], OutcomeUnknown)
    take_over(Ledger(connect(others[0])), partition)
    return differences(connect, cluster, partition)


def _await_rows(replica: Replica, database: str, partition: Partition) -> None:
    sql = f"SELECT count() FROM {database}.ledger WHERE stream = '{partition.stream}'"
    give_up = time.monotonic() + DEADLINE_S
    while replica.execute(sql) == [(0,)]:
        assert time.monotonic() < give_up


def test_a_replica_killed_while_the_others_catch_up(
    connect: Connect, cluster: Cluster, replicated_database: str
) -> None:
    """A block that one replica alone has committed when it dies is read back through another, not written again."""
    found = [_over_only_copy(connect, cluster, replicated_database) for _ in range(TRIES)]
    assert found == [(0, 0)] * TRIES
    _report("kill -9 of the replica that is written to", "while the others catch up", found)


def test_a_block_that_the_others_do_not_take_has_an_unknown_outcome(
    connect: Connect, cluster: Cluster, replicated_database: str
) -> None:
    """Where the others do not take a block in time, its sender learns that it may be there; a takeover finds it."""
    first, *others = cluster.replicas
    partition, ledger = new_partition(), Ledger(connect(first))
    for other in others:
        other.execute(f"SYSTEM STOP FETCHES {replicated_database}.ledger")
    try:
        with pytest.raises(OutcomeUnknown, match="read back"):
            _fence_and_record(ledger, partition)
    finally:
        for other in others:
            other.execute(f"SYSTEM START FETCHES {replicated_database}.ledger")
    take_over(ledger, partition)
    assert differences(connect, cluster, partition) == (0, 0)


def test_the_whole_consumer_is_exact_while_it_and_replicas_are_killed(
    kafka: Kafka, topic: str, cluster: Cluster, replicated_database: str, tmp_path: Path
) -> None:
    """Events from Kafka are on every replica once each, whichever consumer and replica were killed on the way."""
    publish(kafka.bootstrap, topic, EVENTS)
    stream = f"{kafka.url}?topic={topic}&group={topic}&session_timeout_ms=1500&instance=victim"
    store = cluster.url(replicated_database)
    dice = random.Random(11)
    for number in range(KILLS):
        options = ("--at", POINTS[number % len(POINTS)], "--nth", str(dice.randint(1, 3)), "--records", "100")
        with consumer(tmp_path, stream, store, *options) as process:
            wait_until("a consumer begins", lambda: "ready" in process.log.read_text(), 60, process)
            victim = dice.choice(cluster.replicas)
            victim.kill()
            victim.start()
            process.wait(120)
    with consumer(tmp_path, stream, store, "--until-caught-up") as last:
        assert last.wait(180) == 0, last.log.read_text()[-3000:]
    found = [rows_of(replica, replicated_database, f"topic = '{topic}'") for replica in cluster.replicas]
    assert found == [(EVENTS, EVENTS, EVENTS)] * len(cluster.replicas)
    append(Line("replicas", "kill -9 of consumer and replica in turn", "", 2 * KILLS, EVENTS, 0, 0))


def _report(fault: str, point: str, found: list[tuple[int, int]], events: int = len(OFFSETS)) -> None:
    lost, doubled = (sum(one[place] for one in found) for place in (0, 1))
    append(Line("replicas", fault, point, len(found), len(found) * events, lost, doubled))
