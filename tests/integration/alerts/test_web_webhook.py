"""Webhooks as receivers get them: verified by the official library, and by the receiver of docs/examples."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields, replace
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.servers.receivers import Receiver, Request, answering
from usageaudit.alerts.config.secrets import Plain, Secret
from usageaudit.alerts.config.settings import Network, WebhookSettings
from usageaudit.alerts.model import Alert, Notification
from usageaudit.alerts.signing import new_secret
from usageaudit.alerts.targets.port import DeliveryFailed
from usageaudit.alerts.targets.webhook import WebhookTarget
from usageaudit.alerts.targets.webhook_body import MOST_EVIDENCE, payload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.alerts.model import Occasion

ROOT = Path(__file__).parents[3]
LOOPBACK = Network(networks=(ip_network("127.0.0.0/8"),))
ALERT = Alert(
    alert_id="a" * 32,
    status="firing",
    kind="event",
    policy_id="acme/no-faces",
    policy_version=2,
    severity="high",
    message="Faces were looked at — größer als gedacht",
    violation_id="b" * 32,
    first_time="2026-05-01T12:00:00.000Z",
    group={"application.name": "claims"},
    count=3,
    evidence='{"actor.id":"u-1"}',
)


def notification(occasion: Occasion = "opened") -> Notification:
    """Return a notification of the alert."""
    return Notification("d" * 32, occasion, ALERT)


@dataclass(slots=True)
class Keys:
    """The secrets of a receiver in files, which can be changed."""

    folder: Path
    names: list[str] = field(default_factory=list)

    def add(self) -> str:
        """Make a secret that signs from now on, and return it."""
        secret = new_secret()
        self.names.append(str(self.folder / f"secret-{len(self.names)}"))
        Path(self.names[-1]).write_text(secret + "\n", encoding="utf-8")
        return secret

    def target(self, url: str, now: float | None = None) -> WebhookTarget:
        """Return a target that signs with all of them."""
        settings = WebhookSettings("ops", Plain(url), tuple(Secret("file", name) for name in self.names))
        return WebhookTarget(settings, LOOPBACK, now=time.time if now is None else lambda: now)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """Return no keys yet."""
    return Keys(tmp_path)


def delivered(keys: Keys, now: float | None = None, occasion: Occasion = "opened") -> Request:
    """Return what a receiver gets."""
    with Receiver(answering("204 No Content")) as receiver:
        keys.target(receiver.url, now).deliver(notification(occasion))
    (request,) = receiver.requests
    return request


def test_the_official_library_verifies(keys: Keys) -> None:
    """The library of Standard Webhooks takes a delivery with each of two keys, and reads the alert from it."""
    secrets = [keys.add(), keys.add()]
    request = delivered(keys)
    for secret in secrets:
        read = Webhook(secret).verify(request.body, request.headers)
        assert read["type"] == "io.usageaudit.alert.opened"
        assert read["timestamp"] == ALERT.first_time
        assert read["data"]["message"] == ALERT.message
        assert read["data"]["evidence"] == {"actor.id": "u-1"}
    assert request.headers["webhook-id"] == "d" * 32
    assert request.headers["webhook-signature"].count("v1,") == 2


@pytest.mark.parametrize("part", ["body", "webhook-id", "webhook-timestamp", "webhook-signature"])
def test_the_official_library_refuses_what_was_changed(keys: Keys, part: str) -> None:
    """A change of body, id, time or signature is refused by the library."""
    secret = keys.add()
    request = delivered(keys)
    body, headers = request.body, dict(request.headers)
    if part == "body":
        body = body.replace(b'"count":3', b'"count":4')
    elif part == "webhook-timestamp":
        headers[part] = str(int(headers[part]) + 1)
    elif part == "webhook-id":
        headers[part] = "e" * 32
    else:
        headers[part] = headers[part].replace("v1,", "v1,AAAA")
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, headers)
    Webhook(secret).verify(request.body, request.headers)


@pytest.mark.parametrize("off", [-600, 600])
def test_the_official_library_refuses_another_time(keys: Keys, off: int) -> None:
    """What was signed long ago, or long ahead, is refused by the library."""
    secret = keys.add()
    request = delivered(keys, now=time.time() + off)
    with pytest.raises(WebhookVerificationError, match="too"):
        Webhook(secret).verify(request.body, request.headers)


def test_a_stranger_cannot_verify(keys: Keys) -> None:
    """A delivery that another key has signed is refused by the library."""
    keys.add()
    request = delivered(keys)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(request.body, request.headers)


def test_keys_change_without_a_restart(keys: Keys) -> None:
    """A secret's file that is written anew signs the next delivery of the same target."""
    keys.add()
    with Receiver(answering("200 OK")) as receiver:
        target = keys.target(receiver.url)
        target.deliver(notification())
        Path(keys.names[0]).write_text(newer := new_secret(), encoding="utf-8")
        target.deliver(notification())
    with pytest.raises(WebhookVerificationError):
        Webhook(newer).verify(receiver.requests[0].body, receiver.requests[0].headers)
    Webhook(newer).verify(receiver.requests[1].body, receiver.requests[1].headers)


def test_a_secret_that_is_none_sends_nothing(keys: Keys) -> None:
    """A secret that is no key of Standard Webhooks fails the delivery before anything is sent, and is not shown."""
    keys.add()
    Path(keys.names[0]).write_text("hunter2-hunter2", encoding="utf-8")
    with Receiver(answering("200 OK")) as receiver, pytest.raises(DeliveryFailed) as failed:
        keys.target(receiver.url).deliver(notification())
    assert receiver.reached == 0
    assert "hunter2" not in str(failed.value)
    assert "openssl rand" in str(failed.value)


@pytest.mark.parametrize("occasion", ["opened", "escalated", "resolved", "test"])
def test_the_body_has_every_field(occasion: Occasion) -> None:
    """A body has the type of its occasion, a time, and each field of the alert."""
    body = payload(notification(occasion), 1_770_000_000.5)
    assert body["type"] == f"io.usageaudit.alert.{occasion}"
    assert body["timestamp"] == (ALERT.first_time if occasion == "opened" else "2026-02-02T02:40:00.500Z")
    assert set(body["data"]) == {one.name for one in fields(Alert)}


def test_evidence_that_was_cut_does_not_stop_an_alert() -> None:
    """Evidence that is no JSON, too deep to be written or too large is told as text, and so is the rest."""
    for text in ('{"a":"', '{"a":' + "[" * 300 + "]" * 300 + "}", json.dumps({"a": ["x" * 2_000] * 500})):
        cut = replace(notification(), alert=replace(ALERT, evidence=text))
        evidence = json.loads(orjson.dumps(payload(cut, 0.0)))["data"]["evidence"]
        assert len(evidence["text"]) == min(len(text), MOST_EVIDENCE)


@contextmanager
def example(folder: Path, secrets: list[str]) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the receiver of docs/examples, and give its URL and the process."""
    program = [sys.executable, str(ROOT / "docs/examples/webhook_receiver.py"), "0", str(folder / "received.sqlite")]
    environment = {**os.environ, "WEBHOOK_SECRETS": " ".join(secrets)}
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{process.stdout.readline().split()[-1]}/hooks", process
        finally:
            process.terminate()


def received(folder: Path) -> list[tuple[str, str]]:
    """Return id and body of what the receiver has kept."""
    with closing(sqlite3.connect(folder / "received.sqlite")) as database:
        return database.execute("SELECT id, body FROM received").fetchall()


@pytest.mark.parametrize("secrets", ["", "whsec_", f"whsec_{'A' * 44} whsec_c2hvcnQ="])
def test_the_example_knows_no_key_that_is_none(tmp_path: Path, secrets: str) -> None:
    """An empty or short key, as a line that went wrong leaves it, is refused: anybody could sign by it."""
    program = [sys.executable, str(ROOT / "docs/examples/webhook_receiver.py"), "0", str(tmp_path / "received.sqlite")]
    environment = {**os.environ, "WEBHOOK_SECRETS": secrets}
    ended = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, "24 bytes" in ended.stderr) == (1, True)


def test_the_example_takes_each_alert_once(keys: Keys, tmp_path: Path) -> None:
    """The receiver takes what our target sends, drops the repeat, and still knows it after a restart."""
    secret = keys.add()
    with example(tmp_path, [secret]) as (url, process):
        for _ in range(2):
            assert keys.target(url).deliver(notification()).status == 204
    assert process.stdout is not None
    with example(tmp_path, [secret]) as (url, _):
        assert keys.target(url).deliver(notification()).status == 204
        other = replace(notification(), delivery_id="e" * 32)
        assert keys.target(url).deliver(other).status == 204
    assert [name for name, _ in received(tmp_path)] == ["d" * 32, "e" * 32]
    assert json.loads(received(tmp_path)[0][1])["data"]["alert_id"] == ALERT.alert_id


def test_the_example_bears_a_change_of_keys(keys: Keys, tmp_path: Path) -> None:
    """While both sides know both keys, and also while only one side does, nothing is refused."""
    old, new = keys.add(), keys.add()
    for known in ([old], [new], [new, old]):
        with example(tmp_path, known) as (url, _):
            assert keys.target(url).deliver(notification()).status == 204


@pytest.mark.parametrize("off", [-600, 600])
def test_the_example_refuses_another_time(keys: Keys, tmp_path: Path, off: int) -> None:
    """What was signed long ago, or long ahead, is not taken."""
    with example(tmp_path, [keys.add()]) as (url, _), pytest.raises(DeliveryFailed) as failed:
        keys.target(url, time.time() + off).deliver(notification())
    assert (failed.value.status, failed.value.again) == (401, False)


def test_the_example_refuses_what_was_changed(keys: Keys, tmp_path: Path) -> None:
    """A changed body, id or time, a missing header, another key, and a body without a length are not taken."""
    secret = keys.add()
    request = delivered(keys)
    good = {name: value for name, value in request.headers.items() if name.startswith("webhook-")}
    changed = [
        (request.body + b" ", good),
        (request.body, good | {"webhook-id": "e" * 32}),
        (request.body, good | {"webhook-timestamp": str(int(good["webhook-timestamp"]) - 1)}),
        (request.body, good | {"webhook-timestamp": "1e3"}),
        (request.body, good | {"webhook-signature": ""}),
        (request.body, good | {"webhook-signature": good["webhook-signature"].replace("v1,", "v2,")}),
        (request.body, {}),
    ]
    with example(tmp_path, [secret]) as (url, _):
        assert [_posted(url, body, headers) for body, headers in changed] == [401] * len(changed)
        assert not (tmp_path / "received.sqlite").exists()
        assert _posted(url, request.body, good) == 204
    with example(tmp_path, [new_secret()]) as (url, _):
        assert _posted(url, request.body, good) == 401


def _posted(url: str, body: bytes, headers: dict[str, str]) -> int:
    """Return the status of the answer to a body."""
    request = urllib.request.Request(url, body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
