"""The bundle of a running consumer: taken anew on SIGHUP, kept where the new one is broken."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from tests.acceptance.conftest import COMMAND, Pair
from tests.strategies import MINIMAL, envelope

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

POLICY = """
id: house/{name}
title: {name}
severity: low
message: it happened
revisions: [{{version: 1, when: 'operation == "chat"'}}]
"""


def _write_bundle(folder: Path, name: str) -> None:
    (folder / "policies").mkdir(parents=True, exist_ok=True)
    (folder / "bundle.yaml").write_text("name: house\n")
    (folder / "policies" / "only.yaml").write_text(POLICY.format(name=name))


def _wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "waited for a minute in vain"
        time.sleep(0.2)


def _judged(pair: Pair) -> dict[str, str]:
    return {row["event_id"]: row["policy_id"] for row in pair.query("SELECT event_id, policy_id FROM violations")}


def _publish(pair: Pair, event_id: str) -> None:
    pair.run("publish", "-", text=json.dumps(envelope(MINIMAL, id=event_id)) + "\n")


def test_a_running_consumer_takes_a_new_bundle_and_refuses_a_broken_one(pair: Pair) -> None:
    """After SIGHUP the next events are judged by the new bundle; a broken one changes nothing and is logged."""
    house = pair.folder / "house"
    _write_bundle(house, "first")
    running = Pair(pair.stream, pair.store, pair.folder, policies=str(house))
    running.run("migrate")
    log = (pair.folder / "consumer.log").open("w")
    with log, subprocess.Popen(
        [COMMAND, "consume"], env=running.environment, cwd=pair.folder, stderr=log, stdout=log
    ) as consumer:  # fmt: skip
        try:
            for event_id, change in (("a", None), ("b", "second"), ("c", "broken: [")):
                if change == "second":
                    _write_bundle(house, "second")
                elif change:
                    (house / "policies" / "only.yaml").write_text(change)
                if change:
                    consumer.send_signal(signal.SIGHUP)
                _publish(running, event_id)
                _wait(lambda event_id=event_id: event_id in _judged(running))  # type: ignore[misc]
            assert _judged(running) == {"a": "house/first", "b": "house/second", "c": "house/second"}
            assert "only.yaml" in (pair.folder / "consumer.log").read_text()
            consumer.send_signal(signal.SIGTERM)
            assert consumer.wait(30) == 0
        finally:
            consumer.kill()


def test_a_broken_bundle_is_refused_whole(pair: Pair) -> None:
    """With errors in the bundle nothing is consumed; all of them are named, with exit code 2."""
    house = pair.folder / "house"
    _write_bundle(house, "first")
    (house / "policies" / "only.yaml").write_text(POLICY.format(name="first").replace("operation", "operatoin"))
    (house / "policies" / "other.yaml").write_text("id: house/other\nseverity: dire\n")
    broken = Pair(pair.stream, pair.store, pair.folder, policies=str(house))
    done = subprocess.run(
        [COMMAND, "consume", "--until-caught-up"], env=broken.environment, cwd=pair.folder, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    for part in ("only.yaml:6:", "did you mean operation?", "other.yaml:2:"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr
