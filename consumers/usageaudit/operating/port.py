"""A small HTTP port for supervisors and Prometheus: it answers GET and HEAD, and takes hardly anything in.

A thread of its own with its own event loop. A connection is one request, read whole within a second or two and some
kilobytes, or it is closed; where too many are open the oldest is. Nothing of a request comes back in an answer.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from usageaudit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    Answerer = Callable[[str, str], "Answer | None"]
    """Returns the answer for a path and an Accept header, None where there is nothing at that path."""

MAX_HEAD = 8 * 1024
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: its status, media type and body."""

    status: HTTPStatus
    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class PortLimits:
    """How many connections may be open, and for how many seconds each."""

    connections: int = 32
    seconds: float = 5.0


@dataclass(slots=True)
class HttpPort:
    """Listens at an address between `open` and `close`; port 0 becomes a free one."""

    host: str
    port: int
    answer: Answerer
    limits: PortLimits = field(default_factory=PortLimits)
    _open: dict[asyncio.StreamWriter, None] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop | None = None
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _thread: threading.Thread | None = None

    def open(self) -> None:
        """Listen from now on. Raises ConfigurationError."""
        listening = _listen(self.host, self.port)
        self.port = listening.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=[self._loop, listening], name="usageaudit-http")
        self._thread.daemon = True
        self._thread.start()

    def close(self) -> None:
        """Hang up on everybody and listen no more."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join()

    def _run(self, loop: asyncio.AbstractEventLoop, listening: socket.socket) -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(self._serve(listening))

    async def _serve(self, listening: socket.socket) -> None:
        server = await asyncio.start_server(self._converse, sock=listening, limit=MAX_HEAD)
        await self._ended.wait()
        server.close()
        for writer in list(self._open):
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request; whoever is slow, says too much or goes away is hung up on."""
        self._open[writer] = None
        if len(self._open) > self.limits.connections:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        try:
            async with asyncio.timeout(self.limits.seconds):
                with suppress(asyncio.LimitOverrunError):
                    writer.write(self._respond(await reader.readuntil(_END)))
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()

    def _respond(self, head: bytes) -> bytes:
        """Return the whole response to a request's head."""
        method, path, accept = _parse(head)
        if not path:
            return _response(_plain(HTTPStatus.BAD_REQUEST), with_body=True)
        if method not in ("GET", "HEAD"):
            return _response(_plain(HTTPStatus.METHOD_NOT_ALLOWED), with_body=True, more="Allow: GET, HEAD\r\n")
        found = self.answer(path, accept) or _plain(HTTPStatus.NOT_FOUND)
        return _response(found, with_body=method == "GET")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _not_listening(host, port, error) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise _not_listening(host, port, error) from error
    listening.setblocking(False)
    return listening


def _not_listening(host: str, port: int, error: OSError) -> ConfigurationError:
    reason = error.strerror or str(error)
    return ConfigurationError(f"http: can't listen on {host}:{port}: {reason}; name another address, or off")


def _parse(head: bytes) -> tuple[str, str, str]:
    """Return method, path and Accept header of a request; an empty path where it is none of HTTP/1."""
    line, *lines = head.removesuffix(_END).decode("latin-1").split("\r\n")
    words = line.split(" ")
    if len(words) != 3 or not words[1].startswith("/") or words[2] not in ("HTTP/1.0", "HTTP/1.1"):
        return "", "", ""
    headers = (one.partition(":") for one in lines)
    accepts = [value.strip() for name, _, value in headers if name.lower() == "accept"]
    return words[0], words[1].partition("?")[0], ",".join(accepts)


def _plain(status: HTTPStatus) -> Answer:
    return Answer(status, "text/plain; charset=utf-8", f"{status.phrase}\n".encode())


def _response(answer: Answer, *, with_body: bool, more: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\nContent-Type: {answer.media_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        f"Connection: close\r\n{more}\r\n"
    )
    return head.encode() + (answer.body if with_body else b"")
