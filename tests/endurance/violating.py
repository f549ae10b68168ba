"""A service that publishes at a steady rate through the shipped Publisher, some of whose events violate a policy.

    python -m tests.endurance.violating STREAM --rate EVENTS_PER_SECOND --events N --every M

Each M-th event has the use case `social_scoring` and a conversation of its own. Its id is v-NUMBER-MICROSECONDS, the
time just before `emit` was called, so that whoever hears of it knows how long that took.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from tests.benchmarks.events import Services
from usageaudit.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
KINDS = 500
USE_CASE = "social_scoring"


def emitted_at(event_id: str) -> float:
    """Return when a violating event was emitted, in seconds since 1970."""
    return int(event_id.rpartition("-")[2]) / 1e6


@contextmanager
def violating(stream: str, rate: float, events: int, every: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run the service; it is gone when the block ends."""
    command = [sys.executable, "-m", "tests.endurance.violating", stream]
    command += ["--rate", str(rate), "--events", str(events), "--every", str(every)]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def main(arguments: Sequence[str]) -> None:
    """Publish what the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stream")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--every", type=int, required=True)
    given = parser.parse_args(arguments)
    events = [data for _, data in islice(iter(Services(Random(3)).event, None), KINDS)]
    with Publisher(given.stream, source="//tests/violating") as publisher:
        begun = time.perf_counter()
        for number in range(given.events):
            ahead = begun + number / given.rate - time.perf_counter()
            if ahead > 0:
                time.sleep(ahead)
            data = events[number % KINDS]
            if number % given.every:
                publisher.emit(data, id=f"e-{number}")
                continue
            data = {**data, "purpose": {"use_case": USE_CASE}, "conversation_id": f"c-{number}"}
            publisher.emit(data, id=f"v-{number}-{time.time_ns() // 1000}")


if __name__ == "__main__":
    main(sys.argv[1:])
