"""A small HTTP port for supervisors and Prometheus: it answers GET and HEAD, and takes hardly anything in.

A thread of its own with its own event loop. A connection is one request, read whole within a second or two and some
kilobytes, or it is closed; where too many are open the oldest is. Nothing of a request comes back in an answer.
Who takes whole requests, POST and its body among them, does so in one more thread, one request after another.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from usageaudit.errors import ConfigurationError
from usageaudit.operating.requests import END, Request, body_length, parse_head

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Answerer = Callable[[str, str], "Answer | None"]
    """Returns the answer for a path and an Accept header, None where there is nothing at that path."""
    Taker = Callable[[Request], "Answer"]
    """Returns the answer to a whole request; called in one thread that is not the event loop's."""

MAX_HEAD = 8 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: its status, media type and body, and headers beyond those that every answer has."""

    status: HTTPStatus
    media_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PortLimits:
    """How many connections may be open, for how many seconds each, and how many bytes the body of a request has."""

    connections: int = 32
    seconds: float = 5.0
    body: int = 16 * 1024


@dataclass(slots=True)
class HttpPort:
    """Listens at an address between `open` and `close`; port 0 becomes a free one.

    With `takes` that one answers every request, of any method, instead of `answer`.
    """

    host: str
    port: int
    answer: Answerer
    limits: PortLimits = field(default_factory=PortLimits)
    takes: Taker | None = None
    _open: dict[asyncio.StreamWriter, None] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop | None = None
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _thread: threading.Thread | None = None
    _worker: ThreadPoolExecutor | None = None

    def open(self) -> None:
        """Listen from now on. Raises ConfigurationError."""
        listening = _listen(self.host, self.port)
        self.port = listening.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        if self.takes is not None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="usageaudit-http-worker")
        self._thread = threading.Thread(target=self._run, args=[self._loop, listening], name="usageaudit-http")
        self._thread.daemon = True
        self._thread.start()

    def close(self) -> None:
        """Hang up on everybody and listen no more."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join()
        if self._worker is not None:
            self._worker.shutdown(cancel_futures=True)

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
                    head = await reader.readuntil(END)
                    peer = str((writer.get_extra_info("peername") or ("",))[0])
                    request = parse_head(head, peer)
                    if self.takes is None or request is None:
                        writer.write(self._respond(request))
                    else:
                        writer.write(
                            _response(
                                await self._taken(self.takes, request, reader), with_body=request.method != "HEAD"
                            )
                        )
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()

    def _respond(self, request: Request | None) -> bytes:
        """Return the whole response to a request without a body."""
        if request is None:
            return _response(plain_answer(HTTPStatus.BAD_REQUEST), with_body=True)
        if request.method not in ("GET", "HEAD"):
            return _response(plain_answer(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET, HEAD"}), with_body=True)
        found = self.answer(request.path, request.headers.get("accept", "")) or plain_answer(HTTPStatus.NOT_FOUND)
        return _response(found, with_body=request.method == "GET")

    async def _taken(self, takes: Taker, request: Request, reader: asyncio.StreamReader) -> Answer:
        """Read the body and have the request answered in the worker's thread."""
        length = body_length(request, self.limits.body)
        if isinstance(length, HTTPStatus):
            return plain_answer(length)
        whole = replace(request, body=await reader.readexactly(length))
        return await asyncio.get_running_loop().run_in_executor(self._worker, takes, whole)


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


def plain_answer(status: HTTPStatus, headers: Mapping[str, str] | None = None) -> Answer:
    """Return the answer that says a status and nothing more."""
    return Answer(status, "text/plain; charset=utf-8", f"{status.phrase}\n".encode(), headers or {})


def _response(answer: Answer, *, with_body: bool) -> bytes:
    more = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
    head = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\nContent-Type: {answer.media_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        f"Connection: close\r\n{more}\r\n"
    )
    return head.encode() + (answer.body if with_body else b"")
