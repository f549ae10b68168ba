"""The embedded store: one directory, one process, and what everybody else is told."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from usageaudit.errors import OutcomeUnknown, StoreUnavailable, UsageAuditError
from usageaudit.stores import embedded
from usageaudit.stores.address import open_store
from usageaudit.stores.native import NativeBlock
from usageaudit.stores.port import Insert

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

    from usageaudit.stores.port import Store

TRY = """
import sys
from usageaudit.errors import StoreUnavailable
from usageaudit.stores.address import open_store
try:
    print(open_store(sys.argv[1]).execute("SELECT * FROM numbers").rows)
except StoreUnavailable as error:
    print(error)
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Yield a store in a new directory, with a table of one number."""
    opened = open_store(f"embedded:{tmp_path}/data")
    opened.execute("CREATE TABLE numbers (number UInt64) ENGINE = MergeTree ORDER BY number")
    opened.execute("INSERT INTO numbers SELECT 7")
    yield opened
    opened.close()


def _try_in_another_process(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", TRY, url], capture_output=True, text=True, timeout=60, check=True)


def test_another_process_is_told_who_has_the_directory(store: Store, tmp_path: Path) -> None:
    """A second process gets StoreUnavailable and no noise; once the first has closed, it reads the data."""
    told = _try_in_another_process(f"embedded:{tmp_path}/data")
    assert "open in another process" in told.stdout
    assert told.stderr == ""
    store.close()
    assert _try_in_another_process(f"embedded:{tmp_path}/data").stdout == "[(7,)]\n"


def test_a_second_directory_is_refused_while_the_first_is_open(store: Store, tmp_path: Path) -> None:
    """A process has one directory at a time; when it is closed, another can be opened."""
    other = open_store(f"embedded:{tmp_path}/other")
    with pytest.raises(StoreUnavailable, match="beside another directory"):
        other.execute("SELECT 1")
    store.close()
    assert other.execute("SELECT 1").rows == [(1,)]
    other.close()


def test_two_spellings_of_a_directory_are_one(store: Store, tmp_path: Path) -> None:
    """A directory reached by another path is the same store."""
    (tmp_path / "link").symlink_to(tmp_path / "data")
    for spelling in ("link", "link/../data", "./data"):
        again = open_store(f"embedded:{tmp_path}/{spelling}")
        assert again.execute("SELECT * FROM numbers").rows == [(7,)]
        again.close()


def _child(store: Store, use: Callable[[Store], object], answer: Connection) -> None:
    try:
        use(store)
        answer.send("it worked")
    except UsageAuditError as error:
        answer.send(f"{type(error).__name__}: {error}")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("open_anew", [False, True])
def test_the_child_of_a_fork_is_refused(store: Store, open_anew: bool) -> None:
    """In a forked child the engine would wait for ever: a store says so at once, the parent's or one of its own."""
    fork = multiprocessing.get_context("fork")
    answer, to_parent = fork.Pipe(duplex=False)
    use = (lambda s: s.another().execute("SELECT 1")) if open_anew else (lambda s: s.execute("SELECT 1"))
    child = fork.Process(target=_child, args=(store, use, to_parent))
    child.start()
    answered = answer.poll(30)
    if not answered:
        child.kill()
    child.join(30)
    assert answered
    assert answer.recv().startswith("StoreUnavailable: the embedded store")
    assert store.execute("SELECT * FROM numbers").rows == [(7,)]


def test_a_directory_that_can_not_be_made_is_said(tmp_path: Path) -> None:
    """A path below a file is StoreUnavailable with the path and what to write."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match=r"file/data can't be opened.*embedded:\./usageaudit-data"):
        open_store(f"embedded:{tmp_path}/file/data").execute("SELECT 1")


def test_no_file_of_a_block_stays(store: Store, tmp_path: Path) -> None:
    """Blocks pass through files, which are gone whether the insert succeeded or failed."""
    block = NativeBlock([("number", "UInt64")])
    block.add_rows([(1,)])
    store.insert(Insert("numbers", block, "kept"))
    store.look_up("SELECT * FROM given", "given", block)
    with pytest.raises(UsageAuditError):
        store.insert(Insert("not_there", block, "failed"))
    assert list((tmp_path / "data").rglob("*.native")) == []


class OnFullDisk(NativeBlock):
    """A block in whose middle the disk is full."""

    def write_to(self, write: Callable[[bytes | bytearray], object], *, protocol: bool = False) -> None:
        """Write something, then fail as a full disk does."""
        write(b"half of a block")
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_without_room_for_a_block_is_to_be_waited_for(store: Store, tmp_path: Path) -> None:
    """A block that can't be written to its file is StoreUnavailable, leaves no file, and the store goes on working."""
    block = OnFullDisk([("number", "UInt64")])
    with pytest.raises(StoreUnavailable, match="No space left on device"):
        store.insert(Insert("numbers", block, "full"))
    with pytest.raises(StoreUnavailable, match="No space left on device"):
        store.look_up("SELECT * FROM given", "given", block)
    assert list((tmp_path / "data").rglob("*.native")) == []
    assert store.execute("SELECT * FROM numbers").rows == [(7,)]


def test_a_file_in_the_place_of_the_folder_of_blocks_is_said(store: Store, tmp_path: Path) -> None:
    """Where the folder of blocks can't be made an insert is StoreUnavailable and names it."""
    (tmp_path / "data" / "usageaudit-tmp").touch()
    block = NativeBlock([("number", "UInt64")])
    block.add_rows([(1,)])
    with pytest.raises(StoreUnavailable, match="usageaudit-tmp"):
        store.insert(Insert("numbers", block, "no/folder"))


class FailingAfterwards:
    """The engine, which fails without saying why when it has done what a statement asked for."""

    def __init__(self, engine: Any, word: str) -> None:
        self._engine, self._word = engine, word

    def connect(self, directory: str) -> Any:
        """Return a connection that fails."""
        return FailingAfterwards(self._engine.connect(directory), self._word)

    def query(self, sql: str, *arguments: Any, **named: Any) -> Any:
        """Run a statement, and fail after it if it is the one."""
        result = self._engine.query(sql, *arguments, **named)
        if sql.startswith(self._word):
            raise RuntimeError("something went wrong")
        return result

    def close(self) -> None:
        """Pass on."""
        self._engine.close()


@pytest.mark.parametrize(
    ("word", "kind", "there"), [("INSERT", OutcomeUnknown, [(1,), (7,)]), ("SET log_comment", StoreUnavailable, [(7,)])]
)
def test_a_failure_without_a_code_leaves_the_outcome_of_an_insert_unknown(
    store: Store, monkeypatch: pytest.MonkeyPatch, word: str, kind: type[Exception], there: list[tuple[int]]
) -> None:
    """An engine that failed may have written the block: OutcomeUnknown. Control: before the INSERT nothing was done."""
    store.close()
    block = NativeBlock([("number", "UInt64")])
    block.add_rows([(1,)])
    with monkeypatch.context() as patch:
        patch.setattr(embedded, "_chdb", FailingAfterwards(embedded._chdb, word))
        with pytest.raises(kind, match="something went wrong"):
            store.insert(Insert("numbers", block, "failed"))
    assert store.execute("SELECT number FROM numbers ORDER BY number").rows == there


def test_a_block_of_a_killed_process_is_removed(store: Store, tmp_path: Path) -> None:
    """What a killed process left goes when the directory is opened again, even if its number was our own."""
    folder = tmp_path / "data" / "usageaudit-tmp"
    folder.mkdir(exist_ok=True)
    for name in ("1-left.native", f"{os.getpid()}-left.native"):
        (folder / name).write_bytes(b"half of a block")
    store.close()
    assert store.execute("SELECT * FROM numbers").rows == [(7,)]
    assert list(folder.iterdir()) == []


def test_a_block_of_this_process_is_left_alone(store: Store) -> None:
    """A store that another thread opens while a block is on its way does not take the block for a left one."""
    other = store.another()

    class OpeningAnother(NativeBlock):
        def write_to(self, write: Callable[[bytes | bytearray], object], *, protocol: bool = False) -> None:
            super().write_to(write, protocol=protocol)
            other.execute("SELECT 1")

    block = OpeningAnother([("number", "UInt64")])
    block.add_rows([(1,)])
    store.insert(Insert("numbers", block, "beside"))
    other.close()
    assert store.execute("SELECT number FROM numbers ORDER BY number").rows == [(1,), (7,)]


def test_data_is_there_after_a_kill(tmp_path: Path) -> None:
    """An insert that returned survives kill -9 of the process."""
    script = """
import os, signal, sys
from usageaudit.stores.address import open_store
from usageaudit.stores.native import NativeBlock
from usageaudit.stores.port import Insert
store = open_store(sys.argv[1])
store.execute("CREATE TABLE numbers (number UInt64) ENGINE = MergeTree ORDER BY number")
block = NativeBlock([("number", "UInt64")])
block.add_rows([(number,) for number in range(1000)])
store.insert(Insert("numbers", block, "kept"))
os.kill(os.getpid(), signal.SIGKILL)
"""
    url = f"embedded:{tmp_path}/data"
    killed = subprocess.run([sys.executable, "-c", script, url], timeout=60, check=False)
    assert killed.returncode == -9
    store = open_store(url)
    assert store.execute("SELECT count(), sum(number) FROM numbers").rows == [(1000, 499_500)]
    store.close()
