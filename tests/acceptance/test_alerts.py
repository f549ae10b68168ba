"""Alerts from `emit` to a receiver, by the commands that people type, with the dispatcher as a process."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.conftest import COMMAND, Pair
from usageaudit.alerts.receiving import Arrival, receiving
from usageaudit.alerts.signing import new_secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SECONDS = 60
TOKEN = "a-token-of-the-tests-0123456789"
VIOLATING = {
    "operation": "chat",
    "model": {"provider": "azure.ai.openai", "name": "gpt-4o"},
    "actor": {"id": "u-secret-person", "type": "user"},
    "application": {"name": "matcher"},
    "purpose": {"use_case": "social_scoring"},
}


@dataclass(slots=True)
class Alerted:
    """A folder with an alerts.yaml whose only target is a receiver in this process."""

    pair: Pair
    environment: dict[str, str]
    arrivals: SimpleQueue[Arrival] = field(default_factory=SimpleQueue)
    got: list[Arrival] = field(default_factory=list)

    def publish(self, first: int, count: int, application: str = "matcher") -> None:
        """Publish and record violating events, each of an application of its own, so that each is an alert."""
        lines = [self._line(number, f"{application}-{number}") for number in range(first, first + count)]
        self.pair.run("publish", "-", text="\n".join(lines) + "\n")
        self.pair.consume()

    @staticmethod
    def _line(number: int, application: str) -> str:
        event = {
            "specversion": "1.0",
            "id": f"e-{number}",
            "source": "//tests/alerts",
            "type": "io.usageaudit.model_usage.v1",
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "data": {**VIOLATING, "application": {"name": application}},
        }
        return json.dumps(event)

    def start(self) -> subprocess.Popen[str]:
        """Start the dispatcher, and return when it can be reached."""
        with (self.pair.folder / "run.log").open("a") as log:
            return subprocess.Popen(
                [COMMAND, "alerts", "run"], env=self.environment, cwd=self.pair.folder, stderr=log, text=True
            )

    def await_alerts(self, count: int) -> None:
        """Wait until so many different alerts arrived."""
        until = time.monotonic() + SECONDS
        while len({one.data["alert_id"] for one in self.got}) < count:
            assert time.monotonic() < until, (self.pair.folder / "run.log").read_text()[-3000:]
            try:
                self.got.append(self.arrivals.get(timeout=0.5))
            except Empty:
                continue

    def await_delivered(self) -> list[dict[str, Any]]:
        """Return the deliveries once the record has all of them as delivered, which comes after their arrival."""
        until = time.monotonic() + SECONDS
        rows = self.run("alerts", "list", "--limit=100000")
        while {row["state"] for row in rows} != {"delivered"}:
            assert time.monotonic() < until, rows
            rows = self.run("alerts", "list", "--limit=100000")
        return rows

    def run(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        """Run a command and return its rows."""
        done = subprocess.run(
            [COMMAND, *arguments, "--format=ndjson"], env=self.environment, cwd=self.pair.folder,
            capture_output=True, text=True, timeout=SECONDS,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def alerted(tmp_path: Path) -> Iterator[Alerted]:
    """Yield an embedded pair with a receiver, on ports that are free."""
    pair = Pair("embedded:./data", "embedded:./data", tmp_path)
    secret = new_secret()
    given = {"WEBHOOK_SECRET": secret, "LINK_SECRET": "s" * 32, "ACK_TOKEN": TOKEN}
    environment = {**pair.environment, **given, "USAGEAUDIT_ALERTS": "alerts.yaml", "USAGEAUDIT_LOG_FORMAT": "json"}
    found = Alerted(pair, environment)
    with receiving("127.0.0.1", 0, secret, found.arrivals.put, print) as port:
        (tmp_path / "alerts.yaml").write_text(
            "alerts: 1\n"
            f"targets: {{hook: {{webhook: {{url: 'http://127.0.0.1:{port.port}/', "
            "secrets: [{env: WEBHOOK_SECRET}]}}}\n"
            "routes: [{match: {severity: [critical, high, medium]}, to: [hook]}]\n"
            "network: {allow: [127.0.0.1]}\n"
            "acknowledge: {url: 'http://audit.example.org', secret: {env: LINK_SECRET}, token: {env: ACK_TOKEN}, "
            "listen: '127.0.0.1:0'}\n"
        )
        yield found


def _ended(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(SECONDS)


def _port(alerted: Alerted) -> int:
    lines = (alerted.pair.folder / "run.log").read_text().splitlines()
    return next(int(json.loads(one)["port"]) for one in reversed(lines) if '"taking acknowledgements"' in one)


def _ask(url: str, data: bytes | None = None, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, dict(headers or {})), timeout=SECONDS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_from_a_published_event_to_an_acknowledged_alert(alerted: Alerted) -> None:
    """A violation arrives once, signed; its link shows it, a POST acknowledges it, and the record tells all of it."""
    alerted.pair.consume()  # makes the store
    process = alerted.start()
    try:
        wait_for_lease(alerted)
        assert _ended(process) == 0
        alerted.publish(0, 1)
        process = alerted.start()
        alerted.await_alerts(1)
        (arrival,) = alerted.got
        assert "u-secret-person" not in json.dumps(dict(arrival.data))
        path = urllib.parse.urlsplit(arrival.data["acknowledge_url"]).path
        base = f"http://127.0.0.1:{_port(alerted)}"
        alert = f"{base}/alerts/{arrival.data['alert_id']}"
        token = {"Authorization": f"Bearer {TOKEN}"}
        for _ in range(2):  # a mail scanner, and the person
            status, page = _ask(base + path)
            assert status == 200
            assert arrival.data["policy_id"] in page
        assert json.loads(_ask(alert, headers=token)[1])["acknowledged"] is False
        assert _ask(base + path, b"by=Ada")[0] == 200
        assert json.loads(_ask(alert, headers=token)[1])["acknowledged"] is True
        assert _ask(alert)[0] == 403
        (row,) = alerted.await_delivered()
        assert (row["state"], row["delivery_id"], row["attempts"]) == ("delivered", arrival.delivery_id, 1)
    finally:
        assert _ended(process) == 0


def wait_for_lease(alerted: Alerted) -> None:
    """Wait until the dispatcher has begun, so that what is recorded next is told of."""
    until = time.monotonic() + SECONDS
    while not alerted.run("query", "SELECT epoch FROM alert_progress"):
        assert time.monotonic() < until, (alerted.pair.folder / "run.log").read_text()[-3000:]


def test_a_dispatcher_that_is_killed_loses_nothing(alerted: Alerted) -> None:
    """Killed while it tells of alerts, it tells of the rest when it runs again; repeats have the id of the first."""
    alerted.pair.consume()
    process = alerted.start()
    wait_for_lease(alerted)
    # Its lease is given back; the one that is killed below keeps its own, and the next one waits for it.
    assert _ended(process) == 0
    alerted.publish(0, 5)
    process = alerted.start()
    alerted.await_alerts(2)
    process.kill()
    process.wait()
    process = alerted.start()
    try:
        alerted.await_alerts(5)
        rows = alerted.await_delivered()
    finally:
        assert _ended(process) == 0
    while not alerted.arrivals.empty():
        alerted.got.append(alerted.arrivals.get())
    ids = {(one.data["alert_id"], one.delivery_id) for one in alerted.got}
    assert len(ids) == 5
    violations = {row["violation_id"] for row in alerted.run("query", "SELECT violation_id FROM violations")}
    assert {one.data["violation_id"] for one in alerted.got} == violations
    assert {row["delivery_id"] for row in rows} == {one for _, one in ids}


def test_a_test_delivery_says_what_was_answered_and_what_to_do(alerted: Alerted) -> None:
    """A target that answers ends with 0 and its answer; a wrong key and an unknown name end with advice."""
    (row,) = alerted.run("alerts", "test", "hook")
    assert (row["target"], row["status"]) == ("hook", 200)
    assert alerted.arrivals.get(timeout=SECONDS).type == "io.usageaudit.alert.test"
    alerted.environment["WEBHOOK_SECRET"] = new_secret()
    done = subprocess.run(
        [COMMAND, "alerts", "test", "hook"], env=alerted.environment, cwd=alerted.pair.folder, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "check its secret" in done.stderr
    alerted.run("alerts", "test", "nobody", code=2)
    assert [row["part"] for row in alerted.run("alerts", "check")] == ["target", "route", "acknowledge"]
