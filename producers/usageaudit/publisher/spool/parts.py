"""The files of a spool, as the file system sees them."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from usageaudit.errors import StreamUnavailable

if TYPE_CHECKING:
    from pathlib import Path


def parts(path: Path) -> tuple[Path, Path, Path]:
    """Return a file of SQLite with the two that it has beside it."""
    return path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


def make(path: Path, what: str) -> None:
    """Make the file where there is none, for its mode; one that exists is never opened beside SQLite.

    Raises StreamUnavailable, which says `what` it is.
    """
    try:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StreamUnavailable(f"{what}: it can't be made: {error.strerror or error}") from error


def size(path: Path) -> int:
    """Return the size of a file in bytes, 0 where it can't be asked for."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def taken(path: Path) -> int:
    """Return what a file of SQLite takes on disk, in bytes, with the two beside it."""
    return sum(map(size, parts(path)))


def free(path: Path) -> int:
    """Return the free bytes of the disk under a file, 0 where they can't be asked for."""
    try:
        found = os.statvfs(path)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


def inode(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from others of the same name, None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116  four times as fast as the method, and asked for at every commit
    except OSError:
        return None
    return found.st_dev, found.st_ino
