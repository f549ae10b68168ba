"""The spool's file against a model: a list, from which the front goes when it is acknowledged."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from usageaudit.embedded_log import NewRecord
from usageaudit.errors import StreamUnavailable
from usageaudit.publisher.complaints import Complaints
from usageaudit.publisher.records import MIN_SPOOL_BYTES as MIN_BYTES
from usageaudit.publisher.spool.folder import adopted_spools, new_spool, spool_files, statuses
from usageaudit.publisher.spool.owner import OwnerLock

if TYPE_CHECKING:
    from usageaudit.publisher.spool.file import Spooled, SpoolFile

STREAM = "kafka://broker:9092?topic=usage-events"
values = st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=8)


def _record(value: bytes) -> NewRecord:
    return NewRecord(b"k", value, [("content-type", b"x"), ("none", None)], 17)


class SpoolMachine(RuleBasedStateMachine):
    """Appends, takes, settles some of what was taken, and crashes, at any moment."""

    @initialize()
    def begin(self) -> None:
        """Begin with an empty folder."""
        self.folder = Path(tempfile.mkdtemp())
        self.spool = new_spool(self.folder, STREAM, MIN_BYTES)
        self.waiting: list[bytes] = []
        self.refused: list[bytes] = []
        self.taken: list[Spooled] = []
        self.shipped: list[bytes] = []
        self.maybe_again: list[bytes] = []

    @rule(values=values)
    def append(self, values: list[bytes]) -> None:
        """Append a group."""
        self.spool.append([_record(value) for value in values])
        self.waiting += values

    @rule(limit=st.integers(1, 10), size=st.integers(1, 200))
    def take(self, limit: int, size: int) -> None:
        """Take a group: the front of the list, as far as limit and size go."""
        self.taken = self.spool.read(limit, size)
        assert [one.record for one in self.taken] == [_record(value) for value in self.waiting[: len(self.taken)]]
        assert len(self.taken) <= limit
        assert bool(self.taken) == bool(self.waiting)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        """Be done with any part of what was taken, acknowledged or refused."""
        fates = data.draw(st.lists(st.sampled_from("awr"), min_size=len(self.taken), max_size=len(self.taken)))
        acknowledged = [one for one, fate in zip(self.taken, fates, strict=True) if fate == "a"]
        refused = [one for one, fate in zip(self.taken, fates, strict=True) if fate == "r"]
        self.spool.settle([one.number for one in acknowledged], [(one.number, "too large") for one in refused])
        for one in (*acknowledged, *refused):
            self.waiting.remove(one.record.value or b"")
        gone = [one.record.value or b"" for one in acknowledged]
        self.shipped += gone
        self.maybe_again += gone
        self.refused += [one.record.value or b"" for one in refused]
        self.taken = []

    @rule(again=st.booleans())
    def crash(self, again: bool) -> None:
        """Let go of the file as a death does, and adopt it; what was acknowledged may come a second time."""
        left = bool(self.waiting or self.refused)
        self.spool.close(keep=True)
        adopted = list(adopted_spools(self.folder, STREAM, MIN_BYTES, Complaints()))
        for spool in adopted:
            spool.load(refused=again)
        if not adopted:
            assert not left
            self.spool = new_spool(self.folder, STREAM, MIN_BYTES)
            self.waiting, self.taken, self.maybe_again = [], [], []
            return
        (self.spool,) = adopted
        found = [one.record.value or b"" for one in self.spool.read(10_000, 1 << 30)]
        for value in (*self.waiting, *(self.refused if again else ())):
            assert value in found, "lost"
        extra = list(found)
        for value in (*self.waiting, *(self.refused if again else ())):
            extra.remove(value)
        for value in extra:
            assert value in self.maybe_again + self.refused, "came from nowhere"
        self.waiting, self.taken = found, []
        self.refused = [] if again else self.refused

    @invariant()
    def counts(self) -> None:
        """Find the counts of the model, and on disk, as other processes see it, no fewer."""
        assert (self.spool.pending, self.spool.refused) == (len(self.waiting), len(self.refused))
        for status in statuses(self.folder):
            assert status.owner_alive
            assert status.events >= len(self.waiting)
            assert status.bytes <= MIN_BYTES

    def teardown(self) -> None:
        """Close the spool and remove the folder."""
        self.spool.close()
        assert bool(spool_files(self.folder)) == bool(self.waiting or self.refused)
        shutil.rmtree(self.folder)


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


@pytest.fixture
def spool(tmp_path: Path) -> SpoolFile:
    """Return a new spool of the smallest size."""
    return new_spool(tmp_path, STREAM, MIN_BYTES)


def _append_often(spool: SpoolFile, group: list[NewRecord]) -> None:
    for _ in range(1_000):
        spool.append(group)
        assert spool.bytes <= MIN_BYTES


def test_what_an_append_returned_is_read_by_others(spool: SpoolFile) -> None:
    """A group that was appended is in the file as any SQLite reads it, with the stream it is for, without secrets."""
    spool.append([_record(b"one"), _record(b"two")])
    with sqlite3.connect(f"file:{spool.path}?mode=ro", uri=True) as other:
        rows = other.execute("SELECT key, value, timestamp FROM records ORDER BY number").fetchall()
        assert rows == [(b"k", b"one", 17), (b"k", b"two", 17)]
        assert other.execute("SELECT stream FROM spool").fetchall() == [(STREAM,)]
    other.close()
    spool.close()


def test_it_is_the_owners_alone(tmp_path: Path, spool: SpoolFile) -> None:
    """Every file of a spool can be read and written by its user, and by nobody else."""
    spool.append([_record(b"one")])
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {0o600}
    assert len(list(tmp_path.iterdir())) == 4
    spool.close()


def test_it_is_no_larger_than_it_may_be(spool: SpoolFile) -> None:
    """A full spool refuses a group as a whole and says so, and takes more when some of it was acknowledged."""
    group = [_record(bytes(100_000)) for _ in range(5)]
    with pytest.raises(StreamUnavailable, match=r"it is full with .* events, as max_spool_bytes has it"):
        _append_often(spool, group)
    pending = spool.pending
    assert pending % 5 == 0
    assert pending * 100_000 > MIN_BYTES / 2
    spool.settle([one.number for one in spool.read(5, 1 << 30)], [])
    spool.append(group)
    assert spool.pending == pending
    assert spool.bytes <= MIN_BYTES
    spool.close()


def test_a_file_that_is_empty_gives_its_space_back(tmp_path: Path) -> None:
    """After an outage has filled the spool, the disk has the space again when all is shipped."""
    spool = new_spool(tmp_path, STREAM, 64 * 1024 * 1024)
    for _ in range(40):
        spool.append([_record(bytes(1_000_000))])
    assert spool.bytes > 40_000_000
    while group := spool.read(5, 1 << 30):
        spool.settle([one.number for one in group], [])
    assert spool.bytes < 1_000_000
    spool.append([_record(b"on")])
    assert [one.record.value for one in spool.read(5, 1 << 30)] == [b"on"]
    spool.close()


def test_a_damaged_file_is_set_aside(tmp_path: Path, spool: SpoolFile, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is overwritten while it is in use is kept under another name, and a new one takes its place."""
    for _ in range(20):
        spool.append([_record(bytes(50_000))])
    spool.settle([one.number for one in spool.read(1, 1)], [])
    with spool.path.open("r+b") as file:
        file.seek(0)
        file.write(b"\xff" * 300_000)
    with pytest.raises(StreamUnavailable, match="damaged"):
        _append_often(spool, [_record(bytes(50_000))])
    spool.append([_record(b"after")])
    assert [one.record.value for one in spool.read(10, 1 << 30)] == [b"after"]
    assert spool.lost >= 19
    (line,) = (message for message in caplog.messages if "events were in it" in message)
    assert ".damaged; a new file is begun" in line
    (kept,) = tmp_path.glob("*.damaged")
    assert kept.stat().st_size > 300_000
    assert any("set aside" in status.problem or "can't be read" in status.problem for status in statuses(tmp_path))
    spool.close()


def test_a_damaged_file_is_not_adopted(tmp_path: Path) -> None:
    """A file that a dead owner left and that can't be read is set aside, and the others are adopted nevertheless."""
    spools = [new_spool(tmp_path, STREAM, MIN_BYTES) for _ in range(2)]
    for spool in spools:
        spool.append([_record(b"one")])
        spool.close()
    damaged = spool_files(tmp_path)[0]
    damaged.write_bytes(b"\xff" * 20_000)
    adopted = list(adopted_spools(tmp_path, STREAM, MIN_BYTES, Complaints()))
    for spool in adopted:
        spool.load(refused=False)
    assert sorted(spool.pending for spool in adopted) == [0, 1]
    for spool in adopted:
        spool.close()
    assert [path.name for path in tmp_path.glob("*.damaged*")]
    assert len(spool_files(tmp_path)) == 1


def test_a_file_that_was_removed(spool: SpoolFile) -> None:
    """An append to a file that somebody removed fails instead of being lost, and the next one begins a new file."""
    spool.append([_record(b"one")])
    spool.path.unlink()
    with pytest.raises(StreamUnavailable, match="removed or replaced"):
        spool.append([_record(b"two")])
    spool.append([_record(b"two")])
    assert spool.lost == 1
    assert [one.record.value for one in spool.read(10, 1 << 30)] == [b"two"]
    spool.close()


def test_what_was_taken_from_a_removed_file(spool: SpoolFile) -> None:
    """Records taken from a file that is gone are not mistaken for those of the new one, whose numbers are the same."""
    spool.append([_record(b"one"), _record(b"two")])
    taken = spool.read(10, 1 << 30)
    spool.path.unlink()
    with pytest.raises(StreamUnavailable):
        spool.append([_record(b"three")])
    spool.append([_record(b"three"), _record(b"four")])
    spool.settle([one.number for one in taken], [])
    assert spool.pending == 2
    assert [one.record.value for one in spool.read(10, 1 << 30)] == [b"three", b"four"]
    spool.close()


def test_a_file_that_another_process_locks(spool: SpoolFile) -> None:
    """A file that is locked refuses to append, with the reason, and takes the same group when it is free again."""
    spool.append([_record(b"one")])
    other = sqlite3.connect(spool.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StreamUnavailable, match="locked"):
        spool.append([_record(b"two")])
    other.execute("ROLLBACK")
    other.close()
    spool.append([_record(b"two")])
    assert [one.record.value for one in spool.read(10, 1 << 30)] == [b"one", b"two"]
    spool.close()


def test_a_file_of_somebody_else_is_not_adopted(tmp_path: Path) -> None:
    """What others could have put into the folder is not shipped as events of this user: a link, another user's file."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    spool = new_spool(elsewhere, STREAM, MIN_BYTES)
    spool.append([_record(b"forged")])
    spool.close()
    (tmp_path / "20260101T000000-00000000.sqlite3").symlink_to(spool.path)
    assert list(adopted_spools(tmp_path, STREAM, MIN_BYTES, Complaints())) == []
    (adopted,) = adopted_spools(elsewhere, STREAM, MIN_BYTES, Complaints())
    adopted.close(keep=True)


def test_a_lock_that_was_left_alone_is_removed(tmp_path: Path) -> None:
    """Of a spool whose owner was killed between removing the file and the lock nothing remains."""
    (tmp_path / "20260101T000000-00000000.lock").touch()
    assert list(adopted_spools(tmp_path, STREAM, MIN_BYTES, Complaints())) == []
    assert list(tmp_path.iterdir()) == []


def test_a_lock_whose_file_was_removed_is_no_lock(tmp_path: Path) -> None:
    """Who waits for the lock of a spool that its owner finishes does not get the lock of a file without a name."""
    path = tmp_path / "x.lock"
    first = OwnerLock.acquire(path)
    assert first is not None
    assert OwnerLock.acquire(path) is None
    first.release(remove=True)
    second = OwnerLock.acquire(path)
    assert second is not None
    second.release(remove=False)
    assert path.exists()
