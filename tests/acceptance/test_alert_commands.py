"""What operators type about alerts: sending again, reading alerts.yaml again, and receiving to try them out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from standardwebhooks import Webhook

from tests.acceptance.conftest import COMMAND
from tests.acceptance.test_alerts import SECONDS, Alerted, alerted, wait_for_lease
from usageaudit.alerts.signing import new_secret

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["alerted"]
BODY = json.dumps({"type": "io.usageaudit.alert.opened", "timestamp": "", "data": {"severity": "high"}}).encode()


def _wait(what: str, condition: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.05)


def _ended(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(SECONDS)


def test_a_delivery_is_sent_again_and_alerts_yaml_is_read_again(alerted: Alerted) -> None:
    """Sent again it arrives with its id; at SIGHUP a good file takes effect, and a broken one changes nothing."""
    alerted.pair.consume()
    log, file = alerted.pair.folder / "run.log", alerted.pair.folder / "alerts.yaml"
    process = alerted.start()
    try:
        wait_for_lease(alerted)
        text = file.read_text()
        file.write_text(text.replace("to: [hook]", "to: [nobody]"))
        process.send_signal(signal.SIGHUP)
        _wait("the complaint", lambda: "what was in force stays" in log.read_text())
        (said,) = [json.loads(line) for line in log.read_text().splitlines() if "what was in force stays" in line]
        assert "nobody" in said["cause"]
        file.write_text(text.replace("medium]", "medium, low]"))
        process.send_signal(signal.SIGHUP)
        _wait("it being read", lambda: "alerts.yaml was read again" in log.read_text())
    finally:
        assert _ended(process) == 0
    file.write_text(text)
    alerted.publish(0, 1)
    process = alerted.start()
    try:
        alerted.await_alerts(1)
        (row,) = alerted.await_delivered()
    finally:
        assert _ended(process) == 0
    alerted.run("alerts", "resend", code=2)
    alerted.run("alerts", "resend", "0" * 32, code=2)
    assert alerted.run("alerts", "resend", row["delivery_id"]) == [{"delivery_id": row["delivery_id"]}]
    process = alerted.start()
    try:
        again = alerted.arrivals.get(timeout=SECONDS)
        assert (again.delivery_id, again.repeated) == (row["delivery_id"], True)
        assert alerted.await_delivered()[0]["attempts"] == 1
    finally:
        assert _ended(process) == 0


def _send(url: str, secret: str, name: str) -> int:
    now = datetime.now(UTC)
    signature = Webhook(secret).sign(name, now, BODY.decode())
    head = {"webhook-id": name, "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, BODY, head), timeout=SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_receiver_shows_what_is_signed_and_drops_repeats(tmp_path: Path) -> None:
    """What arrives twice is shown once, what another key signed is refused, and it ends after so many."""
    secret = new_secret()
    command = [COMMAND, "alerts", "receive", "--listen", "127.0.0.1:0", "--count", "2", "--format", "ndjson"]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            command, env={**os.environ, "WEBHOOK_SECRET": secret}, stdout=subprocess.PIPE, stderr=said, text=True
        )
    try:
        _wait("its address", lambda: "receiving at" in (tmp_path / "said").read_text())
        url = (tmp_path / "said").read_text().partition("receiving at ")[2].split()[0]
        assert [_send(url, secret, "m1"), _send(url, secret, "m1"), _send(url, new_secret(), "m2")] == [200, 200, 401]
        assert _send(url, secret, "m3") == 200
        shown, _ = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
        process.wait()
    assert [json.loads(line)["delivery_id"] for line in shown.splitlines()] == ["m1", "m3"]
    text = (tmp_path / "said").read_text()
    assert "dropped a repeat: m1" in text
    assert "refused: its signature is not by our secret" in text
