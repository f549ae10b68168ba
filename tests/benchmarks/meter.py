"""What a path costs: wall time, processor time of the consumer and of both servers, and the consumer's memory.

Processor time is what the kernel counted (proc(5), wait4(2)), user and system, over all threads. Reads /proc: Linux.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import resource
    from collections.abc import Callable, Iterator, Mapping, Sequence

TICKS = os.sysconf("SC_CLK_TCK")
SAMPLE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of wall time and of processor time, by process, and the most memory that the consumer held, in bytes.

    `merge` is ClickHouse's for merging all that was written into one part, once; it is no part of `clickhouse`.
    """

    wall: float
    consumer: float
    clickhouse: float
    kafka: float
    memory: int
    merge: float = 0.0

    @property
    def total(self) -> float:
        """Processor time of the consumer and of ClickHouse; the broker does the same for all."""
        return self.consumer + self.clickhouse

    def net_of(self, start: Cost) -> Cost:
        """Return the cost without that of starting, measured on a topic of a few events; memory stays as it was."""
        times = {name: max(0.0, getattr(self, name) - getattr(start, name)) for name in _TIMES}
        return replace(self, **times)


_TIMES = ("wall", "consumer", "clickhouse", "kafka")


class ChildError(Exception):
    """A measured process failed; the message ends with what it said last."""


@dataclass(slots=True)
class Measured:
    """The measurement of a path while it runs; `cost` is complete when the block is left."""

    wall: float = 0.0
    consumer: float = 0.0
    memory: int = 0
    cost: Cost | None = None

    def child(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run the path as a child process and take its wall time, processor time and memory for the consumer's."""
        with tempfile.TemporaryFile() as said:
            started = time.monotonic()
            process = subprocess.Popen(
                command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
            try:
                usage = self._wait(process)
            except BaseException:
                process.kill()
                process.wait()
                raise
            self.wall = time.monotonic() - started
            self.consumer = usage.ru_utime + usage.ru_stime
            if process.returncode != 0:
                said.seek(0)
                raise ChildError(f"{command[0]} ended with {process.returncode}: …{said.read()[-4000:].decode()}")

    def between(self, begun: Callable[[], bool], done: Callable[[], bool], seconds: float) -> None:
        """Wait until a path that is no process of its own is done; its wall time is that since it had begun."""
        deadline = time.monotonic() + seconds
        _wait_until(begun, deadline)
        started = time.monotonic()
        _wait_until(done, deadline)
        self.wall = time.monotonic() - started

    def _wait(self, process: subprocess.Popen[bytes]) -> resource.struct_rusage:
        while True:
            self.memory = max(self.memory, peak_memory(process.pid))
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                return usage
            time.sleep(SAMPLE_SECONDS)


@contextmanager
def measuring(clickhouse: int, kafka: int) -> Iterator[Measured]:
    """Measure the block, with the processor time that two servers spend meanwhile."""
    measured = Measured()
    before = cpu_seconds(clickhouse), cpu_seconds(kafka)
    yield measured
    spent = cpu_seconds(clickhouse) - before[0], cpu_seconds(kafka) - before[1]
    measured.cost = Cost(measured.wall, measured.consumer, *spent, measured.memory)


def _wait_until(condition: Callable[[], bool], deadline: float) -> None:
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the path did not get there in time")
        time.sleep(SAMPLE_SECONDS)


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used so far."""
    # The name of the program stands in parentheses and may hold spaces: fields 14 and 15 are counted behind it.
    after = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(after[11]) + int(after[12])) / TICKS


def peak_memory(pid: int) -> int:
    """Return the most physical memory that a process has had, in bytes; 0 for one that has ended."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    return int(found[1]) * 1024 if found else 0
