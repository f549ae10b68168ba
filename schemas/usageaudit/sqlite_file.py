"""A SQLite file that several processes write durably: opened in WAL mode with synchronous=FULL, errors explained.

The file has to lie on a local file system: the shared memory of WAL mode does not work over a network. Nothing else may
open the file in the same process: closing any descriptor of it would drop SQLite's locks.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usageaudit.errors import ConfigurationError, StreamUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_SECONDS = 30.0
"""How long a writer waits for those of other processes."""
PAGE_BYTES = 32_768
"""Records of 1.5 kB are read twice as fast as from pages of 4 kB, where they overflow."""
_RETRY_SECONDS = 0.01
_CAUSES = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_BUSY: "other processes kept it locked for too long: look for one that hangs",
    sqlite3.SQLITE_LOCKED: "it is locked: try again",
    sqlite3.SQLITE_IOERR: "the disk refused to read or write: look at its health, free space and size limits",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: move it away, or restore it from a copy",
    sqlite3.SQLITE_NOTADB: "the file is damaged or no SQLite file: move it away, or restore it from a copy",
}
_FORBIDDEN = {
    sqlite3.SQLITE_READONLY: "it can't be written: give this user the right to write the folder and its files",
    sqlite3.SQLITE_CANTOPEN: "it can't be opened: give this user the right to write the folder and its files, and the "
    "process enough open files",
    sqlite3.SQLITE_PERM: "access is denied: give this user the right to write the folder and its files",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """What a file holds: its mark (PRAGMA application_id) and version, its tables, and how to call it in messages."""

    application_id: int
    version: int
    schema: str
    kind: str
    page_bytes: int = PAGE_BYTES
    lock_seconds: float = LOCK_SECONDS


def open_database(path: Path, layout: Layout, set_up: str, parameters: tuple[str, ...]) -> sqlite3.Connection:
    """Return a connection to the file, which is made where it does not exist.

    `set_up` is a last statement for a new file, with its parameters. Raises sqlite3.Error, see `explained`, and
    ConfigurationError for a file of another kind or a newer version.
    """
    connection = sqlite3.connect(path, timeout=layout.lock_seconds, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA page_size = {layout.page_bytes}")
        _enter_wal_mode(connection, layout.lock_seconds)
        connection.execute("PRAGMA synchronous = FULL")
        if _is_new(connection, layout, path):
            _create(connection, layout, set_up, parameters)
            _is_new(connection, layout, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _enter_wal_mode(connection: sqlite3.Connection, seconds: float) -> None:
    """Switch to WAL mode; SQLite does not wait for others here, as it does elsewhere."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return


def _is_new(connection: sqlite3.Connection, layout: Layout, path: Path) -> bool:
    """Tell whether the file is still empty; raises ConfigurationError where it holds anything but this layout."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    tables = int(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
    if (version, application, tables) == (0, 0, 0):
        return True
    if application != layout.application_id:
        raise ConfigurationError(f"{path} is no {layout.kind}; name another folder")
    if version > layout.version:
        raise ConfigurationError(
            f"{path} is a {layout.kind} of version {version}, made by a newer usageaudit than this, which reads "
            f"version {layout.version}: upgrade this one"
        )
    return False


def _create(connection: sqlite3.Connection, layout: Layout, set_up: str, parameters: tuple[str, ...]) -> None:
    """Set the file up, unless another process just did."""
    with transaction(connection):
        if connection.execute("PRAGMA user_version").fetchone()[0]:
            return
        for statement in layout.schema.split(";"):
            connection.execute(statement)
        connection.execute(set_up, parameters)
        connection.execute(f"PRAGMA application_id = {layout.application_id}")
        connection.execute(f"PRAGMA user_version = {layout.version}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Do all of what is done inside, durably, or nothing; other writers wait."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # SQLite may have rolled back already
            connection.execute("ROLLBACK")
        raise


@contextmanager
def explained(what: str, *, opened: bool = True) -> Iterator[None]:
    """Turn SQLite's errors into StreamUnavailable, saying what to do.

    Where the file was never `opened`, access that is denied is a ConfigurationError; later it may come back.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = _code(error)
        kind = ConfigurationError if code in _FORBIDDEN and not opened else StreamUnavailable
        cause = (_CAUSES | _FORBIDDEN).get(code, "SQLite reports an error")
        raise kind(f"{what}: {cause} ({error})") from error


def _code(error: sqlite3.Error) -> int:
    """Return the primary result code; the higher bits tell its variants apart."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
