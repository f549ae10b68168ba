"""Looks again and again at what the main loop does not see while it has nothing to do: store, spools and disks.

A thread of its own, so that a store that hangs delays no answer over HTTP: readers get what was seen last, and how long
the present look has taken.
"""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import structlog

from usageaudit.errors import ConfigurationError, QueryError, Unavailable, UsageAuditError
from usageaudit.publisher.spool.folder import statuses
from usageaudit.stores.migrate import pending

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from usageaudit.publisher.spool.folder import SpoolStatus
    from usageaudit.stores.port import Store

log = structlog.get_logger("usageaudit.operating")

LOOK_SECONDS = 5.0
LATE_SECONDS = 5.0
"""How long the store may take to say that it is there."""
END_SECONDS = 1.0


class Disk(NamedTuple):
    """Bytes of the disk under a folder."""

    free: int
    size: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen last: whether the store answered and has every migration, the spools, the disk of each folder."""

    reachable: bool = False
    migrated: bool = False
    spools: tuple[SpoolStatus, ...] = ()
    disks: Mapping[str, Disk] = field(default_factory=dict)


@dataclass(slots=True)
class Watch:
    """Watches a store, which is another one of the same address, and folders by name; a context manager that starts it.

    `spool` is the folder of publishers' spools on this machine, None where none is watched.
    """

    store: Store
    folders: Mapping[str, Path]
    spool: Path | None = None
    _seen: Seen = field(default_factory=Seen)
    _asked: float | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._run, name="usageaudit-watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(END_SECONDS)  # a store that hangs does not keep the process

    @property
    def seen(self) -> Seen:
        """What was seen last."""
        return self._seen

    def reachable(self) -> bool:
        """Tell whether the store answered when it was last asked, is not late now, and somebody is there to ask it."""
        asked = self._asked
        if self._thread is None or not self._thread.is_alive():
            return False
        return self._seen.reachable and (asked is None or time.monotonic() - asked < LATE_SECONDS)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._look()
            except (OSError, sqlite3.Error, UsageAuditError) as error:
                self._fail(error)
            self._stop.wait(LOOK_SECONDS)
        self.store.close()

    def _fail(self, error: Exception) -> None:
        """Let nobody take what was seen before for what is so now."""
        self._asked = None
        self._seen = replace(self._seen, reachable=False)
        log.warning("could not look at store, spools and disks", cause=str(error), seconds=LOOK_SECONDS)

    def _look(self) -> None:
        before = self._seen
        spools = tuple(statuses(self.spool)) if self.spool is not None else ()
        disks = {name: disk for name, folder in self.folders.items() if (disk := _disk(folder)) is not None}
        self._asked = time.monotonic()
        reachable, migrated, cause = self._ask()
        self._asked = None
        self._seen = Seen(reachable, migrated, spools, disks)
        if cause and (before.reachable, before.migrated) != (reachable, migrated):
            log.warning("the store is not as it has to be", cause=cause)

    def _ask(self) -> tuple[bool, bool, str]:
        """Return whether the store answers and has every migration, and why not."""
        try:
            lacking = pending(self.store)
        except Unavailable as error:
            return False, False, str(error)
        except (ConfigurationError, QueryError) as error:
            return True, False, str(error)
        return True, not lacking, f"migrations are pending: {len(lacking)}" if lacking else ""


def _disk(folder: Path) -> Disk | None:
    """Return the disk under a folder or the nearest one above it, None where it can't be told."""
    try:
        there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.is_dir())
        usage = shutil.disk_usage(there)
    except (OSError, StopIteration):
        return None
    return Disk(usage.free, usage.total)
