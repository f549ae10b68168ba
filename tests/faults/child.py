"""A consumer that is killed, or put to sleep, at a chosen point: run as a process of its own.

    python -m tests.faults.child STREAM STORE --at POINT --nth N --do kill|sleep [--without PROTECTION …]

It is the shipped consumer with the shipped stream and ledger; between their calls stand the POINTS. PROTECTIONS can be
taken away from it: the negative controls.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.faults.points import Fault
from tests.faults.preloaded import POLICIES
from usageaudit.pipeline import judging
from usageaudit.pipeline.consume import Consumer
from usageaudit.pipeline.policies import Policies
from usageaudit.pipeline.service import collecting_between_batches, stopping_on_signals
from usageaudit.stores import dialect
from usageaudit.stores.address import open_store
from usageaudit.stores.ledger import Ledger
from usageaudit.stores.migrate import migrate
from usageaudit.streams.opening import open_stream
from usageaudit.streams.port import BatchLimits

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from usageaudit.stores.native import NativeBlock
    from usageaudit.stores.port import Insert, Store
    from usageaudit.streams.port import Partition, Stream

FAR_AWAY = 2**62
RECOVERING = (
    "before fence",
    "before ending old inserts",
    "after fence",
    "after reading back",
    "before start",
    "after start",
)
"""Points of taking a partition over, in order: the epoch is raised between the first two."""
WORKING = (
    "after poll",
    "before look-up",
    "before insert",
    "in the middle of an insert",
    "before the answer to an insert",
    "after insert",
    "before acknowledge",
    "after acknowledge",
)
"""Points of a batch, in order."""
AT_REJECTED = ("before keeping rejected", "after keeping rejected")
"""Points that only a batch with rejected records has; they lie between the look-up and the insert."""
AT_BUNDLE = ("before keeping a bundle", "after keeping a bundle")
"""Points that only the first batch judged by a bundle has; they lie between the poll and the look-up."""
POINTS = (*RECOVERING, *WORKING, *AT_REJECTED, *AT_BUNDLE)
PROTECTIONS = {
    "fence": "neither epoch nor KILL: an old owner's insert lands",
    "reading back": "the committed offset is trusted, the ledger is not asked",
    "recording first": "offsets are committed as soon as they are polled, and trusted",
    "look-up": "the ledger is not asked which events it has accepted",
    "clock-free recovery": "only what was recorded in the last minutes, by the clock, is read back",
    "gap findings": "what retention took is skipped in silence",
    "bundle first": "a bundle is not kept before the rows that it judged",
}


class FaultyLedger(Ledger):
    """The ledger, with the points around its calls."""

    def __init__(self, store: Store, fault: Fault, without: Collection[str]) -> None:
        super().__init__(store)
        self._fault = fault
        self._without = without

    def fence(self, partition: Partition, owner: str) -> int:
        """Fence."""
        self._fault.at("before fence")
        epoch = super().fence(partition, owner)
        self._fault.at("after fence")
        return epoch

    def end(self, partition: Partition, near: int | None = None) -> int | None:
        """Say where the ledger ends; the control that commits first must not be healed by the ledger's end."""
        if "recording first" in self._without and near is not None:
            return near + 1
        return super().end(partition, near)

    def present(self, partition: Partition, start: int) -> Any:
        """Read back, unless this is the control."""
        forgets = "reading back" in self._without
        if "clock-free recovery" in self._without:
            start = self._first_recent(partition, start)
        offsets = super().present(partition, FAR_AWAY if forgets else start)
        self._fault.at("after reading back")
        return offsets

    def _first_recent(self, partition: Partition, start: int) -> int:
        """Return the first offset that was recorded in the last ten minutes, as this process knows the time."""
        sql = (
            "SELECT count(), min(offset) FROM ledger WHERE partition = {partition:UInt32} AND offset >= {start:UInt64} "
            "AND ingest_time > fromUnixTimestamp64Milli({since:Int64})"
        )
        since = int((time.time() - 600) * 1000)
        values = {"partition": partition.number, "start": start, "since": since}
        ((count, first),) = self._store.execute(sql, values).rows
        return int(first) if count else FAR_AWAY

    def accepted(self, keys: Any) -> Any:
        """Look up, unless this is the control."""
        self._fault.at("before look-up")
        return set() if "look-up" in self._without else super().accepted(keys)

    def keep_rejected(self, partition: Partition, records: Any) -> None:
        """Keep what was rejected."""
        self._fault.at("before keeping rejected")
        super().keep_rejected(partition, records)
        self._fault.at("after keeping rejected")

    def keep_bundle(self, bundle: Any, loaded_by: str) -> None:
        """Keep a bundle, unless this is the control."""
        self._fault.at("before keeping a bundle")
        if "bundle first" not in self._without:
            super().keep_bundle(bundle, loaded_by)
        self._fault.at("after keeping a bundle")

    def add_offset_gap(self, partition: Partition, first: int, last: int, *, acknowledged: bool = False) -> None:
        """Report a gap, unless this is the control."""
        if "gap findings" not in self._without:
            super().add_offset_gap(partition, first, last, acknowledged=acknowledged)

    def record(self, block: NativeBlock, partition: Partition, epoch: int, number: int, **others: Any) -> None:
        """Insert; the middle of it is after half of the block's parts were handed to the connection."""
        self._fault.at("before insert")
        _strike_in_the_middle(block, self._fault)
        super().record(block, partition, epoch, number, **others)
        print(f"recorded: {time.monotonic()}", flush=True)
        self._fault.at("after insert")


def _strike_in_the_middle(block: NativeBlock, fault: Fault) -> None:
    """Let the block be written in two halves with the point between them."""
    write_to = block.write_to

    def interrupted(write: Any, *, protocol: bool = False) -> None:
        parts: list[bytes | bytearray] = []
        write_to(parts.append, protocol=protocol)
        for part in parts[: len(parts) // 2]:
            write(part)
        fault.at("in the middle of an insert")
        for part in parts[len(parts) // 2 :]:
            write(part)

    block.write_to = interrupted  # type: ignore[method-assign]


class FaultyStore:
    """The store, with the points between its own steps; the control neither ends nor refuses an old owner's insert."""

    def __init__(self, store: Store, fault: Fault, *, fenced: bool) -> None:
        self._store, self._fault, self._fenced = store, fault, fenced
        if not fenced:
            dialect.INSERT_SETTINGS = {**dialect.INSERT_SETTINGS, "receive_timeout": 300}
        if hasattr(store, "_await_end"):
            self._strike_before_the_answer(store)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def kill(self, query_id_prefix: str) -> None:
        """End old inserts; end nothing where this is the control."""
        self._fault.at("before ending old inserts")
        if self._fenced:
            self._store.kill(query_id_prefix)

    def insert(self, insert: Insert) -> None:
        """Write; without a condition where this is the control."""
        self._store.insert(insert if self._fenced else replace(insert, unless="", parameters={}))

    def _strike_before_the_answer(self, store: Any) -> None:
        """Put a point between the last byte of an insert and the answer to it."""
        await_end = store._await_end

        def struck() -> None:
            self._fault.at("before the answer to an insert")
            await_end()

        store._await_end = struck


class FaultyStream:
    """The stream, with the points around its calls."""

    def __init__(self, stream: Stream, fault: Fault, *, hasty: bool) -> None:
        self._stream, self._fault, self._hasty = stream, fault, hasty

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def poll(self, seconds: float) -> Any:
        """Poll; the control acknowledges at once."""
        batch = self._stream.poll(seconds)
        if batch is not None:
            if self._hasty:
                self._stream.acknowledge(batch.partition, batch.next_offset)
            self._fault.at("after poll")
        return batch

    def start(self, partition: Partition, offset: int) -> None:
        """Start a partition."""
        self._fault.at("before start")
        self._stream.start(partition, offset)
        self._fault.at("after start")

    def acknowledge(self, partition: Partition, next_offset: int) -> None:
        """Acknowledge."""
        self._fault.at("before acknowledge")
        self._stream.acknowledge(partition, next_offset)
        self._fault.at("after acknowledge")


class Forgotten(set[Any]):
    """The keys of a batch for the control that looks nothing up: nothing that was put in is found in it."""

    def __contains__(self, key: object) -> bool:
        return False


def _look_nothing_up() -> None:
    """Let copies within a batch pass as those of other batches do without the look-up."""
    judged = judging.Judged
    judging.Judged = lambda block: judged(block, keys=Forgotten())  # type: ignore[misc,assignment]


def main(arguments: Sequence[str]) -> None:
    """Consume until told to stop, or until the fault strikes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stream")
    parser.add_argument("store")
    parser.add_argument("--at", choices=POINTS, default="")
    parser.add_argument("--nth", type=int, default=1)
    parser.add_argument("--do", choices=("kill", "sleep"), default="kill")
    parser.add_argument("--without", choices=PROTECTIONS, action="append", default=[])
    parser.add_argument("--policies", default="")
    parser.add_argument("--records", type=int, default=2_000)
    parser.add_argument("--until-caught-up", action="store_true")
    given = parser.parse_args(arguments)
    fault = Fault(given.at, given.nth, given.do)
    if "look-up" in given.without:
        _look_nothing_up()
    stop = threading.Event()
    store = open_store(given.store)
    migrate(store)
    opened = open_stream(given.stream, limits=BatchLimits(records=given.records))
    stream: Any = FaultyStream(opened, fault, hasty="recording first" in given.without)
    policies = Policies([given.policies]) if given.policies else POLICIES
    written: Any = FaultyStore(store, fault, fenced="fence" not in given.without)
    ledger = FaultyLedger(written, fault, given.without)
    consumer = Consumer(stream, ledger, policies, f"faults/{os.getpid()}", stop)
    with stopping_on_signals(stop, policies.request_reload), collecting_between_batches():
        print("ready", flush=True)  # to be told to stop, too
        counts = consumer.run_until_caught_up() if given.until_caught_up else consumer.run()
    stream.close()
    print(f"consumed {counts.consumed}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
