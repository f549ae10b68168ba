"""Records that are no usage events, among records that are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaProducer

from tests.acceptance.conftest import COMMAND, Pair
from tests.acceptance.hostile import Hostile, corpus
from tests.strategies import MINIMAL, envelope
from tests.unit.events.test_decoding import HOSTILE
from usageaudit.cli.run import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.servers.kafka import Kafka

GOOD = 5
CASES = int(os.environ.get("USAGEAUDIT_TEST_HOSTILE_CASES", "300"))
"""Hostile records; the long form takes 2,000, and shows how much slower they are."""
LONG = CASES >= 2000
NEIGHBOURS = 9 if LONG else 2
"""Good records after each hostile one."""
MEASURED_NEIGHBOURS = 49
"""As many where their cost is measured: one record in fifty is hostile, and of those one in fifty is large."""
MOST_MEMORY = 1024 * 1024 * 1024
_UNSAFE = {"Cc", "Cf", "Cs"}

Place = tuple[int, int]


def _event(number: int) -> bytes:
    return json.dumps(envelope(MINIMAL, id=f"good-{number}")).encode()


def test_hostile_records_become_rejects_and_harm_nobody(pair: Pair) -> None:
    """Each broken record is a row of `rejects` with its reason and path; the events around it are accepted."""
    lines = {name: case for name, case in HOSTILE.items() if case[0] and case[0].strip()}
    raw = b"\n".join(part for value, _, _ in lines.values() for part in (value or b"", _event(0)))
    more = b"\n".join(_event(number) for number in range(GOOD))
    (pair.folder / "records.ndjson").write_bytes(more + b"\n" + raw + b"\n")
    pair.run("publish", "--raw", "records.ndjson")
    pair.consume()

    counts = pair.query("SELECT status, count() AS records FROM stream_records GROUP BY status ORDER BY status")
    assert {row["status"]: row["records"] for row in counts} == {
        "accepted": GOOD,
        "duplicate": len(lines),
        "rejected": len(lines),
    }
    rejects = pair.query("SELECT error, error_path, payload_bytes FROM rejects")
    for name, (value, path, message) in lines.items():
        assert any(
            message in row["error"] and row["error_path"].startswith(path) and row["payload_bytes"] == len(value or b"")
            for row in rejects
        ), name
    shown = pair.run("rejects", "list", "--format=ndjson")
    assert len(shown.splitlines()) == len(lines)
    pair.run("verify")


def _publish(kafka: Kafka, topic: str, records: Iterable[Hostile]) -> dict[Place, Hostile]:
    """Put records on a topic as they are, bombs compressed; return where each of them lies."""
    options = {"bootstrap_servers": kafka.bootstrap, "acks": "all", "linger_ms": 20, "max_request_size": 2**28}
    plain = KafkaProducer(**options)
    packed = KafkaProducer(**options, compression_type="gzip")
    sent = []
    for number, one in enumerate(records):
        producer = packed if one.is_bomb else plain
        headers = list(one.headers)
        sent.append((producer.send(topic, one.value, key=b"%d" % number, headers=headers), one))
    plain.close()
    packed.close()
    found = [(future.get(timeout=60), one) for future, one in sent]
    return {(told.partition, told.offset): one for told, one in found}


def _good(name: str) -> Hostile:
    return Hostile("good", json.dumps(envelope(MINIMAL, id=name, source="//good")).encode(), "accepted")


def _among_good(cases: Iterable[Hostile], neighbours: int) -> list[Hostile]:
    return [
        one
        for number, case in enumerate(cases)
        for one in (case, *(_good(f"g-{number}-{place}") for place in range(neighbours)))
    ]


@dataclass(frozen=True, slots=True)
class _Spent:
    """What a consumer took: seconds of processor time, and the most memory it had, in bytes."""

    seconds: float
    memory: int


def _consume(pair: Pair) -> _Spent:
    """Run the consumer until it has caught up, and watch its memory."""
    process = subprocess.Popen([COMMAND, "consume", "--until-caught-up"], env=pair.environment, cwd=pair.folder)
    most, ended = [0], threading.Event()

    def watch() -> None:
        status = Path(f"/proc/{process.pid}/status")
        while not ended.wait(0.02):
            # Not there on other systems than Linux, nor once the process has ended.
            found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
            most[0] = max(most[0], int(found[1]) * 1024 if found else 0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, code, used = os.wait4(process.pid, 0)
    ended.set()
    watcher.join()
    process.returncode = code
    assert code == 0
    return _Spent(used.ru_utime + used.ru_stime, most[0])


def _pair(kafka: Kafka, topic: str, store: str, folder: Path) -> Pair:
    return Pair(f"{kafka.url}?topic={topic}&group=group-{topic}", store, folder)


@pytest.fixture
def recorded(
    kafka: Kafka, topic: str, clickhouse_database: str, tmp_path: Path
) -> tuple[Pair, dict[Place, Hostile], _Spent]:
    """Return servers that have recorded the corpus, what lies where on the stream, and what that took."""
    pair = _pair(kafka, topic, clickhouse_database, tmp_path)
    placed = _publish(kafka, topic, _among_good(corpus(CASES), NEIGHBOURS))
    return pair, placed, _consume(pair)


def _command(monkeypatch: pytest.MonkeyPatch, pair: Pair, *arguments: str) -> int:
    """Run a command line in this process, which takes a hundredth of the time of another one."""
    with monkeypatch.context() as patch:
        patch.setenv("USAGEAUDIT_STORE", pair.store)
        patch.setenv("USAGEAUDIT_STREAM", pair.stream)
        return run(arguments)


def _unsafe(text: str) -> str:
    """Return the characters that could steer a terminal."""
    return "".join(sorted({one for one in text if unicodedata.category(one) in _UNSAFE and one not in "\n\t"}))


def test_a_corpus_of_hostile_records_harms_nobody(
    recorded: tuple[Pair, dict[Place, Hostile], _Spent],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every record is accounted for as what it is, memory is bounded, and what is printed of it is safe to read."""
    pair, placed, spent = recorded
    sql = "SELECT r.partition AS p, r.offset AS o, r.status AS status, e.error_path AS path, e.error AS error FROM"
    sql += " stream_records AS r LEFT JOIN rejects AS e ON e.partition = r.partition AND e.offset = r.offset"
    rows = {(row["p"], row["o"]): row for row in pair.query(sql)}
    assert rows.keys() == placed.keys()
    for place, one in placed.items():
        row = rows[place]
        assert row["status"] == one.status, (one.kind, row, (one.value or b"")[:400])
        assert row["path"].startswith(one.path), (one.kind, row, (one.value or b"")[:400])
        assert bool(row["error"]) == (one.status == "rejected")
        assert _unsafe(row["error"] + row["path"]) == ""
    for line in pair.run("verify", "--format=ndjson").splitlines():
        found = json.loads(line)
        assert found["consumed"] == found["accepted"] + found["duplicate"] + found["rejected"]
        assert found["consumed"] == sum(partition == found["partition"] for partition, _ in placed)
    assert spent.memory < MOST_MEMORY, f"{spent.memory:,} bytes"

    assert _command(monkeypatch, pair, "rejects", "list", "--limit=10000", "--format=table") == 0
    listed = capsys.readouterr().out
    assert _unsafe(listed) == ""
    assert len(listed.splitlines()) >= sum(one.status == "rejected" for one in placed.values())
    for place in _one_of_each_kind(placed):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        assert _command(monkeypatch, pair, "rejects", "show", *map(str, place)) == 0
        shown = capsys.readouterr().out
        assert _unsafe(shown) == "", placed[place].kind
        assert f"offset: {place[1]}\n" in shown
        assert "no longer kept" not in shown


def _one_of_each_kind(placed: dict[Place, Hostile]) -> Sequence[Place]:
    """Return a rejected record of each kind; all of them in the long form, apart from those that are long."""
    rejected = {place: one for place, one in placed.items() if one.status == "rejected"}
    if LONG:
        return [place for place, one in rejected.items() if len(one.value or b"") < 100_000]
    return list({one.kind: place for place, one in rejected.items()}.values())


@pytest.mark.skipif(not LONG, reason="a measurement: USAGEAUDIT_TEST_HOSTILE_CASES=2000")
def test_hostile_records_cost_less_than_twice_what_good_ones_do(
    kafka: Kafka, topic: str, clickhouse_database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Among good ones, 2,000 hostile records take the consumer less than twice the processor time of good ones alone.

    Processor time, since that is what bounds the rate, and does not depend on what else the machine does.
    """
    group = 0

    def seconds(records: Sequence[Hostile]) -> float:
        nonlocal group
        group += 1
        name = f"{topic}-{group}"
        kafka.create_topic(name, partitions=1)
        _publish(kafka, name, records)
        return _consume(_pair(kafka, name, clickhouse_database, tmp_path)).seconds

    cases = list(corpus(CASES))
    start = seconds([_good("start")])
    mixed = seconds(_among_good(cases, MEASURED_NEIGHBOURS)) - start
    good = seconds([_good(f"n-{number}") for number in range(CASES * (MEASURED_NEIGHBOURS + 1))]) - start
    alone = seconds(cases) - start
    with capsys.disabled():
        sys.stdout.write(
            f"\n{CASES:,} hostile records among {CASES * MEASURED_NEIGHBOURS:,} good ones: "
            f"{mixed:.2f} s of processor time, as many good ones {good:.2f} s, the hostile ones alone "
            f"{alone:.2f} s: the rate falls to {good / mixed:.0%}\n"
        )
    assert mixed < 2 * good
