"""A watch goes on whatever it meets, and never shows what it saw before for what is so now."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from usageaudit.errors import BundleError
from usageaudit.operating import watching
from usageaudit.operating.watching import Watch
from usageaudit.publisher.spool.file import SUFFIX
from usageaudit.publisher.spool.folder import statuses
from usageaudit.stores.address import open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECONDS = 20


def _wait(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), BundleError("unknown")], ids=["disk", "ours"])
def test_a_look_that_fails_is_not_the_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception) -> None:
    """Where a look fails the store counts as not reachable until one succeeds, and the thread goes on."""
    broken = threading.Event()

    def look(folder: Path) -> list[object]:
        if broken.is_set():
            raise error
        return []

    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.005)
    monkeypatch.setattr(watching, "statuses", look)
    monkeypatch.setattr(watching, "pending", lambda _: ())  # a store that answers, without a server
    with Watch(open_store("clickhouse://127.0.0.1:1/usageaudit"), {}, tmp_path) as watch:
        _wait(watch.reachable)
        broken.set()
        _wait(lambda: not watch.reachable())
        broken.clear()
        _wait(watch.reachable)
    _wait(lambda: not watch.reachable())  # nobody asks the store any more


def test_a_spool_whose_files_have_no_size_is_listed(tmp_path: Path) -> None:
    """What can't be asked for its size, as when it was just removed, counts as nothing and ends no look.

    The name leaves no room for that of the log beside it, for which the system has another error than for none.
    """
    path = tmp_path / f"{'x' * (255 - len(SUFFIX))}{SUFFIX}"
    path.write_bytes(b"no spool")
    with pytest.raises(OSError, match="too long"):
        path.with_name(path.name + "-wal").stat()
    (found,) = statuses(tmp_path)
    assert (found.path, found.bytes) == (path, 8)
    assert found.problem.startswith("it can't be read")
