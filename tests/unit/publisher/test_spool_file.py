"""The spool's file against a model: a list, from which the front goes when it is acknowledged."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from usageaudit.publisher.spool.source import MAX_ADOPTED, SpoolSource

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

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


def _left(folder: Path, *values: bytes, refused: bytes = b"") -> Path:
    """Leave a spool with these events, as a dead owner does; return its file."""
    spool = new_spool(folder, STREAM, MIN_BYTES)
    spool.append([_record(value) for value in values])
    if refused:
        spool.append([_record(refused)])
        last = spool.read(1_000, 1 << 30)[-1]
        spool.settle([], [(last.number, "too large")])
    spool.close(keep=True)
    return spool.path


def test_what_was_not_counted_is_not_removed(tmp_path: Path) -> None:
    """A spool that is adopted and closed before anybody counted what is in it keeps its file and every event."""
    path = _left(tmp_path, b"one", b"two")
    (adopted,) = adopted_spools(tmp_path, STREAM, MIN_BYTES, Complaints())
    adopted.close()
    assert path.exists()
    assert [(one.events, one.owner_alive) for one in statuses(tmp_path)] == [(2, False)]


def test_a_file_is_mended_once(spool: SpoolFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that find the same damage set one file aside, and what the first wrote to the new one stays."""
    spool.append([_record(b"one")])
    spool.path.unlink()
    with pytest.raises(StreamUnavailable, match="removed or replaced"):
        spool.append([_record(b"two")])
    gate = _Gate(spool._reading)
    monkeypatch.setattr(spool, "_reading", gate)
    late = threading.Thread(target=lambda: spool.read(10, 1 << 30))
    late.start()
    assert gate.reached.wait(30)
    spool.append([_record(b"two")])
    gate.open.set()
    late.join(30)
    assert [one.record.value for one in spool.read(10, 1 << 30)] == [b"two"]
    assert spool.lost == 1
    spool.close()


class _Gate:
    """A lock that lets another thread than its maker's in when it is open."""

    def __init__(self, lock: AbstractContextManager[bool]) -> None:
        self._lock, self._maker = lock, threading.get_ident()
        self.reached, self.open = threading.Event(), threading.Event()

    def __enter__(self) -> bool:
        if threading.get_ident() != self._maker:
            self.reached.set()
            self.open.wait(30)
        return self._lock.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._lock.__exit__(*error)


def test_a_full_spool_keeps_what_was_refused(spool: SpoolFile) -> None:
    """In a spool that is full to the last page, refused events are kept and acknowledged ones deleted on disk."""
    size = 100_000
    while size > 10:
        try:
            spool.append([_record(bytes(size))])
        except StreamUnavailable:
            size //= 10
    before = spool.pending
    taken = spool.read(10, 1 << 30)
    settled = spool.settle([one.number for one in taken[1:]], [(taken[0].number, "too large")])
    assert settled == (9, 1, "")
    (status,) = statuses(spool.path.parent)
    assert (status.events, status.refused) == (before - 10, 1)
    spool.close()


def test_a_spool_that_is_larger_than_the_adopter_may_write(tmp_path: Path) -> None:
    """What another publisher was allowed to write is shipped and deleted by one with a smaller bound."""
    large = new_spool(tmp_path, STREAM, 8 * MIN_BYTES)
    for _ in range(20):
        large.append([_record(bytes(500_000))])
    large.close()
    (adopted,) = adopted_spools(tmp_path, STREAM, MIN_BYTES, Complaints())
    adopted.load(refused=False)
    first, second = adopted.read(2, 1 << 30)
    assert adopted.settle([first.number], [(second.number, "too large")]) == (1, 1, "")
    adopted.close()
    assert [(one.events, one.refused) for one in statuses(tmp_path)] == [(18, 1)]


def test_a_lock_that_is_removed(tmp_path: Path, spool: SpoolFile) -> None:
    """An owner whose lock was removed appends nothing to a file that somebody else may own, and removes nothing."""
    spool.append([_record(b"one")])
    spool.path.with_suffix(".lock").unlink()
    (adopted,) = adopted_spools(tmp_path, STREAM, MIN_BYTES, Complaints())
    adopted.load(refused=False)
    with pytest.raises(StreamUnavailable, match=r"its lock .* was removed"):
        spool.append([_record(b"two")])
    assert spool.given_up
    with pytest.raises(StreamUnavailable, match=r"its lock .* was removed"):
        spool.read(10, 1 << 30)
    spool.close()
    assert adopted.path.exists()
    assert OwnerLock.acquire(spool.path.with_suffix(".lock")) is None
    assert [one.record.value for one in adopted.read(10, 1 << 30)] == [b"one"]
    adopted.close()


def test_a_file_that_is_removed_while_a_process_forks(spool: SpoolFile) -> None:
    """A file that is gone when it is opened again is noticed by whoever opens it, and its events are counted."""
    spool.append([_record(b"one")])
    spool.before_fork()
    spool.after_fork()
    spool.path.unlink()
    with pytest.raises(StreamUnavailable, match="removed or replaced"):
        spool.read(10, 1 << 30)
    assert spool.read(10, 1 << 30) == []
    assert (spool.pending, spool.lost) == (0, 1)
    spool.close()


def test_headers_that_can_not_be_read(tmp_path: Path) -> None:
    """A row whose headers are torn is put aside with the reason, and holds up nothing."""
    path = _left(tmp_path, b"one", b"two", b"three")
    connection = sqlite3.connect(path)
    connection.execute("UPDATE records SET headers = x'ff' WHERE value = x'74776f'")
    connection.commit()
    connection.close()
    (adopted,) = adopted_spools(tmp_path, STREAM, MIN_BYTES, Complaints())
    adopted.load(refused=False)
    found = adopted.read(10, 1 << 30)
    assert [one.record.value for one in found] == [b"one", b"three"]
    adopted.settle([one.number for one in found], [])
    adopted.close()
    assert [(one.events, one.refused) for one in statuses(tmp_path)] == [(0, 1)]


def test_refused_events_are_counted_once(spool: SpoolFile) -> None:
    """What was refused before a file was lost is not lost once more, and what comes back later is not counted."""
    spool.append([_record(value) for value in (b"one", b"two", b"three")])
    taken = spool.read(10, 1 << 30)
    assert spool.settle([], [(taken[0].number, "too large")]) == (0, 1, "")
    taken = spool.read(10, 1 << 30)
    spool.path.unlink()
    with pytest.raises(StreamUnavailable):
        spool.append([_record(b"four")])
    spool.append([_record(b"four")])
    assert spool.lost == 2
    assert spool.settle([one.number for one in taken], [])[:2] == (0, 0)
    spool.close()


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_many_spools_are_adopted_a_few_at_a_time(tmp_path: Path) -> None:
    """Forty spools of dead owners never take more open files than eight of them, and all are shipped."""
    expected = {b"%d" % number for number in range(40)}
    for value in expected:
        _left(tmp_path, value)
    for _ in range(10):
        _left(tmp_path, refused=b"large")
    source = SpoolSource(tmp_path, STREAM, MIN_BYTES, Complaints())
    shipped: list[bytes | None] = []
    most, before = 0, _open_files()
    while len(shipped) < 40:
        group = source.take(100, 1 << 20, 0)
        most = max(most, _open_files() - before)
        assert len(source.spools) <= MAX_ADOPTED
        shipped += [item.record.value for item in group]
        source.settle(group, ())
    assert set(shipped) == expected
    assert most <= MAX_ADOPTED * 7
    source.release()
    assert sum(one.refused for one in statuses(tmp_path)) == 10
    assert len(spool_files(tmp_path)) == 10


def test_locks_that_can_not_be_opened_are_spoken_of(tmp_path: Path) -> None:
    """A lock that can't be opened for another reason than that it is another user's is logged, and tried again."""
    _left(tmp_path, b"one")
    complaints = Complaints()
    source = SpoolSource(tmp_path, STREAM, MIN_BYTES, complaints)
    lock = next(tmp_path.glob("*.lock"))
    lock.unlink()
    lock.mkdir()
    source.adopt()
    assert complaints.total("spool of another process not adopted") == 1
    lock.rmdir()
    source.adopt()
    assert source.pending == 1
    source.release()


def test_flush_waits_for_what_was_there(tmp_path: Path) -> None:
    """Under steady traffic, what was spooled before a position is known to be done with while newer events wait."""
    source = SpoolSource(tmp_path, STREAM, MIN_BYTES, Complaints())
    source.append([_record(b"one"), _record(b"two")])
    position = source.position
    source.append([_record(b"three")])
    assert source.drain(position, 0) == 2
    group = source.take(2, 1 << 20, 0)
    source.settle(group[:1], ())
    assert source.drain(position, 0) == 1
    group = source.take(2, 1 << 20, 0)
    source.settle(group[:1], ())
    assert source.drain(position, 0) == 0
    assert source.drain(source.position, 0) == source.own_pending == 1
    source.release()


def test_a_folder_that_is_removed(tmp_path: Path) -> None:
    """A publisher whose folder is gone begins another spool, and counts what was in the old one as lost."""
    folder = tmp_path / "spool"
    source = SpoolSource(folder, STREAM, MIN_BYTES, Complaints())
    source.append([_record(b"one")])
    shutil.rmtree(folder)
    with pytest.raises(StreamUnavailable, match="was removed"):
        source.append([_record(b"two")])
    source.append([_record(b"two")])
    assert (source.lost, source.own_pending) == (1, 1)
    (status,) = statuses(folder)
    assert (status.events, status.owner_alive) == (1, True)
    group = source.take(10, 1 << 20, 0)
    source.settle(group, ())
    assert (source.acknowledged, source.lost, source.own_pending) == (1, 1, 0)
    source.release()
    assert list(folder.iterdir()) == []


def test_a_lock_that_is_removed_under_a_publisher(tmp_path: Path) -> None:
    """A publisher whose lock was removed ships the old spool as anybody would, and goes on with a new one."""
    source = SpoolSource(tmp_path, STREAM, MIN_BYTES, Complaints())
    source.append([_record(b"one")])
    next(tmp_path.glob("*.lock")).unlink()
    with pytest.raises(StreamUnavailable, match="was removed"):
        source.append([_record(b"two")])
    source.append([_record(b"two")])
    source.adopt()
    assert (source.lost, source.own_pending, source.pending) == (1, 1, 2)
    groups = [source.take(10, 1 << 20, 0)]
    source.settle(groups[0], ())
    groups.append(source.take(10, 1 << 20, 0))
    source.settle(groups[1], ())
    assert {item.record.value for group in groups for item in group} == {b"one", b"two"}
    source.release()
    assert list(tmp_path.iterdir()) == []


def test_a_removed_lock_is_noticed_without_another_event(tmp_path: Path) -> None:
    """A publisher that emits no more does not wait for ever for a spool that it may not open."""
    source = SpoolSource(tmp_path, STREAM, MIN_BYTES, Complaints())
    source.append([_record(b"one")])
    position = source.position
    shutil.rmtree(tmp_path)
    source.close()
    assert source.take(10, 1 << 20, 0) == []
    assert (source.drain(position, 0), source.lost) == (0, 1)
