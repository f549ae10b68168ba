"""One spool file: records in the order they were emitted, kept on disk until the broker acknowledged them.

Two connections share it, so that a durable event is not held up by what is being shipped: one appends, each commit
synced to disk, and one reads and deletes, unsynced, since a deletion that is lost only sends an event twice.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from usageaudit.embedded_log import NewRecord
from usageaudit.errors import ConfigurationError, StreamUnavailable
from usageaudit.publisher.complaints import logger
from usageaudit.publisher.spool.parts import free, inode, make, parts, size, taken
from usageaudit.sqlite_file import Layout, explained, open_database, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from usageaudit.publisher.spool.owner import OwnerLock

SUFFIX = ".sqlite3"
DAMAGED_SUFFIX = ".damaged"
PAGE_BYTES = 8_192
LOCK_SECONDS = 1.0
MAX_SPARE_BYTES = 16 * 1024 * 1024
"""Most of the room that is left to the log beside the file."""
LARGEST_GROUP_BYTES = 8 * 1024 * 1024
"""Where the disk has this much room, it is not the disk that is full."""
RENEW_BYTES = 16 * 1024 * 1024
"""A file of this size gives its space back when it is empty."""

_SCHEMA = """
CREATE TABLE spool (stream TEXT NOT NULL);
CREATE TABLE records (
    number INTEGER PRIMARY KEY AUTOINCREMENT, spooled INTEGER NOT NULL,
    timestamp INTEGER, key BLOB, value BLOB, headers BLOB NOT NULL
);
CREATE TABLE refused (
    number INTEGER PRIMARY KEY, spooled INTEGER NOT NULL,
    timestamp INTEGER, key BLOB, value BLOB, headers BLOB NOT NULL, reason TEXT NOT NULL
)
"""
LAYOUT = Layout(0x75735370, 1, _SCHEMA, "usageaudit spool", PAGE_BYTES, LOCK_SECONDS)
_APPEND = "INSERT INTO records (spooled, timestamp, key, value, headers) VALUES (?, ?, ?, ?, ?)"
_READ = "SELECT number, timestamp, key, value, headers FROM records WHERE number > ? ORDER BY number LIMIT ?"
_REFUSE = (
    "INSERT OR REPLACE INTO refused "
    "SELECT number, spooled, timestamp, key, value, headers, ? FROM records WHERE number = ?"
)
_TRY_AGAIN = (
    "INSERT INTO records (spooled, timestamp, key, value, headers) "
    "SELECT spooled, timestamp, key, value, headers FROM refused ORDER BY number"
)
COUNTS = "SELECT coalesce(max(number) - min(number) + 1, 0), (SELECT count(*) FROM refused) FROM records"
"""Numbers have no holes, and counting rows would read all of a large file."""
OLDEST = "SELECT min(spooled) FROM (SELECT spooled FROM records WHERE number > ? ORDER BY number LIMIT 1)"
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_headers = msgspec.json.Decoder(list[tuple[str, bytes | None]])


class Spooled(NamedTuple):
    """A record of the file and its number there."""

    number: int
    record: NewRecord


class Settled(NamedTuple):
    """How many records a file is done with now, and why they are in it on disk still; empty where they are not."""

    acknowledged: int
    refused: int
    problem: str


class SpoolFile:
    """A spool that this process owns. One thread may append while another reads and settles.

    Every method that touches the file raises StreamUnavailable where that failed: the disk or the spool is full, or the
    file is locked, not writable, removed or damaged. Nothing was done then, and it may be tried again; a damaged file
    is set aside first and an empty one takes its place. Across a fork the file has to be closed, and the child has none
    of it. One that a former owner left is not `loaded`: it is never removed before `load` has counted what is in it.

    `pending` records wait for the broker, `refused` ones were turned down by it and are kept, and `lost` ones were in a
    file that was damaged or removed. `appended` counts all that were written here. `oldest` is when the oldest was
    spooled, in milliseconds since 1970. `given_up` tells that its lock was removed, so that somebody else may own it.
    """

    def __init__(self, lock: OwnerLock, stream: str, max_bytes: int, *, loaded: bool = True) -> None:
        self._lock, self._stream, self._loaded = lock, stream, loaded
        self.path = lock.path.with_suffix(SUFFIX)
        self._what = f"spool {self.path}"
        self._spare = min(max_bytes // 4, MAX_SPARE_BYTES)
        self._max_pages = (max_bytes - self._spare) // PAGE_BYTES
        self._reading, self._writing = threading.RLock(), threading.RLock()  # always taken in this order
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._broken = ""
        self._closed = self._forking = self.given_up = False
        self.lost = self.appended = 0
        self._start_over()
        lock.sign()

    def _start_over(self) -> None:
        self._inode = None
        self._before = self.appended  # what was in files before this one
        self._floor = 0  # everything up to this number is done with
        self._done: set[int] = set()  # and these beyond it
        self._unmarked: list[tuple[str, int]] = []
        self._read: list[int] = []
        self.pending = self.refused = 0
        self.oldest: int | None = None

    @property
    def bytes(self) -> int:
        """What it takes on disk, in bytes, the log beside it included."""
        return taken(self.path)

    def waiting(self, position: int) -> int:
        """Return how many of the records that were `appended` first wait at most; exact for the last position."""
        return min(self.pending, max(0, position - self._before - self._floor))

    def load(self, *, refused: bool) -> None:
        """Count what a former owner left; what the broker `refused` then is to be tried again, or not."""
        try:
            with self._reads() as connection:
                if refused:
                    with self._writing, transaction(connection):
                        connection.execute(_TRY_AGAIN)
                        connection.execute("DELETE FROM refused")
                self.pending, self.refused = connection.execute(COUNTS).fetchone()
                self.oldest = connection.execute(OLDEST, (0,)).fetchone()[0]
                self._loaded = True
        except StreamUnavailable:
            if not self._broken:
                raise
            self._mend()

    def append(self, records: Sequence[NewRecord]) -> None:
        """Append all of the records or none; they are on disk when this returns."""
        now = time.time_ns() // 1_000_000
        rows = [(now, one.timestamp, one.key, one.value, msgspec.json.encode(one.headers)) for one in records]
        self._mend()
        with self._writing, self._explained():
            if self._writer is None:
                self._writer = self._open()
                self._writer.execute(f"PRAGMA max_page_count = {self._max_pages}")  # not the reader
            with transaction(self._writer):
                self._writer.executemany(_APPEND, rows)
                self._check_name()
            self.pending += len(rows)
            self.appended += len(rows)
            self.oldest = now if self.oldest is None else self.oldest

    def read(self, limit: int, max_bytes: int) -> list[Spooled]:
        """Return the oldest records that are not done with: at most `limit`, and none after `max_bytes` of them.

        One whose headers can't be read is lost, and kept as a refused one.
        """
        found: list[Spooled] = []
        unreadable: list[int] = []
        self._mend()
        with self._reads() as connection:
            with closing(connection.execute(_READ, (self._floor, limit + len(self._done)))) as rows:
                for number, timestamp, key, value, headers in rows:
                    if number in self._done:
                        continue
                    try:
                        found.append(Spooled(number, NewRecord(key, value, _headers.decode(headers), timestamp)))
                    except (msgspec.MsgspecError, TypeError):
                        unreadable.append(number)
                        continue
                    max_bytes -= len(value or b"") + len(key or b"")
                    if max_bytes <= 0 or len(found) == limit:
                        break
            self._read = sorted([*(one.number for one in found), *unreadable])
            if unreadable:
                settled = self.settle((), [(number, "its headers can't be read") for number in unreadable])
                self.lost += settled.refused
                logger.error("%s: the headers of %d events can't be read; they are kept", self._what, settled.refused)
        return found

    def settle(self, acknowledged: Sequence[int], refused: Sequence[tuple[int, str]]) -> Settled:
        """Be done with records that were read last: forget those acknowledged, keep those `refused`, with the reason.

        Where that can't be written, they are skipped for as long as this process lives, and the next one sends them
        again; raises nothing then.
        """
        with self._reading:
            there = set(self._read)  # not those of a file that was set aside meanwhile, whose numbers come again
            kept = [(reason, number) for number, reason in refused if number in there]
            done = {*acknowledged, *(number for number, _ in refused)} & there
            self._advance(done)
            self._unmarked += kept
            with self._writing:
                self.pending -= len(done)
                self.refused += len(kept)
            problem = ""
            try:
                self._delete()
            except (StreamUnavailable, ConfigurationError) as error:
                problem = "" if self._renew_if_empty(0) else str(error)
            self._renew_if_empty(RENEW_BYTES)
            return Settled(len(done) - len(kept), len(kept), problem)

    def _advance(self, numbers: set[int]) -> None:
        self._done |= numbers
        for number in self._read:
            if number not in self._done:
                break
            self._floor = number
        self._done = {number for number in self._done if number > self._floor}

    def _delete(self) -> None:
        with self._reads() as connection:
            with self._writing, transaction(connection):
                connection.executemany(_REFUSE, self._unmarked)
                connection.execute("DELETE FROM records WHERE number <= ?", (self._floor,))
            self._unmarked = []
            with self._writing:
                self.oldest = connection.execute(OLDEST, (self._floor,)).fetchone()[0]

    def _renew_if_empty(self, above: int) -> bool:
        """Give the space back of a file in which nothing is left; a full disk may let nothing be deleted from it."""
        with self._reading, self._writing:
            if not self._is_done_with() or self._closed or size(self.path) <= above:
                return False
            self._disconnect()
            if gone := self._remove():
                self._start_over()
            return gone

    def close(self, *, keep: bool = False) -> None:
        """Let go of the file; it is removed where nothing is left in it, unless it is to be kept as it is."""
        with self._reading, self._writing:
            if self._closed:
                return
            self._closed = True
            self._disconnect()
            gone = self._is_done_with() and not keep and self._remove()
            self._lock.release(remove=gone)

    def _is_done_with(self) -> bool:
        """Tell whether the file may be removed: nothing is left in it, as far as it was counted, and it is ours."""
        return self._loaded and not (self.pending or self.refused) and self._lock.is_held()

    @contextmanager
    def _reads(self) -> Iterator[sqlite3.Connection]:
        with self._reading, self._explained():
            if self._reader is None:
                with self._writing:
                    self._reader = self._open()
                self._reader.execute("PRAGMA synchronous = NORMAL")
            yield self._reader

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with explained(self._what):
                yield
        except StreamUnavailable as error:
            code = int(getattr(error.__cause__, "sqlite_errorcode", 0)) & 0xFF
            if code in _DAMAGE:
                self._broken = str(error)
            elif code == sqlite3.SQLITE_FULL and free(self.path) > LARGEST_GROUP_BYTES:
                reason = f"{self._what}: it is full with {self.pending:,} events, as max_spool_bytes has it"
                raise StreamUnavailable(reason) from error.__cause__
            raise

    def _check_name(self) -> None:
        """Raise StreamUnavailable where the file was removed: what is written to it then is lost without a word."""
        self._check_lock()
        if inode(self.path) != self._inode:
            self._broken = f"{self._what}: the file was removed or replaced while it was in use"
            raise StreamUnavailable(self._broken)

    def _check_lock(self) -> None:
        """Raise StreamUnavailable where the lock was removed: somebody else may have the file by now."""
        if not self._closed and not self._lock.is_held():
            self.given_up = True
            raise StreamUnavailable(f"{self._what}: its lock {self._lock.path.name} was removed; another one is begun")

    def _mend(self) -> None:
        """Begin a new file where this one is damaged or was removed, keeping what there is of it."""
        if not self._broken:
            return
        with self._reading, self._writing:
            if not self._broken:  # the other thread was faster
                return
            self._check_lock()
            reason = self._broken
            self._disconnect()
            kept = self._set_aside()
            self._broken = ""
            count = self.pending + self.refused
            self.lost += self.pending  # those refused were counted when they were
            known = f"{count:,}" if count else "an unknown number of"
            logger.error("%s; %s events were in it%s; a new file is begun", reason, known, kept)
            self._start_over()
            self._loaded = True

    def _set_aside(self) -> str:
        name = f"{self.path.stem}-{time.time_ns():x}{DAMAGED_SUFFIX}"
        for part in parts(self.path)[:2]:
            try:
                part.rename(self.path.with_name(name + part.name.removeprefix(self.path.name)))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StreamUnavailable(f"{self._broken}; it can't be set aside: {error.strerror or error}") from error
        kept = self.path.with_name(name)
        return f", which are kept in {kept}" if kept.exists() else ""

    def _open(self) -> sqlite3.Connection:
        if self._closed:
            raise StreamUnavailable(f"{self._what}: it was closed")
        self._check_lock()
        if self._inode is not None:
            self._check_name()
        make(self.path, self._what)
        connection = open_database(self.path, LAYOUT, "INSERT INTO spool VALUES (?)", (self._stream,))
        connection.execute(f"PRAGMA wal_autocheckpoint = {self._spare // 4 // PAGE_BYTES}")
        connection.execute(f"PRAGMA journal_size_limit = {self._spare // 2}")
        self._inode = inode(self.path)
        return connection

    def _disconnect(self) -> None:
        for connection in (self._writer, self._reader):
            if connection is not None:
                connection.close()
        self._writer = self._reader = None

    def _remove(self) -> bool:
        """Remove the file; tell whether that worked, as it does not in a folder that can't be written any more."""
        try:
            for part in parts(self.path):
                part.unlink(missing_ok=True)
        except OSError:
            return False
        return True

    def before_fork(self) -> None:
        """Close the file and keep everybody from it: a child has none of SQLite's locks and would believe it has."""
        self._reading.acquire()
        self._writing.acquire()
        self._forking = True
        self._disconnect()

    def after_fork(self) -> None:
        """Go on in the parent, which opens the file again by itself."""
        if self._forking:
            self._forking = False
            self._writing.release()
            self._reading.release()

    def in_child(self) -> None:
        """Leave the file and its lock to the parent."""
        self._closed = True
        self._lock.forget()
        self.after_fork()
