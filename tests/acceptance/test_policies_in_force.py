"""The bundle of a running consumer: taken anew on SIGHUP, kept where the new one is broken."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from tests.acceptance.conftest import COMMAND, Pair
from tests.ledger_rows import accepted, insert
from tests.strategies import MINIMAL, envelope
from usageaudit.stores.address import open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import IO, Any

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


ROWS = """SELECT event_id, count() AS rows, any(violated) AS violated, any(bundle) AS bundle FROM usage_events
GROUP BY event_id"""
BUNDLES = "SELECT hash, extract(archive, 'id: (house/[a-z0-9-]+)') AS policy FROM bundles"
MIXED = """SELECT count() AS n FROM
(SELECT batch FROM ledger GROUP BY topic, partition, epoch, batch HAVING uniq(bundle) > 1)"""
EARLY = "SELECT count() AS n FROM ledger AS l JOIN bundles AS b ON b.hash = l.bundle WHERE b.loaded_at > l.ingest_time"


def test_bundles_change_while_events_stream_through(pair: Pair) -> None:
    """However often the policies are loaded anew, each event is judged once, by the bundle that its row names.

    Every fifth bundle is broken. No batch is of two bundles, and each bundle is in the store before its first row.
    """
    house, reloads, chunk = pair.folder / "house", 25, 40
    _write_bundle(house, "v0")
    running = Pair(pair.stream, pair.store, pair.folder, policies=str(house))
    running.run("migrate")
    log = (pair.folder / "consumer.log").open("w")
    environment = {**running.environment, "USAGEAUDIT_BATCH_RECORDS": "16"}
    with log, _started("consume", running, environment, log) as consumer, _publishing(running) as publisher:
        try:
            _send(publisher, range(chunk))
            _wait(lambda: "partition taken over" in _text(pair))
            for number in range(1, reloads + 1):
                _write_bundle(house, f"v{number}")
                if number % 5 == 0:
                    (house / "policies" / "only.yaml").write_text("id: [")
                consumer.send_signal(signal.SIGHUP)
                _send(publisher, range(number * chunk, (number + 1) * chunk))
                _wait(lambda number=number: _loads(pair) >= number)  # type: ignore[misc]
            publisher.communicate(timeout=60)
            total = (reloads + 1) * chunk
            _wait(lambda: running.query("SELECT count() AS n FROM usage_events")[0]["n"] >= total)
            consumer.send_signal(signal.SIGTERM)
            assert consumer.wait(30) == 0
        finally:
            consumer.kill()
    rows = running.query(ROWS)
    assert {row["event_id"] for row in rows} == {f"e-{number}" for number in range(total)}
    assert len({row["bundle"] for row in rows}) > 5
    assert _wrong(running) == (set(), 0, 0)
    _spoil(running, rows)
    assert _wrong(running) == ({"e-0", "e-1"}, 1, 1)


def _wrong(pair: Pair) -> tuple[set[str], int, int]:
    """Return the events judged twice or by another bundle, the batches of two bundles, and the rows before theirs."""
    policies = {row["hash"]: row["policy"] for row in pair.query(BUNDLES)}
    rows = pair.query(ROWS)
    odd = {row["event_id"] for row in rows if row["rows"] != 1 or row["violated"] != [policies[row["bundle"]]]}
    return odd, pair.query(MIXED)[0]["n"], pair.query(EARLY)[0]["n"]


def _spoil(pair: Pair, rows: list[dict[str, Any]]) -> None:
    """Add what must never be: a second row of e-0, one of e-1 by another bundle, both in one batch, one too early."""
    first = next(row for row in rows if row["event_id"] == "e-1")
    other = next(row["bundle"] for row in rows if row["bundle"] != first["bundle"])
    store = open_store(f"embedded:{pair.folder / 'data'}" if pair.store.startswith("embedded") else pair.store)
    store.execute("ALTER TABLE ledger DELETE WHERE event_id = 'e-1' SETTINGS mutations_sync = 2")
    time = "2026-01-01 00:00:00"
    for number, bundle, ingest in ((0, first["bundle"], "2100-01-01 00:00:00"), (1, other, "2000-01-01 00:00:00")):
        event = accepted(
            f"e-{number}", time, violated=first["violated"], bundle=bundle, ingest_time=ingest, batch=10**6
        )
        insert(store, [event])
    store.close()


def _started(command: str, pair: Pair, environment: dict[str, str], log: IO[str]) -> subprocess.Popen[str]:
    return subprocess.Popen([COMMAND, command], env=environment, cwd=pair.folder, stderr=log, stdout=log, text=True)


def _publishing(pair: Pair) -> subprocess.Popen[str]:
    """Start a publisher that publishes what it is sent."""
    return subprocess.Popen(
        [COMMAND, "publish", "-"], env=pair.environment, cwd=pair.folder, stdin=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _send(publisher: subprocess.Popen[str], numbers: range) -> None:
    assert publisher.stdin is not None
    publisher.stdin.writelines(json.dumps(envelope(MINIMAL, id=f"e-{number}")) + "\n" for number in numbers)
    publisher.stdin.flush()


def _text(pair: Pair) -> str:
    return (pair.folder / "consumer.log").read_text()


def _loads(pair: Pair) -> int:
    """Return how often the consumer read its policies again, with and without success."""
    text = _text(pair)
    return text.count("policies loaded") + text.count("the policies have errors")


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


def test_the_record_says_who_approved_what_judged_an_event(pair: Pair) -> None:
    """SQL leads from an event to the bundle that judged it, and on to who approved its policy, and why.

    An approval of what the policy meant before is kept beside the present one, and told from it.
    """
    house = pair.folder / "house"
    _write_bundle(house, "first")
    mine = Pair(pair.stream, pair.store, pair.folder, policies=str(house))
    approve = ("policy", "approve", "house/first", "house")
    mine.run(*approve, "--by", "C. Officer", "--reason", "Board, 4 May")
    (house / "policies" / "only.yaml").write_text(
        POLICY.format(name="first").replace("severity: low", "severity: high")
    )
    mine.run(*approve, "--by", "D. Puty", "--reason", "more severe")
    _publish(mine, "a")
    mine.consume()
    found = mine.query(
        """SELECT event_id, a.policy_version AS version, approved_by, reason, current, digest
        FROM violations AS v JOIN policy_approvals AS a ON a.bundle = v.bundle AND a.policy_id = v.policy_id
        ORDER BY approved_by"""
    )
    digests = [one.pop("digest") for one in found]
    assert found == [
        {"event_id": "a", "version": 1, "approved_by": "C. Officer", "reason": "Board, 4 May", "current": 0},
        {"event_id": "a", "version": 1, "approved_by": "D. Puty", "reason": "more severe", "current": 1},
    ]
    [kept] = mine.query("SELECT hash FROM bundles")
    assert "- Approved as it is, version 1, by D. Puty" in mine.run("policy", "docs", kept["hash"][:8])
    assert mine.run("policy", "diff", kept["hash"], "house") == ""
    _write_bundle(house, "first")
    changed = json.loads(mine.run("policy", "diff", kept["hash"], "house", code=1))
    assert (changed["part"], changed["old"], changed["new"]) == ("severity", "high", "low")
    mine.run("policy", "diff", "0" * 64, "house", code=2)
    mine.run("policy", "lock", "house")
    assert f'"{digests[0]}"' in (house / "policy.lock").read_text()
    assert digests[0] != digests[1]


def test_what_nobody_approved_is_not_enforced_where_approvals_are_required(pair: Pair) -> None:
    """A consumer refuses to start with such a bundle, and one that runs keeps the bundle that it has."""
    house = pair.folder / "house"
    _write_bundle(house, "first")
    (house / "bundle.yaml").write_text("name: house\nrequire_approvals: true\n")
    mine = Pair(pair.stream, pair.store, pair.folder, policies=str(house))
    _publish(mine, "a")
    mine.consume(code=2)
    mine.run("policy", "approve", "house/first", "house", "--by", "C. Officer", "--reason", "Board")
    mine.consume()
    assert _judged(mine) == {"a": "house/first"}
