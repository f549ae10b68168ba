"""Reads the targets of an `alerts.yaml`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from usageaudit.alerts.config.settings import (
    EMAIL_PORTS,
    PAGERDUTY,
    SECONDS,
    AlertmanagerSettings,
    AppriseSettings,
    EmailSettings,
    KafkaSettings,
    PagerDutySettings,
    SlackSettings,
    TeamsSettings,
    WebhookSettings,
)
from usageaudit.alerts.config.shapes import KINDS, TARGET_NAME
from usageaudit.alerts.config.urls import problem_of_http, tells_a_secret
from usageaudit.alerts.signing import LONGEST_KEY, SHORTEST_KEY, key_of
from usageaudit.errors import ConfigurationError
from usageaudit.policy.fields import Fields
from usageaudit.policy.report import did_you_mean
from usageaudit.policy.yamltree import Mapping
from usageaudit.stream_url import DEFAULT_TOPIC, KafkaStreamAddress, parse_stream_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from usageaudit.alerts.config.secrets import Secret, Url
    from usageaudit.alerts.config.settings import EmailSecurity, TargetSettings
    from usageaudit.alerts.config.templates import Template
    from usageaudit.alerts.config.values import Reading
    from usageaudit.policy.yamltree import Node, Scalar

MAX_TARGETS = 200
_SHORTEST, _LONGEST = 1.0, 60.0
_ADDRESS = re.compile(r"[^@\s<>,;:\"()\[\]\\]+@[^@\s<>,;:\"()\[\]\\]+")
_HOST = re.compile(r"[A-Za-z0-9_.-]+|\[?[0-9A-Fa-f:]+\]?")
_NAME = re.compile(TARGET_NAME)


class Targets:
    """Reads targets one by one; those with errors are known by name alone, so that routes may name them."""

    def __init__(self, reading: Reading) -> None:
        self._reading, self._report = reading, reading.report
        self.found: dict[str, TargetSettings] = {}
        self.names: set[str] = set()
        self._read: dict[str, Callable[[str, Fields], TargetSettings | None]] = {
            "webhook": self._webhook,
            "alertmanager": self._alertmanager,
            "pagerduty": self._pagerduty,
            "slack": self._slack,
            "teams": self._teams,
            "email": self._email,
            "kafka": self._kafka,
            "apprise": self._apprise,
        }

    def read(self, node: Node | None) -> None:
        """Read the mapping of all targets."""
        if node is None:
            return
        if not isinstance(node, Mapping):
            self._report.error(node.place, "targets is a mapping of names to what they are", _EXAMPLE)
            return
        if len(node.entries) > MAX_TARGETS:
            self._report.error(node.place, f"there are more than {MAX_TARGETS} targets")
            return
        for key, value in node.entries:
            self.names.add(key.text)
            self._target(key, value)

    def _target(self, key: Scalar, node: Node) -> None:
        if not _NAME.fullmatch(key.text) or len(key.text) > 60:
            hint = "at most 60 small letters, digits, and dashes between them"
            self._report.error(key.place, f"{key.text[:60]} is no name of a target", hint)
        if not isinstance(node, Mapping) or len(node.entries) != 1:
            self._report.error(key.place, f"{key.text[:60]} needs the one kind of target that it is", _EXAMPLE)
            return
        kind, value = node.entries[0]
        if kind.text not in KINDS:
            hint = did_you_mean(kind.text, KINDS) or f"there are {', '.join(KINDS)}"
            self._report.error(kind.place, f"unknown kind of target {kind.text[:60]}", hint)
            return
        if not isinstance(value, Mapping):
            needed = ", ".join(name for name, one in KINDS[kind.text][0].items() if one.required)
            self._report.error(value.place, f"{kind.text} of {key.text[:60]} is a mapping", f"it needs {needed}")
            return
        before = self._report.errors
        fields = Fields(value, f"{kind.text} of {key.text[:60]}", KINDS[kind.text][0], self._report)
        found = self._read[kind.text](key.text, fields)
        if found is not None and self._report.errors == before:
            self.found[key.text] = found

    def _webhook(self, name: str, fields: Fields) -> WebhookSettings | None:
        url = self._url(name, fields)
        nodes = fields.items("secrets", required=True)
        if fields.node_of("secrets") is not None and not nodes:
            self._report.error(_node(fields).place, f"webhook of {name} needs one secret or more", _KEY_HINT)
        found = [self._reading.secret(node, "a secret", name, check=problem_of_key) for node in nodes[:10]]
        if len(nodes) > 10:
            self._report.error(nodes[10].place, f"webhook of {name} has more than 10 secrets", "leave old ones out")
        secrets = tuple(secret for secret in found if secret is not None)
        return WebhookSettings(name, url, secrets, self._seconds(fields)) if url is not None else None

    def _alertmanager(self, name: str, fields: Fields) -> AlertmanagerSettings | None:
        url, token = self._url(name, fields), self._reading.secret(fields.node_of("token"), "token", name)
        if url is None:
            return None
        return AlertmanagerSettings(name, url, token, self._template(fields), self._seconds(fields))

    def _pagerduty(self, name: str, fields: Fields) -> PagerDutySettings | None:
        key = self._reading.secret(fields.node_of("routing_key", required=True), "routing_key", name)
        url = fields.scalar("url")
        problem = "" if url is None else problem_of_http(url.text)
        if url is not None and (problem or tells_a_secret(url.text)):
            problem = problem or "seems to hold a secret"
            self._report.error(url.place, f"the url of {name} {problem}", f"most leave it out: {PAGERDUTY}")
        template, seconds = self._template(fields), self._seconds(fields)
        if key is None:
            return None
        return PagerDutySettings(name, key, url.text if url is not None else PAGERDUTY, template, seconds)

    def _channel(self, name: str, fields: Fields, check: Callable[[str], str] | None) -> _Channel | None:
        url = self._reading.secret(fields.node_of("url", required=True), "url", name, check=check)
        template, seconds = self._template(fields), self._seconds(fields)
        return None if url is None else (name, url, template, seconds)

    def _slack(self, name: str, fields: Fields) -> SlackSettings | None:
        found = self._channel(name, fields, problem_of_http)
        return SlackSettings(*found) if found is not None else None

    def _teams(self, name: str, fields: Fields) -> TeamsSettings | None:
        found = self._channel(name, fields, problem_of_http)
        return TeamsSettings(*found) if found is not None else None

    def _apprise(self, name: str, fields: Fields) -> AppriseSettings | None:
        found = self._channel(name, fields, _problem_of_apprise)
        if not fields.flag("own_connections"):
            self._report.error(_node(fields).place, f"apprise of {name} needs own_connections: true", _BY_ITSELF)
        if found is None:
            return None
        name, url, template, seconds = found
        return AppriseSettings(name, url, own_connections=True, template=template, seconds=seconds)

    def _email(self, name: str, fields: Fields) -> EmailSettings | None:
        host = fields.scalar("host", required=True)
        if host is not None and not _HOST.fullmatch(host.text):
            self._report.error(host.place, f"the host of {name} is no name of a server", "write its port as `port`")
        security: EmailSecurity = fields.choice("security", tuple(EMAIL_PORTS), "starttls")
        port = fields.integer("port", EMAIL_PORTS[security], least=1)
        node = fields.node_of("port")
        if port > 65_535 and node is not None:
            self._report.error(node.place, "port is a whole number from 1 to 65535")
        sender = fields.scalar("from", required=True)
        to = self._reading.names(fields, "to", required=True)
        for address in (*to, *((sender,) if sender is not None else ())):
            if not _ADDRESS.fullmatch(address.text) or not address.text.isprintable():
                self._report.error(address.place, "this is no address such as team@example.org", "give it alone")
        username, password = self._login(name, fields, security)
        subject, template = self._reading.template(fields.scalar("subject"), "subject"), self._template(fields)
        if host is None or sender is None or not to:
            return None
        addresses = tuple(address.text for address in to)
        return EmailSettings(
            name, host.text, port, security, sender.text, addresses, username, password, subject, template,
            self._seconds(fields),
        )  # fmt: skip

    def _login(self, name: str, fields: Fields, security: EmailSecurity) -> tuple[str, Secret | None]:
        username = fields.text("username")
        password = self._reading.secret(fields.node_of("password"), "password", name)
        given = [one for one in ("username", "password") if fields.node_of(one) is not None]
        if len(given) == 1:
            self._report.error(_node(fields).place, f"email of {name} has {given[0]} alone", "both, or none")
        if given and security == "none":
            self._report.error(_node(fields).place, f"email of {name} would send its password unencrypted", _ENCRYPT)
        return username, password

    def _kafka(self, name: str, fields: Fields) -> KafkaSettings | None:
        node = fields.node_of("url", required=True)
        url = self._reading.url(node, name, problem_of_kafka, telling=_tells_of_kafka) if node is not None else None
        return KafkaSettings(name, url, self._seconds(fields)) if url is not None else None

    def _url(self, name: str, fields: Fields) -> Url | None:
        node = fields.node_of("url", required=True)
        return self._reading.url(node, name, problem_of_http) if node is not None else None

    def _template(self, fields: Fields) -> Template | None:
        return self._reading.template(fields.scalar("template"), "template")

    def _seconds(self, fields: Fields) -> float:
        return self._reading.seconds(fields, "timeout", SECONDS, _SHORTEST, _LONGEST)


_EXAMPLE = "such as chat: {slack: {url: {env: SLACK_URL}}}"
_KEY_HINT = "make one: printf 'whsec_%s' \"$(openssl rand -base64 32)\""
_ENCRYPT = "leave security out, for starttls, or write security: tls"
_BY_ITSELF = "Apprise connects by itself, past the rules of `network`: say that it may"
_Channel = tuple[str, "Secret", "Template | None", float]


def _node(fields: Fields) -> Mapping:
    if not isinstance(fields.node, Mapping):
        raise TypeError("a target is read from a mapping")
    return fields.node


def problem_of_key(text: str) -> str:
    """Return what is wrong with a key of Standard Webhooks."""
    try:
        key_of(text)
    except ConfigurationError:
        return f"is not whsec_ and {SHORTEST_KEY} to {LONGEST_KEY} bytes in base64; {_KEY_HINT}"
    return ""


def problem_of_kafka(url: str) -> str:
    """Return what is wrong with the URL of a topic of Kafka; it names a topic other than that of events."""
    try:
        address = parse_stream_url(url)
    except ConfigurationError as error:
        return f"is wrong: {error}"
    if not isinstance(address, KafkaStreamAddress):
        return "is no URL such as kafka://host:9092?topic=violations"
    return "names no topic of its own; write ?topic=violations" if address.topic == DEFAULT_TOPIC else ""


def _tells_of_kafka(url: str) -> bool:
    address = parse_stream_url(url)
    return isinstance(address, KafkaStreamAddress) and bool(address.password or address.key_password)


def _problem_of_apprise(url: str) -> str:
    return "" if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://.", url) else "is no URL of Apprise such as discord://…"
