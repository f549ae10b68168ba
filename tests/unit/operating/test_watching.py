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


def test_spools_that_come_and_go_while_they_are_looked_at(tmp_path: Path) -> None:
    """Publishers remove what they emptied at any moment: that is no error of whoever looks at the folder."""
    stop = threading.Event()
    paths = [tmp_path / f"spool{SUFFIX}", tmp_path / f"spool{SUFFIX}-wal"]

    def churn() -> None:
        while not stop.is_set():
            for path in paths:
                path.touch()
            for path in paths:
                path.unlink(missing_ok=True)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(500):
            assert len(statuses(tmp_path)) <= 1
    finally:
        stop.set()
        thread.join()
