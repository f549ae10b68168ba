"""The embedded stream: topics of numbered records in one SQLite file, appended to and read by any process.

Offsets are given inside the transaction that writes the records, so they have no holes however many threads and
processes append at once, and an append that returned is on disk (WAL with synchronous=FULL). The folder has to lie on a
local file system: SQLite's shared memory does not work over a network.
"""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
import weakref
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Self

import msgspec

from usageaudit.errors import ConfigurationError, StreamUnavailable
from usageaudit.partitioning import partition_of
from usageaudit.sqlite_file import Layout, explained, open_database, transaction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence
    from pathlib import Path

FILE_NAME = "stream.sqlite3"
TRIM_RECORDS = 10_000
"""How many records one transaction of `trim` deletes, so that appending processes wait only for so many."""
MAX_CACHED_HEADERS = 1_000

Headers = list[tuple[str, bytes | None]]

_SCHEMA = """
CREATE TABLE stream (identity TEXT NOT NULL);
CREATE TABLE partitions (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, first_offset INTEGER NOT NULL, next_offset INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
CREATE TABLE records (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, "offset" INTEGER NOT NULL,
    timestamp INTEGER NOT NULL, key BLOB, value BLOB, headers BLOB,
    PRIMARY KEY (topic, partition, "offset")
) WITHOUT ROWID;
CREATE TABLE commits (
    "group" TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, "offset" INTEGER NOT NULL,
    PRIMARY KEY ("group", topic, partition)
) WITHOUT ROWID;
"""
_LAYOUT = Layout(application_id=0x75734175, version=1, schema=_SCHEMA, kind="usageaudit stream")
_PARTITIONS = "SELECT partition, next_offset FROM partitions WHERE topic = ? ORDER BY partition"
_ADD_PARTITION = "INSERT INTO partitions (topic, partition, first_offset, next_offset) VALUES (?, ?, 0, 0)"
_APPEND = (
    'INSERT INTO records (topic, partition, "offset", timestamp, key, value, headers) VALUES (?, ?, ?, ?, ?, ?, ?)'
)
_READ = (
    'SELECT "offset", timestamp, key, value, headers FROM records '
    'WHERE topic = ? AND partition = ? AND "offset" >= ? ORDER BY "offset" LIMIT ?'
)
_COMMIT = (
    'INSERT INTO commits ("group", topic, partition, "offset") VALUES (?, ?, ?, ?) '
    'ON CONFLICT DO UPDATE SET "offset" = excluded."offset"'
)


class NewRecord(NamedTuple):
    """A record to append; `timestamp` in milliseconds since 1970, None for now."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    timestamp: int | None = None


class StoredRecord(NamedTuple):
    """A record of one partition; `headers` may be shared between records and are not to be changed."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class EmbeddedLog:
    """The embedded stream's file, open. Threads may share it; a forked child opens it anew by itself.

    Every method raises StreamUnavailable where the file can't be read or written: the disk is full, the file is
    damaged, was locked for too long, removed, or closed here. Then nothing was done, and it may be tried again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._what = f"embedded stream {path}"
        self._lock = threading.RLock()
        self._closed = False
        self._forking = False
        self._connection: sqlite3.Connection | None = None
        self._close_around_forks()
        with self._lock, explained(self._what, opened=False):
            self._connection = _open(path)
            self._inode = _inode(path)
            row = self._connection.execute("SELECT identity FROM stream").fetchone()
        self.identity: str = row[0]

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open the stream of a folder, creating both where they do not exist.

        Raises ConfigurationError where the folder can't be written or the file is another's or of a newer version,
        StreamUnavailable where it can't be read.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"embedded stream {directory}: the folder can't be made: {error.strerror}; name another one"
            ) from error
        return cls(directory / FILE_NAME)

    @property
    def gone(self) -> bool:
        """Tell whether the file was removed or replaced since it was opened, so that only opening it anew helps."""
        return _inode(self._path) != self._inode

    def create_topic(self, topic: str, partitions: int = 1) -> None:
        """See to it that a topic has at least so many partitions."""
        with self._writing() as connection:
            _create_partitions(connection, topic, partitions)

    def partitions(self, topic: str) -> list[int]:
        """Return the numbers of a topic's partitions, none where nobody created or appended to it."""
        with self._using() as connection:
            return [number for number, _ in connection.execute(_PARTITIONS, (topic,))]

    def append(self, topic: str, records: Sequence[NewRecord]) -> list[tuple[int, int]]:
        """Append all of the records or none; return the partition and the offset of each, which are durable then.

        A record goes to the partition that its key belongs to, those without a key to any one. A topic that does not
        exist is created with one partition.
        """
        now = time.time_ns() // 1_000_000
        rows: list[tuple[str, int, int, int, bytes | None, bytes | None, bytes | None]] = []
        with self._writing() as connection:
            ends = _create_partitions(connection, topic, 1)
            unkeyed = random.randrange(len(ends))  # noqa: S311  spreads load, no secret
            for record in records:
                number = unkeyed if record.key is None else partition_of(record.key, len(ends))
                stamp = now if record.timestamp is None else record.timestamp
                rows.append((topic, number, ends[number], stamp, record.key, record.value, _encode(record.headers)))
                ends[number] += 1
            connection.executemany(_APPEND, rows)
            moved = [(ends[number], topic, number) for number in {row[1] for row in rows}]
            connection.executemany("UPDATE partitions SET next_offset = ? WHERE topic = ? AND partition = ?", moved)
        return [(row[1], row[2]) for row in rows]

    def read(self, topic: str, partition: int, offset: int, limit: int, max_bytes: int) -> list[StoredRecord]:
        """Return records from an offset on: at most `limit`, and none after `max_bytes` of keys and values.

        Offsets have no holes: where the first one is not `offset`, what lay between was trimmed.
        """
        found: list[StoredRecord] = []
        room = max_bytes
        with self._using() as connection:
            for number, timestamp, key, value, headers in connection.execute(_READ, (topic, partition, offset, limit)):
                found.append(StoredRecord(number, timestamp, key, value, _decode(headers)))
                room -= len(value or b"") + len(key or b"")
                if room <= 0:
                    break
        return found

    def begin(self, topic: str, partition: int) -> int:
        """Return the first offset that was not trimmed."""
        return self._bounds(topic, partition)[0]

    def end(self, topic: str, partition: int) -> int:
        """Return the offset that the next record will get."""
        return self._bounds(topic, partition)[1]

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        """Remember, durably, where a group of readers goes on."""
        with self._writing() as connection:
            connection.execute(_COMMIT, (group, topic, partition, offset))

    def committed(self, group: str, topic: str, partition: int) -> int | None:
        """Return where a group of readers goes on, None where it never said."""
        query = 'SELECT "offset" FROM commits WHERE "group" = ? AND topic = ? AND partition = ?'
        with self._using() as connection:
            row = connection.execute(query, (group, topic, partition)).fetchone()
        return None if row is None else int(row[0])

    def trim(self, topic: str, partition: int, before_offset: int) -> None:
        """Delete the records before an offset; `end` stays, and freed space is used again."""
        begin, end = self._bounds(topic, partition)
        target = min(before_offset, end)
        while begin < target:
            begin = min(begin + TRIM_RECORDS, target)
            self._trim_once(topic, partition, begin)

    def close(self) -> None:
        """Close the file; the methods raise StreamUnavailable from then on."""
        with self._lock:
            self._closed = True
            self._disconnect()

    def _trim_once(self, topic: str, partition: int, begin: int) -> None:
        with self._writing() as connection:
            connection.execute(
                'DELETE FROM records WHERE topic = ? AND partition = ? AND "offset" < ?', (topic, partition, begin)
            )
            connection.execute(
                "UPDATE partitions SET first_offset = max(first_offset, ?) WHERE topic = ? AND partition = ?",
                (begin, topic, partition),
            )

    def _bounds(self, topic: str, partition: int) -> tuple[int, int]:
        query = "SELECT first_offset, next_offset FROM partitions WHERE topic = ? AND partition = ?"
        with self._using() as connection:
            row = connection.execute(query, (topic, partition)).fetchone()
        return (0, 0) if row is None else (int(row[0]), int(row[1]))

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        """Give the connection to one thread, and turn SQLite's errors into ours."""
        with self._lock, explained(self._what):
            if self._closed:
                raise StreamUnavailable(f"{self._what}: it was closed")
            if self.gone:
                # What is appended to a file without a name is lost without a word.
                self.close()
                raise StreamUnavailable(f"{self._what}: the file was removed or replaced; open it anew")
            if self._connection is None:
                self._connection = _open(self._path)
            yield self._connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._using() as connection, transaction(connection):
            yield connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _close_around_forks(self) -> None:
        """Fork without a connection: a child has none of SQLite's locks and would believe that it has."""
        me = weakref.ref(self)

        def before() -> None:
            if (log := me()) is not None:
                log._before_fork()  # noqa: SLF001

        def after() -> None:
            if (log := me()) is not None:
                log._after_fork()  # noqa: SLF001

        os.register_at_fork(before=before, after_in_parent=after, after_in_child=after)

    def _before_fork(self) -> None:
        self._lock.acquire()
        self._forking = True
        self._disconnect()

    def _after_fork(self) -> None:
        if self._forking:  # a log that was opened while another thread forked had no `before`
            self._forking = False
            self._lock.release()


def _open(path: Path) -> sqlite3.Connection:
    return open_database(path, _LAYOUT, "INSERT INTO stream VALUES (?)", (str(uuid.uuid4()),))


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116  four times as fast as the method, and asked for at every call
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _create_partitions(connection: sqlite3.Connection, topic: str, partitions: int) -> dict[int, int]:
    ends: dict[int, int] = dict(connection.execute(_PARTITIONS, (topic,)))
    for number in range(len(ends), partitions):
        connection.execute(_ADD_PARTITION, (topic, number))
        ends[number] = 0
    return ends


def _encode(headers: Sequence[tuple[str, bytes | None]]) -> bytes | None:
    return msgspec.json.encode(headers) if headers else None


_decode_json = msgspec.json.Decoder(Headers).decode


@lru_cache(maxsize=64)
def _decode_known(headers: bytes) -> Headers:
    return _decode_json(headers)


def _decode(headers: bytes | None) -> Headers:
    """Return headers; nearly all records have the same few, and long ones are not kept in memory."""
    if headers is None:
        return []
    return _decode_known(headers) if len(headers) < MAX_CACHED_HEADERS else _decode_json(headers)
