"""A store that another process holds, asked through its socket: the reading part of the port."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, NoReturn

from usageaudit.cli.remote import endpoint
from usageaudit.cli.remote.protocol import (
    MAX_REQUEST,
    VERSION,
    ConnectionEnded,
    pack,
    raise_error,
    receive,
    send,
    unpack,
)
from usageaudit.errors import QueryRefused, StoreUnavailable
from usageaudit.stores.given import check_text
from usageaudit.stores.port import Limits, Rows

if TYPE_CHECKING:
    from pathlib import Path

    from usageaudit.stores.native import NativeBlock
    from usageaudit.stores.port import Insert, Parameters

CONNECT_SECONDS = 5.0
GRACE_SECONDS = 15.0
"""How much longer than the query's own limit to wait for its answer."""


def connect(folder: Path) -> RemoteStore | None:
    """Return the store of the process that holds the folder's data; None where no process answers there.

    Raises StoreUnavailable where it answers and is another user's.
    """
    try:
        return RemoteStore(folder)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except OSError as error:
        raise StoreUnavailable(f"{folder / endpoint.NAME}: {error.strerror or error}") from error


class RemoteStore:
    """Reads through the socket of the process that holds the data; everything that writes is refused."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.settimeout(CONNECT_SECONDS)
        try:
            with endpoint.short_path(folder) as path:
                self._connection.connect(path)
            trusted = endpoint.may_answer(self._connection)
        except OSError:
            self._connection.close()
            raise
        if not trusted:
            self._connection.close()
            raise StoreUnavailable(f"{folder / endpoint.NAME} is served by a process of another user; it was not asked")

    def execute(self, sql: str, parameters: Parameters | None = None, *, query_id: str | None = None) -> Rows:
        """Run a read of usageaudit's own."""
        return self.query(sql, parameters)

    def query(self, sql: str, parameters: Parameters | None = None, limits: Limits | None = None) -> Rows:
        """Run one read-only statement there, within the limits of both sides."""
        check_text(sql, parameters)
        limits = limits or Limits()
        request = {
            "version": VERSION,
            "sql": sql,
            "parameters": {name: pack(value) for name, value in (parameters or {}).items()},
            "seconds": limits.seconds,
            "memory_bytes": limits.memory_bytes,
            "result_rows": limits.result_rows,
            "long_text": limits.long_text,
        }
        self._connection.settimeout(limits.seconds + GRACE_SECONDS)
        try:
            send(self._connection, request, MAX_REQUEST)
            return self._rows()
        except TimeoutError as error:
            raise StoreUnavailable(f"the process that holds {self._folder} did not answer in time") from error
        except (ConnectionEnded, OSError) as error:
            raise StoreUnavailable(
                f"the process that holds {self._folder} ended the connection; is it still running, or does it answer "
                "many others? Try again"
            ) from error

    def _rows(self) -> Rows:
        head = self._frame()
        rows: list[tuple[Any, ...]] = []
        while True:
            frame = self._frame()
            if "rows" not in frame:
                return Rows(tuple(head["columns"]), tuple(head["types"]), rows)
            rows.extend(tuple(map(unpack, row)) for row in frame["rows"])

    def _frame(self) -> dict[str, Any]:
        frame = receive(self._connection)
        if not isinstance(frame, dict):
            raise ConnectionEnded("a frame that is no object")
        raise_error(frame)
        return frame

    def look_up(self, sql: str, name: str, block: NativeBlock) -> Rows:
        """Refuse: only the process that holds the data uses temporary tables."""
        self._refuse()

    def insert(self, insert: Insert) -> None:
        """Refuse: only the process that holds the data writes."""
        self._refuse()

    def kill(self, query_id_prefix: str) -> None:
        """Refuse: only the process that holds the data ends statements."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise QueryRefused(f"another process holds the data in {self._folder} and can only be asked; stop it to write")

    def another(self) -> RemoteStore:
        """Return another connection."""
        return RemoteStore(self._folder)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
