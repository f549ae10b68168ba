"""Answers read-only queries of other processes of the same user, in threads of the process that holds the store."""

from __future__ import annotations

import os
import socket
import socketserver
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from usageaudit.cli.remote import endpoint
from usageaudit.cli.remote.protocol import (
    MAX_REQUEST,
    ROWS_IN_A_FRAME,
    VERSION,
    ConnectionEnded,
    error_frame,
    pack,
    receive,
    send,
    unpack,
)
from usageaudit.errors import QueryRefused, StoreUnavailable, UsageAuditError
from usageaudit.stores.port import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from usageaudit.stores.port import Rows, Store

log = structlog.get_logger("usageaudit.socket")

MOST_CONNECTIONS = 8
MOST_ANSWERED = 2
"""How many queries run at a time; they share the memory that one may use, since this process has to record, too."""
TURN_SECONDS = 10.0
"""How long a query waits for its turn, which is less than the other end waits beyond the query's own time."""
IDLE_SECONDS = 300.0
SEND_SECONDS = 30.0
"""How long the other end may leave a piece of an answer unread."""
HANG_UP_SECONDS = 5.0


@dataclass(slots=True)
class QueryServer:
    """The server of one folder's store, whose holder has to be this process: what lies at the socket's place is stale.

    `most` bounds what any query may ask for, its memory all of those together that run at a time. Use it as a context
    manager, which starts and stops it.
    """

    folder: Path
    store: Store
    most: Limits = field(default_factory=Limits)
    _server: _Server | None = None
    _turns: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(MOST_ANSWERED))

    def __enter__(self) -> QueryServer:
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, name="usageaudit-socket", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.hang_up()
            self._server.server_close()
            self._server = None
            (self.folder / endpoint.NAME).unlink(missing_ok=True)

    def answer(self, connection: socket.socket) -> None:
        """Answer the requests of one connection until it ends."""
        store = self.store.another()
        try:
            while True:
                request = receive(connection, MAX_REQUEST)
                try:
                    self._answer_one(connection, request, store)
                except UsageAuditError as error:
                    send(connection, error_frame(error))
        finally:
            store.close()

    def _answer_one(self, connection: socket.socket, request: Any, store: Store) -> None:
        sql, parameters, limits = self._checked(request)
        with self._turn():
            connection.settimeout(SEND_SECONDS)
            _send_rows(connection, store.query(sql, parameters, limits))
        connection.settimeout(IDLE_SECONDS)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until fewer queries run than may. Raises StoreUnavailable where that takes too long."""
        if not self._turns.acquire(timeout=TURN_SECONDS):
            raise StoreUnavailable(
                f"{MOST_ANSWERED} other questions are being answered by the process that holds the data; try again"
            )
        try:
            yield
        finally:
            self._turns.release()

    def _checked(self, request: Any) -> tuple[str, dict[str, Any], Limits]:
        """Return what a request asks for, within our limits. Raises QueryRefused for what is no request."""
        if not isinstance(request, dict) or request.get("version") != VERSION:
            raise QueryRefused("the process that holds the data is of another version of usageaudit: restart it")
        try:
            limits = Limits(
                seconds=min(float(request["seconds"]), self.most.seconds),
                memory_bytes=min(int(request["memory_bytes"]), self.most.memory_bytes // MOST_ANSWERED),
                result_rows=min(int(request["result_rows"]), self.most.result_rows),
                long_text=bool(request.get("long_text")),
            )
            parameters = {str(name): unpack(value) for name, value in request["parameters"].items()}
            return str(request["sql"]), parameters, limits
        except (KeyError, TypeError, ValueError, AttributeError, ConnectionEnded) as error:
            raise QueryRefused(f"not a request: {error}") from error


def _send_rows(connection: socket.socket, rows: Rows) -> None:
    send(connection, {"columns": rows.columns, "types": rows.types})
    for start in range(0, len(rows.rows), ROWS_IN_A_FRAME):
        piece = rows.rows[start : start + ROWS_IN_A_FRAME]
        send(connection, {"rows": [[pack(value) for value in row] for row in piece]})
    send(connection, {"end": len(rows.rows)})


class _Handler(socketserver.BaseRequestHandler):
    """One connection."""

    def handle(self) -> None:
        server: _Server = self.server  # type: ignore[assignment]
        self.request.settimeout(IDLE_SECONDS)
        with suppress(ConnectionEnded, OSError):
            server.owner.answer(self.request)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Accepts connections of the same user, a bounded number at a time, each in a thread."""

    daemon_threads = True

    def __init__(self, owner: QueryServer) -> None:
        self.owner = owner
        self._open: set[socket.socket] = set()
        self._changing = threading.Condition()
        super().__init__(str(owner.folder / endpoint.NAME), _Handler)

    def server_bind(self) -> None:
        """Bind the socket for its owner alone; nobody can connect before `server_activate` listens."""
        with endpoint.short_path(self.owner.folder) as path:
            with suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108  the address is a string here
            self.socket.bind(path)
            os.chmod(path, 0o600)  # noqa: PTH101

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Take a connection of the same user while there is room for one more."""
        if not endpoint.may_ask(request):
            log.warning("refused a connection of another user", user=endpoint.peer_user(request))
            return False
        with self._changing:
            if len(self._open) >= MOST_CONNECTIONS:
                return False
            self._open.add(request)
        return True

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection that ended."""
        with self._changing:
            self._open.discard(request)
            self._changing.notify_all()
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that are open, and wait a moment for their threads to give their stores back."""
        with self._changing:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changing.wait_for(lambda: not self._open, HANG_UP_SECONDS)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what kind of error ended a connection; the text of it may quote the query."""
        log.error("a connection failed", cause=type(sys.exception()).__name__)
