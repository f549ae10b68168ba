"""A small disk of a test's own: a tmpfs that can be filled, emptied and made larger. Mounting needs root."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BALLAST = "ballast"
_PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Disk:
    """A mounted tmpfs."""

    path: Path

    def fill(self, room: int = 0) -> None:
        """Write until nothing fits any more, and then leave so many bytes of room."""
        with (self.path / _BALLAST).open("ab", buffering=0) as file:
            for size in (_PIECE, 4_096, 512, 1):
                try:
                    while file.write(b"\0" * size):
                        pass
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
            file.truncate(file.tell() - room)

    def empty(self) -> None:
        """Remove what `fill` wrote."""
        (self.path / _BALLAST).unlink()

    def enlarge(self, mebibytes: int) -> None:
        """Mount it again with another size, as an administrator gives a full disk more room."""
        subprocess.run(["mount", "-o", f"remount,size={mebibytes}m", self.path], check=True)


@contextmanager
def small_disk(path: Path, mebibytes: int) -> Iterator[Disk]:
    """Mount a disk of so many MiB; it is gone when the block ends. Skips the test where mounting is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("a small disk is mounted as a tmpfs, which needs root")
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0700", "usageaudit-test", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small disk can't be mounted here: {done.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
