"""The embedded stream's file: appended to by processes and threads at once, killed, damaged, forked."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from usageaudit.embedded_log import FILE_NAME, EmbeddedLog, NewRecord, StoredRecord
from usageaudit.errors import ConfigurationError, StreamUnavailable
from usageaudit.partitioning import partition_of

if TYPE_CHECKING:
    from collections.abc import Iterator


TOPIC = "usage-events"
ALL = {"limit": 1_000_000, "max_bytes": 1 << 40}
headers = st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.none() | st.binary()), max_size=3)
records = st.builds(
    NewRecord, st.none() | st.binary(max_size=40), st.none() | st.binary(max_size=200), headers, st.integers(0, 2**53)
)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EmbeddedLog]:
    """Yield the log of a new folder."""
    opened = EmbeddedLog.open(tmp_path)
    yield opened
    opened.close()


def _values(log: EmbeddedLog, partition: int = 0, topic: str = TOPIC) -> list[bytes | None]:
    return [record.value for record in log.read(topic, partition, 0, **ALL)]


def _append_some(log: EmbeddedLog, count: int, name: str = "") -> None:
    for number in range(count):
        log.append(TOPIC, [NewRecord(None, f"{name}{number}".encode())])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(st.lists(st.lists(records, max_size=8), max_size=4), st.integers(1, 5))
def test_what_is_appended_is_what_is_read(log: EmbeddedLog, groups: list[list[NewRecord]], partitions: int) -> None:
    """Records come back whole, in order, at the partition and offset that append said, as Kafka would place them."""
    topic = f"t{os.urandom(8).hex()}"
    log.create_topic(topic, partitions)
    expected: dict[int, list[StoredRecord]] = defaultdict(list)
    for group in groups:
        placed = log.append(topic, group)
        assert len(placed) == len(group)
        for (partition, offset), record in zip(placed, group, strict=True):
            if record.key is not None:
                assert partition == partition_of(record.key, partitions)
            assert record.timestamp is not None
            stored = StoredRecord(offset, record.timestamp, record.key, record.value, list(record.headers))
            expected[partition].append(stored)
    for partition in range(partitions):
        assert log.read(topic, partition, 0, **ALL) == expected[partition]
        assert [record.offset for record in expected[partition]] == list(range(log.end(topic, partition)))


@given(st.integers(0, 60), st.integers(0, 70), st.integers(1, 70), st.integers(1, 3_000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_reads_are_bounded(log: EmbeddedLog, count: int, offset: int, limit: int, max_bytes: int) -> None:
    """A read starts at its offset, keeps to its limit, and ends with the record that reaches its bytes."""
    topic = f"t{os.urandom(8).hex()}"
    log.append(topic, [NewRecord(b"k", b"v" * 99) for _ in range(count)])
    found = log.read(topic, 0, offset, limit, max_bytes)
    enough = min(max(count - offset, 0), limit, -(-max_bytes // 100))
    assert [record.offset for record in found] == list(range(offset, offset + enough))


def test_a_time_is_given_to_records_without(log: EmbeddedLog) -> None:
    """A record without a timestamp gets the time of the append, in milliseconds."""
    log.append(TOPIC, [NewRecord(None, b"x", timestamp=1), NewRecord(None, b"y")])
    first, second = log.read(TOPIC, 0, 0, **ALL)
    assert first.timestamp == 1
    assert second.timestamp > 1_700_000_000_000


def test_topics_and_partitions(log: EmbeddedLog) -> None:
    """A topic has the partitions that it was created with, never fewer later; an unknown one has none."""
    assert log.partitions(TOPIC) == []
    assert (log.begin(TOPIC, 0), log.end(TOPIC, 0), log.read(TOPIC, 0, 0, **ALL)) == (0, 0, [])
    log.create_topic(TOPIC, 3)
    log.create_topic(TOPIC, 2)
    assert log.partitions(TOPIC) == [0, 1, 2]
    log.create_topic(TOPIC, 4)
    assert log.partitions(TOPIC) == [0, 1, 2, 3]
    log.append("other", [NewRecord(b"k", b"v")])
    assert log.partitions("other") == [0]


def test_unkeyed_records_spread(log: EmbeddedLog) -> None:
    """Records without a key reach every partition in time, those of one append the same."""
    log.create_topic(TOPIC, 3)
    seen = set()
    for _ in range(200):
        placed = log.append(TOPIC, [NewRecord(None, b"x")] * 2)
        assert placed[0][0] == placed[1][0]
        seen.add(placed[0][0])
    assert seen == {0, 1, 2}


def test_trimming(log: EmbeddedLog) -> None:
    """Trimming moves the beginning and never the end, even when everything goes; offsets go on from there."""
    _append_some(log, 10)
    log.trim(TOPIC, 0, 4)
    assert (log.begin(TOPIC, 0), log.end(TOPIC, 0)) == (4, 10)
    assert [record.offset for record in log.read(TOPIC, 0, 0, **ALL)] == [4, 5, 6, 7, 8, 9]
    log.trim(TOPIC, 0, 3)
    assert log.begin(TOPIC, 0) == 4
    log.trim(TOPIC, 0, 1_000)
    assert (log.begin(TOPIC, 0), log.end(TOPIC, 0)) == (10, 10)
    assert log.append(TOPIC, [NewRecord(None, b"next")]) == [(0, 10)]


def test_trimming_a_lot(log: EmbeddedLog) -> None:
    """More records than one transaction trims are trimmed all the same."""
    log.append(TOPIC, [NewRecord(None, b"x")] * 25_000)
    log.trim(TOPIC, 0, 24_999)
    assert [record.offset for record in log.read(TOPIC, 0, 0, **ALL)] == [24_999]


def test_groups_commit_for_themselves(log: EmbeddedLog) -> None:
    """A committed offset belongs to a group, a topic and a partition, and the last one counts."""
    assert log.committed("a", TOPIC, 0) is None
    log.commit("a", TOPIC, 0, 5)
    log.commit("a", TOPIC, 0, 7)
    log.commit("a", TOPIC, 1, 1)
    log.commit("b", TOPIC, 0, 2)
    assert [log.committed(*key) for key in (("a", TOPIC, 0), ("a", TOPIC, 1), ("b", TOPIC, 0))] == [7, 1, 2]


def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    """Identity, records, bounds and commits outlast the process's connection; another folder is another stream."""
    log = EmbeddedLog.open(tmp_path / "a")
    _append_some(log, 3)
    log.trim(TOPIC, 0, 1)
    log.commit("g", TOPIC, 0, 2)
    log.close()
    again = EmbeddedLog.open(tmp_path / "a")
    assert again.identity == log.identity
    assert _values(again) == [b"1", b"2"]
    assert (again.begin(TOPIC, 0), again.end(TOPIC, 0), again.committed("g", TOPIC, 0)) == (1, 3, 2)
    again.close()
    other = EmbeddedLog.open(tmp_path / "b")
    assert other.identity != log.identity
    other.close()


APPEND_IN_A_PROCESS = """
import sys
from pathlib import Path
from usageaudit.embedded_log import EmbeddedLog, NewRecord
folder, name, count, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
log = EmbeddedLog.open(folder)
sys.stdin.readline()
for first in range(0, count, size):
    group = [NewRecord(f"{name}{n}".encode(), f"{name}{n}".encode()) for n in range(first, min(first + size, count))]
    for (partition, offset), record in zip(log.append("usage-events", group), group):
        print(partition, offset, record.value.decode(), flush=True)
"""


def _start_appending(folder: Path, name: str, count: int, size: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", APPEND_IN_A_PROCESS, str(folder), name, str(count), str(size)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@settings(max_examples=5, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 120), st.integers(1, 50)), min_size=2, max_size=4), st.integers(1, 3))
def test_processes_append_at_once(writers: list[tuple[int, int]], partitions: int) -> None:
    """However many processes create the file and append at once, nothing is lost or doubled, offsets have no holes."""
    with tempfile.TemporaryDirectory() as folder:
        children = [_start_appending(Path(folder), f"w{n}-", *writer) for n, writer in enumerate(writers)]
        log = EmbeddedLog.open(Path(folder))
        log.create_topic(TOPIC, partitions)
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        said = [child.communicate(timeout=60)[0].split("\n")[:-1] for child in children]
        stored = {
            f"{partition} {record.offset} {(record.value or b'').decode()}"
            for partition in range(partitions)
            for record in log.read(TOPIC, partition, 0, **ALL)
        }
        assert sorted(line for lines in said for line in lines) == sorted(stored)
        assert len(stored) == sum(count for count, _ in writers)
        assert sum(log.end(TOPIC, partition) for partition in range(partitions)) == len(stored)
        log.close()


def test_threads_append_at_once(log: EmbeddedLog) -> None:
    """Threads may share an open log: each of their records gets an offset of its own, in the order of the thread."""
    threads = [threading.Thread(target=_append_some, args=(log, 50, f"{name}-")) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [value or b"" for value in _values(log)]
    assert len(found) == log.end(TOPIC, 0) == 200
    for name in (b"a-", b"b-", b"c-", b"d-"):
        assert [value for value in found if value.startswith(name)] == [name + b"%d" % n for n in range(50)]


def test_what_append_said_outlives_a_kill(tmp_path: Path) -> None:
    """Every record whose append returned before the process was killed is there, and no part of a later group."""
    child = _start_appending(tmp_path, "k", 1_000_000, 7)
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("go\n")
    child.stdin.flush()
    said = [child.stdout.readline().strip() for _ in range(500)]
    child.send_signal(signal.SIGKILL)
    said += child.stdout.read().split("\n")[:-2]  # the last line may be cut off
    child.wait()
    child.stdin.close()
    child.stdout.close()
    log = EmbeddedLog.open(tmp_path)
    stored = [f"0 {record.offset} {(record.value or b'').decode()}" for record in log.read(TOPIC, 0, 0, **ALL)]
    assert stored[: len(said)] == said
    assert len(stored) % 7 == 0
    log.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # Python 3.12 and later
def test_a_forked_child_appends_for_itself(log: EmbeddedLog, tmp_path: Path) -> None:
    """Parent and children go on with the log that was open before the fork, and disturb each other in nothing."""
    log.append(TOPIC, [NewRecord(None, b"before")])
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_append_some, args=(log, 30, f"child{n}-")) for n in range(3)]
    for child in children:
        child.start()
    _append_some(log, 30, "parent-")
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    found = _values(log)
    assert len(found) == len(set(found)) == log.end(TOPIC, 0) == 121
    log.close()
    check = sqlite3.connect(tmp_path / FILE_NAME)
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()


ORPHAN = """
import os, sys
from pathlib import Path
from usageaudit.embedded_log import EmbeddedLog, NewRecord
if sys.argv[2] == "unprotected":
    EmbeddedLog._close_around_forks = lambda self: None
log = EmbeddedLog.open(Path(sys.argv[1]))
log.append("usage-events", [NewRecord(None, b"parent")])
if os.fork():
    os._exit(0)
log.append("usage-events", [NewRecord(None, b"child")])
print("forked", flush=True)
sys.stdin.readline()
for number in range(20):
    log.append("usage-events", [NewRecord(None, b"%d" % number)])
print("appended", flush=True)
sys.stdin.readline()
"""


def _append_as_orphan(folder: Path, mode: str) -> list[bytes | None]:
    """Return what is in the stream after a child, whose parent has ended, and another process appended to it."""
    command = [sys.executable, "-c", ORPHAN, str(folder), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        assert parent.stdout.readline() == "forked\n"
        parent.wait()
        other = EmbeddedLog.open(folder)
        other.append(TOPIC, [NewRecord(None, b"other")])
        other.close()
        parent.stdin.write("go\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "appended\n"
        log = EmbeddedLog.open(folder)
        found = _values(log)
        log.close()
    return found


def test_a_child_outlives_its_parent(tmp_path: Path) -> None:
    """A child whose parent has ended appends on after others opened and closed the file, and nothing is lost."""
    expected = [b"parent", b"child", b"other", *(b"%d" % number for number in range(20))]
    assert _append_as_orphan(tmp_path, "protected") == expected


def test_a_connection_that_was_forked_loses_records(tmp_path: Path) -> None:
    """Negative control: with a connection that is open while the process forks, appends that returned are lost."""
    assert len(_append_as_orphan(tmp_path, "unprotected")) < 23


def test_a_file_that_was_removed_is_noticed(tmp_path: Path) -> None:
    """Records are never appended to a file that has lost its name; opened anew it is another stream."""
    log = EmbeddedLog.open(tmp_path)
    _append_some(log, 1)
    for file in tmp_path.iterdir():
        file.unlink()
    with pytest.raises(StreamUnavailable, match="removed or replaced"):
        _append_some(log, 1)
    with pytest.raises(StreamUnavailable, match="closed"):
        log.end(TOPIC, 0)
    again = EmbeddedLog.open(tmp_path)
    assert again.identity != log.identity
    again.close()


def test_a_closed_log_says_so(log: EmbeddedLog) -> None:
    """A log that was closed raises StreamUnavailable, and closing it twice is no error."""
    log.close()
    log.close()
    with pytest.raises(StreamUnavailable, match="closed"):
        _append_some(log, 1)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A path that runs through a file is refused, naming it."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="file/data: the folder can't be made"):
        EmbeddedLog.open(tmp_path / "file" / "data")


@contextmanager
def _no_root() -> Iterator[None]:
    """Be nobody for a while, since nothing is read-only to root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_folder_that_cannot_be_written() -> None:
    """A read-only folder is refused, saying what to do."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        with _no_root(), pytest.raises(ConfigurationError, match="give this user the right"):
            EmbeddedLog.open(folder)
        folder.chmod(0o700)


def test_a_file_in_place_of_which_there_is_a_folder(tmp_path: Path) -> None:
    """What can't be opened is refused, saying what to do."""
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(ConfigurationError, match="can't be opened"):
        EmbeddedLog.open(tmp_path)


def test_a_damaged_file(tmp_path: Path) -> None:
    """A file that is no SQLite file is left alone and named, with what to do."""
    (tmp_path / FILE_NAME).write_bytes(b"no database " * 1_000)
    with pytest.raises(StreamUnavailable, match="damaged"):
        EmbeddedLog.open(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == b"no database " * 1_000


def test_pages_overwritten_while_it_is_open(tmp_path: Path) -> None:
    """Damage inside the file is reported as such, and not as an empty stream."""
    log = EmbeddedLog.open(tmp_path)
    log.append(TOPIC, [NewRecord(None, os.urandom(5_000)) for _ in range(100)])
    log.close()
    file = tmp_path / FILE_NAME
    content = bytearray(file.read_bytes())
    content[32_768:] = os.urandom(len(content) - 32_768)
    file.write_bytes(content)
    with pytest.raises(StreamUnavailable, match="damaged"):
        EmbeddedLog.open(tmp_path).read(TOPIC, 0, 0, **ALL)


@pytest.mark.parametrize(("pragma", "named"), [("user_version = 99", "version 99"), ("application_id = 7", "is no ")])
def test_a_file_of_another_kind_or_a_newer_version(tmp_path: Path, pragma: str, named: str) -> None:
    """A file that this version does not understand is refused and left as it is."""
    EmbeddedLog.open(tmp_path).close()
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute(f"PRAGMA {pragma}")
    connection.close()
    with pytest.raises(ConfigurationError, match=named):
        EmbeddedLog.open(tmp_path)


def test_a_foreign_database(tmp_path: Path) -> None:
    """A SQLite file of somebody else is not turned into a stream."""
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(ConfigurationError, match="is no usageaudit stream"):
        EmbeddedLog.open(tmp_path)


def test_a_disk_without_room(tmp_path: Path) -> None:
    """An append that the disk has no room for raises, writes none of its records, and works again when there is."""
    script = f"""
import resource, signal
from pathlib import Path
from usageaudit.embedded_log import EmbeddedLog, NewRecord
from usageaudit.errors import StreamUnavailable
log = EmbeddedLog.open(Path({str(tmp_path)!r}))
log.append("usage-events", [NewRecord(None, b"first")])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, most))
try:
    log.append("usage-events", [NewRecord(None, bytes(1_000)) for _ in range(2_000)])
except StreamUnavailable as error:
    print(error)
print(log.end("usage-events", 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
print(log.append("usage-events", [NewRecord(None, b"second")]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    said, end, placed = done.stdout.splitlines()
    assert "the disk refused" in said or "the disk is full" in said
    assert (end, placed) == ("1", "[(0, 1)]")


def test_a_process_without_descriptors(tmp_path: Path) -> None:
    """Running out of open files is no wrong setting: it raises StreamUnavailable, and passes."""
    script = f"""
import os, resource
from pathlib import Path
from usageaudit.embedded_log import EmbeddedLog
from usageaudit.errors import StreamUnavailable
log = EmbeddedLog.open(Path({str(tmp_path)!r}))
if not (child := os.fork()):
    os._exit(0)
os.waitpid(child, 0)  # the log has closed its file for the fork
soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, most))
try:
    log.partitions("usage-events")
except StreamUnavailable as error:
    print(error)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))
print(log.partitions("usage-events"))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    said, partitions = done.stdout.splitlines()
    assert "enough open files" in said
    assert partitions == "[]"
