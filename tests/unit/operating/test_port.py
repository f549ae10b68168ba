"""The port answers whoever asks properly, whatever else is sent to it or left unsaid."""

from __future__ import annotations

import http.client
import socket
import time
from contextlib import ExitStack, closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from usageaudit.errors import ConfigurationError
from usageaudit.operating.address import parse_address
from usageaudit.operating.port import MAX_HEAD, Answer, HttpPort, PortLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = 10
BODY = b"here I am\n"


def _answer(path: str, accept: str) -> Answer | None:
    if path != "/here":
        return None
    return Answer(HTTPStatus.OK, "text/plain", BODY)


@contextmanager
def _listening(limits: PortLimits | None = None) -> Iterator[int]:
    port = HttpPort("127.0.0.1", 0, _answer, limits or PortLimits())
    port.open()
    try:
        yield port.port
    finally:
        port.close()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Yield the number of a port that is listening."""
    with _listening() as number:
        yield number


def _exchange(port: int, sent: bytes) -> bytes:
    """Send bytes and an end, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            found = b""
            while part := connection.recv(65_536):
                found += part
        except ConnectionError:
            return b""
    return found


def _get(port: int, method: str = "GET", path: str = "/here") -> tuple[int, bytes, dict[str, str]]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())


def _connect(stack: ExitStack, port: int) -> socket.socket:
    return stack.enter_context(socket.create_connection(("127.0.0.1", port), SECONDS))


def _open_sockets() -> int:
    """Return how many sockets this process has, which are both ends of the connections of a test."""
    return sum(_target(name).startswith("socket:") for name in Path("/proc/self/fd").iterdir())


def _target(name: Path) -> str:
    try:
        return str(name.readlink())
    except OSError:
        return ""


def test_get_and_head_are_answered_and_nothing_else(port: int) -> None:
    """GET has the body, HEAD its length alone; another method or path is refused, and query strings are ignored."""
    assert _get(port)[:2] == (200, BODY)
    status, body, headers = _get(port, "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", str(len(BODY)))
    assert _get(port, path="/here?deep=1")[0] == 200
    assert _get(port, path="/nowhere")[0] == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT"):
        status, _, headers = _get(port, method)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_the_server_says_nothing_of_itself(port: int) -> None:
    """No answer names a server, a version or Python."""
    for path in ("/here", "/nowhere"):
        _, body, headers = _get(port, path=path)
        assert "Server" not in headers
        assert b"ython" not in body + repr(headers).encode()


@given(st.binary(max_size=300) | st.text(max_size=80).map(lambda text: f"GET /{text} HTTP/1.1\r\n\r\n".encode()))
@example(b"GET /here HTTP/1.1\r\n\r\n")
@example(b"GET http://elsewhere/here HTTP/1.1\r\n\r\n")
@example(b"GET /here HTTP/2.0\r\n\r\n")
@example(b"GET  /here HTTP/1.1\r\n\r\n")
@example(b"\r\n\r\n")
@example(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
@example(b"GET /here HTTP/1.1\r\nAccept" + b"\r\nAccept: x" * 700 + b"\r\n\r\n")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_junk_changes_nothing(port: int, junk: bytes) -> None:
    """Whatever is sent, the answer is none or one of four statuses, repeats none of it, and the next one is served."""
    marked = b"Zq7-marker " + junk
    for sent in (junk, marked, junk + b"\r\n\r\n", b"GET /Zq7-marker HTTP/1.1\r\nAccept: Zq7-marker\r\n\r\n" + junk):
        answer = _exchange(port, sent)
        assert not answer or answer.split(b" ")[1] in (b"200", b"400", b"404", b"405")
        assert b"Zq7" not in answer
    assert _get(port)[:2] == (200, BODY)


def test_a_head_that_is_too_long_is_hung_up_on(port: int) -> None:
    """A request that does not end within the limit gets no answer, before all of it was sent."""
    assert _exchange(port, b"GET /here HTTP/1.1\r\nX: " + b"a" * 2 * MAX_HEAD + b"\r\n\r\n") == b""
    longest = b"GET /here HTTP/1.1\r\nX: "
    sent = longest + b"a" * (MAX_HEAD - len(longest) - 100) + b"\r\n\r\n"
    assert _exchange(port, sent).endswith(BODY)


@pytest.mark.parametrize(("limit", "patience", "ends"), [(0.5, SECONDS, True), (3600, 1.0, False)], ids=["", "control"])
def test_who_sends_a_byte_at_a_time_is_hung_up_on_in_time(limit: float, patience: float, *, ends: bool) -> None:
    """A drip of bytes does not put off the end, which a longer deadline does: it is that of the whole request."""
    with _listening(PortLimits(seconds=limit)) as port, ExitStack() as stack:
        connection = _connect(stack, port)
        connection.settimeout(0.05)
        began = time.monotonic()
        ended = False
        while not ended and time.monotonic() - began < patience:
            try:
                connection.sendall(b"G")
                ended = connection.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                ended = True
        assert ended == ends
        assert _get(port)[:2] == (200, BODY)


def test_who_does_not_read_is_hung_up_on_in_time() -> None:
    """An answer that is left unread is dropped at the deadline, and the port closes without waiting for its reader."""
    large = Answer(HTTPStatus.OK, "text/plain", b"x" * 50_000_000)
    port = HttpPort("127.0.0.1", 0, lambda *_: large, PortLimits(seconds=0.5))
    port.open()
    with ExitStack() as stack:
        before = _open_sockets()
        connection = _connect(stack, port.port)
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert connection.recv(1) == b"H"
        _wait(lambda: _open_sockets() == before + 1, "the port did not hang up")
        port.close()
        assert _received(connection) < len(large.body)


def _received(connection: socket.socket) -> int:
    """Return how many bytes come until the end."""
    count = 0
    try:
        while part := connection.recv(65_536):
            count += len(part)
    except ConnectionError:
        pass
    return count


@pytest.mark.parametrize(("most", "kept"), [(16, True), (10_000, False)], ids=["limited", "control"])
def test_a_hundred_silent_connections_are_not_kept(most: int, *, kept: bool) -> None:
    """With the limit only so many stay open and everybody is served; without it all of them hold a socket."""
    with _listening(PortLimits(connections=most, seconds=60)) as port, ExitStack() as stack:
        before = _open_sockets()
        silent = [_connect(stack, port) for _ in range(100)]
        assert _get(port)[:2] == (200, BODY)

        def held() -> int:
            return _open_sockets() - before - len(silent)

        if kept:
            _wait(lambda: held() <= most, "too many connections stayed open")
        else:
            assert held() >= len(silent)


def _wait(is_so: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < until, what
        time.sleep(0.01)


def test_an_address_that_is_taken_is_refused() -> None:
    """Listening where somebody listens already is an error that names the address."""
    with _listening() as taken:
        second = HttpPort("127.0.0.1", taken, _answer)
        with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{taken}: Address already in use"):
            second.open()


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("[::1]:0", ("::1", 0)),
        ("a.host:65535", ("a.host", 65535)),
        ("off", None),
    ],
)
def test_addresses_are_host_and_port(address: str, found: tuple[str, int] | None) -> None:
    """HOST:PORT, [HOST]:PORT and off are understood."""
    assert parse_address(address) == found


@pytest.mark.parametrize("address", ["", "9464", ":9464", "host", "host:", "host:x", "host:65536", "::1:9464", "h:-1"])
def test_other_addresses_are_refused(address: str) -> None:
    """Anything else is a mistake in the settings."""
    with pytest.raises(ConfigurationError):
        parse_address(address)
