"""The store as chDB: ClickHouse's engine in this process, over one directory. The one file that knows chDB."""

from __future__ import annotations

import fcntl
import importlib
import os
import re
import tempfile
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from usageaudit.errors import OutcomeUnknown, StoreUnavailable
from usageaudit.stores import dialect, given, refusals, results
from usageaudit.stores.native.block import quoted
from usageaudit.stores.parameters import parameter_text
from usageaudit.stores.port import Limits, Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from usageaudit.errors import UsageAuditError
    from usageaudit.stores.address import EmbeddedAddress
    from usageaudit.stores.native import NativeBlock
    from usageaudit.stores.port import Insert, Parameters

# The engine itself: chdb's own wrappers would import pandas and pyarrow, which come with it and are not used here.
_chdb: Any = importlib.import_module("chdb._chdb")
# Its threads do not live on in the child of a fork, where every call would wait for them.
_PROCESS = os.getpid()
# Part of the name of every block this process writes. Ids of processes repeat, in containers at every start.
_OURS = uuid.uuid4().hex

_CODE = re.compile(r"Code: (\d+)\. ")
_ANOTHER_PATH = "already initialized with path"
# The engine's lock file, held with flock(2) by the process that has the directory open.
_LOCK = "status"
_BLOCKS = "usageaudit-tmp"
_DEFAULT = "DEFAULT"
"""What SET takes for the value that a setting had before anybody set it."""


class EmbeddedStore:
    """The engine in this process behind the port `Store`. It opens the directory when it is first used.

    A directory belongs to one process, and a process has one directory open at a time. Connections are cheap and
    independent; this one is opened anew after any failure, and for each query of a person.
    """

    def __init__(self, address: EmbeddedAddress) -> None:
        self._address = address
        self._directory = address.directory.absolute()
        self._connection: Any = None

    def execute(self, sql: str, parameters: Parameters | None = None, *, query_id: str | None = None) -> Rows:
        """Run a statement; see the port."""
        with self._connected(dialect.failure) as connection:
            self._name_statement(connection, query_id or "")
            if not (settings := dialect.text_settings(sql)):
                return _run(connection, sql, parameters)
            _set(connection, settings)
            rows = _run(connection, sql, parameters)
            _set(connection, dict.fromkeys(settings, _DEFAULT))
            return rows

    def look_up(self, sql: str, name: str, block: NativeBlock) -> Rows:
        """Run a read that may join the rows of a block as the temporary table `name`."""
        with self._connected(dialect.failure) as connection, self._written(block) as source:
            self._name_statement(connection, "")
            # A temporary table belongs to this connection alone.
            _run(connection, f"CREATE TEMPORARY TABLE {quoted(name)} ENGINE = Memory AS SELECT * FROM {source}")
            rows = _run(connection, sql)
            _run(connection, f"DROP TEMPORARY TABLE {quoted(name)}")
            return rows

    def query(self, sql: str, parameters: Parameters | None = None, limits: Limits | None = None) -> Rows:
        """Run one statement of a person, read-only and within limits; see the port."""
        given.check_text(sql, parameters)
        limits = limits or Limits()
        with self._connected(dialect.query_failure) as connection:
            self._name_statement(connection, "")
            formatted, table_functions = _run(connection, refusals.format_sql(limits), {"query": sql}).rows[0]
        statement = given.statement_text(formatted)
        refusals.check_read_only(statement, table_functions)
        parameters = given.checked(statement, parameters)
        # What `readonly` forbids can't be allowed again on the same connection.
        with self._guarded(dialect.query_failure):
            connection = self._open()
            try:
                _set(connection, {**dialect.limit_settings(limits), "readonly": 1})
                return _run(connection, sql, parameters)
            finally:
                connection.close()

    def insert(self, insert: Insert) -> None:
        """Write a block as one data part; see the port."""
        clause = f" SETTINGS {_assignments(dialect.INSERT_SETTINGS)}"

        def refused(code: int, message: str) -> UsageAuditError:
            return dialect.insert_failure(code, message, insert)

        def lost(reason: str) -> UsageAuditError:
            return OutcomeUnknown(f"insert {insert.query_id}: the engine failed: {reason}; read back what it holds")

        with self._connected(dialect.failure) as connection, self._written(insert.block) as source:
            self._name_statement(connection, insert.query_id)
            with self._guarded(refused, lost):
                _run(connection, dialect.insert_sql(insert, source, clause), insert.parameters)

    def kill(self, query_id_prefix: str) -> None:
        """End the statements whose id starts so; see the port."""
        # The engine gives every statement an id of its own, so ours is in the log comment.
        dialect.kill(self, "Settings['log_comment']", query_id_prefix)

    def another(self) -> EmbeddedStore:
        """Return a store of the same directory for another thread."""
        return EmbeddedStore(self._address)

    def close(self) -> None:
        """Close the connection; the directory is free when the last one of this process is closed."""
        connection, self._connection = self._connection, None
        if connection is not None and os.getpid() == _PROCESS:
            connection.close()

    @contextmanager
    def _connected(self, refused: Callable[[int, str], UsageAuditError]) -> Iterator[Any]:
        """Have a connection; drop it when anything goes wrong: a killed statement leaves its answer to the next."""
        with self._guarded(refused):
            if self._connection is None:
                self._connection = self._open()
            try:
                yield self._connection
            except BaseException:
                self.close()
                raise

    @contextmanager
    def _guarded(
        self, refused: Callable[[int, str], UsageAuditError], lost: Callable[[str], UsageAuditError] | None = None
    ) -> Iterator[None]:
        """Refuse the child of a fork, where the engine would wait for ever, and turn the engine's errors into ours.

        `refused` is for those with a code, `lost` for those without, where they are more than StoreUnavailable.
        """
        if os.getpid() != _PROCESS:
            raise StoreUnavailable(
                f"the embedded store {self._directory} can't be used in this process, which was forked after the "
                "engine was loaded: use it in the parent only, or start processes with 'spawn'"
            )
        try:
            yield
        except RuntimeError as error:
            message = str(error)
            code = _CODE.search(message)
            if code is None and lost:
                raise lost(message) from None
            if code is None:
                raise StoreUnavailable(f"the embedded store {self._directory} failed: {message}") from None
            raise refused(int(code[1]), message) from None

    def _open(self) -> Any:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            directory = self._directory.resolve()
            self._refuse_if_locked(directory)
            connection = _chdb.connect(str(directory))
        except OSError as error:
            raise StoreUnavailable(
                f"the embedded store {self._directory} can't be opened: {error.strerror}; name a directory that this "
                "user may write to, such as embedded:./usageaudit-data"
            ) from None
        except RuntimeError as error:
            raise self._not_opened(str(error)) from None
        _remove_left_blocks(directory / _BLOCKS)
        _run(connection, f"SET {results.SETTINGS}")
        return connection

    def _refuse_if_locked(self, directory: Path) -> None:
        """Raise StoreUnavailable where another process has the directory open."""
        if not (directory / _LOCK).exists() or _open_here(directory):
            return
        with (directory / _LOCK).open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._taken() from None

    def _taken(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"the embedded store {self._directory} is open in another process, and only one can have it: ask that one, "
            "stop it, or use a ClickHouse server (clickhouse://…)"
        )

    def _not_opened(self, message: str) -> StoreUnavailable:
        if _ANOTHER_PATH in message:
            return StoreUnavailable(
                f"the embedded store {self._directory} can't be opened beside another directory that this process has "
                "open: close that store first, or use another process"
            )
        return StoreUnavailable(
            f"the embedded store {self._directory} can't be opened: {dialect.brief(message)}; another process may have "
            "it open, or it was written by a newer version"
        )

    def _name_statement(self, connection: Any, query_id: str) -> None:
        _set(connection, {"log_comment": query_id})

    @contextmanager
    def _written(self, block: NativeBlock) -> Iterator[str]:
        """Have a block in a file, which only this user may read, and yield the table function that reads it."""
        path: str | None = None
        try:
            try:
                folder = self._directory.resolve() / _BLOCKS
                folder.mkdir(exist_ok=True)
                descriptor, path = tempfile.mkstemp(dir=folder, prefix=f"{_OURS}-", suffix=".native")
                with os.fdopen(descriptor, "wb") as file:
                    block.write_to(file.write)
            except OSError as error:
                raise StoreUnavailable(
                    f"the embedded store {self._directory} can't write a block to {_BLOCKS}: "
                    f"{error.strerror or error}; see that the disk has room and that this user may write there"
                ) from None
            yield f"file({dialect.literal(path)}, 'Native', {dialect.literal(block.structure)})"
        finally:
            if path is not None:
                _remove(path)


def _remove_left_blocks(folder: Path) -> None:
    """Remove the blocks of a process that was killed; the directory is ours, so no other one is writing any."""
    for file in folder.glob("*.native"):
        if not file.name.startswith(f"{_OURS}-"):
            _remove(file)


def _remove(file: Path | str) -> None:
    """Remove the file of a block, if that can be done: one that stays takes room, and changes no outcome."""
    with suppress(OSError):
        os.unlink(file)  # noqa: PTH108


def _open_here(directory: Path) -> bool:
    """Tell whether this process holds the engine's lock: a second flock(2) of its own would be refused, too."""
    status = (directory / _LOCK).stat()
    for descriptor in os.listdir("/dev/fd"):  # noqa: PTH208  # not a folder whose entries have paths of their own
        try:
            found = os.fstat(int(descriptor))
        except OSError:
            continue
        if (found.st_dev, found.st_ino) == (status.st_dev, status.st_ino):
            return True
    return False


def _run(connection: Any, sql: str, parameters: Parameters | None = None) -> Rows:
    bound = {name: parameter_text(value) for name, value in (parameters or {}).items()}
    result = connection.query(sql, results.FORMAT, params=bound)
    return results.parse_rows(result.bytes() if result else b"")


def _set(connection: Any, settings: Mapping[str, int | float | str]) -> None:
    connection.query(f"SET {_assignments(settings)}", "Null", params={})


def _assignments(settings: Mapping[str, int | float | str]) -> str:
    return ", ".join(
        f"{name} = {dialect.literal(value) if isinstance(value, str) and value != _DEFAULT else value}"
        for name, value in settings.items()
    )
