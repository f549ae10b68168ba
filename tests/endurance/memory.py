"""The memory of a process over time, as the kernel counts it (proc(5)): what it holds, the most it held, the slope."""

from __future__ import annotations

import re
import statistics
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024


def resident(pid: int) -> int:
    """Return the physical memory that a process has now, in bytes; 0 for one that has ended."""
    return _read(pid, "VmRSS")


def peak(pid: int) -> int:
    """Return the most physical memory that a process has had, in bytes; 0 for one that has ended."""
    return _read(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    """Let `peak` begin anew with what the process holds now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="utf-8")


def _read(pid: int, name: str) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = re.search(rf"{name}:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


@dataclass(slots=True)
class Samples:
    """Resident sizes of one process: seconds of the monotonic clock, bytes."""

    times: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def floor(self, seconds: float) -> Samples:
        """Return the smallest size of every so many seconds: what is held between batches, not what one takes."""
        lowest: dict[int, tuple[float, int]] = {}
        for at, size in zip(self.times, self.sizes, strict=True):
            slot = int((at - self.times[0]) // seconds)
            if slot not in lowest or size < lowest[slot][1]:
                lowest[slot] = (at, size)
        return Samples([at for at, _ in lowest.values()], [size for _, size in lowest.values()])

    def slope(self, settle: float) -> float | None:
        """Return the growth in bytes per hour by least squares, leaving out the first `settle` seconds.

        None where what is left is shorter than what was left out: a process that has just started always grows.
        """
        start = self.times[0] + settle if self.times else 0.0
        kept = [(at, size) for at, size in zip(self.times, self.sizes, strict=True) if at >= start]
        if len(kept) < 3 or kept[-1][0] - kept[0][0] < settle:
            return None
        return statistics.linear_regression(*zip(*kept, strict=True)).slope * 3600


class MemoryWatch:
    """Notes the resident size of processes once in a while, each under its id."""

    def __init__(self) -> None:
        self.samples: dict[int, Samples] = {}

    def look(self, pid: int) -> None:
        """Note the size of a process now."""
        if size := resident(pid):
            samples = self.samples.setdefault(pid, Samples())
            samples.times.append(time.monotonic())
            samples.sizes.append(size)

    @property
    def most(self) -> int:
        """The largest size seen of any of them."""
        return max((max(one.sizes) for one in self.samples.values()), default=0)


@contextmanager
def watching(pid: int, seconds: float = 0.5) -> Iterator[MemoryWatch]:
    """Note the size of one process again and again while the block runs."""
    watch, over = MemoryWatch(), threading.Event()

    def run() -> None:
        while not over.wait(seconds):
            watch.look(pid)

    thread = threading.Thread(target=run, name="memory-watch")
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()
