"""The command line as people and scripts use it: real processes, both pairs of stream and store."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.conftest import COMMAND, Pair
from usageaudit.dropped import DroppedEvents, encode_dropped
from usageaudit.embedded_log import EmbeddedLog, NewRecord
from usageaudit.events.examples import example_events
from usageaudit.stores.address import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from usageaudit.stores.port import Store

SECONDS = 120


@pytest.fixture
def embedded(tmp_path: Path) -> Pair:
    """Return the embedded pair in a folder of its own."""
    return Pair("embedded:./data", "embedded:./data", tmp_path)


def _event(number: int, **changes: Any) -> dict[str, Any]:
    """Return an event with an id of its own; `changes` replace members of its data."""
    event = example_events()["minimal"]
    event["id"] = f"event-{number}"
    event["data"].update(changes)
    return event


def _lines(*events: dict[str, Any]) -> str:
    return "".join(json.dumps(event) + "\n" for event in events)


@contextmanager
def _running(pair: Pair, *arguments: str, until: str = "recording") -> Iterator[subprocess.Popen[str]]:
    """Run a service until the block ends, from when it has logged a word on."""
    process = subprocess.Popen(
        [COMMAND, *arguments], env=pair.environment, cwd=pair.folder, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if until in line:
                break
        assert until in "".join(lines), lines
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def _opened(pair: Pair) -> Iterator[Store]:
    """Open the store of a pair in this process."""
    url = pair.store.replace("embedded:.", f"embedded:{pair.folder}")
    store = open_store(url)
    try:
        yield store
    finally:
        store.close()


def _stderr(pair: Pair, *arguments: str, code: int) -> str:
    done = subprocess.run(
        [COMMAND, *arguments], env=pair.environment, cwd=pair.folder, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == code, done
    return done.stderr


def test_published_events_can_be_asked_for(pair: Pair) -> None:
    """What is published is counted, rejected records are named, and every partition adds up."""
    pair.run("publish", "-", text=_lines(_event(1), _event(2), _event(1)))
    pair.run("publish", "--raw", "-", text='{"broken": \n')
    counts = json.loads(pair.run("consume", "--until-caught-up", "--format=ndjson"))
    assert counts == {"consumed": 4, "accepted": 2, "duplicates": 1, "rejected": 1}
    assert pair.query("SELECT event_id FROM usage_events ORDER BY event_id") == [
        {"event_id": "event-1"},
        {"event_id": "event-2"},
    ]
    rows = [json.loads(line) for line in pair.run("verify", "--format=ndjson").splitlines()]
    assert sum(row["consumed"] for row in rows) == 4
    assert all(row["consumed"] == row["accepted"] + row["duplicate"] + row["rejected"] for row in rows)
    assert all(row["missing"] == row["behind"] == 0 for row in rows)


def test_rejected_bytes_come_back_as_they_were(pair: Pair) -> None:
    """The bytes of a rejected record are listed, shown without harm to a terminal, and written raw unchanged."""
    payload = b'\x1b[2J{"id": "\xff\x00"'
    process = subprocess.run(
        [COMMAND, "publish", "--raw", "-"], input=payload + b"\n", env=pair.environment, cwd=pair.folder, check=True,
        capture_output=True,
    )  # fmt: skip
    assert process.returncode == 0
    pair.consume()
    (row,) = [json.loads(line) for line in pair.run("rejects", "list", "--format=ndjson").splitlines()]
    assert row["payload_bytes"] == len(payload)
    place = str(row["partition"]), str(row["offset"])
    shown = json.loads(pair.run("rejects", "show", *place, "--format=ndjson"))
    assert shown["payload"] == payload.decode("utf-8", "backslashreplace")
    assert "\x1b" not in pair.run("rejects", "show", *place, "--format=table")
    raw = subprocess.run(
        [COMMAND, "rejects", "show", *place, "--raw"], env=pair.environment, cwd=pair.folder, capture_output=True
    )
    assert raw.stdout == payload
    assert "no rejected record" in _stderr(pair, "rejects", "show", "0", "999999", code=2)


def test_rejected_records_are_replayed(embedded: Pair) -> None:
    """Kept bytes that can be decoded by now are published again, once accepted; others are left, a report is none."""
    log = EmbeddedLog.open(embedded.folder / "data")
    wrong_format = [("content-type", b"application/cloudevents+avro")]
    report = encode_dropped("drops", 0, DroppedEvents("/s", "instance-1", 1, 0, 0))
    records = [json.dumps(_event(1)).encode(), b"no", report]
    log.append(
        "usage-events", [NewRecord(None, records[0], wrong_format), *(NewRecord(None, one) for one in records[1:])]
    )
    log.close()
    embedded.consume()
    assert embedded.query("SELECT count() AS n FROM usage_events") == [{"n": 0}]
    for expected in ({"n": 1, "again": 0}, {"n": 1, "again": 1}):
        replayed = json.loads(embedded.run("rejects", "replay", "--format=ndjson", code=1))
        assert replayed == {"published": 1, "still_rejected": 1}
        embedded.consume()
        sql = "SELECT countIf(status = 'accepted') AS n, countIf(status = 'duplicate') AS again FROM stream_records"
        assert embedded.query(sql) == [expected]


def test_only_rejected_records_of_the_stream_are_replayed(embedded: Pair) -> None:
    """Records of another topic, and those that came before the stream was replaced, are not published to this one."""
    elsewhere = [("content-type", b"application/cloudevents+avro")]
    record = NewRecord(None, json.dumps(_event(1)).encode(), elsewhere)
    data = embedded.folder / "data"
    for topic in ("usage-events", "other"):
        log = EmbeddedLog.open(data)
        log.append(topic, [record])
        log.close()
        embedded.run("consume", "--until-caught-up", "--stream", f"embedded:{data}?topic={topic}")
        command = ("rejects", "replay", "--format=ndjson", "--stream")
        here, there = f"embedded:{data}?topic={topic}", f"embedded:{data}?topic=third"
        assert json.loads(embedded.run(*command, there))["published"] == 0
        assert json.loads(embedded.run(*command, here))["published"] == 1
    for file in data.glob("stream.sqlite3*"):
        file.unlink()
    EmbeddedLog.open(data).close()
    assert json.loads(embedded.run("rejects", "replay", "--format=ndjson"))["published"] == 0
    shown = json.loads(embedded.run("rejects", "show", "0", "0", "--topic", "other", "--format=ndjson"))
    assert (shown["topic"], len(shown["stream"])) == ("other", 36)


def test_a_replayed_record_goes_to_the_partition_of_the_first(embedded: Pair) -> None:
    """The copy has the key that its envelope asks for, so that it meets the other copies of the event."""
    log = EmbeddedLog.open(embedded.folder / "data")
    payload = json.dumps({**_event(1), "partitionkey": "tenant-7"}).encode()
    log.append("usage-events", [NewRecord(b"tenant-7", payload, [("content-type", b"application/cloudevents+avro")])])
    log.close()
    embedded.consume()
    embedded.run("rejects", "replay")
    log = EmbeddedLog.open(embedded.folder / "data")
    keys = [record.key for record in log.read("usage-events", 0, 0, 10, 1 << 20)]
    log.close()
    assert keys == [b"tenant-7", b"tenant-7"]


def test_writes_and_wide_queries_are_refused(pair: Pair) -> None:
    """A statement that writes, one that takes too long and one of too many rows end with 2 and say why."""
    pair.run("migrate")
    assert "error:" in _stderr(pair, "query", "INSERT INTO ledger (topic) VALUES ('x')", code=2)
    assert "error:" in _stderr(pair, "query", "DROP TABLE ledger", code=2)
    assert "limit" in _stderr(pair, "query", "SELECT sleep(3)", "--seconds", "0.5", code=2)
    assert "limit" in _stderr(pair, "query", "SELECT number FROM numbers(100)", "--rows", "10", code=2)
    much = "SELECT length(groupArray(number)) FROM numbers(100000000)"
    assert "limit" in _stderr(pair, "query", much, "--memory", "64MiB", code=2)


def test_parameters_are_bound_and_never_pasted(pair: Pair) -> None:
    """A value may hold anything: it stays a value."""
    pair.run("migrate")
    value = "'; DROP TABLE ledger; -- \\ \n {x:String}"
    assert pair.query("SELECT {v:String} AS v", {"v": value}) == [{"v": value}]


def test_migrations_are_checked_and_applied(pair: Pair) -> None:
    """--check says what is pending, with exit code 1, until it is applied; asking before says what to do."""
    if pair.store.startswith("clickhouse"):
        assert pair.run("migrate", "--check", "--format=ndjson", code=1).splitlines()
        assert "usageaudit migrate" in _stderr(pair, "query", "SELECT count() FROM usage_events", code=2)
    pair.run("migrate")
    assert pair.run("migrate", "--check", "--format=ndjson") == ""


def test_all_sources_of_sql_are_taken(pair: Pair) -> None:
    """SQL may come from standard input, and shipped queries by name with parameters."""
    pair.run("migrate")
    assert pair.run("query", "-", "--format=csv", text="SELECT 1 AS one") == "one\n1\n"
    names = [json.loads(line)["name"] for line in pair.run("query", "--list", "--format=ndjson").splitlines()]
    assert "completeness" in names
    assert pair.run("query", "completeness", "--format=ndjson") == ""
    assert "completeness" in _stderr(pair, "query", "completenes", code=2)
    assert "has no parameter nope" in _stderr(pair, "query", "completeness", "--param", "nope=1", code=2)
    assert "--param actor=" in _stderr(pair, "query", "history-of-actor", code=2)


def test_verify_finds_what_is_missing(embedded: Pair) -> None:
    """What is gone is found as missing, formats for programs agree, and a store without tables says what to do."""
    embedded.run("publish", "-", text=_lines(*(_event(number) for number in range(5))))
    assert "run `usageaudit migrate`" in _stderr(embedded, "verify", "--wait", "0", code=2)
    embedded.run("migrate")
    assert "not_recorded_yet" in _stderr(embedded, "verify", "--wait", "0", code=1)
    embedded.consume()
    (plain,) = map(json.loads, embedded.run("verify").splitlines())
    assert plain == json.loads(embedded.run("verify", "--format=ndjson"))
    assert [plain] == json.loads(embedded.run("verify", "--format=json"))
    assert list(plain) == embedded.run("verify", "--format=csv").splitlines()[0].split(",")
    with _opened(embedded) as store:
        store.execute("ALTER TABLE ledger DELETE WHERE offset = 2 SETTINGS mutations_sync = 2")
    assert "missing_records" in _stderr(embedded, "verify", code=1)
    log = EmbeddedLog.open(embedded.folder / "data")
    log.trim("usage-events", 0, 3)
    log.close()
    assert "no_longer_known" in _stderr(embedded, "verify", code=0)


def test_verify_finds_lost_and_conflicting_events(pair: Pair) -> None:
    """A gap in a publisher's numbers and two different events under one id are said, as rows with --problems."""
    stamps = [{"instance": "boot-1", "sequence": number} for number in (1, 2, 5)]
    same = _event(1, publisher=stamps[0])
    other = {**_event(1, publisher=stamps[1]), "time": "2024-06-01T00:00:00Z"}
    pair.run("publish", "-", text=_lines(same, other, _event(2, publisher=stamps[2])))
    pair.consume()
    found = [json.loads(line) for line in pair.run("verify", "--problems", "--format=ndjson", code=1).splitlines()]
    assert [row["problem"] for row in found] == ["publisher_gap", "conflicting_duplicate"]
    assert "numbered 5 events and 2 of them never arrived" in found[0]["message"]


def test_doctor_before_anything_was_done(embedded: Pair) -> None:
    """Nothing recorded yet is no failure, and looking leaves nothing behind."""
    rows = [json.loads(line) for line in embedded.run("doctor", "--format=ndjson").splitlines()]
    assert {row["status"] for row in rows} <= {"ok", "warn"}
    assert all(row["todo"] for row in rows if row["status"] != "ok")
    assert list(embedded.folder.iterdir()) == []


def test_doctor_finds_all_well(pair: Pair) -> None:
    """After events were recorded every check is fine, but for what one broker alone can't offer."""
    pair.run("publish", "-", text=_lines(_event(1)))
    pair.consume()
    rows = [json.loads(line) for line in pair.run("doctor", "--format=ndjson").splitlines()]
    lonely = {"topic replication", "topic min.insync.replicas", "topic message.timestamp.type"}
    found = {row["check"]: row["status"] for row in rows if row["status"] != "ok" and row["check"] != "disk"}
    assert found == (dict.fromkeys(lonely, "warn") if pair.stream.startswith("kafka:") else {})


def test_doctor_names_what_is_out_of_reach(tmp_path: Path) -> None:
    """Servers that do not answer end with 3, and each says what to do."""
    away = Pair("kafka://127.0.0.1:9", "clickhouse://127.0.0.1:9/x", tmp_path, "no-such-pack")
    rows = [json.loads(line) for line in away.run("doctor", "--format=ndjson", code=3).splitlines()]
    status = {row["check"]: row["status"] for row in rows}
    assert (status["stream"], status["store"], status["policies"]) == ("unreachable", "unreachable", "fail")
    assert "error:" in _stderr(away, "query", "SELECT 1", code=3)


def test_up_answers_other_processes(embedded: Pair) -> None:
    """While `up` holds the data, others publish, query and verify, with the same limits and errors as alone."""
    with _running(embedded, "up") as process:
        sock = embedded.folder / "data" / "usageaudit.sock"
        assert stat.S_IMODE(sock.stat().st_mode) == 0o600
        embedded.run("publish", "-", text=_lines(_event(1), _event(2)))
        embedded.run("verify", "--wait", "30")
        assert embedded.query("SELECT count() AS n, max(event_time) AS t FROM usage_events") == [
            {"n": 2, "t": "2024-05-01T09:30:00.125000Z"}
        ]
        assert embedded.run("query", "completeness", "--format=csv").count("\n") == 2
        assert "error:" in _stderr(embedded, "query", "DROP TABLE ledger", code=2)
        assert "limit" in _stderr(embedded, "query", "SELECT sleep(3)", "--seconds", "0.5", code=2)
        assert "No such column" not in _stderr(embedded, "query", "SELECT nope FROM usage_events", code=2)
        rows = embedded.query("SELECT number, toString(number) AS text FROM numbers(5000)")
        assert rows == [{"number": number, "text": str(number)} for number in range(5000)]
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
        assert not sock.exists()
    assert embedded.query("SELECT count() AS n FROM usage_events") == [{"n": 2}]


def test_second_service_is_refused(embedded: Pair) -> None:
    """Two services on one folder are refused with what to do, and the first goes on."""
    with _running(embedded, "up"):
        for command in ("up", "consume"):
            error = _stderr(embedded, command, code=3)
            assert "another usageaudit service runs on" in error
            assert error.count("\n") == 1
        assert embedded.query("SELECT 1 AS one") == [{"one": 1}]


def test_killed_service_leaves_nothing_in_the_way(embedded: Pair) -> None:
    """After kill -9 the stale socket hinders neither a query nor the next service."""
    with _running(embedded, "up") as process:
        embedded.run("publish", "-", text=_lines(_event(1)))
        embedded.run("verify", "--wait", "30")
        process.kill()
        process.wait(SECONDS)
    assert (embedded.folder / "data" / "usageaudit.sock").is_socket()
    assert embedded.query("SELECT count() AS n FROM usage_events") == [{"n": 1}]
    with _running(embedded, "up"):
        assert embedded.query("SELECT count() AS n FROM usage_events") == [{"n": 1}]
    embedded.run("verify")


def test_consumer_stops_cleanly_on_sigterm(pair: Pair) -> None:
    """SIGTERM ends the consumer with 0, and what it took in is recorded."""
    pair.run("publish", "-", text=_lines(_event(1)))
    with _running(pair, "consume", until="partition taken over") as process:
        pair.run("verify", "--wait", "60")
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    assert pair.query("SELECT count() AS n FROM usage_events") == [{"n": 1}]


def test_up_is_for_embedded_data(tmp_path: Path) -> None:
    """`up` with a server as store says which command to use."""
    pair = Pair("embedded:./data", "clickhouse://127.0.0.1:9/x", tmp_path)
    assert "usageaudit consume" in _stderr(pair, "up", code=2)


def test_broken_policies_stop_the_consumer_before_anything_is_opened(tmp_path: Path) -> None:
    """Policies that can't be loaded end with 2 and leave nothing behind."""
    pair = Pair("embedded:./data", "embedded:./data", tmp_path, "no-such-pack")
    assert "no-such-pack" in _stderr(pair, "consume", "--until-caught-up", code=2)
    assert list(tmp_path.iterdir()) == []


def test_reader_that_leaves_early_is_no_error(embedded: Pair) -> None:
    """Output into a pipe that closes, as with `head`, is quiet."""
    embedded.run("migrate")
    process = subprocess.Popen(
        [COMMAND, "query", "SELECT number FROM numbers(500000)", "--format=ndjson"],
        env=embedded.environment, cwd=embedded.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == '{"number":0}\n'
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == ""
    process.wait(SECONDS)


def test_other_users_are_not_answered(embedded: Pair) -> None:
    """A process of another user can't connect, and is hung up on where somebody opened the socket to all."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    embedded.folder.chmod(0o755)
    code = (
        "import os, socket; os.setgroups([]); os.setgid(65534); os.setuid(65534); "
        "s = socket.socket(socket.AF_UNIX); s.connect('data/usageaudit.sock'); print(s.recv(1))"
    )
    with _running(embedded, "up"):
        (embedded.folder / "data").chmod(0o755)
        done = subprocess.run(["python3", "-c", code], cwd=embedded.folder, capture_output=True, text=True)
        assert "PermissionError" in done.stderr
        (embedded.folder / "data" / "usageaudit.sock").chmod(0o777)
        done = subprocess.run(["python3", "-c", code], cwd=embedded.folder, capture_output=True, text=True)
        assert done.stdout == "b''\n", done
