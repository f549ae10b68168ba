"""Receivers of HTTP on loopback that behave as badly as a test asks."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    Behaviour = Callable[["Receiver", socket.socket, "Request"], None]


@dataclass(frozen=True, slots=True)
class Request:
    """One request: its line, headers by names in small letters, and body."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Receiver:
    """Listens while it is entered, and behaves; `requests` are those that came whole, `reached` every connection."""

    behave: Behaviour
    host: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None
    port: int = 0
    reached: int = 0
    sent: int = 0
    requests: list[Request] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    _listening: socket.socket = field(init=False)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._listening = socket.create_server((self.host, self.port))
        self.port = self._listening.getsockname()[1]
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(10)

    @property
    def url(self) -> str:
        """Its URL by address, with a path that nobody should see."""
        return f"http{'s' if self.tls else ''}://{self.host}:{self.port}/path-that-is-a-secret-0123456789"

    def send(self, connection: socket.socket, data: bytes) -> None:
        """Send to whoever asked, and count it. Raises OSError when they went away."""
        connection.sendall(data)
        self.sent += len(data)

    def drip(self, connection: socket.socket, data: bytes) -> None:
        """Send a byte every twentieth of a second, until this is closed."""
        for byte in data:
            self.send(connection, bytes([byte]))
            if self.closing.wait(0.05):
                return

    def _start(self, do: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=do, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.reached += 1
            self._start(lambda taken=connection: self._serve(taken))  # type: ignore[misc]

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        with connection, contextlib.suppress(OSError):
            secured = self.tls.wrap_socket(connection, server_side=True) if self.tls else connection
            with secured:
                request = _read(secured)
                self.requests.append(request)
                self.behave(self, secured, request)


_HANDSHAKE = b"\x16"


def answering(status: str, body: bytes = b"", *lines: str) -> Behaviour:
    """Return the behaviour of one that answers each request with a status like `200 OK`, a body and lines of a head."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines]
    data = "\r\n".join([*head, "", ""]).encode("latin-1") + body
    return lambda receiver, connection, _request: receiver.send(connection, data)


def _read(connection: socket.socket) -> Request:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(connection)
        if data.startswith(_HANDSHAKE):
            raise ConnectionError("TLS, where none is spoken")
    head, _, body = data.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += _more(connection)
    return Request(line, headers, body)


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("gone")
    return data
