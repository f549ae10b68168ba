"""What stands between the thread that writes the spool and the one that ships from it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from usageaudit.errors import ConfigurationError, StreamUnavailable
from usageaudit.publisher.buffer import Item
from usageaudit.publisher.complaints import logger
from usageaudit.publisher.process import call_around_forks
from usageaudit.publisher.spool.folder import adopted_spools, make_folder, new_spool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from usageaudit.embedded_log import NewRecord
    from usageaudit.publisher.buffer import Buffer
    from usageaudit.publisher.complaints import Complaints
    from usageaudit.publisher.port import Unsent
    from usageaudit.publisher.spool.file import SpoolFile

ADOPT_SECONDS = 30.0
"""How often a publisher looks for spools that others left behind."""
RETRY_SECONDS = 0.5
MAX_ADOPTED = 8
"""How many spools are adopted at a time; each takes up to seven open files."""


class SpoolSource:
    """The spools that a process ships from: its own, and those it adopted. Each takes its turn, group by group.

    One that is `draining` has no spool of its own. It adopts each spool once, tries again what the broker had refused,
    and ends with the last one.
    """

    def __init__(
        self, folder: Path, stream: str | None, max_bytes: int, complaints: Complaints, *, draining: bool = False
    ) -> None:
        self._folder, self._stream, self._max_bytes = folder, stream, max_bytes
        self._draining = draining
        self._drained: set[Path] = set()
        self._complaints = complaints
        self._changed = threading.Condition(threading.RLock())
        self._own: SpoolFile | None = None
        self._adopted: list[SpoolFile] = []
        self._forked: list[SpoolFile] = []
        self._turn = self._appends = 0
        self._forking = False
        self._current: SpoolFile | None = None
        self._more = self._settling = False
        self._adopt_at = 0.0
        self._closed = self._released = False
        self._lost = 0  # in own spools that were given up
        self.acknowledged = self.failed = 0  # of the events of this process
        self.shipped = self.adopted = 0  # of all
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
        """How many events of this process were in a file that was damaged, removed, or left to others."""
        with self._changed:
            return self._lost + (self._own.lost if self._own else 0)

    @property
    def own_pending(self) -> int:
        """How many events of this process wait in its spool."""
        return self._own.pending if self._own else 0

    def append(self, records: Sequence[NewRecord]) -> None:
        """Write records to the own spool, which is begun with the first ones; raises StreamUnavailable."""
        if self._released:
            raise StreamUnavailable(f"spool {self._folder}: the publisher was closed")
        self._closed = False
        own = self._own if self._own is not None and not self._own.given_up else self._begin()
        own.append(records)
        with self._changed:
            self._appends += 1
            self._changed.notify_all()

    def _begin(self) -> SpoolFile:
        """Begin an own spool, the first one or in the place of one that was given up."""
        if self._own is not None:
            self._give_up(self._own)
        folder = make_folder(self._folder)
        with self._changed:  # a fork has to know of every lock and file
            self._own = own = new_spool(folder, self._stream or "", self._max_bytes)
        return own

    def _give_up(self, spool: SpoolFile) -> None:
        """Leave a spool whose lock was removed to whoever adopts it."""
        with self._changed:
            if spool is self._own:
                self._own = None
                self._lost += spool.pending + spool.lost
            elif spool in self._adopted:
                self._adopted.remove(spool)
            else:  # the other thread was faster
                return
            self._changed.notify_all()
        spool.close(keep=True)
        logger.error("spool %s: its lock was removed; %d events are left to others", spool.path, spool.pending)

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
                if spool.given_up:
                    self._give_up(spool)
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
        numbers, reasons = [item.number for item in acknowledged], [(item.number, item.reason) for item in failed]
        self._settling = True
        done = spool.settle(numbers, reasons)
        with self._changed:
            self._settling = False
            self.shipped += len(acknowledged)
            if spool is self._own:
                self.acknowledged += done.acknowledged
                self.failed += done.refused
            self._changed.notify_all()
        if done.problem:
            self._complaints.add("acknowledged events not deleted from the spool yet", done.problem)
        if spool is not self._own and not spool.pending:
            self._let_go(spool)

    def adopt(self) -> None:
        """Take over spools of dead owners that hold something, MAX_ADOPTED at most; the others when there is room."""
        self._adopt_at = time.monotonic() + ADOPT_SECONDS
        self._more = False
        found = adopted_spools(self._folder, self._stream, self._max_bytes, self._complaints, but=self._drained)
        while True:
            with self._changed:  # a fork has to know of every lock and file
                if self._released:
                    return
                if len(self._adopted) >= MAX_ADOPTED:
                    self._more = True
                    return
                try:
                    spool = next(found, None)
                except OSError as error:
                    self._complaints.add("spools of other processes not adopted", str(error))
                    spool = None
                if spool is None:
                    break
                self._adopted.append(spool)
            self._load(spool)
        if self._draining:
            self.close()

    def _load(self, spool: SpoolFile) -> None:
        if self._draining:
            self._drained.add(spool.path)
        try:
            spool.load(refused=self._draining)
        except (StreamUnavailable, ConfigurationError) as error:
            self._complaints.add("spool of another process not adopted", str(error))
        self.adopted += spool.pending
        if not spool.pending:
            self._let_go(spool)

    def _let_go(self, spool: SpoolFile) -> None:
        with self._changed:
            if spool in self._adopted:  # not an own one that was given up
                self._adopted.remove(spool)
            if self._more:
                self._adopt_at = 0.0
        spool.close()

    @property
    def position(self) -> tuple[SpoolFile | None, int]:
        """Where the own spool ends now, for `drain`."""
        with self._changed:
            return self._own, self._own.appended if self._own else 0

    def drain(self, position: tuple[SpoolFile | None, int], wait: float) -> int:
        """Wait until what this process had spooled at a position is done with; return how much of it is not."""
        own, appended = position
        if own is None:
            return 0

        def left() -> int:
            return own.waiting(appended) if own is self._own else 0

        with self._changed:
            self._changed.wait_for(lambda: not (self._settling or left()), wait)  # then it is counted, too
            return left()

    def close(self) -> None:
        """Take in no more, and let the thread that ships end when everything is shipped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def release(self) -> None:
        """Let go of all spools; what is left in them is shipped by whoever adopts them."""
        with self._changed:  # nothing is adopted from here on
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

    def __init__(self, source: SpoolSource, buffer: Buffer) -> None:
        self._source, self._buffer = source, buffer

    def ship(self, records: Sequence[NewRecord]) -> Sequence[Unsent | None]:
        """Append all of the records, or none."""
        self._source.append(records)
        return [None] * len(records)

    def halt(self) -> None:
        """Do nothing: an append ends by itself."""

    def close(self) -> None:
        """Let the thread that ships end when everything is shipped, unless more is to come by another thread."""
        if self._buffer.closed:
            self._source.close()

    def abandon(self) -> None:
        """Do nothing: the file closed itself before the fork."""
