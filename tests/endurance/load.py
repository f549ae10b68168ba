"""Events at a given rate, or as fast as they go, from a process of its own that keeps a journal.

    python -m tests.endurance.load BOOTSTRAP TOPIC JOURNAL --name NAME --events N [--rate EVENTS_PER_SECOND]

Cheap to make: the bodies are drawn and encoded before, and only id and time are put in. The ids are NAME-0, NAME-1 …,
so that whoever counts can tell which are missing. The client is confluent-kafka, idempotent and never giving up; it
shares no code with the publisher or the consumer. The journal gets a JSON line each second and one at the end.
SIGTERM ends the load early: what was handed over is delivered first.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from confluent_kafka import Producer

from tests.benchmarks.events import usage_events

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
BODIES = 500
TICK_SECONDS = 0.02
DELIVERY_SECONDS = 900
_PRODUCER = {
    "enable.idempotence": True,
    "message.timeout.ms": 0,
    "compression.type": "lz4",
    "linger.ms": 20,
    "queue.buffering.max.messages": 200_000,
    "queue.buffering.max.kbytes": 400_000,
    "reconnect.backoff.max.ms": 1_000,
    "log_level": 0,
}


@dataclass(slots=True)
class Tally:
    """What was handed to the client, and what the broker said of it."""

    sent: int = 0
    acknowledged: int = 0
    failed: int = 0

    def delivered(self, error: Any, _message: Any) -> None:
        """Count an answer of the broker."""
        if error is None:
            self.acknowledged += 1
        else:
            self.failed += 1


@dataclass(slots=True)
class Generator:
    """The running load."""

    producer: Any
    topic: str
    name: str
    journal: IO[str]
    tally: Tally = field(default_factory=Tally)
    stopped: bool = False
    _bodies: list[tuple[bytes, bytes]] = field(default_factory=lambda: list(bodies()))
    _noted: float = 0.0

    def stop(self, *_: object) -> None:
        """Send no more."""
        self.stopped = True

    def run(self, events: int, rate: float) -> None:
        """Send so many events at a rate, without one as fast as the client takes them; wait for all answers."""
        begun = time.monotonic()
        while self.tally.sent < events and not self.stopped:
            due = min(events, int((time.monotonic() - begun) * rate)) if rate else events
            self._send(min(due, self.tally.sent + 5_000))
            self._note()
            if rate and self.tally.sent >= due:
                self.producer.poll(TICK_SECONDS)
        until = time.monotonic() + DELIVERY_SECONDS
        while len(self.producer) and time.monotonic() < until:
            self.producer.poll(0.1)
            self._note()
        self._note(done=True)

    def _send(self, until: int) -> None:
        # The time is that of the group: events of one millisecond and less apart differ by their ids.
        now = time.time_ns() // 1_000_000
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 1000)) + f".{now % 1000:03}Z"
        middle = moment.encode()
        while self.tally.sent < until:
            number = self.tally.sent
            event_id = b"%s-%d" % (self.name.encode(), number)
            head, rest = self._bodies[number % BODIES]
            value = b'{"specversion":"1.0","id":"' + event_id + head + middle + rest
            try:
                self.producer.produce(self.topic, value, event_id, on_delivery=self.tally.delivered)
            except BufferError:
                self.producer.poll(0.05)
                return
            self.tally.sent += 1
        self.producer.poll(0)

    def _note(self, *, done: bool = False) -> None:
        if not done and time.monotonic() < self._noted + 1.0:
            return
        self._noted = time.monotonic()
        tally = self.tally
        line = {"at": time.time(), "sent": tally.sent, "acknowledged": tally.acknowledged, "failed": tally.failed}
        self.journal.write(json.dumps({**line, "done": done}) + "\n")
        self.journal.flush()


def bodies() -> Iterator[tuple[bytes, bytes]]:
    """Yield what stands between an event's id and its time, and what stands after it."""
    for event in usage_events(BODIES):
        after_id = event.value.index(b'","source"')
        time_at = event.value.index(b'"time":"') + len(b'"time":"')
        yield event.value[after_id:time_at], event.value[event.value.index(b'"', time_at) :]


class Load:
    """The generator as a process."""

    def __init__(self, folder: Path, bootstrap: str, topic: str, name: str, events: int, rate: float = 0.0) -> None:
        self.name, self.journal = name, folder / f"load-{name}.jsonl"
        command = [sys.executable, "-m", "tests.endurance.load", bootstrap, topic, str(self.journal)]
        command += ["--name", name, "--events", str(events), "--rate", str(rate)]
        self.process = subprocess.Popen(command, cwd=ROOT)

    @property
    def last(self) -> dict[str, Any]:
        """The last line of its journal."""
        lines = self.journal.read_text(encoding="utf-8").splitlines() if self.journal.exists() else []
        complete = [line for line in lines[-2:] if line.endswith("}")]
        return dict(json.loads(complete[-1])) if complete else {"sent": 0, "acknowledged": 0, "failed": 0}

    def stop(self) -> None:
        """Let it send no more."""
        self.process.send_signal(signal.SIGTERM)

    def finish(self, seconds: float) -> int:
        """Wait for its end and return how many events were acknowledged: by its journal, all that it sent."""
        assert self.process.wait(seconds) == 0
        last = self.last
        assert last["done"]
        assert last["failed"] == 0
        assert last["sent"] == last["acknowledged"]
        return int(last["acknowledged"])


@contextmanager
def loading(folder: Path, bootstrap: str, topic: str, name: str, events: int, rate: float = 0.0) -> Iterator[Load]:
    """Run a load; it is gone when the block ends."""
    load = Load(folder, bootstrap, topic, name, events, rate)
    try:
        yield load
    finally:
        load.process.kill()
        load.process.wait()


def main(arguments: Sequence[str]) -> None:
    """Send what the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("journal", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--rate", type=float, default=0.0)
    given = parser.parse_args(arguments)
    producer = Producer({**_PRODUCER, "bootstrap.servers": given.bootstrap})
    with given.journal.open("a", encoding="utf-8") as journal:
        generator = Generator(producer, given.topic, given.name, journal)
        signal.signal(signal.SIGTERM, generator.stop)
        generator.run(given.events, given.rate)


if __name__ == "__main__":
    main(sys.argv[1:])
