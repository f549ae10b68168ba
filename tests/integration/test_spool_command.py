"""`usageaudit spool`, where no broker is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson

from usageaudit.embedded_log import NewRecord
from usageaudit.publisher.records import MIN_SPOOL_BYTES as MIN_BYTES
from usageaudit.publisher.spool.folder import new_spool

USAGEAUDIT = str(Path(sys.executable).with_name("usageaudit"))
STREAM = "kafka://127.0.0.1:1?topic=usage-events"


def _run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("USAGEAUDIT_")}
    command = [USAGEAUDIT, "spool", *arguments]
    return subprocess.run(
        command, cwd=folder, env={**kept, **environment}, capture_output=True, text=True, timeout=120, check=False
    )


def _rows(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in done.stdout.splitlines()]


def test_the_status_of_spools(tmp_path: Path) -> None:
    """Each spool is a row: owner, stream, events, bytes and age; one that can't be read is named, with exit code 1."""
    folder = tmp_path / "spool"
    assert _run(tmp_path, "status", USAGEAUDIT_SPOOL=str(folder)).stdout == ""
    folder.mkdir()
    owned, left = (new_spool(folder, STREAM, MIN_BYTES) for _ in range(2))
    owned.append([NewRecord(b"k", b"v")] * 3)
    left.append([NewRecord(b"k", b"v")])
    left.close()
    done = _run(tmp_path, "status", "--format", "ndjson", USAGEAUDIT_SPOOL=str(folder))
    rows = {row["spool"]: row for row in _rows(done)}
    assert done.returncode == 0
    assert (rows[str(owned.path)]["owner_alive"], rows[str(left.path)]["owner_alive"]) == (True, False)
    assert (rows[str(owned.path)]["events"], rows[str(left.path)]["events"]) == (3, 1)
    assert {row["stream"] for row in rows.values()} == {STREAM}
    assert all(0 <= row["oldest_seconds"] < 120 and row["bytes"] > 1_000 for row in rows.values())
    (folder / "x.damaged").write_bytes(b"\xff" * 5_000)
    damaged = _run(tmp_path, "status", "--spool", str(folder), "--format", "ndjson")
    assert damaged.returncode == 1
    assert [row["problem"] != "" for row in _rows(damaged)] == [False, False, True]
    owned.close()


def test_no_folder_of_spools(tmp_path: Path) -> None:
    """Where the setting says that there are no spools, the command says so instead of looking elsewhere."""
    done = _run(tmp_path, "status", USAGEAUDIT_SPOOL="")
    assert done.returncode == 2
    assert "the setting spool is empty, so publishers keep none; name a folder with --spool" in done.stderr


def test_a_living_owner_keeps_its_spool(tmp_path: Path) -> None:
    """`drain` leaves alone what a living process ships itself, and that is no failure."""
    spool = new_spool(tmp_path, STREAM, MIN_BYTES)
    spool.append([NewRecord(b"k", b"v")])
    done = _run(tmp_path, "drain", "--stream", "kafka://127.0.0.1:1", "--spool", str(tmp_path), "--format", "ndjson")
    assert done.returncode == 0
    assert _rows(done) == [{"shipped": 0, "not_acknowledged": 0, "spools_left": 0}]
    assert spool.pending == 1
    spool.close()


def test_what_draining_leaves_is_named(tmp_path: Path) -> None:
    """A dead owner's spool that could not be adopted is named with what is in it, and the exit code is 1."""
    folder = tmp_path / "spool"
    folder.mkdir()
    spool = new_spool(folder, STREAM, MIN_BYTES)
    spool.append([NewRecord(b"k", b"v")] * 3)
    spool.close()
    lock = spool.path.with_suffix(".lock")
    lock.unlink()
    lock.mkdir()
    for arguments in ((), ("--any",)):
        done = _run(
            tmp_path, "drain", "--stream", STREAM, "--spool", str(folder), "--format", "ndjson", *arguments
        )  # fmt: skip
        assert done.returncode == 1, done.stderr
        assert _rows(done) == [{"shipped": 0, "not_acknowledged": 0, "spools_left": 1}]
        assert f"{spool.path}: left with 3 events and 0 refused: " in done.stderr.replace("\n", " ")
        assert "None" not in done.stderr


def test_an_embedded_stream_has_no_spools(tmp_path: Path) -> None:
    """`drain` with an embedded stream says that it has none, instead of nothing."""
    done = _run(tmp_path, "drain", "--stream", "embedded:./data", "--spool", str(tmp_path))
    assert done.returncode == 0
    assert "embedded and has no spools" in " ".join(done.stderr.split())


def test_a_user_without_a_home(tmp_path: Path) -> None:
    """Where the home folder isn't known, the command asks for a folder instead of ending in a traceback."""
    done = _run(tmp_path, "status", "--spool", "~nobody-of-this-name/spool")
    assert done.returncode == 2
    assert "the home folder of this user is not known" in " ".join(done.stderr.split())
