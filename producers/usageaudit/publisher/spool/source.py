"""What stands between the thread that writes the spool and the one that ships from it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from usageaudit.errors import ConfigurationError, StreamUnavailable
from usageaudit.publisher.buffer import Item
from usageaudit.publisher.process import call_around_forks
from usageaudit.publisher.spool.folder import adopted_spools, make_folder, new_spool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from usageaudit.embedded_log import NewRecord
    from usageaudit.publisher.complaints import Complaints
    from usageaudit.publisher.port import Unsent
    from usageaudit.publisher.spool.file import SpoolFile

ADOPT_SECONDS = 30.0
"""How often a publisher looks for spools that others left behind."""
RETRY_SECONDS = 0.5


class SpoolSource:
    """The spools that a process ships from: its own, and those it adopted. Each takes its turn, group by group."""

    def __init__(self, folder: Path, stream: str | None, max_bytes: int, complaints: Complaints) -> None:
        self._folder, self._stream, self._max_bytes = folder, stream, max_bytes
        self._complaints = complaints
        self._changed = threading.Condition(threading.RLock())
        self._own: SpoolFile | None = None
        self._adopted: list[SpoolFile] = []
        self._forked: list[SpoolFile] = []
        self._turn = self._appends = 0
        self._forking = False
        self._current: SpoolFile | None = None
        self._adopt_at = 0.0
        self._closed = self._released = False
        self.acknowledged = self.failed = 0  # of the events of this process
        self.shipped = 0  # of all
        call_around_forks(self._before_fork, self._after_fork, self._in_child)

    @property
    def spools(self) -> list[SpoolFile]:
        """The own spool, where there is one yet, and those adopted."""
        with self._changed:
            return [*([self._own] if self._own else []), *self._adopted]

    @property
    def pending(self) -> int:
        """How many events wait in all of them."""
        return sum(spool.pending for spool in self.spools)

    @property
    def lost(self) -> int:
        """How many events of this process were in a file that was damaged or removed."""
        return self._own.lost if self._own else 0

    @property
    def own_pending(self) -> int:
        """How many events of this process wait in its spool."""
        return self._own.pending if self._own else 0

    def append(self, records: Sequence[NewRecord]) -> None:
        """Write records to the own spool, which is begun with the first ones; raises StreamUnavailable."""
        if self._released:
            raise StreamUnavailable(f"spool {self._folder}: the publisher was closed")
        self._closed = False
        if self._own is None:
            make_folder(self._folder)
            with self._changed:
                self._own = new_spool(self._folder, self._stream or "", self._max_bytes)
        self._own.append(records)
        with self._changed:
            self._appends += 1
            self._changed.notify_all()

    def take(self, records: int, size: int, linger: float) -> list[Item]:
        """Return the next group of one spool, waiting for it; none once it is closed and all are empty."""
        while True:
            if time.monotonic() >= self._adopt_at and not self._closed:
                self.adopt()
            seen = self._appends
            if group := self._next_group(records, size):
                return group
            with self._changed:
                pending = self.pending
                if self._closed and not pending:
                    break
                if seen == self._appends:
                    self._changed.wait(RETRY_SECONDS if pending else ADOPT_SECONDS)  # what is there can't be read now
        self.release()
        return []

    def _next_group(self, records: int, size: int) -> list[Item]:
        spools = self.spools
        for place in range(len(spools)):
            spool = spools[(self._turn + place) % len(spools)]
            if not spool.pending:
                continue
            try:
                found = spool.read(records, size)
            except (StreamUnavailable, ConfigurationError) as error:
                self._complaints.add("spool not readable", str(error))
                continue
            if found:
                self._turn += place + 1
                self._current = spool
                return [Item(one.record, None, one.number) for one in found]
        return []

    def settle(self, acknowledged: Sequence[Item], failed: Sequence[Item]) -> None:
        """Be done with records of the group that was taken; the others stay and go again."""
        spool = self._current
        if spool is None or self._released or not (acknowledged or failed):
            return
        try:
            spool.settle([item.number for item in acknowledged], [(item.number, item.reason) for item in failed])
        except (StreamUnavailable, ConfigurationError) as error:
            self._complaints.add("acknowledged events not deleted from the spool yet", str(error))
        with self._changed:
            self.shipped += len(acknowledged)
            if spool is self._own:
                self.acknowledged += len(acknowledged)
                self.failed += len(failed)
            self._changed.notify_all()
        if spool is not self._own and not spool.pending:
            self._let_go(spool)

    def adopt(self, *, refused: bool = False) -> None:
        """Take over the spools of dead owners that hold something; what the broker had `refused` is tried again."""
        self._adopt_at = time.monotonic() + ADOPT_SECONDS
        found: list[SpoolFile] = []
        with self._changed:  # a fork has to know of every lock and file
            try:
                found += adopted_spools(self._folder, self._stream, self._max_bytes)
            except OSError as error:
                self._complaints.add("spools of other processes not adopted", str(error))
            self._adopted += found
        for spool in found:
            keep = False
            try:
                spool.load(refused=refused)
            except (StreamUnavailable, ConfigurationError) as error:
                self._complaints.add("spool of another process not adopted", str(error))
                keep = True
            if not spool.pending:
                self._let_go(spool, keep=keep)

    def _let_go(self, spool: SpoolFile, *, keep: bool = False) -> None:
        with self._changed:
            self._adopted.remove(spool)
        spool.close(keep=keep)

    def drain(self, wait: float) -> int:
        """Wait until what this process spooled is acknowledged; return how much of it is not."""
        with self._changed:
            self._changed.wait_for(lambda: not self.own_pending, wait)
            return self.own_pending

    def close(self) -> None:
        """Take in no more, and let the thread that ships end when everything is shipped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def release(self) -> None:
        """Let go of all spools; what is left in them is shipped by whoever adopts them."""
        self._released = True
        for spool in self.spools:
            spool.close()

    def _before_fork(self) -> None:
        self._changed.acquire()
        self._forking = True
        self._forked = self.spools
        for spool in self._forked:
            spool.before_fork()

    def _after_fork(self) -> None:
        for spool in self._forked:
            spool.after_fork()
        self._unlock()

    def _in_child(self) -> None:
        for spool in self._forked:
            spool.in_child()
        self._unlock()

    def _unlock(self) -> None:
        if self._forking:  # one that was made while another thread forked had no `_before_fork`
            self._forking, self._forked = False, []
            self._changed.release()


class SpoolOutlet:
    """The spool as the thread that empties the queue sees it: a stream on the local disk."""

    group_records = 1_000

    def __init__(self, source: SpoolSource) -> None:
        self._source = source

    def ship(self, records: Sequence[NewRecord]) -> Sequence[Unsent | None]:
        """Append all of the records, or none."""
        self._source.append(records)
        return [None] * len(records)

    def halt(self) -> None:
        """Do nothing: an append ends by itself."""

    def close(self) -> None:
        """Let the thread that ships end when everything is shipped."""
        self._source.close()

    def abandon(self) -> None:
        """Do nothing: the file closed itself before the fork."""
