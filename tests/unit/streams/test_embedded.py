"""What only the embedded stream does: one reader for each group, and deleting what is old."""

import fcntl
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from usageaudit.embedded_log import EmbeddedLog, NewRecord
from usageaudit.errors import ConfigurationError, StreamUnavailable
from usageaudit.stream_url import EmbeddedStreamAddress
from usageaudit.streams import embedded
from usageaudit.streams.embedded import EmbeddedStream
from usageaudit.streams.opening import create_topic, open_stream
from usageaudit.streams.port import BatchLimits

WEEK_MS = 7 * 24 * 3600 * 1000
QUICK = BatchLimits(seconds=0.0)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Yield what closes everything that a test opens."""
    with ExitStack() as stack:
        yield stack


def opened(stack: ExitStack, directory: Path, group: str = "audit") -> EmbeddedStream:
    """Open a reader that the test need not close."""
    stream = EmbeddedStream(EmbeddedStreamAddress(directory), QUICK, group)
    stack.callback(stream.close)
    return stream


def test_a_new_folder_has_one_empty_partition(tmp_path: Path, stack: ExitStack) -> None:
    """A reader may come before the first publisher: it makes the folder and finds a partition to wait at."""
    stream = opened(stack, tmp_path / "new" / "folder")
    (partition,) = stream.assigned()
    assert (partition.number, stream.beginning(partition), stream.end(partition)) == (0, 0, 0)
    assert not create_topic(f"embedded:{tmp_path / 'new'}")


def in_another_process(directory: Path, and_then: str) -> subprocess.CompletedProcess[str]:
    """Open the stream in a process of its own, and do something more there."""
    program = "import sys; from usageaudit.streams.opening import open_stream; open_stream(sys.argv[1], group='audit')"
    command = [sys.executable, "-c", f"{program}; {and_then}", f"embedded:{directory}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_second_reader_of_a_group_is_refused(tmp_path: Path, stack: ExitStack) -> None:
    """In the same process as in another one, it is told which process reads, and another group is let in."""
    first = opened(stack, tmp_path)
    with pytest.raises(StreamUnavailable, match=r"is read by process \d+ already; stop that one"):
        opened(stack, tmp_path)
    program = "import sys; from usageaudit.streams.opening import open_stream; open_stream(sys.argv[1], group='audit')"
    url = f"embedded:{tmp_path}"
    other = subprocess.run(
        [sys.executable, "-c", program, url], capture_output=True, text=True, timeout=60, check=False
    )
    assert "StreamUnavailable" in other.stderr
    opened(stack, tmp_path, group="another")
    first.close()
    opened(stack, tmp_path)


def test_the_lock_of_a_killed_reader_is_free(tmp_path: Path, stack: ExitStack) -> None:
    """The lock is the operating system's, so that a file left behind by a crash locks nobody out."""
    program = (
        "import os, sys; from usageaudit.streams.opening import open_stream; open_stream(sys.argv[1], group='audit')"
    )
    killed = f"{program}; os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", killed, f"embedded:{tmp_path}"], timeout=60, check=False)
    assert done.returncode == -9
    assert (tmp_path / "consumer-audit.lock").exists()
    opened(stack, tmp_path)


@pytest.mark.parametrize("group", ["../etc", "a/b", "ä", "x" * 201])
def test_a_group_that_is_no_file_name_is_refused(tmp_path: Path, group: str) -> None:
    """The group's name becomes a part of a file's name, so it has to be harmless."""
    with pytest.raises(ConfigurationError, match="is not 1 to 200 letters"):
        open_stream(f"embedded:{tmp_path}", group=group)


def test_a_folder_that_can_not_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    """A file in the place of the folder is said, and no lock is left."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="folder"):
        open_stream(f"embedded:{tmp_path / 'file'}")


def old_records(directory: Path, old: int, young: int) -> None:
    """Append records of more than a week ago, then some of now."""
    log = EmbeddedLog.open(directory)
    before = round(time.time() * 1000) - WEEK_MS - 60_000
    log.append("usage-events", [NewRecord(None, b"old", (), before + n) for n in range(old)])
    log.append("usage-events", [NewRecord(None, b"young") for _ in range(young)])
    log.close()


@pytest.mark.parametrize(("acknowledged", "kept_from"), [(0, 0), (3, 3), (5, 5), (8, 5)])
def test_only_old_and_acknowledged_records_are_deleted(
    tmp_path: Path, stack: ExitStack, acknowledged: int, kept_from: int
) -> None:
    """Of five old records and five young ones those go that are acknowledged and more than a week old."""
    old_records(tmp_path, 5, 5)
    stream = opened(stack, tmp_path)
    (partition,) = stream.assigned()
    stream.start(partition, 0)
    stream.acknowledge(partition, acknowledged)
    assert (stream.beginning(partition), stream.end(partition)) == (kept_from, 10)


def test_deleting_is_bounded(tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is old, one acknowledgement deletes no more than its share, and later ones go on."""
    monkeypatch.setattr(embedded, "TRIM_RECORDS", 4)
    old_records(tmp_path, 10, 1)
    stream = opened(stack, tmp_path)
    (partition,) = stream.assigned()
    stream.start(partition, 0)
    stream.acknowledge(partition, 11)
    assert stream.beginning(partition) == 4
    stream.acknowledge(partition, 11)
    assert stream.beginning(partition) == 4, "it is looked again only after some seconds"
    monkeypatch.setattr(embedded, "TRIM_EVERY_SECONDS", 0.0)
    stream.close()
    again = opened(stack, tmp_path)
    again.start(partition, 11)
    for first in (8, 10, 10):
        again.acknowledge(partition, 11)
        assert again.beginning(partition) == first


def test_an_idle_reader_deletes_too(tmp_path: Path, stack: ExitStack) -> None:
    """Records that became old while nothing came are deleted by polling."""
    old_records(tmp_path, 3, 1)
    log = EmbeddedLog.open(tmp_path)
    stack.callback(log.close)
    log.commit("audit", "usage-events", 0, 4)
    stream = opened(stack, tmp_path)
    (partition,) = stream.assigned()
    stream.start(partition, 4)
    assert stream.poll(0.0) is None
    assert stream.beginning(partition) == 3


def test_kafka_is_not_imported_for_a_file(tmp_path: Path) -> None:
    """Opening an embedded stream does without kafka-python."""
    assert in_another_process(tmp_path, "print('kafka' in sys.modules)").stdout == "False\n"


def test_close_twice_is_close(tmp_path: Path, stack: ExitStack) -> None:
    """Closing a second time does nothing, not even to a file that has got the lock's number meanwhile."""
    stream = opened(stack, tmp_path)
    stream.close()
    with (tmp_path / "other").open("w") as other:
        stream.close()
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_replaced_file_is_read_as_another_stream(tmp_path: Path, stack: ExitStack) -> None:
    """After the file was removed its partitions are lost, and those of the file in its place are assigned and read."""
    stream = opened(stack, tmp_path)
    (before,) = stream.assigned()
    stream.start(before, 0)
    for file in tmp_path.iterdir():
        file.unlink()
    assert not stream.owns(before)
    assert stream.assigned() == [], "before the file is opened anew"
    log = EmbeddedLog.open(tmp_path)
    stack.callback(log.close)
    log.append("usage-events", [NewRecord(None, b"new")])
    assert stream.poll(0.0) is None
    (after,) = stream.assigned()
    assert (after.stream, after.number) == (log.identity, before.number)
    assert after.stream != before.stream
    stream.acknowledge(before, 1)
    assert stream.committed(after) is None
    stream.start(after, 0)
    batch = stream.poll(1.0)
    assert batch is not None
    assert [record.value for record in batch.records] == [b"new"]
    with pytest.raises(StreamUnavailable, match="is read by process"):
        opened(stack, tmp_path)


def test_a_file_that_can_not_be_replaced_is_tried_again(tmp_path: Path, stack: ExitStack) -> None:
    """While the removed file can't be made anew each poll says why, and the first one that can goes on."""
    stream = opened(stack, tmp_path / "data")
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "data").write_text("")
    for _ in range(2):
        with pytest.raises(StreamUnavailable, match="the folder can't be made"):
            stream.poll(0.0)
    (tmp_path / "data").unlink()
    assert stream.poll(0.0) is None
    assert len(stream.assigned()) == 1


def test_a_closed_reader_opens_nothing(tmp_path: Path, stack: ExitStack) -> None:
    """Closing is for good, also where the file has gone since."""
    stream = opened(stack, tmp_path / "data")
    (partition,) = stream.assigned()
    stream.close()
    shutil.rmtree(tmp_path / "data")
    assert stream.poll(0.0) is None
    with pytest.raises(StreamUnavailable, match="closed"):
        stream.beginning(partition)
    assert not (tmp_path / "data").exists()
