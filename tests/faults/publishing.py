"""A service that publishes and is killed at a chosen point: run as a process of its own.

    python -m tests.faults.publishing STREAM SPOOL JOURNAL [--at POINT --nth N] [--without PROTECTION] [--events N]
        [--pause SECONDS]

It is the shipped Publisher; a line is written to the journal after `emit(..., durable=True)` has returned. With
`--drain` it publishes nothing, and ships what dead ones left in their spools.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults.points import Fault
from usageaudit.errors import PublishError
from usageaudit.publisher import Publisher
from usageaudit.publisher import kafka as adapter
from usageaudit.publisher.buffer import Buffer
from usageaudit.publisher.spool.draining import drain
from usageaudit.publisher.spool.file import SpoolFile
from usageaudit.stream_url import parse_stream_url

if TYPE_CHECKING:
    from collections.abc import Sequence

POINTS = (
    "before queue",
    "after queue",
    "before spool",
    "after spool",
    "before sending",
    "before the acknowledgement",
    "after the acknowledgement",
    "before deletion from the spool",
    "after deletion from the spool",
)
PROTECTIONS = ("spool", "acknowledgement", "idempotence")
CALLS: Sequence[tuple[type, str, str, str]] = (
    (Buffer, "put", "before queue", "after queue"),
    (SpoolFile, "append", "before spool", "after spool"),
    (adapter.KafkaOutlet, "ship", "before sending", "after the acknowledgement"),
    (adapter.KafkaOutlet, "_await", "before the acknowledgement", ""),
    (SpoolFile, "settle", "before deletion from the spool", "after deletion from the spool"),
)
"""Calls of the publisher with the points before and after them."""
THREADS = 2
DRAIN_SECONDS = 60
SETTLING_SECONDS = 10


def put_points_around(calls: Sequence[tuple[type, str, str, str]], fault: Fault) -> None:
    """Let the calls of this process pass the points."""
    for owner, name, before, after in calls:
        setattr(owner, name, _passing(getattr(owner, name), fault, before, after))


def _passing(call: Any, fault: Fault, before: str, after: str) -> Any:
    def passing(*arguments: Any, **named: Any) -> Any:
        fault.at(before)
        result = call(*arguments, **named)
        fault.at(after)
        return result

    return passing


class Service:
    """Publishes from several threads, and writes down what the publisher says is safe."""

    def __init__(self, publisher: Publisher, source: str, journal: Path, *, durable: bool, pause: float) -> None:
        self._publisher, self._source, self._durable, self._pause = publisher, source, durable, pause
        self._journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def work(self, thread: int, events: int, stop: threading.Event) -> None:
        """Publish until told to stop, or so many events."""
        number = 0
        while not stop.is_set() and number < events:
            number += 1
            event_id = f"{thread}-{number}"
            if self._is_safe(event_id, number):
                os.write(self._journal, f"event\t{self._source}\t{event_id}\t{number}\n".encode())
            if self._pause:
                stop.wait(self._pause)

    def _is_safe(self, event_id: str, number: int) -> bool:
        data = {
            "operation": "chat",
            "model": {"provider": "azure.ai.openai", "name": "gpt-4-turbo"},
            "actor": {"id": f"u-{number % 97}"},
            "application": {"name": f"application-{number % 7}"},
            "usage": {"input_tokens": number % 1000},
        }
        try:
            return self._publisher.emit(data, id=event_id, durable=self._durable) is not None
        except PublishError:
            return False


def _weaken(without: Sequence[str]) -> None:
    """Take protections away from the Kafka producer of this process."""
    if "acknowledgement" in without:
        adapter.SETTINGS |= {"acks": 0, "enable_idempotence": False}
    if "idempotence" in without:
        adapter.SETTINGS |= {"enable_idempotence": False, "max_in_flight_requests_per_connection": 5}


def main(arguments: Sequence[str]) -> None:
    """Publish until told to stop, or until the fault strikes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stream")
    parser.add_argument("spool", type=Path)
    parser.add_argument("journal", type=Path)
    parser.add_argument("--at", choices=POINTS, default="")
    parser.add_argument("--nth", type=int, default=1)
    parser.add_argument("--without", choices=PROTECTIONS, action="append", default=[])
    parser.add_argument("--events", type=int, default=2**62)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--drain", action="store_true")
    given = parser.parse_args(arguments)
    _weaken(given.without)
    if given.drain:
        shipped, left, error = drain(given.spool, parse_stream_url(given.stream), None, DRAIN_SECONDS)
        print(f"shipped {shipped}, left {left} {error}", flush=True)
        sys.exit(1 if left else 0)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    put_points_around(CALLS, Fault(given.at, given.nth, "kill"))
    spooled = "spool" not in given.without
    source = f"//services/{uuid.uuid4()}"
    with Publisher(given.stream, source=source, spool=given.spool if spooled else None) as publisher:
        service = Service(publisher, source, given.journal, durable=spooled, pause=given.pause)
        threads = [
            threading.Thread(target=service.work, args=(number, given.events, stop), daemon=True)
            for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.1)  # signals are handled between two of these
    print(f"stats {publisher.stats}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
