"""The publisher's spool with a real broker and real processes: kills, adoption, draining, forks, workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.leftovers import leftovers_collected
from tests.strategies import MINIMAL
from tests.topics import stored
from usageaudit.errors import NotAcknowledged
from usageaudit.publisher import Publisher
from usageaudit.publisher.spool.folder import statuses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.kafka import Kafka

# kafka-python leaves the sockets on which it was refused to the garbage collector, which may come at any time.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

PREAMBLE = """
import asyncio, multiprocessing, os, signal, sys, threading, time
from usageaudit.publisher import Publisher
EVENT = {"operation": "chat", "model": {"provider": "openai", "name": "gpt-4o"}, "actor": {"id": "u"},
         "application": {"name": "claims"}}
publisher = Publisher(sys.argv[1], source="/s", max_queued=100_000, spool=sys.argv[2])
"""
USAGEAUDIT = [str(Path(sys.executable).with_name("usageaudit"))]


@pytest.fixture(autouse=True)
def _leftovers() -> Iterator[None]:
    with leftovers_collected():
        yield


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Return the folder of spools."""
    return tmp_path / "spool"


def _url(kafka: Kafka, topic: str) -> str:
    return f"{kafka.url}?topic={topic}"


def _ids(kafka: Kafka, topic: str) -> list[str]:
    """Return the ids of the events in a topic, parsed as plain JSON."""
    return [orjson.loads(record.value)["id"] for record in stored(kafka, topic)]


def _command(script: str, url: str, spool: Path) -> list[str]:
    return [sys.executable, "-c", PREAMBLE + script, url, str(spool)]


def _run(script: str, url: str, spool: Path) -> None:
    done = subprocess.run(_command(script, url, spool), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def _drain(url: str, spool: Path) -> dict[str, int]:
    """Ship what is left as a person does, and return what the command says."""
    command = [*USAGEAUDIT, "spool", "drain", "--stream", url, "--spool", str(spool), "--format", "ndjson"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = orjson.loads(done.stdout)
    return found


def _killed(script: str, url: str, spool: Path, lines: int) -> list[str]:
    """Run a script that prints ids, kill it after so many lines, and return all that it printed."""
    with subprocess.Popen(_command(script, url, spool), stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = [child.stdout.readline().strip() for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        return said + child.stdout.read().split("\n")[:-1]


DURABLE = """
def plainly():
    while True:
        publisher.emit(EVENT)
        time.sleep(0.0005)
threading.Thread(target=plainly, daemon=True).start()
while True:
    print(publisher.emit(EVENT, durable=True), flush=True)
"""


def test_what_a_durable_emit_returned_outlives_kills(kafka: Kafka, topic: str, spool: Path) -> None:
    """Every event whose durable emit returned before one of many kills is on the stream, whoever shipped it."""
    said: list[str] = []
    for lines in (1, 20, 60, 150):
        said += _killed(DURABLE, _url(kafka, topic), spool, lines)
    _drain(_url(kafka, topic), spool)
    assert set(said) <= set(_ids(kafka, topic))
    assert list(spool.iterdir()) == []


def test_without_a_spool_the_same_kill_loses(kafka: Kafka, topic: str, spool: Path) -> None:
    """Negative control: events that were only queued in memory are gone with the process, those spooled are not."""
    script = """
publisher = Publisher(sys.argv[1], source="/s", spool={spool}, linger=0.05)
for n in range(300): print(publisher.emit(EVENT), flush=True)
time.sleep(2)
print("rested", flush=True)
time.sleep(600)
"""
    away = "kafka://127.0.0.1:1?topic=" + topic
    lost = _killed(script.format(spool=None), away, spool, 301)[:300]
    kept = _killed(script.format(spool="sys.argv[2]"), away, spool, 301)[:300]
    left = [*USAGEAUDIT, "spool", "drain", "--stream", _url(kafka, topic), "--spool", str(spool), "--any"]
    subprocess.run(left, capture_output=True, timeout=120, check=True)
    found = set(_ids(kafka, topic))
    assert set(kept) <= found
    assert not set(lost) & found


def test_a_broker_that_is_away_and_comes_back(start_kafka: Callable[..., Kafka], spool: Path) -> None:
    """Durable emits return while the broker is away, and everything arrives once when it is back."""
    kafka = start_kafka()
    kafka.create_topic("t", partitions=2)
    with Publisher(_url(kafka, "t"), source="/s", spool=spool) as publisher:
        ids = [publisher.emit(MINIMAL, durable=True)]
        assert publisher.flush(30) == 0
        kafka.kill()
        ids += [publisher.emit(MINIMAL) for _ in range(3_000)]
        ids += [publisher.emit(MINIMAL, durable=True)]
        stats = publisher.stats
        assert (stats.spooled, stats.queued, stats.dropped) == (3_001, 3_001, 0)
        assert stats.spool_bytes > 0
        assert stats.oldest_spooled_seconds is not None
        kafka.start()
        assert publisher.flush(60) == 0
        assert publisher.stats.spooled == 0
    assert sorted(_ids(kafka, "t")) == sorted(str(one) for one in ids)
    assert list(spool.iterdir()) == []


def test_a_publisher_adopts_what_a_dead_one_left(start_kafka: Callable[..., Kafka], spool: Path) -> None:
    """A publisher ships the spool of a process that was killed, and leaves that of a living one alone."""
    kafka = start_kafka()
    kafka.create_topic("t")
    kafka.kill()
    script = "print(publisher.emit(EVENT, durable=True), flush=True)\ntime.sleep(600)"
    with subprocess.Popen(_command(script, _url(kafka, "t"), spool), stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        ids = [owner.stdout.readline().strip()]
        (status,) = statuses(spool)
        assert (status.owner_alive, status.owner_pid, status.events) == (True, str(owner.pid), 1)
        with Publisher(_url(kafka, "t"), source="/s", spool=spool) as publisher:
            ids.append(str(publisher.emit(MINIMAL, durable=True)))
            assert publisher.stats.spooled == 1
        owner.kill()
    assert [(one.owner_alive, one.events) for one in statuses(spool)] == [(False, 1)] * 2
    kafka.start()
    with Publisher(_url(kafka, "t"), source="/s", spool=spool) as publisher:
        ids.append(str(publisher.emit(MINIMAL, durable=True)))
        _wait_for(lambda: publisher.stats.spooled == 0)
    assert sorted(_ids(kafka, "t")) == sorted(ids)
    assert list(spool.iterdir()) == []


def _wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder on a file system of its own, of 6 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _emit_often(publisher: Publisher, event: dict[str, Any], ids: list[str | None]) -> None:
    ids.extend(publisher.emit(event, durable=True) for _ in range(5_000))


def test_a_disk_that_the_spool_itself_filled(start_kafka: Callable[..., Kafka], small_disk: Path) -> None:
    """A full disk is said, loses nothing that was confirmed, and is emptied by shipping, without anybody's help."""
    kafka = start_kafka()
    kafka.create_topic("t")
    kafka.kill()
    event = {**MINIMAL, "labels": {"padding": "x" * 4_000}}
    publisher = Publisher(_url(kafka, "t"), source="/s", spool=small_disk / "spool", timeout=1, max_queued=50)
    ids: list[str | None] = []
    with pytest.raises(NotAcknowledged, match="the disk is full: free some space"):
        _emit_often(publisher, event, ids)
    assert len(ids) > 100
    kafka.start()
    ids.append(publisher.emit(event, durable=True, timeout=60))
    assert publisher.flush(60) == 0
    assert publisher.stats.dropped == 0
    ids += [publisher.emit(event, durable=True, timeout=60) for _ in range(20)]
    assert publisher.close(60) == 0
    assert set(ids) <= set(_ids(kafka, "t"))
    assert list((small_disk / "spool").iterdir()) == []


def test_draining(kafka: Kafka, topic: str, spool: Path) -> None:
    """`spool drain` ships what is left, refuses another stream unless told, and says what it did."""
    ids = _killed(DURABLE, f"kafka://127.0.0.1:1?topic={topic}", spool, 40)
    command = [*USAGEAUDIT, "spool", "drain", "--stream", _url(kafka, topic), "--spool", str(spool)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert refused.returncode == 1
    assert f"it is of another stream, kafka://127.0.0.1:1?topic={topic}" in refused.stderr
    assert _ids(kafka, topic) == []
    told = subprocess.run([*command, "--any"], capture_output=True, text=True, timeout=120, check=False)
    assert told.returncode == 0, told.stderr
    assert orjson.loads(told.stdout)["shipped"] >= 40
    assert set(ids) <= set(_ids(kafka, topic))


def test_draining_without_a_broker(spool: Path) -> None:
    """`spool drain` gives up in time where no broker answers, says why, and keeps every event."""
    url = "kafka://127.0.0.1:1"
    _killed(DURABLE, url, spool, 10)
    command = [*USAGEAUDIT, "spool", "drain", "--stream", url, "--spool", str(spool), "--timeout", "1"]
    before = sum(one.events for one in statuses(spool))
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 3
    assert "events were not acknowledged and stay in the spool" in done.stderr
    assert sum(one.events for one in statuses(spool)) == before >= 10


def test_an_event_that_the_broker_refuses_is_kept(kafka: Kafka, spool: Path) -> None:
    """What the broker turns down for good stays in the spool, holds up nothing, and is shipped once it may be."""
    name = f"small-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(name, configs={"max.message.bytes": "4000"})
    large = {**MINIMAL, "labels": {str(n): os.urandom(400).hex() for n in range(20)}}
    with Publisher(_url(kafka, name), source="/s", spool=spool) as publisher:
        ids = [publisher.emit(MINIMAL), publisher.emit(large, durable=True), publisher.emit(MINIMAL, durable=True)]
        publisher.flush(60)
        assert (publisher.stats.acknowledged, publisher.stats.failed) == (2, 1)
    assert sorted(_ids(kafka, name)) == sorted([str(ids[0]), str(ids[2])])
    (status,) = statuses(spool)
    assert (status.events, status.refused) == (0, 1)


def test_a_short_script_loses_nothing(kafka: Kafka, topic: str, spool: Path) -> None:
    """A script that ends at once has its events on the stream, or in the spool where the broker is away."""
    _run("for n in range(500): publisher.emit(EVENT, id=f'there-{n}')", _url(kafka, topic), spool)
    assert sorted(_ids(kafka, topic)) == sorted(f"there-{n}" for n in range(500))
    _run("for n in range(500): publisher.emit(EVENT)", "kafka://127.0.0.1:1", spool)
    assert sum(one.events for one in statuses(spool)) == 500


FORKS = """
def emit(name, count):
    for n in range(count): publisher.emit(EVENT, id=f"{name}-{n}")
    publisher.emit(EVENT, id=f"{name}-last", durable=True, timeout=60)
emit("parent", 20)
"""


@pytest.mark.parametrize(
    "workers",
    [
        """
children = []
for number in range(4):
    child = os.fork()
    if child == 0:
        emit(f"worker{number}", 50)
        sys.exit(0)
    children.append(child)
emit("later", 50)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
""",
        """
def work(number): emit(f"worker{number}", 50)
context = multiprocessing.get_context("fork")
children = [context.Process(target=work, args=(number,)) for number in range(4)]
for child in children: child.start()
emit("later", 50)
for child in children: child.join()
assert [child.exitcode for child in children] == [0] * 4
""",
    ],
    ids=["os.fork", "multiprocessing"],
)
def test_workers_that_are_forked(kafka: Kafka, topic: str, spool: Path, workers: str) -> None:
    """Forked workers have spools of their own: all that parent and children emitted arrives, each event once."""
    _run(FORKS + workers, _url(kafka, topic), spool)
    names = ["parent", "later", *(f"worker{number}" for number in range(4))]
    expected = [f"{name}-{n}" for name in names for n in (*range(20 if name == "parent" else 50), "last")]
    _drain(_url(kafka, topic), spool)  # a process waits for the broker for some seconds at its end, not for ever
    assert sorted(_ids(kafka, topic)) == sorted(expected)
    assert not [one for one in statuses(spool) if one.events]
