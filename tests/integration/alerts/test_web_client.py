"""The client of deliveries against receivers on loopback that behave badly."""

from __future__ import annotations

import contextlib
import gzip
import socket
import ssl
import threading
import time
from email.utils import formatdate
from ipaddress import ip_network
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from tests.servers.certificates import Authority, lacking
from tests.servers.receivers import Receiver, Request, answering
from usageaudit.alerts.config.settings import Network
from usageaudit.alerts.targets.port import Answer, DeliveryFailed
from usageaudit.alerts.web import MAX_ANSWER, Web

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

LOOPBACK = Network(networks=(ip_network("127.0.0.0/8"), ip_network("::1/128")))
SECRET = "path-that-is-a-secret-0123456789"
TAKEN = answering("204 No Content")


def post(
    receiver: Receiver | str, network: Network = LOOPBACK, seconds: float = 10.0, web: Web | None = None
) -> Answer:
    """Send one delivery."""
    url = receiver if isinstance(receiver, str) else receiver.url
    return (web or Web(network, seconds)).post(url, name="ops", json={"a": 1}, headers={"x-key": "k"})


def failure(
    receiver: Receiver | str, network: Network = LOOPBACK, seconds: float = 10.0, web: Web | None = None
) -> DeliveryFailed:
    """Send one delivery that fails, and return how; what it says never has the path."""
    with pytest.raises(DeliveryFailed) as failed:
        post(receiver, network, seconds, web)
    assert SECRET not in str(failed.value)
    return failed.value


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def test_a_delivery_is_one_request_without_frills() -> None:
    """What is taken came as one POST with the headers that were asked for, and asked for an answer as it is."""
    with Receiver(answering("200 OK", b"thanks")) as receiver:
        assert post(receiver) == Answer(200, "thanks")
    (request,) = receiver.requests
    assert request.line == f"POST /{SECRET} HTTP/1.1"
    assert request.body == b'{"a":1}'
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert (request.headers["x-key"], request.headers["content-type"]) == ("k", "application/json")


@pytest.mark.parametrize("status", ["500 Oops", "503 Busy", "429 Slow Down", "408 Late"])
def test_who_has_trouble_is_asked_again(status: str) -> None:
    """A receiver that has trouble of its own is worth another try, when it says so."""
    with Receiver(answering(status, b"trouble", "Retry-After: 7")) as receiver:
        failed = failure(receiver)
    assert (failed.again, failed.after, failed.status) == (True, 7.0, int(status[:3]))
    assert "trouble" in str(failed)


def test_who_says_when_is_believed_for_an_hour() -> None:
    """Retry-After as a date is the time until then, and a receiver can't ask for more than an hour."""
    with Receiver(
        answering("429 Slow", b"", f"Retry-After: {formatdate(time.time() + 86_400, usegmt=True)}")
    ) as receiver:
        assert failure(receiver).after == 3600


@pytest.mark.parametrize("status", ["400 Bad Request", "401 Who", "403 No", "404 Not Found", "410 Gone", "304 Same"])
def test_who_refuses_is_left_alone(status: str) -> None:
    """A receiver that refuses is not asked again; where it is gone, the message says what to do."""
    with Receiver(answering(status, b"", "Retry-After: 7")) as receiver:
        failed = failure(receiver)
    assert (failed.again, failed.after) == (False, None)
    assert ("wants no more" in str(failed)) == status.startswith("410")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(status: int) -> None:
    """A redirect, here to loopback, is an error that names the place without its path, and nobody goes there."""
    with Receiver(TAKEN, host="127.0.0.3") as elsewhere:
        location = f"Location: {elsewhere.url}?token=secret"
        with Receiver(answering(f"{status} There", b"", location)) as receiver:
            failed = failure(receiver)
    assert elsewhere.reached == 0
    assert not failed.again
    assert f"http://127.0.0.3:{elsewhere.port};" in str(failed)
    assert "token" not in str(failed)


def silent(receiver: Receiver, _connection: socket.socket, _request: Request) -> None:
    """Say nothing."""
    receiver.closing.wait(10)


def dripping_head(receiver: Receiver, connection: socket.socket, _request: Request) -> None:
    """Say a header that has no end, a byte at a time."""
    receiver.drip(connection, b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000)


def dripping_interim(receiver: Receiver, connection: socket.socket, _request: Request) -> None:
    """Say again and again that the answer is to come."""
    while not receiver.closing.wait(0.05):
        receiver.send(connection, b"HTTP/1.1 102 Processing\r\n\r\n")


@pytest.mark.parametrize("behave", [silent, dripping_head, dripping_interim])
def test_nobody_holds_a_delivery(behave: Callable[[Receiver, socket.socket, Request], None]) -> None:
    """Who says nothing, or something now and then, is hung up on after the target's seconds."""
    with Receiver(behave) as receiver:
        began = time.monotonic()
        failed = failure(receiver, seconds=0.6)
        assert 0.5 < time.monotonic() - began < 5
    assert failed.again
    assert "within 0.6 s" in str(failed)


def test_a_byte_a_time_goes_on_longer_than_each_wait() -> None:
    """Without a deadline for the whole, a time-out of each read lets the dripping receiver go on: the control."""
    with Receiver(dripping_head) as receiver, socket.create_connection((receiver.host, receiver.port), 0.6) as plain:
        plain.sendall(b"POST / HTTP/1.1\r\n\r\n")
        began = time.monotonic()
        while time.monotonic() - began < 1.0:
            assert plain.recv(1)


def test_a_slow_body_does_not_undo_what_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the status says that it was taken, a body that drips is waited for a moment, and not for the deadline."""
    monkeypatch.setattr("usageaudit.alerts.web.client.BODY_SECONDS", 0.3)

    def behave(receiver: Receiver, connection: socket.socket, _request: Request) -> None:
        receiver.send(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
        receiver.drip(connection, b"x" * 5000)

    with Receiver(behave) as receiver:
        began = time.monotonic()
        assert post(receiver, seconds=30).status == 200
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("garbage", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x15\x03\x01\x00\x02\x02\x46", b"", b"\0" * 200_000])
def test_garbage_is_no_answer(garbage: bytes) -> None:
    """Who speaks no HTTP, or hangs up, did not take it; that may be a passing trouble."""
    with Receiver(lambda receiver, connection, _: receiver.send(connection, garbage)) as receiver:
        failed = failure(receiver)
    assert failed.again
    assert failed.status == 0


def test_a_large_answer_is_not_read() -> None:
    """Of 100 MB that a receiver sends hardly more is taken from it than is read, and its delivery is taken."""

    def behave(receiver: Receiver, connection: socket.socket, _request: Request) -> None:
        receiver.send(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n")
        for _ in range(1600):
            receiver.send(connection, b"x" * 65536)

    with Receiver(behave) as receiver:
        answer = post(receiver)
    assert answer.status == 200
    assert len(answer.said) <= 500
    assert receiver.sent < 16 * 2**20, "the system's buffers take some"


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 102 Wait\r\n\r\n", b"HTTP/1.1 102 Wait\r\nX: " + b"x" * 90_000 + b"\r\n\r\n"]
)
def test_a_flood_of_interim_answers_is_not_read(head: bytes) -> None:
    """Who sends interim answers without end is hung up on long before the time is over."""

    def behave(receiver: Receiver, connection: socket.socket, _request: Request) -> None:
        for _ in range(100_000_000 // len(head)):
            receiver.send(connection, head)

    with Receiver(behave) as receiver:
        assert failure(receiver, seconds=60).again
    assert receiver.sent < 16 * 2**20


def test_nothing_is_unpacked() -> None:
    """A small answer that unpacks to a large one stays packed."""
    bomb = gzip.compress(b"x" * 10_000_000)
    assert len(bomb) < MAX_ANSWER
    with Receiver(answering("200 OK", bomb, "Content-Encoding: gzip")) as receiver:
        assert post(receiver) == Answer(200, "(compressed, and not read)")


def test_what_comes_back_has_no_secrets() -> None:
    """A receiver that says what it was sent does not bring the path or a secret into what is kept."""

    def behave(receiver: Receiver, connection: socket.socket, request: Request) -> None:
        said = f"{unquote(request.line).replace('=', ' ')} {request.body.decode()} \x1b[31m".encode()
        answering("400 Bad", said)(receiver, connection, request)

    query = "?sv=1&sig=s1gn%2Fed&code=c0de01"
    body = {"key": "R0UT1NG", "url": f"https://audit.example/acknowledge/{'T0ken_-' * 10}"}
    with Receiver(behave) as receiver, pytest.raises(DeliveryFailed) as failed:
        Web(LOOPBACK, 10).post(receiver.url + query, name="ops", json=body, secrets=["R0UT1NG"])
    for secret in (SECRET, "R0UT1NG", "s1gn", "c0de01", "T0ken"):
        assert secret not in str(failed.value)
    assert "\x1b" not in str(failed.value)
    assert '"key":"***"' in str(failed.value)


def test_a_closed_port_may_open_again() -> None:
    """Where nobody listens another try can help."""
    failed = failure(f"http://127.0.0.1:{free_port()}/{SECRET}")
    assert failed.again
    assert "Connection refused" in str(failed)


class Names:
    """A name server whose answers follow one another; the last is repeated."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers, self.asked = list(answers), 0

    def __call__(self, host: str) -> Sequence[str]:
        """Return the next answer."""
        self.asked += 1
        return self.answers[min(self.asked, len(self.answers)) - 1]


def unknown(host: str) -> Sequence[str]:
    """Know no name."""
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_names_that_nobody_knows_may_be_known_later() -> None:
    """A name that can't be resolved is worth another try, and the message says it is the name."""
    failed = failure(f"https://hooks.example/{SECRET}", web=Web(Network(), 5, resolve=unknown))
    assert failed.again
    assert "Name or service not known" in str(failed)


@pytest.mark.parametrize("host", ["a..example", "x" * 64 + ".example", "hooks.example%00.org"])
def test_what_is_no_name_is_an_error_like_others(host: str) -> None:
    """A host that is no name is told of as such."""
    assert "ops: " in str(failure(f"https://{host}/{SECRET}"))


def test_a_silent_name_server_holds_nobody() -> None:
    """Where the name server does not answer, the delivery ends in time, and further ones make no further question."""
    ended, asked = threading.Event(), []

    def never(host: str) -> Sequence[str]:
        asked.append(host)
        ended.wait(20)
        return ["127.0.0.1"]

    web = Web(LOOPBACK, 0.1, resolve=never)
    try:
        for _ in range(3):
            assert failure(f"https://hooks.example/{SECRET}", web=web).again
        assert asked == ["hooks.example"]
    finally:
        ended.set()


def test_an_answer_that_nobody_waited_for_grows_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a name server said long after the delivery it was asked for does not decide of a later one."""
    monkeypatch.setattr("usageaudit.alerts.web.resolving.KEPT_SECONDS", -1.0)
    ended, asked = threading.Event(), []

    def late(host: str) -> Sequence[str]:
        asked.append(host)
        if len(asked) == 1:
            ended.wait(20)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return ["127.0.0.1"]

    with Receiver(TAKEN) as receiver:
        web = Web(Network(hosts=frozenset({"hooks.example"})), 0.5, resolve=late)
        assert "in time" in str(failure(f"http://hooks.example:{receiver.port}/", web=web))
        ended.set()
        for thread in threading.enumerate():
            if thread.name == "usageaudit-resolve":
                thread.join(20)
        assert post(f"http://hooks.example:{receiver.port}/", web=web).status == 204


SPELLINGS = ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0.0.0.0"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_loopback_is_not_reached(spelling: str) -> None:
    """However loopback is spelled, nobody connects to it unless it is allowed; then they do."""
    with Receiver(TAKEN) as receiver:
        failed = failure(f"https://{spelling}:{receiver.port}/{SECRET}", Network())
        assert receiver.reached == 0
        assert not failed.again
        assert "network.allow" in str(failed)
        with contextlib.suppress(DeliveryFailed):  # there is no TLS there
            everything = Network(networks=(ip_network("0.0.0.0/0"), ip_network("::/0")))
            post(f"https://{spelling}:{receiver.port}/", everything)
        assert receiver.reached == 1


def test_a_name_that_moves_is_looked_at_each_time() -> None:
    """A name is resolved once a delivery, and what is connected to is what was looked at: it can't move between."""
    allowed = Network(networks=(ip_network("127.0.0.2/32"),), hosts=frozenset())
    names = Names(["127.0.0.2"], ["127.0.0.1"])
    with Receiver(TAKEN) as inside, Receiver(TAKEN, host="127.0.0.2", port=inside.port) as outside:
        web = Web(allowed, 5, resolve=names)
        url = f"https://hooks.example:{inside.port}/{SECRET}"
        assert failure(url, web=web).again, "it was reached, and speaks no TLS"
        assert (names.asked, outside.reached, inside.reached) == (1, 1, 0)
        assert not failure(url, web=web).again
        assert (names.asked, outside.reached, inside.reached) == (2, 1, 0)


def test_checking_apart_from_connecting_would_be_fooled() -> None:
    """A check of the name followed by a connection to the name reaches what the check refuses: the control."""
    names = Names(["127.0.0.2"], ["127.0.0.1"])
    with Receiver(TAKEN) as inside:
        assert names("hooks.example") == ["127.0.0.2"]
        with socket.create_connection((names("hooks.example")[0], inside.port), 5) as fooled:
            fooled.sendall(b"POST / HTTP/1.1\r\n\r\n")
            assert fooled.recv(100)
    assert inside.reached == 1


@pytest.mark.parametrize("inside", ["10.0.0.1", "169.254.169.254", "::1", "fd00:ec2::254", "::ffff:10.0.0.1"])
def test_one_private_address_spoils_all(inside: str) -> None:
    """A name with public and private addresses is refused before anybody is connected to."""
    with Receiver(TAKEN, host="127.0.0.2") as receiver:
        web = Web(Network(networks=(ip_network("127.0.0.2/32"),)), 5, resolve=Names(["127.0.0.2", inside]))
        failed = failure(f"https://hooks.example:{receiver.port}/{SECRET}", web=web)
        assert receiver.reached == 0
    assert not failed.again
    assert inside in str(failed)


def test_the_next_address_is_tried() -> None:
    """Where the first address of a name does not answer, the next one does."""
    allowed = Network(networks=(ip_network("127.0.0.0/8"),), hosts=frozenset({"hooks.example"}))
    with Receiver(TAKEN) as receiver:
        web = Web(allowed, 5, resolve=Names(["127.0.0.9", "127.0.0.1"]))
        assert post(f"http://hooks.example:{receiver.port}/", web=web).status == 204


def test_plain_http_is_for_what_is_allowed() -> None:
    """Without TLS nothing is sent but to a host, or an address, that the configuration names."""
    with Receiver(TAKEN) as receiver:
        named = Network(hosts=frozenset({"hooks.example"}))
        web = Web(named, 5, resolve=Names(["127.0.0.1"]))
        assert post(f"http://HOOKS.example:{receiver.port}/", web=web).status == 204
        assert "write https" in str(failure(f"http://other.example:{receiver.port}/", web=web))
        assert "write https" in str(failure(receiver, Network()))
        assert receiver.reached == 1


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks",
        "ftp://hooks.example/",
        "https:///x",
        "https://0177.0.0.1/",
        "https://h:0/",
        "https://u:pw@hooks.example/",
        "https://h:99999/",
    ],
)
def test_what_is_no_url_for_a_delivery_is_refused(url: str) -> None:
    """A URL of another scheme, without a host, with a user, or that is none is refused for good."""
    failed = failure(url)
    assert not failed.again
    assert "pw" not in str(failed)


def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment says of proxies does not lead a delivery elsewhere."""
    with Receiver(TAKEN) as receiver, Receiver(TAKEN) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert post(receiver).status == 204
        assert (receiver.reached, proxy.reached) == (1, 0)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return an authority of the tests."""
    if (reason := lacking()) is not None:
        pytest.skip(reason)
    return Authority(tmp_path_factory.mktemp("authority") / "ca")


def secured(authority: Authority, name: str, heard: list[str | None] | None = None) -> ssl.SSLContext:
    """Return what a receiver needs that is called a name; the names that it is asked for are heard."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.sign(name, f"DNS:{name}").chain)
    if heard is not None:
        context.sni_callback = lambda _socket, asked, _context: heard.append(asked)
    return context


def trusting(authority: Authority, *addresses: str) -> Web:
    """Return a client that trusts an authority, and finds every name at these addresses."""
    tls = ssl.create_default_context(cafile=str(authority.certificate))
    return Web(Network(hosts=frozenset({"hooks.example"})), 5, resolve=Names(addresses), tls=tls)


def test_the_certificate_is_that_of_the_name(authority: Authority) -> None:
    """What is connected to is an address, and yet TLS asks for the name and checks the certificate against it."""
    heard: list[str | None] = []
    with Receiver(TAKEN, tls=secured(authority, "hooks.example", heard)) as receiver:
        for host in ("hooks.example", "hooks.example."):  # a dot at the end is for name servers, not for certificates
            assert post(f"https://{host}:{receiver.port}/", web=trusting(authority, "127.0.0.1")).status == 204
    assert heard == ["hooks.example"] * 2
    assert receiver.requests[0].headers["host"] == f"hooks.example:{receiver.port}"


def test_authorities_are_those_of_the_system(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who signs certificates of an organisation can be named in SSL_CERT_FILE; else nobody trusts them."""
    network = Network(hosts=frozenset({"hooks.example"}))
    with Receiver(TAKEN, tls=secured(authority, "hooks.example")) as receiver:
        url = f"https://hooks.example:{receiver.port}/"
        assert "certificate" in str(failure(url, web=Web(network, 5, resolve=Names(["127.0.0.1"]))))
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
        assert post(url, web=Web(network, 5, resolve=Names(["127.0.0.1"]))).status == 204


def test_another_name_is_not_trusted(authority: Authority) -> None:
    """A receiver with the certificate of another name is sent nothing."""
    with Receiver(TAKEN, tls=secured(authority, "other.example")) as receiver:
        failed = failure(f"https://hooks.example:{receiver.port}/", web=trusting(authority, "127.0.0.1"))
    assert "hooks.example" in str(failed)
    assert "certificate" in str(failed)
    assert receiver.requests == []


def test_an_unknown_authority_is_not_trusted(authority: Authority, tmp_path: Path) -> None:
    """A receiver whose certificate nobody known has signed is sent nothing."""
    stranger = Authority(tmp_path / "stranger", "stranger")
    with Receiver(TAKEN, tls=secured(stranger, "hooks.example")) as receiver:
        failed = failure(f"https://hooks.example:{receiver.port}/", web=trusting(authority, "127.0.0.1"))
    assert "certificate" in str(failed)
    assert receiver.requests == []


def test_a_handshake_ends_in_time() -> None:
    """Who says nothing while TLS is agreed on holds a delivery no longer than its seconds."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        failed = failure(f"https://127.0.0.1:{listening.getsockname()[1]}/{SECRET}", seconds=0.4)
    assert failed.again
