"""The publisher with a spool and no broker: what is on disk when, whose it is, and what happens when it can't be."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.leftovers import leftovers_collected
from tests.strategies import MINIMAL
from usageaudit.errors import ConfigurationError, NotAcknowledged, QueueFull
from usageaudit.publisher import Publisher
from usageaudit.publisher.spool.folder import chosen_folder, default_folder, statuses, stream_name
from usageaudit.stream_url import parse_stream_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOWHERE = "kafka://127.0.0.1:1"
MIB = 1024 * 1024
PREAMBLE = """
import logging, multiprocessing, os, resource, signal, sys, threading, time
from usageaudit.publisher import Publisher
logging.getLogger("kafka").setLevel("CRITICAL")
logging.getLogger("usageaudit").setLevel("ERROR")
EVENT = {"operation": "chat", "model": {"provider": "openai", "name": "gpt-4o"}, "actor": {"id": "u"},
         "application": {"name": "claims"}}
def new(**options): return Publisher("kafka://127.0.0.1:1", source="/s", spool=sys.argv[1], **options)
"""

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture(autouse=True)
def _leftovers() -> Iterator[None]:
    with leftovers_collected():
        yield


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Return the folder of spools."""
    return tmp_path / "spool"


@pytest.fixture
def new(spool: Path) -> Iterator[Callable[..., Publisher]]:
    """Yield a function that makes publishers, which are closed after the test without waiting for a broker."""
    made: list[Publisher] = []

    def make(**options: Any) -> Publisher:
        made.append(Publisher(NOWHERE, **{"source": "/s", "spool": spool, **options}))
        return made[-1]

    yield make
    for publisher in made:
        publisher.close(0)


def _ids(spool: Path) -> list[str]:
    """Return the ids of the events in all spools of a folder, as SQLite and JSON have them."""
    found: list[str] = []
    for path in sorted(spool.glob("*.sqlite3")):
        connection = sqlite3.connect(path)
        rows = connection.execute("SELECT value FROM records ORDER BY number").fetchall()
        connection.close()
        events = [orjson.loads(value) for (value,) in rows]
        found += [event["id"] for event in events if event["type"] == "io.usageaudit.model_usage.v1"]
    return found


def _start(script: str, spool: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PREAMBLE + script, str(spool)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _run(script: str, spool: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PREAMBLE + script, str(spool)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_durable_event_is_on_disk(new: Callable[..., Publisher], spool: Path) -> None:
    """When a durable emit returns without a broker, the event is in the file, with all that was emitted before it."""
    publisher = new(linger=3_600)
    before = [publisher.emit(MINIMAL) for _ in range(50)]
    event_id = publisher.emit(MINIMAL, durable=True)
    assert _ids(spool) == [*before, event_id]
    stats = publisher.stats
    assert (stats.emitted, stats.acknowledged, stats.queued, stats.spooled) == (51, 0, 51, 51)
    assert stats.spool_bytes > 51 * 200
    assert stats.oldest_spooled_seconds is not None
    assert spool.stat().st_mode & 0o777 == 0o700


def test_coroutines_wait_side_by_side(new: Callable[..., Publisher], spool: Path) -> None:
    """Durable events of many coroutines are on disk when theirs return, in few commits."""
    publisher = new()

    async def use() -> list[str | None]:
        return list(await asyncio.gather(*(publisher.aemit(MINIMAL, durable=True) for _ in range(200))))

    ids = asyncio.run(use())
    assert sorted(_ids(spool)) == sorted(str(one) for one in ids)


def test_which_folder_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parameter goes before the variable, which goes before the user's folder; None and empty are none."""
    kafka, embedded = parse_stream_url(NOWHERE), parse_stream_url("embedded:x")
    monkeypatch.delenv("USAGEAUDIT_SPOOL", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert chosen_folder("auto", kafka) == default_folder() == tmp_path / "state/usageaudit/spool"
    assert default_folder().stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("USAGEAUDIT_SPOOL", str(tmp_path / "named"))
    assert chosen_folder("auto", kafka) == tmp_path / "named"
    assert chosen_folder(tmp_path / "said", kafka) == tmp_path / "said"
    assert chosen_folder("auto", embedded) is chosen_folder(tmp_path / "said", embedded) is None
    assert chosen_folder(None, kafka) is chosen_folder("", kafka) is None
    monkeypatch.setenv("USAGEAUDIT_SPOOL", "")
    assert chosen_folder("auto", kafka) is None


def test_a_folder_that_can_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder that was named and can't be made is an error at once; the default one is done without, and said."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"the folder can't be made: .*; name another one with spool= or"):
        Publisher(NOWHERE, source="/s", spool=tmp_path / "file" / "spool")
    monkeypatch.delenv("USAGEAUDIT_SPOOL", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert chosen_folder("auto", parse_stream_url(NOWHERE)) is None
    assert "no spool: events wait in memory alone" in caplog.text


def test_a_folder_that_others_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder into which others may put files is an error where it was named, and done without as the default."""
    folder = tmp_path / "usageaudit" / "spool"
    folder.mkdir(parents=True)
    monkeypatch.delenv("USAGEAUDIT_SPOOL", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    kafka = parse_stream_url(NOWHERE)
    for mode in (0o777, 0o1777, 0o770):
        folder.chmod(mode)
        with pytest.raises(ConfigurationError, match="others may write the folder"):
            chosen_folder(folder, kafka)
        assert chosen_folder("auto", kafka) is None
    folder.chmod(0o755)
    assert chosen_folder(folder, kafka) == chosen_folder("auto", kafka) == folder
    assert len([line for line in caplog.messages if line.startswith("no spool")]) == 3


def test_a_user_without_a_home(spool: Path) -> None:
    """A process whose user has no home does without the default folder, and is told so where it names one."""
    script = """
import pathlib
def homeless(self): raise RuntimeError("Could not determine home directory.")
pathlib.Path.expanduser = homeless
for name in ("XDG_STATE_HOME", "USAGEAUDIT_SPOOL"): os.environ.pop(name, None)
from usageaudit.errors import ConfigurationError
logging.getLogger("usageaudit").setLevel("WARNING")
Publisher("kafka://127.0.0.1:1", source="/s").close(0)
try:
    Publisher("kafka://127.0.0.1:1", source="/s", spool="~/spool")
except ConfigurationError as error:
    print(error)
"""
    done = _run(script, spool)
    assert done.returncode == 0, done.stderr
    assert "no spool: events wait in memory alone" in done.stderr
    assert "spool ~/spool: the home folder of this user is not known; name another one" in done.stdout


def test_a_writer_that_died_is_replaced(spool: Path) -> None:
    """After an error that nobody expected ended a thread, the next event starts another, and the spool takes it."""
    script = """
publisher = new()
publisher.emit(EVENT, id="one", durable=True)
from usageaudit.publisher.spool.source import SpoolSource
good = SpoolSource.append
def bad(self, records): raise KeyError("nobody expects this")
threading.excepthook = lambda arguments: None
SpoolSource.append = bad
publisher.emit(EVENT, id="two")
deadline = time.monotonic() + 30
while publisher._records._shipping.alive and time.monotonic() < deadline: time.sleep(0.01)
SpoolSource.append = good
publisher.emit(EVENT, id="three", durable=True, timeout=30)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = _run(script, spool)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert sorted(_ids(spool)) == ["one", "three", "two"]


def test_a_worker_reports_its_last_drops(spool: Path) -> None:
    """A process of multiprocessing that dropped events and returns has reported so, as other processes have."""
    script = """
def work():
    publisher = new(max_queued=2, linger=0.5, timeout=0)
    for n in range(50): publisher.emit(EVENT)
    print(publisher.stats.dropped, flush=True)
    publisher.flush(1)
    work.kept = publisher
worker = multiprocessing.get_context("fork").Process(target=work)
worker.start()
worker.join()
"""
    done = _run(script, spool)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
    (path,) = spool.glob("*.sqlite3")
    connection = sqlite3.connect(path)
    values = [orjson.loads(value) for (value,) in connection.execute("SELECT value FROM records")]
    connection.close()
    reported = [one["data"]["dropped"] for one in values if one["type"] == "io.usageaudit.events_dropped.v1"]
    assert sum(reported) == int(done.stdout)


def test_a_spool_knows_no_secret(spool: Path) -> None:
    """What a spool remembers of its stream are brokers and topic; the password is nowhere in its folder."""
    url = "kafka://audit:s3cret@b:1,a:2?security=SASL_PLAINTEXT&sasl_mechanism=PLAIN&topic=t"
    assert stream_name(parse_stream_url(url)) == "kafka://a:2,b:1?topic=t"
    publisher = Publisher(url, source="/s", spool=spool)
    publisher.emit(MINIMAL, durable=True)
    assert all(b"s3cret" not in path.read_bytes() for path in spool.iterdir())
    publisher.close(0)


def test_a_full_spool(new: Callable[..., Publisher], spool: Path) -> None:
    """A spool at its limit fills the queue, then on_full decides; a durable emit says why; the disk takes no more."""
    publisher = new(max_spool_bytes=4 * MIB, max_queued=100, timeout=0.5)
    event = {**MINIMAL, "labels": {"padding": "x" * 8_000}}
    ids: list[str | None] = []
    for _ in range(3_000):
        ids.append(publisher.emit(event))
        if publisher.stats.dropped:
            break
        time.sleep(0.0005)
    assert publisher.stats.dropped
    with pytest.raises((QueueFull, NotAcknowledged), match=r"it is full with .* events, as max_spool_bytes has it"):
        publisher.emit(event, durable=True)
    assert sum(path.stat().st_size for path in spool.iterdir()) <= 4 * MIB
    kept = [one for one in ids if one is not None]
    assert 0 < len(kept) - len(_ids(spool)) <= 100


def test_a_disk_that_is_full_and_has_room_again(spool: Path) -> None:
    """Where the disk takes no more, durable emits say so, what they had confirmed stays, and it goes on by itself."""
    script = """
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, resource.RLIM_INFINITY))
publisher = new(timeout=0.5, max_queued=20)
event = {**EVENT, "labels": {"padding": "x" * 8_000}}
confirmed = []
try:
    while len(confirmed) < 3_000: confirmed.append(publisher.emit(event, durable=True))
except Exception as error:
    print(type(error).__name__, error)
publisher.emit(event)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
publisher.emit(event, id="again", durable=True, timeout=30)
print(len(confirmed))
for one in confirmed: print(one)
sys.stdout.flush()
os._exit(0)
"""
    done = _run(script, spool)
    said, count, *confirmed = done.stdout.splitlines()
    assert said.startswith("NotAcknowledged"), done.stderr
    assert "the disk refused to read or write: look at its health, free space and size limits" in said
    assert int(count) == len(confirmed) > 50
    found = _ids(spool)
    assert set(confirmed) <= set(found)
    assert "again" in found


def test_a_kill_leaves_what_was_confirmed(spool: Path) -> None:
    """After kill -9 every durable event that returned is on disk, and what was queued longer ago than the linger."""
    script = """
publisher = new()
ids = [publisher.emit(EVENT) for _ in range(100)]
time.sleep(1)
print(*ids, sep="\\n", flush=True)
while True: print(publisher.emit(EVENT, durable=True), flush=True)
"""
    with _start(script, spool) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        said = [child.stdout.readline().strip() for _ in range(130)]
        (status,) = statuses(spool)
        assert (status.owner_alive, status.owner_pid) == (True, str(child.pid))
        child.send_signal(signal.SIGKILL)
        said += child.stdout.read().split("\n")[:-1]
    (status,) = statuses(spool)
    assert not status.owner_alive
    assert set(said) <= set(_ids(spool))


@pytest.mark.parametrize("ending", ["", "sys.exit(3)", "raise ValueError"])
def test_a_script_that_ends_at_once(spool: Path, ending: str) -> None:
    """However the interpreter ends, what was emitted is on disk, and a broker that is away is hardly waited for."""
    _run(f"publisher = new()\nfor n in range(2_000): publisher.emit(EVENT, id=str(n))\n{ending}", spool)
    assert _ids(spool) == [str(n) for n in range(2_000)]


def test_a_signal_that_nobody_handles(spool: Path) -> None:
    """SIGTERM ends the process as without a publisher, a handler of the host runs as ever, and neither loses more."""
    script = """
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
if {handled}: signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
publisher = new()
publisher.emit(EVENT, id="durable{handled}", durable=True)
for n in range(50): publisher.emit(EVENT, id=f"{handled}-{{n}}")
if not {handled}: time.sleep(1)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(60)
"""
    assert _run(script.format(handled=0), spool).returncode == -signal.SIGTERM
    assert _run(script.format(handled=1), spool).returncode == 7
    assert sorted(_ids(spool)) == sorted([f"{one}-{n}" for one in "01" for n in range(50)] + ["durable0", "durable1"])


def test_children_have_spools_of_their_own(spool: Path) -> None:
    """A forked child writes a spool of its own and keeps no hold on its parent's, which it may outlive."""
    script = """
publisher = new()
publisher.emit(EVENT, id="parent", durable=True)
if os.fork() == 0:
    assert publisher.stats.spooled == 0
    publisher.emit(EVENT, id="child", durable=True)
    assert publisher.stats.spooled == 1
    os.write(1, b"%d\\n" % os.getpid())  # in one piece: `print` may write a line and its end apart
    time.sleep(60)
    os._exit(0)
publisher.emit(EVENT, id="after", durable=True)
os.write(1, b"parent\\n")
time.sleep(60)
"""
    with _start(script, spool) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        lines = {parent.stdout.readline().strip() for _ in range(2)}
        child = int((lines - {"parent"}).pop())
        try:
            assert sorted((one.owner_alive, one.events) for one in statuses(spool)) == [(True, 1), (True, 2)]
            parent.send_signal(signal.SIGKILL)
            parent.wait()
            assert sorted((one.owner_alive, one.owner_pid, one.events) for one in statuses(spool)) == [
                (False, str(parent.pid), 2),
                (True, str(child), 1),
            ]
        finally:
            os.kill(child, signal.SIGKILL)
    assert sorted(_ids(spool)) == ["after", "child", "parent"]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing(tmp_path: Path, spool: Path, method: str) -> None:
    """Workers of multiprocessing that just return have all that they emitted on disk, however they were started."""
    program = tmp_path / "program.py"
    program.write_text(
        PREAMBLE
        + f"""
publisher = None
def work(name):
    global publisher
    publisher = publisher or new(timeout=1)
    for n in range(20): publisher.emit(EVENT, id=f"{{name}}-{{n}}")
if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    if {method!r} == "fork":
        publisher = new(timeout=1)
        publisher.emit(EVENT, id="parent", durable=True)
    workers = [context.Process(target=work, args=(name,)) for name in "abc"]
    for worker in workers: worker.start()
    for worker in workers: worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
"""
    )
    command = [sys.executable, str(program), str(spool)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    expected = [f"{name}-{n}" for name in "abc" for n in range(20)] + (["parent"] if method == "fork" else [])
    assert sorted(_ids(spool)) == sorted(expected)


def test_forking_in_the_midst_of_it(spool: Path) -> None:
    """Forks at any moment, while threads emit and the spool is written, hang nothing and lose and double nothing."""
    script = """
publisher = new(timeout=0.2)
def emit(name, count):
    for n in range(count): publisher.emit(EVENT, id=f"{name}-{n}")
threads = [threading.Thread(target=emit, args=(f"t{n}", 1_000)) for n in range(2)]
for thread in threads: thread.start()
children = []
for n in range(6):
    child = os.fork()
    if child == 0:
        emit(f"c{n}", 50)
        publisher.close(0)
        os._exit(0)
    children.append(child)
for thread in threads: thread.join()
publisher.close(0)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
"""
    done = _run(script, spool)
    assert done.returncode == 0, done.stderr
    expected = [f"t{n}-{m}" for n in range(2) for m in range(1_000)] + [
        f"c{n}-{m}" for n in range(6) for m in range(50)
    ]
    assert sorted(_ids(spool)) == sorted(expected)


def test_memory_stays_as_it_is_while_the_broker_is_away(spool: Path) -> None:
    """Many events without a broker are on disk, and the process is hardly larger than before."""
    script = """
def resident():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
publisher = new(on_full="block", timeout=60)
event = {**EVENT, "labels": {"padding": "x" * 500}}
for _ in range(2_000): publisher.emit(event)
before = resident()
for _ in range(40_000): publisher.emit(event)
publisher.emit(event, durable=True, timeout=60)
print(resident() - before, publisher.stats.spooled, publisher.stats.dropped, flush=True)
os._exit(0)
"""
    done = _run(script, spool)
    grown, spooled, dropped = map(int, done.stdout.split())
    assert (spooled, dropped) == (42_001, 0)
    assert grown < 24 * MIB


def test_limits_are_checked(spool: Path) -> None:
    """A spool that could hold next to nothing is refused when the publisher is made."""
    with pytest.raises(ConfigurationError, match="max_spool_bytes must be 4,194,304 or more"):
        Publisher(NOWHERE, source="/s", spool=spool, max_spool_bytes=1_000_000)
