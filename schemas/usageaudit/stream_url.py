"""Where the stream is, as one URL.

    embedded:./usageaudit-data?topic=usage-events&group=usageaudit
    kafka://host:9092,host2:9092?security=SASL_SSL&sasl_mechanism=SCRAM-SHA-512&username=audit&password=…&ca_file=ca.pem
    kafka://audit:…@host:9092?security=SASL_SSL&sasl_mechanism=PLAIN

Special characters of a value are percent-encoded (`%26` for `&`, `%3F` for `?`); a `+` is a plus. What is wrong with a
URL is said all at once, without a word of its secrets. A path that begins with `~` lies in the home folder.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from usageaudit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_TOPIC = "usage-events"
DEFAULT_GROUP = "usageaudit"
DEFAULT_PORT = 9092
DEFAULT_SESSION_TIMEOUT_MS = 30_000
SESSION_TIMEOUTS_MS = range(500, 1_800_001)
SECURITIES = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
SASL_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
EMBEDDED_OPTIONS = ("topic", "group")
KAFKA_OPTIONS = (
    *EMBEDDED_OPTIONS,
    "instance",
    "session_timeout_ms",
    "security",
    "sasl_mechanism",
    "username",
    "password",
    "ca_file",
    "cert_file",
    "key_file",
    "key_password",
)
_FORMS = "write embedded:./usageaudit-data or kafka://host:9092"
_OPTION_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
_KAFKA_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,249}")
_SERVER = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class EmbeddedStreamAddress:
    """A folder that holds the embedded stream's file, the topic in it and the group that reads it."""

    directory: Path
    topic: str = DEFAULT_TOPIC
    group: str = DEFAULT_GROUP

    def __str__(self) -> str:
        folder = str(self.directory)
        return f"embedded:{'./' if folder.startswith('~') else ''}{quote(folder)}"


@dataclass(frozen=True, slots=True)
class KafkaStreamAddress:
    """Kafka brokers (`host:port`), a topic, the group that reads it, and how to log in.

    `instance` is the static member of the group (group.instance.id). `str()` names the brokers and no secret.
    """

    servers: tuple[str, ...]
    topic: str = DEFAULT_TOPIC
    group: str = DEFAULT_GROUP
    instance: str | None = None
    session_timeout_ms: int = DEFAULT_SESSION_TIMEOUT_MS
    security: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    key_password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return "kafka://" + ",".join(self.servers)

    def client_settings(self) -> dict[str, Any]:
        """Return the arguments of kafka-python's clients that say where the brokers are and how to log in."""
        settings = {
            "bootstrap_servers": list(self.servers),
            "security_protocol": self.security,
            "ssl_cafile": self.ca_file and str(self.ca_file),
            "ssl_certfile": self.cert_file and str(self.cert_file),
            "ssl_keyfile": self.key_file and str(self.key_file),
            "ssl_password": self.key_password,
            "sasl_mechanism": self.sasl_mechanism,
            "sasl_plain_username": self.username,
            "sasl_plain_password": self.password,
        }
        return {name: value for name, value in settings.items() if value is not None}


StreamAddress = EmbeddedStreamAddress | KafkaStreamAddress


def parse_stream_url(url: str) -> StreamAddress:
    """Return where the stream is.

    Raises ConfigurationError, naming everything that is wrong with the URL.
    """
    scheme, colon, rest = url.strip().partition(":")
    if scheme == "embedded" and colon:
        return _embedded(rest)
    if scheme == "kafka" and rest.startswith("//"):
        return _kafka(rest[2:])
    known = f"{scheme!r} is no kind of stream" if colon and _OPTION_NAME.fullmatch(scheme) else "this is no stream URL"
    raise ConfigurationError(f"stream URL: {known}; {_FORMS}")


def _embedded(rest: str) -> EmbeddedStreamAddress:
    place, options, problems = _split(rest, EMBEDDED_OPTIONS)
    directory = unquote(place.removeprefix("//"))
    if not directory or "\0" in directory:
        problems.append("names no folder, as in embedded:./usageaudit-data")
    names = _names(options, problems)
    _refuse(problems)
    return EmbeddedStreamAddress(_expanded(directory), **names)


def _kafka(rest: str) -> KafkaStreamAddress:
    place, options, problems = _split(rest, KAFKA_OPTIONS)
    user, at, hosts = place.rpartition("@")
    if at:
        _take_login(user, options, problems)
    servers = tuple(_server(text, problems) for text in hosts.rstrip("/").split(","))
    settings: dict[str, Any] = _names(options, problems)
    settings["session_timeout_ms"] = _session_timeout(options, problems)
    settings["security"] = _choice("security", options.get("security", "PLAINTEXT"), SECURITIES, problems)
    if (mechanism := options.get("sasl_mechanism")) is not None:
        settings["sasl_mechanism"] = _choice("sasl_mechanism", mechanism, SASL_MECHANISMS, problems)
    for name in ("ca_file", "cert_file", "key_file"):
        if name in options:
            settings[name] = _file(name, options[name], problems)
    settings |= {name: options.get(name) for name in ("username", "password", "key_password")}
    _check_login(settings["security"], options, problems)
    _refuse(problems)
    return KafkaStreamAddress(servers, **settings)


def _split(rest: str, known: tuple[str, ...]) -> tuple[str, dict[str, str], list[str]]:
    """Return what stands before the `?`, the options behind it, and what is wrong with their names."""
    place, _, query = rest.partition("?")
    options: dict[str, str] = {}
    problems: list[str] = []
    for part in filter(None, query.split("&")):
        name, equals, value = part.partition("=")
        if not equals or not _OPTION_NAME.fullmatch(name):  # it may be a piece of a password, so it is not shown
            problems.append("an option is not NAME=VALUE; percent-encode special characters (%3F for ?, %26 for &)")
        elif name not in known:
            problems.append(f"unknown option {name!r}{_nearest(name, known)}")
        elif name in options:
            problems.append(f"option {name} is given twice")
        else:
            options[name] = unquote(value)
    return place, options, problems


def _nearest(word: str, known: Iterable[str]) -> str:
    choices = tuple(known)
    found = get_close_matches(word.lower(), [choice.lower() for choice in choices], n=1)
    nearest = next((choice for choice in choices if found and choice.lower() == found[0]), None)
    return f", did you mean {nearest}?" if nearest else f"; known are {', '.join(choices)}"


def _take_login(user: str, options: dict[str, str], problems: list[str]) -> None:
    """Move `user:password` from before the `@` to the options."""
    name, colon, password = user.partition(":")
    if "username" in options or "password" in options:
        problems.append("the login is given twice, before the @ and as options")
    options["username"] = unquote(name)
    if colon:
        options["password"] = unquote(password)


def _server(text: str, problems: list[str]) -> str:
    match = _SERVER.fullmatch(text)
    port = int(match["port"] or DEFAULT_PORT) if match else 0
    if match is None or not 0 < port < 65_536:  # not shown: what stands here may be a part of a password
        problems.append("a server is not HOST or HOST:PORT with a port from 1 to 65535")
        return ""
    return f"{match['host']}:{port}"


def _names(options: dict[str, str], problems: list[str]) -> dict[str, str]:
    names: dict[str, str] = {name: options[name] for name in ("topic", "group", "instance") if name in options}
    for name, value in names.items():
        if not _KAFKA_NAME.fullmatch(value):
            problems.append(f"{name}={value[:60]!r} is not 1 to 249 letters, digits, dots, dashes and underscores")
    return names


def _session_timeout(options: dict[str, str], problems: list[str]) -> int:
    text = options.get("session_timeout_ms", str(DEFAULT_SESSION_TIMEOUT_MS))
    if re.fullmatch(r"[0-9]{1,9}", text) and int(text) in SESSION_TIMEOUTS_MS:
        return int(text)
    shortest, longest = SESSION_TIMEOUTS_MS[0], SESSION_TIMEOUTS_MS[-1]
    problems.append(f"session_timeout_ms={text[:60]!r} is not a number of milliseconds from {shortest} to {longest}")
    return 0


def _choice(name: str, value: str, choices: tuple[str, ...], problems: list[str]) -> str:
    if value not in choices:
        problems.append(f"{name}={value[:60]!r} is none of the known{_nearest(value, choices)}")
    return value


def _expanded(text: str) -> Path:
    """Return the path that a text names, `~` for the home folder, as the store's URL does; `./~` is a folder's name."""
    return Path(os.path.expanduser(text))  # noqa: PTH111  the method would take `./~` for the home folder, too


def _file(name: str, value: str, problems: list[str]) -> Path:
    path = _expanded(value)
    if "\0" in value or not path.is_file():
        problems.append(f"{name}={value[:200]!r} is no file")
    return path


def _check_login(security: str, options: dict[str, str], problems: list[str]) -> None:
    """Name what security asks for and lacks, and what is given without the security that uses it."""
    sasl = ("sasl_mechanism", "username", "password")
    if security.startswith("SASL_"):
        lacking = [name for name in sasl if not options.get(name)]
        if lacking:
            problems.append(f"security={security} needs {' and '.join(lacking)}")
    elif given := [name for name in sasl if name in options]:
        problems.append(f"{' and '.join(given)} without security=SASL_SSL (or SASL_PLAINTEXT on a network you trust)")
    tls = [name for name in ("ca_file", "cert_file", "key_file", "key_password") if name in options]
    if tls and not security.endswith("SSL"):
        problems.append(f"{' and '.join(tls)} without security=SSL or SASL_SSL")
    if ("key_file" in options or "key_password" in options) and "cert_file" not in options:
        problems.append("key_file and key_password are of no use without cert_file")


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ConfigurationError("stream URL: " + "; ".join(dict.fromkeys(problems)))
