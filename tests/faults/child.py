"""A consumer that is killed, or put to sleep, at a chosen point: run as a process of its own.

    python -m tests.faults.child STREAM STORE --at POINT --nth N --do kill|sleep [--unfenced] [--forgetful]

It is the shipped consumer with the shipped stream and ledger; between their calls stand the POINTS. With `--unfenced`
the fence is taken away, with `--forgetful` the reading back: the negative controls.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

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
    from collections.abc import Sequence

    from usageaudit.stores.native import NativeBlock
    from usageaudit.stores.port import Insert, Store
    from usageaudit.streams.port import Partition, Stream

FAR_AWAY = 2**62
POINTS = (
    "before fence",
    "after fence",
    "after reading back",
    "after poll",
    "before look-up",
    "before insert",
    "in the middle of an insert",
    "after insert",
    "before acknowledge",
    "after acknowledge",
)


@dataclass(slots=True)
class Fault:
    """Strikes once, when its point is reached for the n-th time."""

    point: str
    nth: int
    action: str

    def at(self, point: str) -> None:
        """Say that a point was reached."""
        if point != self.point:
            return
        self.nth -= 1
        if self.nth == 0:
            print(f"struck: {point}", flush=True)
            os.kill(os.getpid(), signal.SIGKILL if self.action == "kill" else signal.SIGSTOP)


class FaultyLedger(Ledger):
    """The ledger, with the points around its calls."""

    def __init__(self, store: Store, fault: Fault, *, reads_back: bool) -> None:
        super().__init__(store)
        self._fault = fault
        self._reads_back = reads_back

    def fence(self, partition: Partition, owner: str) -> int:
        """Fence."""
        self._fault.at("before fence")
        epoch = super().fence(partition, owner)
        self._fault.at("after fence")
        return epoch

    def present(self, partition: Partition, start: int) -> Any:
        """Read back, unless this is the control."""
        offsets = super().present(partition, start if self._reads_back else FAR_AWAY)
        self._fault.at("after reading back")
        return offsets

    def accepted(self, keys: Any) -> Any:
        """Look up."""
        self._fault.at("before look-up")
        return super().accepted(keys)

    def record(self, block: NativeBlock, partition: Partition, epoch: int, number: int, **others: Any) -> None:
        """Insert; the middle of it is after half of the block's parts were handed to the connection."""
        self._fault.at("before insert")
        _strike_in_the_middle(block, self._fault)
        super().record(block, partition, epoch, number, **others)
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


class UnfencedStore:
    """The control: a store in which an old owner's insert is neither ended nor refused, nor given up when silent."""

    def __init__(self, store: Store) -> None:
        self._store = store
        dialect.INSERT_SETTINGS = {**dialect.INSERT_SETTINGS, "receive_timeout": 300}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def kill(self, query_id_prefix: str) -> None:
        """End nothing."""

    def insert(self, insert: Insert) -> None:
        """Write without a condition."""
        self._store.insert(replace(insert, unless="", parameters={}))


class FaultyStream:
    """The stream, with the points around its calls."""

    def __init__(self, stream: Stream, fault: Fault) -> None:
        self._stream = stream
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def poll(self, seconds: float) -> Any:
        """Poll."""
        batch = self._stream.poll(seconds)
        if batch is not None:
            self._fault.at("after poll")
        return batch

    def acknowledge(self, partition: Partition, next_offset: int) -> None:
        """Acknowledge."""
        self._fault.at("before acknowledge")
        self._stream.acknowledge(partition, next_offset)
        self._fault.at("after acknowledge")


def main(arguments: Sequence[str]) -> None:
    """Consume until told to stop, or until the fault strikes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stream")
    parser.add_argument("store")
    parser.add_argument("--at", choices=POINTS, default="")
    parser.add_argument("--nth", type=int, default=1)
    parser.add_argument("--do", choices=("kill", "sleep"), default="kill")
    parser.add_argument("--unfenced", action="store_true")
    parser.add_argument("--forgetful", action="store_true")
    parser.add_argument("--records", type=int, default=2_000)
    parser.add_argument("--until-caught-up", action="store_true")
    given = parser.parse_args(arguments)
    fault = Fault(given.at, given.nth, given.do)
    stop = threading.Event()
    store = open_store(given.store)
    migrate(store)
    stream: Any = FaultyStream(open_stream(given.stream, limits=BatchLimits(records=given.records)), fault)
    policies = Policies(["azure-openai-code-of-conduct"])
    written: Any = UnfencedStore(store) if given.unfenced else store
    ledger = FaultyLedger(written, fault, reads_back=not given.forgetful)
    consumer = Consumer(stream, ledger, policies, f"faults/{os.getpid()}", stop)
    print("ready", flush=True)
    with stopping_on_signals(stop, policies.request_reload), collecting_between_batches():
        counts = consumer.run_until_caught_up() if given.until_caught_up else consumer.run()
    stream.close()
    print(f"consumed {counts.consumed}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
