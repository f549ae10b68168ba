"""Taking a partition over from an owner that still lives, on a real server: nothing lands twice, nothing is lost.

Each protection has its control: without the epoch, without KILL QUERY, the same course doubles rows.
"""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.ledger_blocks import SOURCE, START_US, key, ledger_block
from usageaudit.errors import Fenced, OutcomeUnknown, StoreUnavailable
from usageaudit.stores.address import open_store
from usageaudit.stores.ledger import Ledger
from usageaudit.stores.migrate import migrate
from usageaudit.stores.native import NativeBlock
from usageaudit.streams.port import Partition

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from tests.servers.clickhouse import ClickHouse
    from usageaudit.stores.port import Insert, Limits, Parameters, Rows, Store

Connect = Callable[[], "Store"]
BUNDLE_HASH = "b" * 64
OFFSETS = range(200)
DEADLINE_S = 60
EVENTS_A_DAY, GRANULE = 2000, 8192


class HeldBlock(NativeBlock):
    """A block that stops half-way to the server, as its sender would if it were paused, until it is let go."""

    def __init__(self, columns: Sequence[tuple[str, str]], constants: Collection[str] = ()) -> None:
        super().__init__(columns, constants)
        self.under_way, self.let_go = threading.Event(), threading.Event()

    def write_to(self, write: Callable[[bytes | bytearray], object], *, protocol: bool = False) -> None:
        """Write half of the block, then wait."""
        parts: list[bytes] = []
        super().write_to(lambda data: parts.append(bytes(data)), protocol=protocol)
        whole = b"".join(parts)
        write(whole[: len(whole) // 2])
        self.under_way.set()
        assert self.let_go.wait(DEADLINE_S)
        write(whole[len(whole) // 2 :])


@dataclass
class Weakened:
    """A store without one of the protections: with inserts that no epoch refuses, or a KILL that ends nothing."""

    store: Store
    epochs: bool = True
    kills: bool = True

    def execute(self, sql: str, parameters: Parameters | None = None, *, query_id: str | None = None) -> Rows:
        """Pass on."""
        return self.store.execute(sql, parameters, query_id=query_id)

    def look_up(self, sql: str, name: str, block: NativeBlock) -> Rows:
        """Pass on."""
        return self.store.look_up(sql, name, block)

    def query(self, sql: str, parameters: Parameters | None = None, limits: Limits | None = None) -> Rows:
        """Pass on."""
        return self.store.query(sql, parameters, limits)

    def insert(self, insert: Insert) -> None:
        """Pass on, without its condition where epochs are off."""
        if not self.epochs:
            insert = type(insert)(insert.table, insert.block, insert.query_id)
        self.store.insert(insert)

    def kill(self, query_id_prefix: str) -> None:
        """Pass on, unless kills are off."""
        if self.kills:
            self.store.kill(query_id_prefix)

    def another(self) -> Store:
        """Return a store weakened alike."""
        return Weakened(self.store.another(), self.epochs, self.kills)

    def close(self) -> None:
        """Pass on."""
        self.store.close()


@pytest.fixture
def connect(clickhouse_database: str) -> Iterator[Callable[[], Store]]:
    """Yield a function that opens one more store over a database with the ledger's tables."""
    with ExitStack() as opened:

        def open_another() -> Store:
            store = open_store(clickhouse_database)
            opened.callback(store.close)
            return store

        migrate(open_another())
        yield open_another


@pytest.fixture
def partition() -> Partition:
    """Return a partition of a stream that nobody else has."""
    return Partition(uuid.uuid4().hex, "usage-events", 0)


@dataclass
class Owner:
    """A thread that records a block; `outcome` is the error that it got, if any."""

    outcome: list[Exception | None] = field(default_factory=list)

    @contextmanager
    def recording(self, ledger: Ledger, block: NativeBlock, partition: Partition, epoch: int) -> Iterator[None]:
        """Record a block in the background while the body runs, and wait for it at the end."""

        def work() -> None:
            try:
                ledger.record(block, partition, epoch, 1, bundle=BUNDLE_HASH)
                self.outcome.append(None)
            except (Fenced, OutcomeUnknown, StoreUnavailable) as error:
                self.outcome.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        yield
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def _take_over(ledger: Ledger, partition: Partition) -> None:
    """Do what a new owner does: fence, read back, record what is missing."""
    epoch = ledger.fence(partition, "new")
    present = ledger.present(partition, 0)
    missing = [offset for offset in OFFSETS if offset not in present]
    if missing:
        ledger.record(ledger_block(missing), partition, epoch, 1, bundle=BUNDLE_HASH)


def _rows(store: Store) -> tuple[int, int]:
    ((rows, distinct),) = store.execute("SELECT count(), uniqExact(offset) FROM ledger").rows
    return rows, distinct


def _over_paused_sender(connect: Connect, partition: Partition, *, kills: bool) -> tuple[int, int]:
    """Take over while the old owner's block is half-way, then let the old owner finish; return rows and offsets."""
    old, new, owner = Ledger(connect()), Ledger(Weakened(connect(), kills=kills)), Owner()
    block = ledger_block(OFFSETS, kind=HeldBlock)
    assert isinstance(block, HeldBlock)
    with owner.recording(old, block, partition, old.fence(partition, "old")):
        assert block.under_way.wait(DEADLINE_S)
        _take_over(new, partition)
        block.let_go.set()
    return _rows(connect())


def test_an_insert_that_was_under_way_does_not_land_after_a_takeover(connect: Connect, partition: Partition) -> None:
    """The old owner's block, sent to its end after the takeover, is not written."""
    assert _over_paused_sender(connect, partition, kills=True) == (len(OFFSETS), len(OFFSETS))


def test_control_without_kill_an_insert_under_way_lands_twice(connect: Connect, partition: Partition) -> None:
    """Where KILL ends nothing, the same course writes every row twice: the epoch alone does not protect."""
    assert _over_paused_sender(connect, partition, kills=False) == (2 * len(OFFSETS), len(OFFSETS))


def _over_sleeping_owner(connect: Connect, partition: Partition, *, epochs: bool) -> tuple[int, int]:
    """Take over while the old owner has not begun to write, then let it write; return rows and offsets."""
    old, new, owner = Ledger(Weakened(connect(), epochs=epochs)), Ledger(connect()), Owner()
    epoch = old.fence(partition, "old")
    _take_over(new, partition)
    with owner.recording(old, ledger_block(OFFSETS), partition, epoch):
        pass
    assert isinstance(owner.outcome[0], Fenced if epochs else type(None))
    return _rows(connect())


def test_an_insert_that_begins_after_a_takeover_is_refused(connect: Connect, partition: Partition) -> None:
    """An old owner that slept through the takeover is Fenced."""
    assert _over_sleeping_owner(connect, partition, epochs=True) == (len(OFFSETS), len(OFFSETS))


def test_control_without_the_epoch_an_old_owner_writes_again(connect: Connect, partition: Partition) -> None:
    """Where no epoch refuses, the old owner's rows are there twice: KILL alone does not protect."""
    assert _over_sleeping_owner(connect, partition, epochs=False) == (2 * len(OFFSETS), len(OFFSETS))


def test_races_between_owners_double_and_lose_nothing(connect: Connect) -> None:
    """Whenever the takeover comes while the old owner writes, each offset is there once."""
    dice, store = random.Random(7), connect()
    old, new = Ledger(connect()), Ledger(connect())
    for _ in range(25):
        partition = Partition(uuid.uuid4().hex, "usage-events", 0)
        owner = Owner()
        with owner.recording(old, ledger_block(OFFSETS), partition, old.fence(partition, "old")):
            # Another moment each time; whichever comes is right.
            threading.Event().wait(dice.uniform(0, 0.03))
            _take_over(new, partition)
        of_this = "SELECT count(), uniqExact(offset) FROM ledger WHERE stream = {s:String}"
        assert store.execute(of_this, {"s": partition.stream}).rows == [(len(OFFSETS), len(OFFSETS))]


def test_looking_up_events_reads_what_is_near_in_time_alone(connect: Connect, clickhouse: ClickHouse) -> None:
    """Asking for a thousand events reads as many rows of a ledger of eight months as of one of two."""
    store = connect()
    early = fill_and_look_up(store, clickhouse, first_day=0, days=60)
    later = fill_and_look_up(store, clickhouse, first_day=60, days=180)
    assert early < 60 * EVENTS_A_DAY / 4
    assert later <= early + 2 * GRANULE


def fill_and_look_up(store: Store, server: ClickHouse, first_day: int, days: int) -> int:
    """Add days of events to the ledger, look a thousand of the first ones up, and return how many rows were read."""
    start = f"{START_US} + toInt64(86400000000 * ({first_day} + number / {EVENTS_A_DAY}))"
    store.execute(
        "INSERT INTO ledger (ingest_time, status, event_source, event_id, event_time) "
        f"SELECT toDateTime64(0, 3, 'UTC'), 'accepted', '{SOURCE}', concat('event-', toString(number)), "
        f"fromUnixTimestamp64Micro({start}, 'UTC') FROM numbers({EVENTS_A_DAY * days})"
    )
    Ledger(store).accepted({key(number) for number in range(1000)})
    server.execute("SYSTEM FLUSH LOGS query_log")
    ((rows, database),) = store.execute(
        "SELECT argMax(read_rows, event_time_microseconds), currentDatabase() FROM system.query_log "
        "WHERE type = 'QueryFinish' AND current_database = currentDatabase() AND position(query, 'IN ke' || 'ys') > 0"
    ).rows
    assert rows, database
    return int(rows)
