"""The process that holds the data answers a bounded number of queries at a time, within a bounded memory."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest
import structlog

from usageaudit.cli.remote import server
from usageaudit.cli.remote.client import RemoteStore
from usageaudit.cli.remote.server import QueryServer
from usageaudit.errors import StoreUnavailable
from usageaudit.stores.port import Limits, Rows

if TYPE_CHECKING:
    from pathlib import Path

    from usageaudit.stores.port import Parameters, Store

SECRET = "somebody@example.org"


@dataclass
class Gate:
    """A store whose queries run until the gate opens, which no engine can be made to do."""

    opened: threading.Event = field(default_factory=threading.Event)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    limits: list[Limits] = field(default_factory=list)

    def query(self, sql: str, parameters: Parameters | None = None, limits: Limits | None = None) -> Rows:
        """Answer when the gate is open."""
        if sql == SECRET:
            raise RuntimeError(sql)
        assert limits is not None
        self.limits.append(limits)
        self.entered.release()
        assert self.opened.wait(30.0)
        return Rows(("n",), ("UInt8",), [(1,)])

    def another(self) -> Gate:
        """Return the same."""
        return self

    def close(self) -> None:
        """Do nothing."""


def ask(folder: Path, sql: str = "SELECT 1") -> list[tuple[int, ...]]:
    """Ask over a connection of its own."""
    store = RemoteStore(folder)
    try:
        return [tuple(row) for row in store.query(sql, limits=Limits(memory_bytes=1 << 40)).rows]
    finally:
        store.close()


def test_two_queries_run_at_a_time_and_share_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask for however much, those that run may use together what one may; the others are put off."""
    monkeypatch.setattr(server, "TURN_SECONDS", 0.05)
    gate = Gate()
    most = Limits(memory_bytes=1 << 30)
    with QueryServer(tmp_path, cast("Store", gate), most), ThreadPoolExecutor(2) as pool:
        running = [pool.submit(ask, tmp_path) for _ in range(2)]
        assert all(gate.entered.acquire(timeout=30.0) for _ in running)
        with pytest.raises(StoreUnavailable, match="2 other questions are being answered"):
            ask(tmp_path)
        gate.opened.set()
        assert [one.result(30.0) for one in running] == [[(1,)], [(1,)]]
        assert ask(tmp_path) == [(1,)], "the turns were given back"
    assert sum(one.memory_bytes for one in gate.limits[:2]) == most.memory_bytes


def test_a_failed_connection_is_logged_without_what_was_asked(tmp_path: Path) -> None:
    """What went wrong inside is named by its kind alone: its text may hold a piece of the query."""
    with (
        structlog.testing.capture_logs() as logs,
        QueryServer(tmp_path, cast("Store", Gate())),
        pytest.raises(StoreUnavailable, match="ended the connection"),
    ):
        ask(tmp_path, SECRET)
    assert [line["cause"] for line in logs] == ["RuntimeError"]
    assert SECRET not in str(logs)
