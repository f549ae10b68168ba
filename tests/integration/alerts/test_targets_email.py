"""Mail by real SMTP: with and without TLS and logins, refused, silent, and to no more than it may reach."""

from __future__ import annotations

import email
import email.policy
import socket
import ssl
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

from tests.servers.certificates import Authority
from tests.unit.alerts.targets.alerts import SAMPLE, notification
from usageaudit.alerts.config.secrets import Secret
from usageaudit.alerts.config.settings import EmailSettings, Network
from usageaudit.alerts.targets.email import EmailTarget
from usageaudit.alerts.targets.port import DeliveryFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from usageaudit.alerts.config.settings import EmailSecurity

LOOPBACK = Network(networks=(ip_network("127.0.0.0/8"),))
TO = ("ada@example.org", "bob@example.org")
OK = "250 OK"


@dataclass
class Mailbox:
    """What a server took: envelopes with their reply; `replies` are given one after the other, then all is well."""

    taken: list[tuple[tuple[str, ...], bytes, bool]] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    greeted: list[str] = field(default_factory=list)

    async def handle_EHLO(  # noqa: N802  named by aiosmtpd
        self, server: SMTP, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        self.greeted.append(hostname)
        return responses

    async def handle_RCPT(  # noqa: N802  named by aiosmtpd
        self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return OK

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802  named by aiosmtpd
        reply = self.replies.pop(0) if self.replies else OK
        if reply == OK:
            transport: Any = server.transport
            encrypted = transport.get_extra_info("cipher") is not None
            self.taken.append((tuple(envelope.rcpt_tos), envelope.content, encrypted))
        return reply


class _Server(Controller):
    """A server whose options of SMTP are given."""

    def __init__(self, handler: Mailbox, options: dict[str, Any], tls: ssl.SSLContext | None = None) -> None:
        self._options = options
        super().__init__(handler, hostname="127.0.0.1", port=_free_port(), ssl_context=tls)

    def factory(self) -> SMTP:
        return SMTP(self.handler, **self._options)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.fixture
def mailbox() -> Mailbox:
    """Return the mailbox of the server."""
    return Mailbox()


@pytest.fixture
def start(mailbox: Mailbox) -> Iterator[Callable[..., int]]:
    """Yield a function that starts a server, given what it asks for, and returns its port."""
    running: list[Controller] = []

    def start(tls: ssl.SSLContext | None = None, **options: Any) -> int:
        server = _Server(mailbox, options, tls)
        server.start()
        running.append(server)
        return int(server.port)

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Return the server's side of TLS; whoever starts after this trusts its authority."""
    authority = Authority(tmp_path / "ca")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    made = authority.sign("localhost", "DNS:localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    return context


def _settings(port: int, security: EmailSecurity = "none") -> EmailSettings:
    # The certificate is for the name, the connection goes to the address.
    return EmailSettings("ops", "localhost", port, security, "alerts@example.org", TO, seconds=5.0)


def _target(port: int, security: EmailSecurity = "none", **changed: Any) -> EmailTarget:
    return EmailTarget(replace(_settings(port, security), **changed), LOOPBACK)


@pytest.fixture(autouse=True)
def _only_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers of these tests listen at 127.0.0.1 alone, wherever else `localhost` leads on a machine."""
    monkeypatch.setattr("usageaudit.alerts.targets.email.system_addresses", lambda _: ["127.0.0.1"])


def _check(server: SMTP, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    return AuthResult(success=data.password == b"open sesame", handled=False)


@pytest.mark.parametrize("security", ["none", "starttls", "tls"])
def test_a_mail_arrives_by_every_kind_of_security(
    security: EmailSecurity, start: Callable[..., int], context: ssl.SSLContext, mailbox: Mailbox
) -> None:
    """A mail reaches all its addresses, in TLS where that is asked for."""
    options: dict[str, Any] = {"tls_context": context, "require_starttls": True} if security == "starttls" else {}
    port = start(context if security == "tls" else None, **options)
    answer = _target(port, security).deliver(notification())
    ((to, content, encrypted),) = mailbox.taken
    read = email.message_from_bytes(content, policy=email.policy.default)
    assert (to, encrypted) == (TO, security != "none")
    assert read["Message-ID"] == f"<{'d1' * 16}@example.org>"
    assert SAMPLE.message in read.as_string()
    assert "taken" in answer.said


def test_the_login_is_by_the_secret(
    start: Callable[..., int], context: ssl.SSLContext, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The right password sends the mail; a wrong one is said, not shown, and not tried again."""
    port = start(tls_context=context, require_starttls=True, auth_required=True, authenticator=_check)
    target = _target(port, "starttls", username="audit", password=Secret("env", "MAIL_PASSWORD"))
    monkeypatch.setenv("MAIL_PASSWORD", "open sesame")
    target.deliver(notification())
    assert len(mailbox.taken) == 1
    monkeypatch.setenv("MAIL_PASSWORD", "open barley")
    with pytest.raises(DeliveryFailed, match="535") as failed:
        target.deliver(notification())
    assert (failed.value.again, failed.value.status, len(mailbox.taken)) == (False, 535, 1)
    assert "barley" not in str(failed.value)
    monkeypatch.delenv("MAIL_PASSWORD")
    with pytest.raises(DeliveryFailed, match="MAIL_PASSWORD") as failed:
        target.deliver(notification())
    assert failed.value.again


def test_a_password_that_cannot_be_sent_is_not_shown(
    start: Callable[..., int], context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password beyond ASCII is said to be one, without a piece of it, not even in what caused the error."""
    port = start(tls_context=context, require_starttls=True, auth_required=True, authenticator=_check)
    monkeypatch.setenv("MAIL_PASSWORD", "s\u00e9same")
    with pytest.raises(DeliveryFailed, match="ASCII") as failed:
        _target(port, "starttls", username="audit", password=Secret("env", "MAIL_PASSWORD")).deliver(notification())
    assert (failed.value.again, failed.value.__cause__, failed.value.__suppress_context__) == (False, None, True)


def test_a_host_that_can_be_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that no host can have is not asked for again."""
    monkeypatch.undo()
    with pytest.raises(DeliveryFailed, match="no name of a host") as failed:
        _target(25, host=f"{'x' * 64}.example.org").deliver(notification())
    assert not failed.value.again


def test_no_mail_goes_where_the_certificate_is_not_trusted(
    start: Callable[..., int], context: ssl.SSLContext, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server whose certificate nobody here trusts is told nothing."""
    monkeypatch.delenv("SSL_CERT_FILE")
    for security, port in (("tls", start(context)), ("starttls", start(tls_context=context))):
        with pytest.raises(DeliveryFailed, match="certificate") as failed:
            _target(port, security).deliver(notification())  # type: ignore[arg-type]
        assert failed.value.again
    assert mailbox.taken == []


def test_no_mail_goes_in_clear_where_tls_was_asked_for(start: Callable[..., int], mailbox: Mailbox) -> None:
    """A server that offers no STARTTLS is told nothing, and the setting is asked about."""
    with pytest.raises(DeliveryFailed, match=r"STARTTLS.*security") as failed:
        _target(start(), "starttls").deliver(notification())
    assert (failed.value.again, mailbox.taken) == (False, [])


@pytest.mark.parametrize(("reply", "again"), [("451 later", True), ("550 never", False), ("554 no", False)])
def test_only_a_final_refusal_is_final(reply: str, again: bool, start: Callable[..., int], mailbox: Mailbox) -> None:
    """A reply of 4yz is tried again, one of 5yz is not, whether of the mail or of an address."""
    target = _target(start())
    mailbox.replies = [reply]
    with pytest.raises(DeliveryFailed, match=reply) as failed:
        target.deliver(notification())
    assert (failed.value.again, failed.value.status) == (again, int(reply[:3]))
    mailbox.refused = dict.fromkeys(TO, reply)
    with pytest.raises(DeliveryFailed, match=reply) as failed:
        target.deliver(notification())
    assert (failed.value.again, failed.value.status) == (again, int(reply[:3]))
    mailbox.refused = {}
    target.deliver(notification())
    assert len(mailbox.taken) == 1


def test_only_those_are_written_to_again_who_were_refused(start: Callable[..., int], mailbox: Mailbox) -> None:
    """Where one address is put off, the next attempt is for that one alone; another delivery is for all again."""
    target = _target(start())
    mailbox.refused = {TO[1]: "450 busy"}
    with pytest.raises(DeliveryFailed, match="1 of 2 addresses") as failed:
        target.deliver(notification())
    assert failed.value.again
    mailbox.refused = {}
    target.deliver(notification())
    target.deliver(notification("escalated", delivery_id="d2" * 16))
    assert [to for to, _, _ in mailbox.taken] == [TO[:1], TO[1:], TO]


def _dripping(lines: bytes, closed: threading.Event, host: str = "127.0.0.1") -> int:
    """Start a server that sends lines of a greeting that hardly ever ends, and return its port."""
    listening = socket.create_server((host, 0))

    def serve() -> None:
        connection, _ = listening.accept()
        with listening, connection:
            for _ in range(200):
                try:
                    connection.sendall(lines)
                except OSError:
                    return
                if closed.wait(0.05):
                    return

    threading.Thread(target=serve, daemon=True).start()
    return int(listening.getsockname()[1])


@pytest.mark.parametrize("lines", [b"", b"220-wait\r\n"])
def test_a_server_that_never_comes_to_the_point_is_given_up_in_time(lines: bytes) -> None:
    """Neither a silent server nor one that goes on talking holds a delivery longer than it may take."""
    closed = threading.Event()
    port, began = _dripping(lines, closed), time.monotonic()
    try:
        with pytest.raises(DeliveryFailed) as failed:
            _target(port, seconds=0.5).deliver(notification())
    finally:
        closed.set()
    assert failed.value.again
    assert time.monotonic() - began < 5


def test_nobody_is_asked_for_our_own_name(
    start: Callable[..., int], mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that is silent can't hold a delivery by being asked who we are: we say our address."""
    port = start(hostname="mail.example.org")
    monkeypatch.setattr("socket.gethostname", lambda: "audit")
    monkeypatch.setattr("socket.getfqdn", lambda: pytest.fail("a name server was asked"))
    _target(port).deliver(notification())
    assert mailbox.greeted == ["[127.0.0.1]"]


def test_the_time_is_that_of_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address where nobody answers takes its share of the time, and the next one has only the rest."""
    closed = threading.Event()
    port = _dripping(b"220-wait\r\n", closed, "127.0.0.2")
    monkeypatch.setattr("usageaudit.alerts.targets.email.system_addresses", lambda _: ["127.0.0.1", "127.0.0.2"])
    with socket.socket() as full, ExitStack() as waiting:
        full.bind(("127.0.0.1", port))
        full.listen(0)
        for _ in range(3):  # who comes when the queue is full hears nothing
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        began = time.monotonic()
        with pytest.raises(DeliveryFailed) as failed:
            _target(port, seconds=0.6).deliver(notification())
    closed.set()
    assert failed.value.again
    assert time.monotonic() - began < 5


def test_where_nobody_listens_it_is_tried_again() -> None:
    """A server that is down comes back."""
    with pytest.raises(DeliveryFailed, match="can't be reached") as failed:
        _target(_free_port()).deliver(notification())
    assert failed.value.again


def test_a_mail_server_inside_must_be_allowed(start: Callable[..., int], mailbox: Mailbox) -> None:
    """A server at a loopback address is told nothing where the network does not allow it, and is where it does."""
    settings = _settings(start())
    with pytest.raises(DeliveryFailed, match=r"loopback.*network\.allow") as failed:
        EmailTarget(settings, Network()).deliver(notification())
    assert (failed.value.again, mailbox.taken) == (False, [])
    EmailTarget(settings, Network(hosts=frozenset({"localhost"}))).deliver(notification())
    assert len(mailbox.taken) == 1
