"""Servers that are not there when a command starts."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.conftest import COMMAND, Pair
from usageaudit.events.examples import example_events

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def closed_port() -> int:
    """Return a port of this machine where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@pytest.mark.parametrize("arguments", [("consume", "--until-caught-up"), ("query", "SELECT 1"), ("migrate",)])
def test_a_store_that_is_away_is_named_within_15_seconds(
    arguments: tuple[str, ...], closed_port: int, tmp_path: Path
) -> None:
    """A command whose store can't be reached says where it looked and ends with 3, within 15 seconds."""
    pair = Pair("embedded:./data", f"clickhouse://default@127.0.0.1:{closed_port}/default", tmp_path)
    _assert_unreachable(pair, arguments, f"127.0.0.1:{closed_port}")


def test_a_broker_that_is_away_is_named_within_15_seconds(
    closed_port: int, clickhouse_database: str, tmp_path: Path
) -> None:
    """A consumer whose broker can't be reached says where it looked and ends with 3, within 15 seconds."""
    pair = Pair(f"kafka://127.0.0.1:{closed_port}", clickhouse_database, tmp_path)
    _assert_unreachable(pair, ("consume", "--until-caught-up"), f"127.0.0.1:{closed_port}")


def test_a_publisher_without_a_broker_names_it_within_15_seconds(closed_port: int, tmp_path: Path) -> None:
    """Publishing to a broker that can't be reached says where it looked and ends with 3, within 15 seconds."""
    pair = Pair(f"kafka://127.0.0.1:{closed_port}", "embedded:./data", tmp_path)
    (tmp_path / "events.ndjson").write_text(json.dumps(example_events()["minimal"]) + "\n")
    line = _assert_unreachable(pair, ("publish", "events.ndjson"), f"127.0.0.1:{closed_port}")
    assert "nothing answers there" in line
    assert "KafkaTimeoutError" not in line


def _assert_unreachable(pair: Pair, arguments: tuple[str, ...], place: str) -> str:
    began = time.monotonic()
    done = subprocess.run(
        [COMMAND, *arguments], env=pair.environment, cwd=pair.folder, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert time.monotonic() - began < 15
    assert done.returncode == 3, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert place in line
    return line
