"""A service that publishes at a steady rate through the shipped Publisher and times each emit: a process of its own.

    python -m tests.endurance.emitting STREAM SPOOL --rate EVENTS_PER_SECOND --warm EVENTS --events N --flush SECONDS

It emits `--warm` events, prints "warm" and goes on when it reads a line: what happens from then on is measured. After
`--events` more it prints "emitted" and waits for another line, then flushes for `--flush` seconds at most, and prints
what it measured as JSON. The ids are e-0, e-1 ….
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from array import array
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from tests.benchmarks.events import Services
from tests.endurance.memory import peak
from usageaudit.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
KINDS = 500
NO_SPOOL = "none"


class Emitter:
    """`python -m tests.endurance.emitting` as a process."""

    def __init__(self, stream: str, spool: Path | None, rate: float, warm: int, events: int, flush: float) -> None:
        command = [sys.executable, "-m", "tests.endurance.emitting", stream, str(spool or NO_SPOOL)]
        command += ["--rate", str(rate), "--warm", str(warm), "--events", str(events), "--flush", str(flush)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def expect(self, said: str) -> None:
        """Wait until it says so."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == said

    def go_on(self) -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """Return what it measured, once it is done."""
        assert self.process.stdout is not None
        measured: dict[str, Any] = json.loads(self.process.stdout.readline())
        assert self.process.wait(60) == 0
        return measured


@contextmanager
def emitting(
    stream: str, spool: Path | None, rate: float, warm: int, events: int, flush: float = 600.0
) -> Iterator[Emitter]:
    """Run an emitter; it is gone when the block ends."""
    emitter = Emitter(stream, spool, rate, warm, events, flush)
    try:
        yield emitter
    finally:
        emitter.process.kill()
        emitter.process.communicate()


def _emit(publisher: Publisher, first: int, rate: float, events: Iterator[dict[str, Any]], took: array[float]) -> None:
    """Emit as many events as there is room for times, at a rate, and note what each took in seconds."""
    begun = time.perf_counter()
    for number in range(len(took)):
        ahead = begun + number / rate - time.perf_counter()
        if ahead > 0:
            time.sleep(ahead)
        event = next(events)
        before = time.perf_counter()
        publisher.emit(event, id=f"e-{first + number}")
        took[number] = time.perf_counter() - before


def _times(count: int) -> array[float]:
    """Return room for so many times; all of it is there from the start, so that it is no growth."""
    return array("d", [1.0]) * count


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def main(arguments: Sequence[str]) -> None:
    """Publish what the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stream")
    parser.add_argument("spool")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--warm", type=int, required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--flush", type=float, required=True)
    given = parser.parse_args(arguments)
    spool = None if given.spool == NO_SPOOL else given.spool
    events = cycle([data for _, data in islice(iter(Services(Random(3)).event, None), KINDS)])
    warm, took = _times(given.warm), _times(given.events)
    publisher = Publisher(given.stream, source="//tests/emitting", spool=spool)
    _emit(publisher, 0, given.rate, events, warm)
    print("warm", flush=True)
    sys.stdin.readline()
    _emit(publisher, given.warm, given.rate, events, took)
    print("emitted", flush=True)
    waiting = publisher.stats
    sys.stdin.readline()
    begun = time.monotonic()
    left = publisher.flush(given.flush)
    flushed = time.monotonic() - begun
    publisher.close(given.flush)
    stats, memory, ordered = publisher.stats, peak(os.getpid()), sorted(took)
    measured = {
        "left": left,
        "flush_seconds": flushed,
        "spooled": waiting.spooled,
        "spool_bytes": waiting.spool_bytes,
        "dropped": stats.dropped,
        "failed": stats.failed,
        "invalid": stats.invalid,
        **{name: _quantile(ordered, share) for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))},
        "longest": ordered[-1],
        "peak": memory,
    }
    print(json.dumps(measured), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
