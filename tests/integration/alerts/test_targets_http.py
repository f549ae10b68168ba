"""Targets of HTTP, by a server that records what it is told; what it is told keeps the publishers' rules."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.alerts.targets import rules
from tests.unit.alerts.targets.alerts import OCCASIONS, SAMPLE, notification
from usageaudit.alerts.config.secrets import Plain, Secret
from usageaudit.alerts.config.settings import (
    AlertmanagerSettings,
    AppriseSettings,
    Network,
    PagerDutySettings,
    SlackSettings,
    TeamsSettings,
)
from usageaudit.alerts.config.templates import Field, Template
from usageaudit.alerts.targets.opening import open_target
from usageaudit.alerts.targets.port import DeliveryFailed
from usageaudit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.alerts.config.settings import TargetSettings

LOOPBACK = Network(networks=(ip_network("127.0.0.0/8"),))
KEY, TOKEN = "R0" * 16, "t0ken-of-alertmanager"
BROKEN = {
    "alertmanager": rules.broken_by_alertmanager,
    "pagerduty": rules.broken_by_pagerduty,
    "slack": rules.broken_by_slack,
    "teams": rules.broken_by_teams,
}
PATHS = {
    "alertmanager": "/am/api/v2/alerts",
    "pagerduty": "/v2/enqueue",
    "slack": "/services/T0/B0/s3cret",
    "teams": "/workflows/s3cret?sig=s3cret",
}


@dataclass
class Receiver:
    """What was asked of the server, and what it answers."""

    url: str = ""
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    status: int = 200
    body: bytes = b"ok"
    headers: dict[str, str] = field(default_factory=dict)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Yield a server at a loopback address."""
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(found.status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(found.body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  named by http.server
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield found
        server.shutdown()


@pytest.fixture
def settings(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> dict[str, TargetSettings]:
    """Return settings of every kind that lead to the server, with their secrets in the environment."""
    monkeypatch.setenv("PAGERDUTY", KEY)
    monkeypatch.setenv("ALERTMANAGER", TOKEN)
    monkeypatch.setenv("SLACK", receiver.url + PATHS["slack"])
    monkeypatch.setenv("TEAMS", receiver.url + PATHS["teams"])
    template = Template(("Look at ", Field("application"), "!"))
    return {
        "alertmanager": AlertmanagerSettings(
            "am", Plain(f"{receiver.url}/am/"), Secret("env", "ALERTMANAGER"), template=template
        ),
        "pagerduty": PagerDutySettings(
            "pd", Secret("env", "PAGERDUTY"), receiver.url + PATHS["pagerduty"], template=template
        ),
        "slack": SlackSettings("sl", Secret("env", "SLACK"), template=template),
        "teams": TeamsSettings("te", Secret("env", "TEAMS"), template=template),
    }


@pytest.mark.parametrize("kind", PATHS)
def test_what_arrives_keeps_the_rules(kind: str, receiver: Receiver, settings: dict[str, TargetSettings]) -> None:
    """Notifications of every occasion arrive where they should, as JSON by the publisher's rules, with the template."""
    target = open_target(settings[kind], LOOPBACK)
    for occasion in OCCASIONS:
        assert target.deliver(notification(occasion)).status == 200
    target.close()
    assert [path for path, _, _ in receiver.asked] == [PATHS[kind]] * len(OCCASIONS)
    assert [problem for _, _, body in receiver.asked for problem in BROKEN[kind](body)] == []
    assert b"Look at gate-camera!" in receiver.asked[0][2]
    assert {headers["content-type"] for _, headers, _ in receiver.asked} == {"application/json"}


def test_secrets_are_where_the_publisher_wants_them(receiver: Receiver, settings: dict[str, TargetSettings]) -> None:
    """Alertmanager gets its token in the header, PagerDuty its key in the body."""
    for kind in ("alertmanager", "pagerduty"):
        open_target(settings[kind], LOOPBACK).deliver(notification())
    (_, first, _), (_, _, second) = receiver.asked
    assert first["authorization"] == f"Bearer {TOKEN}"
    assert json.loads(second)["routing_key"] == KEY


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize(("status", "again"), [(400, False), (404, False), (429, True), (500, True), (301, False)])
def test_failures_are_said_without_secrets(
    kind: str, status: int, again: bool, receiver: Receiver, settings: dict[str, TargetSettings]
) -> None:
    """What the server refuses is tried again where that can help, and no secret it sends back is shown."""
    receiver.status, receiver.headers = status, {"Retry-After": "7", "Location": "http://127.0.0.1:1/s3cret"}
    receiver.body = f"no: {KEY} {TOKEN} {PATHS['slack']} {PATHS['teams']}".encode()
    with pytest.raises(DeliveryFailed) as failed:
        open_target(settings[kind], LOOPBACK).deliver(notification())
    assert (failed.value.status, failed.value.again) == (status, again)
    assert failed.value.after == (7 if again else None)
    own = {"alertmanager": TOKEN, "pagerduty": KEY, "slack": "B0/s3cret", "teams": "sig=s3cret"}[kind]
    assert own not in str(failed.value)


@pytest.mark.parametrize("kind", PATHS)
def test_no_target_reaches_inside_unless_allowed(
    kind: str, receiver: Receiver, settings: dict[str, TargetSettings]
) -> None:
    """Without an allowance a server at a loopback address is asked nothing."""
    with pytest.raises(DeliveryFailed, match=r"network\.allow") as failed:
        open_target(settings[kind], Network()).deliver(notification())
    assert (failed.value.again, receiver.asked) == (False, [])


@pytest.mark.parametrize("name", ["PAGERDUTY", "ALERTMANAGER", "SLACK", "TEAMS"])
def test_a_secret_that_is_not_there_may_come(
    name: str, settings: dict[str, TargetSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery without its secret names it, and is tried again."""
    monkeypatch.delenv(name)
    with pytest.raises(DeliveryFailed, match=name) as failed:
        open_target(settings[name.lower()], LOOPBACK).deliver(notification())
    assert failed.value.again


def _apprise(url: str, monkeypatch: pytest.MonkeyPatch) -> AppriseSettings:
    monkeypatch.setenv("APPRISE", url)
    return AppriseSettings("else", Secret("env", "APPRISE"), own_connections=True, seconds=5.0)


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # Apprise, when it loads its plugins
def test_apprise_tells_whom_its_url_names(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A notification goes where Apprise leads it, a refusal is tried again, and no log has a URL that is wrong."""
    target = open_target(_apprise(receiver.url.replace("http://", "json://"), monkeypatch), Network())
    target.deliver(notification())
    ((_, _, body),) = receiver.asked
    assert SAMPLE.message in json.loads(body)["message"]
    receiver.status = 500
    with pytest.raises(DeliveryFailed, match="else") as failed:
        target.deliver(notification())
    assert failed.value.again
    for wrong in ("nobody-knows://s3cret", "slack://s3cret", "https://hooks.example/s3cret"):
        monkeypatch.setenv("APPRISE", wrong)
        with pytest.raises(DeliveryFailed, match="does not know") as failed:
            target.deliver(notification())
        assert (failed.value.again, "s3cret" in str(failed.value)) == (False, False)
    assert "s3cret" not in caplog.text


def test_apprise_is_used_only_where_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connections keep no rule of the network, which the configuration must say yes to."""
    with pytest.raises(ConfigurationError, match="own_connections: true"):
        open_target(AppriseSettings("else", Secret("env", "APPRISE")), LOOPBACK)


def test_apprise_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the library is missing, the target says so before anything is delivered."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ConfigurationError, match="pip install apprise"):
        open_target(_apprise("json://127.0.0.1", monkeypatch), LOOPBACK)
