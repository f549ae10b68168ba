"""Takeovers from an owner that lives and writes at that very moment, by the hundred, over real connections."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.faults.campaign import AUDITOR, LONG, Audit
from tests.faults.report import Line, append
from tests.integration.test_takeover import BUNDLE_HASH, OFFSETS, HeldBlock, Owner, Weakened
from tests.ledger_blocks import SOURCE, ledger_block
from usageaudit.stores.address import open_store
from usageaudit.stores.ledger import Ledger
from usageaudit.stores.migrate import migrate
from usageaudit.streams.port import Partition

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.clickhouse import ClickHouse
    from usageaudit.stores.port import Store

pytestmark = pytest.mark.timeout(3600)
Connect = Callable[[], "Store"]
RACES, CONTROL_RACES = 300, 60
FAULT = "a partition is taken over from an owner that lives"
KINDS = {
    "while it writes, at any moment": (True, True),
    "without the epoch": (False, True),
    "without KILL QUERY": (True, False),
    "with neither": (False, False),
}


@pytest.fixture
def connect(clickhouse_database: str) -> Iterator[Connect]:
    """Yield a function that opens one more store over a database with the ledger's tables."""
    opened: list[Store] = []

    def open_another() -> Store:
        opened.append(open_store(clickhouse_database))
        return opened[-1]

    store = open_another()
    migrate(store)
    store.execute(f"INSERT INTO bundles_log (hash) VALUES ('{BUNDLE_HASH}')")
    yield open_another
    for one in opened:
        one.close()


def _race(old: Ledger, new: Ledger, number: int, chance: random.Random) -> None:
    """Let an old owner record a batch and a new one take over meanwhile, before, within or after the insert.

    In one race of ten the old owner is paused before it begins, and in another half-way through its block, where KILL
    waits for its server to give up a silent client, for five seconds.
    """
    partition = Partition(str(uuid.UUID(int=number)), "usage-events", 0)
    owner, block = Owner(), ledger_block(OFFSETS, kind=HeldBlock, event_source=f"{SOURCE}/{number}")
    assert isinstance(block, HeldBlock)
    epoch = old.fence(partition, "old")
    if number % 10 == 0:
        _take_over(new, partition, number)
        block.let_go.set()
        with owner.recording(old, block, partition, epoch):
            return
    with owner.recording(old, block, partition, epoch):
        if number % 10 == 1:
            block.under_way.wait(60)
            _take_over(new, partition, number)
            block.let_go.set()
        else:
            block.let_go.set()
            threading.Event().wait(chance.uniform(0, 0.03))  # another moment each time; whichever comes is right
            _take_over(new, partition, number)


def _take_over(ledger: Ledger, partition: Partition, number: int) -> None:
    """Do what a new owner does: fence, read back, record what is missing."""
    epoch = ledger.fence(partition, "new")
    present = ledger.present(partition, 0)
    if missing := [offset for offset in OFFSETS if offset not in present]:
        block = ledger_block(missing, event_source=f"{SOURCE}/{number}")
        ledger.record(block, partition, epoch, 1, bundle=BUNDLE_HASH)


def _audit(folder: Path, clickhouse: ClickHouse, database: str, races: int) -> Audit:
    """Let the auditor compare with what was given to the owners to record."""
    lines = [f"event\t{SOURCE}/{number}\tevent-{offset}\t{offset}\n" for number in range(races) for offset in OFFSETS]
    (folder / "races.journal").write_text("".join(lines), encoding="utf-8")
    url = f"http://127.0.0.1:{clickhouse.http_port}"
    command = [sys.executable, "-I", "-S", str(AUDITOR), str(folder), url, database.rpartition("/")[2]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, 1), done.stderr
    return Audit(json.loads(done.stdout))


@pytest.mark.skipif(not LONG, reason="the short form is tests/integration/test_takeover.py")
@pytest.mark.parametrize("kind", KINDS)
def test_races_with_a_living_owner(
    kind: str, connect: Connect, clickhouse: ClickHouse, clickhouse_database: str, tmp_path: Path
) -> None:
    """Whenever a partition is taken over each offset is there once; without epoch or KILL some are there twice."""
    epochs, kills = KINDS[kind]
    control = not (epochs and kills)
    races, chance = CONTROL_RACES if control else RACES, random.Random(7)
    old, new = Ledger(Weakened(connect(), epochs=epochs)), Ledger(Weakened(connect(), kills=kills))
    slowest: list[float] = []
    for number in range(races):
        started = time.monotonic()
        _race(old, new, number, chance)
        slowest.append(time.monotonic() - started)
    audit = _audit(tmp_path, clickhouse, clickhouse_database, races)
    append(
        Line(
            *("takeover", FAULT, "while it writes, at any moment", races, audit.events, audit.lost, audit.doubled),
            control=kind if control else "",
            wrong=audit.wrong,
            recovered_s=[round(sorted(slowest)[len(slowest) // 2], 3), round(max(slowest), 3)],
        )
    )
    assert (audit.doubled > 0) == control, audit.found
    assert audit.lost == 0
    assert control or audit.exact
