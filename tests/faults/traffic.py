"""Traffic for a campaign: records go to a topic, and a line to the journal when the broker has acknowledged them.

    python -m tests.faults.traffic BOOTSTRAP TOPIC JOURNAL [--rate N] [--events N] [--copies N] [--broken N]

It knows nothing of the product, speaks to the broker by itself, and goes on until it is told to stop (SIGTERM) or has
sent so many events. With `--copies N` every event is sent up to N times, copies far apart from each other and out of
order; with `--broken N` every N-th record is no event.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kafka import KafkaProducer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

GROUP_SECONDS = 0.05
LATER = 40
"""How many records later a copy comes, at most."""


def event(source: str, number: int) -> bytes:
    """Return an event as it lies on the stream."""
    minute, second = divmod(number // 10 % 3600, 60)
    return json.dumps(
        {
            "specversion": "1.0",
            "id": f"e-{number}",
            "source": source,
            "type": "io.usageaudit.model_usage.v1",
            "time": f"2024-05-17T09:{minute:02}:{second:02}Z",
            "datacontenttype": "application/json",
            "data": {
                "operation": "chat",
                "model": {"provider": "azure.ai.openai", "name": "gpt-4-turbo"},
                "actor": {"id": f"u-{number % 97}"},
                "application": {"name": f"application-{number % 7}"},
                "usage": {"input_tokens": number % 1000},
            },
        }
    ).encode()


class Traffic:
    """Sends records and writes down what was acknowledged."""

    def __init__(self, bootstrap: str, topic: str, journal: Path, copies: int, broken: int) -> None:
        self._producer: Any = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5, batch_size=131_072)
        self._topic, self._copies, self._broken = topic, copies, broken
        self._journal = journal.open("a", encoding="utf-8")
        self._source = f"//traffic/{uuid.uuid4()}"
        self._chance = random.Random(7)
        self._waiting: list[tuple[int, int]] = []  # records from now on until a copy, and its number

    def send(self, first: int, count: int) -> None:
        """Send so many events from a number on, and write down what the broker has acknowledged."""
        sent = [
            (line, self._producer.send(self._topic, value, key=key)) for line, key, value in self._records(first, count)
        ]
        self._producer.flush()
        for line, future in sent:
            future.get(timeout=300)
            self._journal.write(line)
        self._journal.flush()

    def _records(self, first: int, count: int) -> Iterator[tuple[str, bytes, bytes]]:
        for number in range(first, first + count):
            yield self._record(number)
            for _ in range(self._chance.randrange(self._copies)):
                self._waiting.append((self._chance.randrange(LATER), number))
            due = [again for left, again in self._waiting if left == 0]
            self._waiting = [(left - 1, again) for left, again in self._waiting if left > 0]
            self._chance.shuffle(due)
            yield from map(self._record, due)

    def _record(self, number: int) -> tuple[str, bytes, bytes]:
        broken = self._broken and number % self._broken == self._broken - 1
        value = b'{"specversion": "1.0", "id": "%d"' % number if broken else event(self._source, number)
        kind = "broken" if broken else "event"
        return f"{kind}\t{self._source}\te-{number}\t{number}\n", b"%d" % number, value


def main(arguments: Sequence[str]) -> None:
    """Send until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("journal", type=Path)
    parser.add_argument("--rate", type=int, default=40)
    parser.add_argument("--events", type=int, default=2**62)
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--broken", type=int, default=0)
    given = parser.parse_args(arguments)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    traffic = Traffic(given.bootstrap, given.topic, given.journal, given.copies, given.broken)
    number, due = 0, time.monotonic()
    group = max(int(given.rate * GROUP_SECONDS), 1)
    while not stop.is_set() and number < given.events:
        count = min(group, given.events - number)
        traffic.send(number, count)
        number += count
        due += count / given.rate
        stop.wait(max(due - time.monotonic(), 0))


if __name__ == "__main__":
    main(sys.argv[1:])
