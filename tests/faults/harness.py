"""What the fault tests share: events on the stream, consumers as processes, and an account of the ledger.

The account asks the store in SQL of its own, with none of the product's code.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
from kafka import KafkaProducer

from tests.strategies import MINIMAL, envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
EVENTS = int(os.environ.get("USAGEAUDIT_TEST_FAULT_EVENTS", "20000"))
"""Events of one race; the long form, `make faults`, takes 200,000."""


@dataclass(frozen=True, slots=True)
class Account:
    """Rows of the ledger, distinct partitions and offsets among them, and rows of accepted events."""

    rows: int
    offsets: int
    accepted: int


EXACT = "SELECT count(), uniqExact(partition, offset), countIf(status = 'accepted') FROM ledger"


def publish(bootstrap: str, topic: str, events: int, padding: int = 0) -> None:
    """Put so many events on a topic, spread over its partitions, and wait for all acknowledgements."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=20, batch_size=131_072)
    data = {**MINIMAL, "labels": {"padding": "x" * padding}}
    for number in range(events):
        minute, second = divmod(number // 100 % 3600, 60)
        event = envelope(data, id=f"e-{number}", time=f"2024-05-17T09:{minute:02}:{second:02}Z")
        producer.send(topic, orjson.dumps(event), key=b"%d" % number)
        if number % 20_000 == 0:
            producer.flush()
    producer.flush()
    producer.close()


class ConsumerProcess:
    """`tests.faults.child` as a process; what it says goes to a file."""

    def __init__(self, folder: Path, stream: str, store: str, *options: str) -> None:
        self.log = folder / f"consumer-{time.monotonic_ns()}.log"
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.child", stream, store, *options],
                cwd=ROOT, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def asleep(self) -> bool:
        """Whether the process is stopped by a signal."""
        state = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return state == "T"

    @property
    def peak_memory(self) -> int:
        """The largest resident size so far, in bytes."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

    def wake(self) -> None:
        """Let a sleeping process go on."""
        self.process.send_signal(signal.SIGCONT)

    def end(self, seconds: float = 60) -> int:
        """Ask it to stop, wait, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def wait(self, seconds: float = 120) -> int:
        """Wait for its end and return its exit code."""
        return self.process.wait(seconds)


@contextmanager
def consumer(folder: Path, stream: str, store: str, *options: str) -> Iterator[ConsumerProcess]:
    """Run a consumer; it is gone when the block ends."""
    process = ConsumerProcess(folder, stream, store, *options)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait()


def wait_until(what: str, condition: Callable[[], bool], seconds: float = 120, *watched: ConsumerProcess) -> None:
    """Wait for a condition; fail with what was waited for, and with the logs of processes that ended."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            logs = "\n".join(f"--- {one.log}\n{one.log.read_text()[-3000:]}" for one in watched)
            raise AssertionError(f"waited {seconds} s in vain for: {what}\n{logs}")
        time.sleep(0.1)


def steady(measure: Callable[[], int], looks: int = 30) -> Callable[[], bool]:
    """Return a condition that holds once a measure was the same so many times in a row."""
    seen: list[int] = []

    def condition() -> bool:
        seen.append(measure())
        return len(seen) >= looks and len(set(seen[-looks:])) == 1

    return condition
