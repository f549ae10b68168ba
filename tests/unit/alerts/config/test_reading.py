"""An `alerts.yaml` is read whole, or refused with every mistake, its line, and no word of a secret."""

from __future__ import annotations

import copy
from datetime import time
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.alerts.config.files import FULL, KEY, SECRETS, give_secrets, written
from usageaudit.alerts.config import InvalidAlerts, read_alerts
from usageaudit.alerts.config.quiet import Quiet
from usageaudit.alerts.config.secrets import Plain, Secret
from usageaudit.alerts.config.settings import (
    PAGERDUTY,
    Acknowledging,
    AppriseSettings,
    EmailSettings,
    Escalation,
    Gathering,
    KafkaSettings,
    PagerDutySettings,
    Retry,
    WebhookSettings,
)
from usageaudit.alerts.config.shapes import KINDS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the secrets of FULL in it and around it."""
    give_secrets(tmp_path, monkeypatch)
    return tmp_path


def _changed(*path: str | int, to: Any) -> dict[str, Any]:
    """Return FULL with another value at a place; None takes the place out."""
    document = copy.deepcopy(FULL)
    place: Any = document
    for name in path[:-1]:
        place = place[name]
    if to is None:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return document


def _refusal(folder: Path, document: Any) -> str:
    with pytest.raises(InvalidAlerts) as caught:
        read_alerts(written(folder, document))
    return str(caught.value)


def test_everything_is_read(folder: Path) -> None:
    """Each setting of a file that says everything is what was written, with a target of every kind."""
    config = read_alerts(written(folder, FULL))
    targets = config.targets
    assert set(targets) == set(FULL["targets"])
    assert {next(iter(one)) for one in FULL["targets"].values()} == set(KINDS)
    assert targets["soc"] == WebhookSettings(
        "soc",
        Plain("https://hooks.example.org/alerts"),
        (Secret("file", str(folder / "soc.key")), Secret("env", "WEBHOOK_KEY")),
        5.0,
    )
    assert targets["topic"] == KafkaSettings("topic", Plain("kafka://127.0.0.1:9092?topic=violations"))
    assert isinstance(targets["rest"], AppriseSettings)
    assert targets["rest"].own_connections
    email = targets["duty"]
    assert isinstance(email, EmailSettings)
    assert (email.port, email.security, email.sender, email.to) == (
        465, "tls", "audit@example.org", ("duty@example.org",)
    )  # fmt: skip
    night, rest = config.routes
    assert (night.name, night.to, night.proceed, night.escalate) == (
        "night", ("soc", "pager"), True, Escalation(1800.0, ("duty",))
    )  # fmt: skip
    assert night.quiet == Quiet("Europe/Berlin", time(22), time(6), frozenset((0, 6)), frozenset(("critical",)))
    assert (rest.name, rest.quiet, rest.escalate) == ("route 2", None, None)
    assert config.gathering == Gathering((("application", "name"), ("model", "name")), 7_200_000_000)
    assert config.acknowledging == Acknowledging(
        "https://audit.example.org", Secret("env", "SIGNING"), "127.0.0.1:9465",
        (Secret("env", "SIGNING"),), Secret("env", "TOKEN"),
    )  # fmt: skip
    assert config.network.networks == (ip_network("10.1.0.0/16"), ip_network("::1"))
    assert config.network.hosts == {"hooks.internal"}
    assert config.retry == Retry(2.0, 600.0, 86_400.0)


def test_little_need_be_said(folder: Path) -> None:
    """A target and a route are enough; all else has a default."""
    config = read_alerts(
        written(folder, "alerts: 1\ntargets: {p: {pagerduty: {routing_key: {env: PD_KEY}}}}\nroutes: [{to: [p]}]\n")
    )
    assert config.targets["p"] == PagerDutySettings("p", Secret("env", "PD_KEY"), PAGERDUTY)
    assert (config.gathering, config.acknowledging, config.retry) == (Gathering(), None, Retry())


def test_times_of_day_need_no_quotes(folder: Path) -> None:
    """22:00 is a time of day, although YAML 1.1 takes it for the number 1320."""
    text = (
        "alerts: 1\ntargets: {p: {pagerduty: {routing_key: {env: PD_KEY}}}}\n"
        "routes: [{to: [p], quiet: {zone: Europe/Berlin, from: 22:00, to: 06:00}}]\n"
    )
    quiet = read_alerts(written(folder, text)).routes[0].quiet
    assert quiet is not None
    assert (quiet.start, quiet.end) == (time(22), time(6))


def test_what_was_read_holds_no_secret(folder: Path) -> None:
    """No secret is in what is read, however it is looked at: each is read where it is needed."""
    shown = repr(read_alerts(written(folder, FULL)))
    assert "SLACK_URL" in shown
    assert [value for value in SECRETS.values() if value in shown] == []


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "version": (_changed("alerts", to=2), "alerts: 1"),
    "no version": (_changed("alerts", to=None), "the file needs alerts"),
    "no routes": (_changed("routes", to=None), "the file needs routes"),
    "key": ({**FULL, "gathr": {}}, "did you mean gather?"),
    "kind of target": (_changed("targets", "chat", to={"slak": {}}), "did you mean slack?"),
    "two kinds": (_changed("targets", "chat", "teams", to={}), "chat needs the one kind of target"),
    "name of a target": (_changed("targets", "Chat Room", to=FULL["targets"]["chat"]), "no name of a target"),
    "key of a target": (_changed("targets", "chat", "slack", "templat", to="x"), "did you mean template?"),
    "unknown field": (_changed("targets", "chat", "slack", "template", to="{severty}"), "did you mean severity?"),
    "attribute": (_changed("targets", "chat", "slack", "template", to="{message.__class__}"), "write {message}"),
    "index": (_changed("targets", "chat", "slack", "template", to="{group[x]}"), "write {group}"),
    "format": (_changed("targets", "chat", "slack", "template", to="{count:>9999999}"), "write {count}"),
    "conversion": (_changed("targets", "chat", "slack", "template", to="{message!r}"), "write {message}"),
    "brace": (_changed("targets", "chat", "slack", "template", to="a } b"), "a brace alone"),
    "missing variable": (
        _changed("targets", "chat", "slack", "url", to={"env": "NOT_SET"}), "url of chat: the secret {env: NOT_SET}"
    ),
    "missing file": (_changed("targets", "soc", "webhook", "secrets", to=[{"file": "none"}]), "secret of soc"),
    "folder for a file": (_changed("targets", "soc", "webhook", "secrets", to=[{"file": "."}]), "is no file"),
    "both places": (
        _changed("targets", "chat", "slack", "url", to={"env": "SLACK_URL", "file": "x"}), "either env or file"
    ),
    "key of a webhook": (_changed("targets", "soc", "webhook", "secrets", to=[{"env": "TOKEN"}]), "base64"),
    "key without its prefix": (_changed("targets", "soc", "webhook", "secrets", to=[{"env": "BARE_KEY"}]), "whsec_"),
    "no secrets": (_changed("targets", "soc", "webhook", "secrets", to=[]), "one secret or more"),
    "no URL": (_changed("targets", "soc", "webhook", "url", to="hooks.example.org"), "such as https://"),
    "other scheme": (_changed("targets", "soc", "webhook", "url", to="file:///etc/passwd"), "such as https://"),
    "topic of events": (_changed("targets", "topic", "kafka", "url", to="kafka://h:9092"), "?topic=violations"),
    "option of Kafka": (
        _changed("targets", "topic", "kafka", "url", to="kafka://h:9092?topic=v&securty=SSL"), "did you mean security"
    ),
    "address": (_changed("targets", "duty", "email", "to", to=["Duty <a@b.org>"]), "no address"),
    "address with a line": (_changed("targets", "duty", "email", "to", to=["a@b.org\nBcc:x@y.org"]), "no address"),
    "login without encryption": (_changed("targets", "duty", "email", "security", to="none"), "unencrypted"),
    "user alone": (_changed("targets", "duty", "email", "password", to=None), "username alone"),
    "port": (_changed("targets", "duty", "email", "port", to=70_000), "1 to 65535"),
    "apprise": (_changed("targets", "rest", "apprise", "own_connections", to=None), "own_connections: true"),
    "timeout": (_changed("targets", "soc", "webhook", "timeout", to="1h"), "timeout is from 1s to 60s"),
    "target of a route": (_changed("routes", 0, "to", to=["sok"]), "did you mean soc?"),
    "no target": (_changed("routes", 0, "to", to=[]), "to is an empty list"),
    "severity": (_changed("routes", 0, "match", "severity", to=["hihg"]), "did you mean high?"),
    "nothing to match": (_changed("routes", 0, "match", "policy", to=[]), "policy is an empty list"),
    "never reached": (_changed("routes", to=[{"to": ["soc"]}, {"to": ["chat"]}]), "never reached: route 1"),
    "same name": (_changed("routes", 1, "name", to="night"), "a second route is called night"),
    "zone": (_changed("routes", 0, "quiet", "zone", to="Europe/Berln"), "unknown time zone"),
    "half of the hours": (_changed("routes", 0, "quiet", "to", to=None), "both or neither"),
    "endless": (_changed("routes", 0, "quiet", to={"zone": "UTC"}), "never end"),
    "day": (_changed("routes", 0, "quiet", "days", to=["monday"]), "did you mean mon?"),
    "time of day": (_changed("routes", 0, "quiet", "from", to="24:00"), "a time of day"),
    "escalation": (_changed("routes", 0, "escalate", "after", to=None), "escalate needs after"),
    "nobody could acknowledge": (_changed("acknowledge", to=None), "escalate needs acknowledge"),
    "field to gather by": (_changed("gather", "dedup_by", to=["application.nam"]), "application.name"),
    "gathered for nothing": (_changed("gather", "for", to="0s"), "for is from 1s"),
    "listen": (_changed("acknowledge", "listen", to="9465"), "HOST:PORT"),
    "short secret": (_changed("acknowledge", "secret", to={"env": "HOME"}), "fewer than 16"),
    "network": (_changed("network", "allow", to=["10.1.2.3/16"]), "did you mean 10.1.0.0/16?"),
    "waits": (_changed("retry", "longest", to="1s"), "first <= longest <= give_up"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_said_with_its_place(mistake: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One mistake gives an error that names file and line and what to do."""
    monkeypatch.setenv("HOME", "/short")
    document, said = MISTAKES[mistake]
    message = _refusal(folder, document)
    assert said in message
    assert f"{folder / 'alerts.yaml'}:" in message


def test_all_mistakes_are_said_at_once(folder: Path) -> None:
    """Mistakes in different parts of the file are all in the one error, by line."""
    document = _changed("routes", 0, "to", to=["sok"])
    document["targets"]["chat"]["slack"]["template"] = "{severty}"
    document["network"]["allow"] = ["not a host"]
    with pytest.raises(InvalidAlerts) as caught:
        read_alerts(written(folder, document))
    lines = [one.line for one in caught.value.diagnostics]
    assert len(lines) == 3
    assert lines == sorted(lines)


LITERALS: dict[str, dict[str, Any]] = {
    "routing key": _changed("targets", "pager", "pagerduty", "routing_key", to="SHOWN-SECRET"),
    "number": _changed("targets", "pager", "pagerduty", "routing_key", to=7777777777),
    "slack": _changed("targets", "chat", "slack", "url", to="https://hooks.slack.com/services/SHOWN-SECRET"),
    "webhook secret": _changed("targets", "soc", "webhook", "secrets", to=["SHOWN-SECRET"]),
    "login": _changed("targets", "soc", "webhook", "url", to="https://me:SHOWN-SECRET@hooks.example.org/"),
    "parameter": _changed("targets", "soc", "webhook", "url", to="https://hooks.example.org/?token=SHOWN-SECRET"),
    "host of secrets": _changed("targets", "soc", "webhook", "url", to="https://hooks.slack.com/SHOWN-SECRET"),
    "path": _changed("targets", "soc", "webhook", "url", to="https://h.example.org/SHOWN-SECRET-1a2b3c4d5e6f"),
    "kafka": _changed(
        "targets", "topic", "kafka", "url",
        to="kafka://a:SHOWN-SECRET@h:9092?topic=v&security=SASL_SSL&sasl_mechanism=PLAIN",
    ),
    "acknowledge": _changed("acknowledge", "secret", to="SHOWN-SECRET-SHOWN-SECRET"),
    "beside a mistake": {**FULL, "targets": {"p": {"pagerduty": {"routing_kee": "SHOWN-SECRET"}}}},
}  # fmt: skip


@pytest.mark.parametrize("literal", LITERALS)
def test_secrets_are_not_written_down(literal: str, folder: Path) -> None:
    """A secret in the file is refused, and the error, which may go to a log, does not show it."""
    message = _refusal(folder, LITERALS[literal])
    assert "secret" in message or "routing_kee" in message
    assert "SHOWN-SECRET" not in message
    assert "7777777777" not in message


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.org/alerts/team-a?format=json",
        "https://hooks.example.org/alerts-of-production-2024/eu-central-1a",
        "http://127.0.0.1:8080/hook",
    ],
)
def test_ordinary_urls_may_be_written_down(url: str, folder: Path) -> None:
    """A URL that tells nothing stands in the file as it is."""
    config = read_alerts(written(folder, _changed("targets", "soc", "webhook", "url", to=url)))
    assert getattr(config.targets["soc"], "url", None) == Plain(url)


@pytest.mark.parametrize("content", [b"x" * (1 << 16) + b"x", b"\xff\xfe", b"one\ntwo", b"\n", b"a\0b"])
def test_files_of_secrets_are_checked(content: bytes, folder: Path) -> None:
    """A file that is too large, empty, no text or more than a line is refused, and nothing of it is shown."""
    (folder / "soc.key").write_bytes(content)
    assert "a secret of soc: the secret {file:" in _refusal(folder, FULL)


def test_secrets_are_read_anew(folder: Path) -> None:
    """A file that was replaced gives the new secret at the next look, so that keys can be changed while it runs."""
    target = read_alerts(written(folder, FULL)).targets["soc"]
    assert isinstance(target, WebhookSettings)
    assert target.secrets[0].reveal() == KEY
    (folder / "soc.key").write_text("whsec_another", encoding="utf-8")
    assert target.secrets[0].reveal() == "whsec_another"


def test_a_file_that_cannot_be_read_is_said(folder: Path) -> None:
    """No file, a folder, a file that is too large and one that is no text are errors that say so."""
    for name, said in (("none.yaml", "no such file"), (".", "no such file")):
        with pytest.raises(InvalidAlerts, match=said):
            read_alerts(folder / name)
    (folder / "large.yaml").write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(InvalidAlerts, match="more than 1 MiB"):
        read_alerts(folder / "large.yaml")
    (folder / "bytes.yaml").write_bytes(b"alerts: \xff")
    with pytest.raises(InvalidAlerts, match="UTF-8"):
        read_alerts(folder / "bytes.yaml")
