"""E-mail by a mail server that takes submissions: STARTTLS, TLS from the start, or neither.

Sources: RFC 5321 (4yz replies are passing troubles, 5yz are final), RFC 5322 (headers), RFC 3834 (Auto-Submitted).

The Message-ID is made of the delivery's id, so that a mailbox knows a repeat; mails of one alert refer to each other.
Where a server takes a mail for some addresses only, a further attempt is for the others, as long as this process lives.
"""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
import threading
from collections import OrderedDict
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from html import escape
from typing import TYPE_CHECKING

from usageaudit.alerts.targets.port import Answer, DeliveryFailed
from usageaudit.alerts.targets.settled import filled, revealed
from usageaudit.alerts.targets.text import Fact, facts, fit, headline, link, lookup
from usageaudit.alerts.web.addresses import refusal
from usageaudit.alerts.web.deadline import Deadline
from usageaudit.alerts.web.resolving import Resolver, system_addresses

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from usageaudit.alerts.config.settings import EmailSettings, Network
    from usageaudit.alerts.model import Notification

MOST_SUBJECT, MOST_BODY, MOST_VALUE, MOST_SAID = 200, 10_000, 2_000, 300
MOST_REMEMBERED = 1_000
_HANG_UP_SECONDS = 0.1
_NO_ID = re.compile(r"[^A-Za-z0-9]")
_ROW = '<tr><th align="left" valign="top">{}</th><td>{}</td></tr>'


def render(
    notification: Notification, sender: str, to: Sequence[str], now: datetime, subject: str = "", text: str = ""
) -> EmailMessage:
    """Return the mail; `subject` and `text` stand in the place of the alert's own, `now` has a zone."""
    alert = notification.alert
    domain = parseaddr(sender)[1].rpartition("@")[2] or "usageaudit.invalid"
    mail = EmailMessage(SMTP)
    mail["From"] = fit(sender, MOST_VALUE)
    mail["To"] = ", ".join(fit(address, MOST_VALUE) for address in to)
    mail["Subject"] = _subject(subject) or _subject(headline(notification))
    mail["Date"] = format_datetime(now.astimezone(UTC))
    mail["Message-ID"] = f"<{_id(notification.delivery_id)}@{domain}>"
    mail["References"] = f"<{_id(alert.alert_id)}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    message = fit(text, MOST_BODY, lines=True) or fit(alert.message, MOST_BODY, lines=True)
    rows = [Fact(fact.title, fit(fact.value, MOST_VALUE)) for fact in facts(alert)]
    if shown := lookup(notification):
        rows.append(Fact("Look it up", shown))
    title, url = fit(headline(notification), MOST_VALUE), link(alert.acknowledge_url)
    mail.set_content(_plain(title, message, rows, url), cte="quoted-printable")
    mail.add_alternative(_html(title, message, rows, url), subtype="html", cte="quoted-printable")
    return mail


def _subject(text: str) -> str:
    """Return a subject; what looks like an encoded word (RFC 2047) would be decoded, with line breaks and all."""
    return fit(text, MOST_SUBJECT).replace("=?", "= ?")


def _id(text: str) -> str:
    return _NO_ID.sub("", text)[:64] or "0"


def _plain(title: str, message: str, rows: Sequence[Fact], url: str) -> str:
    table = "\n".join(f"{row.title}: {row.value}" for row in rows)
    parts = (title, message, table, f"Acknowledge: {url}" if url else "")
    return "\n\n".join(part for part in parts if part) + "\n"


def _html(title: str, message: str, rows: Sequence[Fact], url: str) -> str:
    table = "".join(_ROW.format(escape(row.title), escape(row.value)) for row in rows)
    parts = [f"<p><strong>{escape(title)}</strong></p>"]
    parts += [f"<p>{escape(line)}</p>" for line in message.split("\n") if line]
    parts.append(f"<table>{table}</table>")
    if url:
        parts.append(f'<p><a href="{escape(url)}">Acknowledge</a></p>')
    return f"<!DOCTYPE html><html><body>{''.join(parts)}</body></html>\n"


class EmailTarget:
    """Hands a mail over, by a connection of its own for each."""

    def __init__(self, settings: EmailSettings, network: Network) -> None:
        self._settings, self._network = settings, network
        self._resolver = Resolver(system_addresses)
        self._taken: OrderedDict[str, set[str]] = OrderedDict()

    def deliver(self, notification: Notification) -> Answer:
        """Hand the mail over for every address that the server has not taken it for. Raises DeliveryFailed."""
        taken = self._taken.setdefault(notification.delivery_id, set())
        while len(self._taken) > MOST_REMEMBERED:
            self._taken.popitem(last=False)
        to = [address for address in self._settings.to if address not in taken]
        refused = self._hand_over(self._render(notification), to)
        taken.update(address for address in to if address not in refused)
        if refused:
            raise _refused(self._settings, refused)
        return Answer(said=f"taken by {self._settings.host} for {len(self._settings.to)}")

    def close(self) -> None:
        """Nothing stays open."""

    def _render(self, notification: Notification) -> EmailMessage:
        settings, alert = self._settings, notification.alert
        subject, text = filled(settings.subject, alert), filled(settings.template, alert)
        return render(notification, settings.sender, settings.to, datetime.now(UTC), subject, text)

    def _hand_over(self, mail: EmailMessage, to: list[str]) -> dict[str, tuple[int, bytes]]:
        """Return what the server said to the addresses that it refused, if any."""
        settings = self._settings
        try:
            with self._session() as session:
                return session.send_message(mail, to_addrs=to)
        except smtplib.SMTPRecipientsRefused as error:
            return dict(error.recipients)
        except smtplib.SMTPResponseException as error:
            raise _answered(settings, error.smtp_code, error.smtp_error) from error
        except smtplib.SMTPServerDisconnected as error:
            raise DeliveryFailed(f"{_place(settings)} hung up, or took too long: {error}", again=True) from error
        except smtplib.SMTPNotSupportedError as error:
            raise DeliveryFailed(f"{_place(settings)}: {error}; is its security right?", again=False) from error
        except (OSError, smtplib.SMTPException) as error:
            raise DeliveryFailed(f"{_place(settings)} can't be reached: {error}", again=True) from error

    @contextmanager
    def _session(self) -> Iterator[smtplib.SMTP]:
        """Yield a session that is logged in, and hang up when its time is over whatever the server still says."""
        settings, deadline = self._settings, Deadline(self._settings.seconds)
        password = revealed(settings.password, settings.name) if settings.password else ""
        context = ssl.create_default_context()
        session = smtplib.SMTP(local_hostname="localhost", timeout=settings.seconds)  # else it asks name servers
        session._host = _name(settings)  # type: ignore[attr-defined]  # noqa: SLF001  STARTTLS asks for this name
        addresses = self._addresses(deadline)
        over, left = threading.Event(), deadline.left()
        threading.Thread(target=_hang_up, args=[session, left, over], name="alerts-mail-over", daemon=True).start()
        try:
            _connect(session, settings, addresses, context, deadline)
            if settings.security == "starttls":
                session.starttls(context=context)
            if settings.username and password:
                _log_in(session, settings, password)
            yield session
            with suppress(smtplib.SMTPException, OSError):  # the mail is taken: what the farewell meets is no matter
                session.quit()
        finally:
            over.set()
            session.close()

    def _addresses(self, deadline: Deadline) -> Sequence[str]:
        """Return the server's addresses, once every one of them is known to be allowed. Raises OSError."""
        settings = self._settings
        try:
            addresses = self._resolver.addresses(settings.host, deadline)
        except UnicodeError as error:  # a label that is empty or too long
            raise DeliveryFailed(f"{settings.name}: {settings.host} is no name of a host", again=False) from error
        for address in addresses:
            if (said := refusal(address, settings.host, self._network)) is not None:
                raise DeliveryFailed(
                    f"{settings.name}: {address} of {settings.host} is {said}, which deliveries don't reach; where it "
                    "is meant, allow the network (or the host) under network.allow in alerts.yaml",
                    again=False,
                )
        return addresses


def _connect(
    session: smtplib.SMTP,
    settings: EmailSettings,
    addresses: Sequence[str],
    context: ssl.SSLContext,
    deadline: Deadline,
) -> None:
    """Connect to the first address that answers; to connect, they share the time that is left.

    Raises OSError of the last, or SMTPConnectError.
    """
    failed = OSError("the name has no address")
    for tried, address in enumerate(addresses):
        try:
            share = deadline.left() / (len(addresses) - tried)
            session.sock = socket.create_connection((address, settings.port), share)
            session.sock.settimeout(deadline.left())
            if settings.security == "tls":
                session.sock = context.wrap_socket(session.sock, server_hostname=_name(settings))
            code, said = session.getreply()
        except OSError as error:
            session.close()
            failed = error
        else:
            if code != 220:
                raise smtplib.SMTPConnectError(code, said)
            session.local_hostname = _own_name(session.sock)
            return
    raise failed


def _own_name(connection: socket.socket) -> str:
    """Return what this machine says it is: its full name, or else its address (RFC 5321, 4.1.3)."""
    name, address = socket.gethostname(), str(connection.getsockname()[0])
    if "." in name and name.isascii():
        return name
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def _name(settings: EmailSettings) -> str:
    """Return the host's name as certificates have it: without the dot that only name servers know (RFC 6066, 3)."""
    return settings.host.rstrip(".")


def _log_in(session: smtplib.SMTP, settings: EmailSettings, password: str) -> None:
    try:
        session.login(settings.username, password)
    except UnicodeError:  # whose text has a piece of what it could not encode
        message = f"{settings.name}: username or password has characters beyond ASCII, which can't be sent to log in"
        raise DeliveryFailed(message, again=False) from None


def _hang_up(session: smtplib.SMTP, seconds: float, over: threading.Event) -> None:
    """Shut whatever connection a session has from so many seconds on, until it is over.

    Once is not enough: there may be none at that moment, while an address is tried or TLS is agreed on.
    """
    while not over.wait(seconds):
        connection, seconds = session.sock, _HANG_UP_SECONDS
        if connection is not None:
            with suppress(OSError):
                # The method of TLS would forget its keys first, and what is sent meanwhile would go in clear.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _place(settings: EmailSettings) -> str:
    return f"the mail server {settings.host}:{settings.port}"


def _answered(settings: EmailSettings, code: int, said: bytes | str) -> DeliveryFailed:
    """Return the failure of what the server answered; only 5yz is final."""
    return DeliveryFailed(f"{_place(settings)} answered {code} {_text(said)}", again=not 500 <= code < 600, status=code)


def _refused(settings: EmailSettings, refused: dict[str, tuple[int, bytes]]) -> DeliveryFailed:
    """Return the failure of addresses; trying again helps where one of them was not refused for good."""
    address, (code, said) = min(refused.items(), key=lambda item: item[1][0])
    message = f"{_place(settings)} refused {len(refused)} of {len(settings.to)} addresses, {address}: {code}"
    return DeliveryFailed(f"{message} {_text(said)}", again=code < 500, status=code)


def _text(said: bytes | str) -> str:
    return fit(said.decode(errors="replace") if isinstance(said, bytes) else said, MOST_SAID)
