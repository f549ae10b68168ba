"""Who owns a spool file: whoever holds the lock on the file beside it.

The kernel drops the lock with the process, however that ends; a process id would say nothing, since another process
may have it by then. The lock belongs to the open file, so a forked child has to close its copy.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from usageaudit.errors import StreamUnavailable

if TYPE_CHECKING:
    from pathlib import Path

_SHOWN_BYTES = 64


class OwnerLock:
    """The lock of a spool, held until `release` or the end of the process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)  # a child that drops this must not keep the lock
        self._close.atexit = False

    @classmethod
    def acquire(cls, path: Path) -> Self | None:
        """Take the lock, making its file where there is none; None where another process or publisher has it.

        Raises StreamUnavailable where the file can't be made or opened.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StreamUnavailable(
                f"spool {path.parent}: {error.strerror or error}; the folder has to lie on a local disk with space and "
                "be writable by this user"
            ) from error
        if not _locked(descriptor, fcntl.LOCK_EX) or not _is_at(path, descriptor):
            os.close(descriptor)
            return None
        return cls(path, descriptor)

    def is_held(self) -> bool:
        """Tell whether the lock's file still has its name, without which others see no lock."""
        return self._close.alive and _is_at(self.path, self._descriptor)

    def sign(self) -> None:
        """Note this process's id for people who look; nothing relies on it."""
        with suppress(OSError):  # the disk may be full
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def release(self, *, remove: bool) -> None:
        """Let go of the lock, and remove its file where the spool is no more."""
        if remove and self.is_held():  # else it is somebody else's by now
            with suppress(OSError):  # it is no more than litter, which the next one removes
                self.path.unlink(missing_ok=True)
        self.forget()

    def forget(self) -> None:
        """Close the file. In a forked child the parent keeps the lock."""
        self._close()


def is_held(path: Path) -> bool:
    """Tell whether a lock has a living owner."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _locked(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def signed_by(path: Path) -> str:
    """Return the process id that the owner noted; empty where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(_SHOWN_BYTES).decode("ascii", "replace")
    except OSError:
        return ""


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    """Tell whether the file still has its name: an owner that finished removes it while others wait to open it."""
    try:
        found = os.stat(path)  # noqa: PTH116  four times as fast as the method, and asked for at every commit
    except OSError:
        return False
    held = os.fstat(descriptor)
    return (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)
