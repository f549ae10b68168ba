"""A campaign: events come in without a break, a victim is struck again and again, and one audit at the end decides.

The servers are those of the test run; the topic, the database, the group and the journals are the campaign's own. The
audit is a process of its own that knows nothing of the product (`tests/faults/auditor.py`).
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import time
import uuid
from bisect import bisect_right
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults.nursery import SIGKILLED, Process, running
from tests.faults.report import Line, append

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.servers.clickhouse import ClickHouse
    from tests.servers.kafka import Kafka

AUDITOR = Path(__file__).with_name("auditor.py")
LONG = os.environ.get("USAGEAUDIT_TEST_FAULTS") == "long"
"""Whether this is the long form: more faults at each point."""
TRIES = 20 if LONG else 1
CONTROL_TRIES = 4 if LONG else 1
STRIKE_SECONDS = 240
CATCH_UP_SECONDS = 300
STARTS = 5
CONSUMER, TRAFFIC = "tests.faults.child", "tests.faults.traffic"


@dataclass(frozen=True, slots=True)
class Audit:
    """What the auditor found; `doubled` counts offsets, too, and `wrong` is what is neither lost nor doubled."""

    found: Mapping[str, Any]

    @property
    def exact(self) -> bool:
        """Whether nothing is lost, doubled, or otherwise wrong."""
        return bool(self.found["exact"])

    @property
    def events(self) -> int:
        """Acknowledged events."""
        return int(self.found["acknowledged"])

    @property
    def lost(self) -> int:
        """Acknowledged events, copies and broken records that the ledger does not have."""
        return sum(int(self.found[name]) for name in ("lost", "copies_lost", "broken_lost"))

    @property
    def doubled(self) -> int:
        """Rows too many."""
        return max(int(self.found["doubled"]), int(self.found["offsets_doubled"]))

    @property
    def wrong(self) -> int:
        """Other differences."""
        names = ("other_statuses", "unreported_holes", "gaps_recorded_all_the_same", "aggregates_differ")
        return sum(int(self.found[name]) for name in (*names, "batches_of_unkept_bundles"))


@dataclass
class Campaign:
    """The world of one campaign, and what happened in it: `faults` are moments of the monotonic clock."""

    folder: Path
    kafka: Kafka
    clickhouse: ClickHouse
    name: str = field(default_factory=lambda: f"campaign_{uuid.uuid4().hex[:12]}")
    faults: list[float] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    options: str = "&session_timeout_ms=1000&instance=victim"

    @property
    def journals(self) -> Path:
        """The folder of the journals."""
        return self.folder / "journals"

    @property
    def stream(self) -> str:
        """The URL of the stream, as a static member of its group: one that starts again gets its partitions at once."""
        return f"{self.kafka.url}?topic={self.name}&group={self.name}{self.options}"

    @property
    def store(self) -> str:
        """The URL of the store."""
        return self.clickhouse.database_url(self.name)

    def consumer(self, *options: str, stream: str = "") -> Process:
        """Start a consumer; whoever starts it has to end it."""
        process = Process(self.folder, CONSUMER, stream or self.stream, self.store, *options)
        self.logs.append(process.log)
        return process

    @contextmanager
    def traffic(self, *options: str) -> Iterator[Process]:
        """Let events come in while the block runs; all of them are acknowledged when it ends."""
        journal = self.journals / f"{time.monotonic_ns()}.journal"
        arguments = (self.kafka.bootstrap, self.name, str(journal), *options)
        with running(self.folder, TRAFFIC, *arguments) as process:
            yield process
            assert process.end(300) == 0, process.said()

    def killed_at(self, point: str, nth: int, *options: str) -> None:
        """Run a consumer until it has killed itself at a point."""
        self._supervised(SIGKILLED, STRIKE_SECONDS, "--at", point, "--nth", str(nth), *options)
        self.faults.append(time.monotonic())

    def finish(self, *options: str) -> None:
        """Let a consumer record all that is left, in large batches."""
        self._supervised(0, CATCH_UP_SECONDS, "--until-caught-up", *options)

    def _supervised(self, expected: int, seconds: float, *options: str) -> None:
        """Run a consumer until it ends as expected; start it again, as any supervisor does, where it found no server.

        A broker on a machine that is overloaded loses its own controller for a while.
        """
        for attempt in range(STARTS):
            process = self.consumer(*options)
            try:
                code = process.wait(seconds)
            finally:
                process.kill()
            if code == expected:
                return
            assert "Unavailable" in process.said() and attempt < STARTS - 1, process.said()  # noqa: PT018

    def recovered(self) -> Sequence[float]:
        """Return the median and the largest number of seconds from a fault to the next batch that was recorded."""
        recorded = self._recorded()
        next_ones = [(fault, bisect_right(recorded, fault)) for fault in self.faults]
        waits = [recorded[place] - fault for fault, place in next_ones if place < len(recorded)]
        return [round(statistics.median(waits), 3), round(max(waits), 3)] if waits else []

    def last_recorded(self) -> float:
        """Return when the last batch was recorded, as the monotonic clock has it; 0 where none was."""
        return max(self._recorded(), default=0.0)

    def _recorded(self) -> list[float]:
        return sorted(
            float(line.partition(": ")[2])
            for log in self.logs
            for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
            if line.startswith("recorded: ")
        )

    def audit(self) -> Audit:
        """Let the auditor compare journals and ledger."""
        command = [sys.executable, "-I", "-S", str(AUDITOR), str(self.journals)]
        url = f"http://127.0.0.1:{self.clickhouse.http_port}"
        done = subprocess.run([*command, url, self.name], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode in (0, 1), done.stderr
        return Audit(json.loads(done.stdout))

    def close(self) -> None:
        """Drop what the campaign has put into the store."""
        self.clickhouse.execute(f"DROP DATABASE IF EXISTS {self.name} SYNC")


@contextmanager
def campaign(folder: Path, kafka: Kafka, clickhouse: ClickHouse, partitions: int = 2) -> Iterator[Campaign]:
    """Make the world of a campaign, and clear it away."""
    made = Campaign(folder / uuid.uuid4().hex[:8], kafka, clickhouse)
    made.journals.mkdir(parents=True)
    kafka.create_topic(made.name, partitions=partitions)
    clickhouse.execute(f"CREATE DATABASE {made.name}")
    with ExitStack() as stack:
        stack.callback(made.close)
        yield made


def report(
    one: Campaign, audit: Audit, victim: str, fault: str, point: str, *, control: str = "", also: int = 0
) -> None:
    """Append the campaign's line to the report."""
    append(
        Line(
            *(victim, fault, point, len(one.faults) - also, audit.events, audit.lost, audit.doubled),
            control=control,
            also=also,
            wrong=audit.wrong,
            recovered_s=one.recovered() if victim != "publisher" else (),  # there nobody consumes until the end
        )
    )


def wait_until(what: str, condition: Callable[[], bool], seconds: float = 240) -> None:
    """Wait for a condition; fail with what was waited for."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds} s in vain for: {what}"
        time.sleep(0.02)
