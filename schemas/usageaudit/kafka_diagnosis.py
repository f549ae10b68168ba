"""Why Kafka can't be reached, in words that say what to do.

kafka-python reports a wrong password, certificate or port as a time-out alike; what it met is only in its log. So the
log is listened to while a client connects, and what is known there is turned into its likely cause.
"""

from __future__ import annotations

import logging
import re
import ssl
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from usageaudit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from usageaudit.stream_url import KafkaStreamAddress

MOST_LINES = 50
REFUSALS = 4
"""After so many refusals by each server a client that is told to gives up: a broker that starts may refuse at first."""
_FAILED = re.compile(r" failed: |: Connection lost: |Invalid frame length")
_TIMED_OUT = re.compile(r"KafkaTimeoutError|RequestTimedOutError")
_LOGGER = "kafka"
_REFUSED_LOGIN = "the broker refused the login: wrong username or password, or no such user for {mechanism}"
_NO_TLS = "this port does not speak TLS: without TLS it is security={without_tls}, or take the port for TLS"
_NOT_TRUSTED = (
    "the broker's certificate is signed by nobody who is trusted here: name the certificate of its authority "
    "with ca_file="
)
_NO_CERTIFICATE = "the broker asks for a client certificate: give it with cert_file= and key_file="
_BAD_CERTIFICATE = (
    "the broker refused the client certificate: has it expired, or is it signed by an authority that the broker does "
    "not trust"
)
_LOGIN_FAILED = "the broker hangs up during the login: wrong username or password, or a port without logins"
_NO_LOGIN = "the broker hangs up: this port wants a login (security={with_login}) or another kind of security"

_REFUSALS: tuple[tuple[str, str], ...] = (
    (r"SaslAuthenticationFailed", _REFUSED_LOGIN),
    (r"UnsupportedSaslMechanism", "the broker offers no {mechanism} at this port: choose another sasl_mechanism="),
    (r"IllegalSaslState", "this port takes no login: use security={without_login}, or the port for logins"),
    (r"certificate has expired", "the broker's certificate has expired: renew it there, or set this machine's clock"),
    (r"certificate is not yet valid", "the broker's certificate is not valid yet: set this machine's clock"),
    (r"(address|[Hh]ostname) mismatch", "the broker's certificate is for another host: use a name that is in it"),
    (r"CERTIFICATE_VERIFY_FAILED", _NOT_TRUSTED),
    (r"Invalid frame length", "this port speaks TLS: use security={with_tls}, or the port without TLS"),
    (r"UNEXPECTED_EOF|WRONG_VERSION|RECORD_LAYER|Handshake failed: .*reset by peer", _NO_TLS),
    (r"NO_SHARED_CIPHER|HANDSHAKE_FAILURE|UNSUPPORTED_PROTOCOL|PROTOCOL_VERSION", "no version of TLS is known to both"),
)
_CAUSES: tuple[tuple[str, str], ...] = (
    *_REFUSALS,
    (r"DNS Resolution", "the host's name is not known here: is it spelled right"),
    (r"ECONNREFUSED|[Cc]onnection refused", "nothing answers there: is it running, is this its port"),
)
_CERTIFICATE = r"ALERT_(BAD_CERT|CERT|UNKNOWN_CA|UNSUPPORTED_CERT|ACCESS_DENIED)|CERTIFICATE_REQUIRED"
_DISCONNECTED = r"disconnected|[Cc]onnection reset|Broken pipe"


class Causes(logging.Handler):
    """What kafka-python logged lately of connections that failed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: deque[str] = deque(maxlen=MOST_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line that says why something failed; a time-out is no reason."""
        line = record.getMessage()
        if _FAILED.search(line) and not _TIMED_OUT.search(line):
            self._lines.append(line)

    def listen(self) -> None:
        """Listen to the log of kafka-python until closed; its clients share one log."""
        logging.getLogger(_LOGGER).addHandler(self)

    def close(self) -> None:
        """Listen no longer."""
        logging.getLogger(_LOGGER).removeHandler(self)
        super().close()

    def forget(self) -> None:
        """Forget the lines kept: there is a connection again."""
        self._lines.clear()

    @property
    def lines(self) -> Sequence[str]:
        """The lines kept, the oldest first."""
        return tuple(self._lines)


@contextmanager
def listening() -> Iterator[Causes]:
    """Listen to the log of kafka-python while the block runs."""
    causes = Causes()
    causes.listen()
    try:
        yield causes
    finally:
        causes.close()


def unreachable(address: KafkaStreamAddress, lines: Sequence[str], seconds: float) -> str:
    """Say that no connection came about in so many seconds, and why as far as the lines of the log tell."""
    line, why = found if (found := likely_cause(address, lines)) else (lines[-1] if lines else "", None)
    hint = (
        f": {why}"
        if why
        else (
            f"; is it running, is this its port, and do security={address.security}, the login and the certificates "
            "fit that port"
        )
    )
    said = f" ({_inner(line)[:300]})" if line else ""
    within = "" if is_hopeless(address, lines) else f" within {seconds:.0f} s"
    return f"no connection to {address} with security={address.security}{within}{hint}{said}"


def is_hopeless(address: KafkaStreamAddress, lines: Sequence[str]) -> bool:
    """Tell whether every server has refused often enough what waiting does not change: a login, a certificate, TLS."""
    attempts = [line for line in lines if line.startswith("Bootstrap connection")]
    patterns = [pattern for pattern, _ in _REFUSALS] + [_CERTIFICATE]
    refused = [line for line in attempts if any(re.search(pattern, line) for pattern in patterns)]
    return len(refused) == len(attempts) and len(refused) >= REFUSALS * len(address.servers)


def likely_cause(address: KafkaStreamAddress, lines: Sequence[str]) -> tuple[str, str] | None:
    """Return the line that says most, and the cause of what it says; None where no cause is known."""
    words = {
        "mechanism": f"sasl_mechanism={address.sasl_mechanism}",
        "without_tls": address.security.replace("SASL_SSL", "SASL_PLAINTEXT").replace("SSL", "PLAINTEXT"),
        "with_tls": address.security.replace("PLAINTEXT", "SSL"),
        "without_login": address.security.removeprefix("SASL_"),
        "with_login": f"SASL_{address.security}",
    }
    for pattern, why in _causes(address):
        if found := next((line for line in reversed(lines) if re.search(pattern, line)), None):
            return found, why.format(**words)
    return None


def _causes(address: KafkaStreamAddress) -> Iterator[tuple[str, str]]:
    """Yield patterns of lines and what they mean, the most telling ones first."""
    yield from _CAUSES
    if address.security.endswith("SSL"):
        yield _CERTIFICATE, _NO_CERTIFICATE if address.cert_file is None else _BAD_CERTIFICATE
    yield _DISCONNECTED, _LOGIN_FAILED if address.security.startswith("SASL_") else _NO_LOGIN


def require_usable_files(address: KafkaStreamAddress) -> None:
    """See that the certificates and the key of a URL can be used.

    kafka-python would ask for a key's password on the terminal, and take a file that is none for a broker that is away.
    Raises ConfigurationError, which shows no secret.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if address.ca_file is not None:
        with _using("ca_file", "is it a PEM file with certificates"):
            context.load_verify_locations(address.ca_file)
    if address.cert_file is not None:
        hint = "are they PEM files that belong together, and is key_password the key's"
        with _using("cert_file and key_file" if address.key_file else "cert_file", hint):
            context.load_cert_chain(address.cert_file, address.key_file, address.key_password or "")


@contextmanager
def _using(option: str, hint: str) -> Iterator[None]:
    try:
        yield
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None)
        said = f" ({reason})" if reason else ""
        raise ConfigurationError(f"stream URL: {option} can't be used{said}: {hint}?") from None


def _inner(line: str) -> str:
    """Return what stands behind the last word that only says that something failed."""
    return re.sub(r" \((backoff [0-9.]+ secs|_ssl.c:[0-9]+)\)", "", line.rpartition(" failed: ")[2])
