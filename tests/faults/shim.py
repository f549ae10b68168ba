"""Kills a process at a chosen system call, or moves its clock, by a small library that is preloaded into it.

Killing at random is too weak: what goes wrong between two system calls of a server that runs for hours is found by
killing it right there.
"""

from __future__ import annotations

import functools
import mmap
import shutil
import struct
import subprocess
import sys
import tempfile
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCE = Path(__file__).with_name("shim.c")
PATH_BYTES = 4056
# `struct control` of shim.c
CLOCK, COUNTDOWN, KINDS, MOMENT, SEEN, PATH = 0, 8, 16, 24, 32, 40
SIZE = PATH + PATH_BYTES


class Call(IntFlag):
    """Kinds of system calls."""

    WRITE = 1
    RENAME = 2
    MKDIR = 4
    UNLINK = 8
    SYNC = 16
    LINK = 32


class Moment(IntEnum):
    """When the process is killed: before the call, after it, or after half of what it was to write."""

    BEFORE = 0
    AFTER = 1
    HALFWAY = 2


def lacking() -> str | None:
    """Say what keeps this machine from using it, or None."""
    if sys.platform != "linux":
        return "a library is preloaded (LD_PRELOAD) on Linux only"
    return None if shutil.which("gcc") else "gcc is not on the PATH, with which tests/faults/shim.c is compiled"


@functools.cache
def library() -> Path:
    """Return the compiled library."""
    made = Path(tempfile.mkdtemp(prefix="usageaudit-shim-")) / "shim.so"
    command = ["gcc", "-shared", "-fPIC", "-O2", "-o", str(made), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return made


class Shim:
    """What one process is told, by a file that both map into memory."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "fault-control"
        self._file.write_bytes(bytes(SIZE))
        with self._file.open("r+b") as opened:
            self._memory = mmap.mmap(opened.fileno(), SIZE)

    @property
    def environment(self) -> Mapping[str, str]:
        """What is added to the environment of the process."""
        return {"LD_PRELOAD": str(library()), "FAULT_CONTROL": str(self._file)}

    def arm(self, kinds: Call, path: str, countdown: int, moment: Moment = Moment.BEFORE) -> None:
        """Kill the process at the n-th call of these kinds on a path that contains `path`."""
        self._put(COUNTDOWN, 0)
        text = path.encode()
        self._memory[PATH : PATH + len(text) + 1] = text + b"\0"
        self._put(KINDS, int(kinds))
        self._put(MOMENT, int(moment))
        self._put(SEEN, 0)
        self._put(COUNTDOWN, countdown)

    def disarm(self) -> int:
        """Kill no more; return how many calls were counted since it was armed."""
        self._put(COUNTDOWN, 0)
        return self._get(SEEN)

    def set_clock(self, seconds: float) -> None:
        """Let the wall clock of the process be wrong by so many seconds."""
        self._put(CLOCK, int(seconds * 1e9))

    def _put(self, at: int, value: int) -> None:
        self._memory[at : at + 8] = struct.pack("=q", value)

    def _get(self, at: int) -> int:
        return int(struct.unpack("=q", self._memory[at : at + 8])[0])
