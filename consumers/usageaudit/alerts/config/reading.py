"""Reads an `alerts.yaml`: all of it, or an error that names everything that is wrong with it."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from usageaudit.alerts.config.routes import Routes
from usageaudit.alerts.config.settings import LISTEN, Acknowledging, AlertsConfig, Gathering, Network, Retry
from usageaudit.alerts.config.shapes import ACKNOWLEDGE, ALERTS, GATHER, NETWORK, RETRY, VERSION
from usageaudit.alerts.config.targets import Targets
from usageaudit.alerts.config.urls import problem_of_http, tells_a_secret
from usageaudit.alerts.config.values import Reading
from usageaudit.errors import ConfigurationError
from usageaudit.policy.fields import Fields
from usageaudit.policy.policyfile import paths_of
from usageaudit.policy.report import InvalidBundle, Report
from usageaudit.policy.yamltree import Place, Scalar, TextFile, read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Network, IPv6Network

    from usageaudit.alerts.config.secrets import Secret
    from usageaudit.policy.language.diagnostics import Diagnostic
    from usageaudit.policy.yamltree import Node

MAX_FILE_BYTES = 1 << 20
"""How large the file may be."""
MAX_GROUPED = 8
"""By how many fields violations are gathered at most."""
_SHOWN = 50
"""How many errors a message shows."""
_LISTEN = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
MAX_FORMER = 10
_YEAR_MICROS = 366 * 86_400 * 1_000_000
_DAY, _MONTH = 86_400.0, 30 * 86_400.0


class InvalidAlerts(ConfigurationError):
    """An `alerts.yaml` with errors. `diagnostics` has all of them, by line, without the lines themselves.

    A line may hold a secret that was written down where it does not belong.
    """

    def __init__(self, name: str, diagnostics: Iterable[Diagnostic]) -> None:
        unlined = (replace(one, source_line="") for one in diagnostics if one.severity == "error")
        self.diagnostics = tuple(sorted(unlined, key=lambda one: (one.line, one.column)))
        several = "an error" if len(self.diagnostics) == 1 else f"{len(self.diagnostics)} errors"
        shown = [one.render() for one in self.diagnostics[:_SHOWN]]
        more = [f"… and {len(self.diagnostics) - _SHOWN} more"] if len(self.diagnostics) > _SHOWN else []
        super().__init__("\n".join([f"{name} has {several}:", *shown, *more]))


def read_alerts(path: str | Path) -> AlertsConfig:
    """Return what an `alerts.yaml` says, with every secret that it names being there.

    Files of secrets are looked for from the folder of the file. It may be called again whenever the file has changed.
    Raises InvalidAlerts (a ConfigurationError) that names everything wrong, with its line and what to do.
    """
    path = Path(path)
    name = str(path)
    report = Report()
    try:
        text = _text(path, report)
        node = read_yaml(TextFile.of(name, text), report) if text is not None else None
        config = _File(Reading(report, path.parent)).read(node) if node is not None else None
    except InvalidBundle as error:  # there were so many errors that no more are looked for
        raise InvalidAlerts(name, error.diagnostics) from None
    if report.errors or config is None:
        raise InvalidAlerts(name, report.diagnostics)
    return config


def _text(path: Path, report: Report) -> str | None:
    place = Place(TextFile.of(str(path), ""))
    try:
        if not path.is_file():
            report.error(place, "there is no such file", "write one: docs/alerts.md shows how")
            return None
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            report.error(place, f"the file has more than {MAX_FILE_BYTES >> 20} MiB")
            return None
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        report.error(place, f"is not UTF-8: byte {error.start} is no part of a letter")
    except OSError as error:
        report.error(place, f"can't be read: {error.strerror or error}")
    return None


class _File:
    """Reads what is not targets or routes, and puts all together."""

    def __init__(self, reading: Reading) -> None:
        self._reading, self._report = reading, reading.report

    def read(self, node: Node) -> AlertsConfig | None:
        """Return all of it, or what could be read of it where errors were reported."""
        fields = Fields(node, "the file", ALERTS, self._report)
        self._check_version(fields)
        targets = Targets(self._reading)
        targets.read(fields.node_of("targets", required=True))
        routes = Routes(self._reading, targets.names)
        found = routes.read(fields.items("routes", required=True))
        acknowledging = self._acknowledging(fields.node_of("acknowledge"))
        if fields.node_of("acknowledge") is None:
            for escalating in routes.escalating:
                self._report.error(escalating.place, "escalate needs acknowledge, or nobody could prevent it", _ANSWER)
        return AlertsConfig(
            MappingProxyType(targets.found),
            found,
            self._gathering(fields.node_of("gather")),
            acknowledging,
            self._network(fields.node_of("network")),
            self._retry(fields.node_of("retry")),
        )

    def _check_version(self, fields: Fields) -> None:
        node = fields.node_of("alerts", required=True)
        if node is not None and not (isinstance(node, Scalar) and node.tag == "int" and node.text == str(VERSION)):
            self._report.error(node.place, f"alerts is the version of the file's form: alerts: {VERSION}")

    def _gathering(self, node: Node | None) -> Gathering:
        if node is None:
            return Gathering()
        fields = Fields(node, "gather", GATHER, self._report)
        named, stretch = fields.node_of("dedup_by"), fields.node_of("for")
        paths = paths_of(fields.texts("dedup_by"), "dedup_by", self._report)
        if len(paths) > MAX_GROUPED and named is not None:
            self._report.error(named.place, f"dedup_by names more than {MAX_GROUPED} fields")
        window = fields.duration("for")
        if stretch is not None and not 0 < window <= _YEAR_MICROS:
            self._report.error(stretch.place, "for is from 1s to 366d")
        default = Gathering()
        return Gathering(
            paths if named is not None else default.dedup_by, window if stretch is not None else default.window
        )

    def _acknowledging(self, node: Node | None) -> Acknowledging | None:
        if node is None:
            return None
        fields = Fields(node, "acknowledge", ACKNOWLEDGE, self._report)
        url, listen = fields.scalar("url", required=True), fields.scalar("listen")
        if url is not None:
            problem = problem_of_http(url.text) or _problem_of_public(url.text)
            if problem:
                self._report.error(url.place, f"the url of acknowledge {problem}", "such as https://audit.example.org")
        if listen is not None:
            place = _LISTEN.fullmatch(listen.text)
            if place is None or int(place["port"]) > 65_535:
                self._report.error(listen.place, "listen is HOST:PORT", f"such as {LISTEN}")
        secret = self._signing(fields.node_of("secret", required=True), "secret")
        nodes = fields.items("former")
        if len(nodes) > MAX_FORMER:
            self._report.error(nodes[MAX_FORMER].place, f"former has more than {MAX_FORMER} entries", "drop the oldest")
        former = [self._signing(one, "a former secret") for one in nodes[:MAX_FORMER]]
        token = self._signing(fields.node_of("token"), "token")
        if url is None or secret is None:
            return None
        kept = tuple(one for one in former if one is not None)
        where = listen.text if listen is not None else LISTEN
        return Acknowledging(url.text.rstrip("/"), secret, where, kept, token)

    def _signing(self, node: Node | None, what: str) -> Secret | None:
        return self._reading.secret(node, what, "acknowledge", check=_problem_of_signing)

    def _network(self, node: Node | None) -> Network:
        if node is None:
            return Network()
        networks: list[IPv4Network | IPv6Network] = []
        hosts: set[str] = set()
        for text in self._reading.names(Fields(node, "network", NETWORK, self._report), "allow"):
            name = text.text.lower().removesuffix(".")
            try:
                networks.append(ip_network(text.text.strip("[]")))
            except ValueError:
                if _HOST.fullmatch(name) and not re.fullmatch(r"[0-9.]+", name):
                    hosts.add(name)
                else:
                    self._report.error(text.place, f"{text.text[:60]} is no network and no host", _network_hint(name))
        return Network(tuple(dict.fromkeys(networks)), frozenset(hosts))

    def _retry(self, node: Node | None) -> Retry:
        if node is None:
            return Retry()
        fields, default = Fields(node, "retry", RETRY, self._report), Retry()
        first = self._reading.seconds(fields, "first", default.first, 1.0, _DAY)
        longest = self._reading.seconds(fields, "longest", max(first, default.longest), 1.0, _DAY)
        give_up = self._reading.seconds(fields, "give_up", max(longest, default.give_up), 1.0, _MONTH)
        if not first <= longest <= give_up:
            self._report.error(node.place, "retry waits longer and longer: first <= longest <= give_up")
        return Retry(first, longest, give_up)


_ANSWER = "acknowledge: {url: https://audit.example.org, secret: {env: NAME}}"


def _network_hint(name: str) -> str:
    try:
        return f"did you mean {ip_network(name, strict=False)}?"
    except ValueError:
        return "such as 10.1.0.0/16, 127.0.0.1 or hooks.internal"


def _problem_of_public(url: str) -> str:
    if "?" in url:
        return "has parameters, which links have of their own"
    return "seems to hold a secret, and everybody sees it" if tells_a_secret(url) else ""


def _problem_of_signing(text: str) -> str:
    return "" if len(text) >= 16 else "has fewer than 16 characters; make one: openssl rand -base64 32"
