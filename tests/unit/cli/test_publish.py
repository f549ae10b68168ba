from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.strategies import MINIMAL, envelope
from usageaudit.cloudevents import MAX_RECORD_BYTES, STRUCTURED_HEADERS, decode, partition_key
from usageaudit.embedded_log import EmbeddedLog, StoredRecord

if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND = str(Path(sys.executable).with_name("usageaudit"))


@pytest.fixture
def publish(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Return a function that runs `usageaudit publish` with an embedded stream and standard input."""

    def run(*arguments: str, text: bytes = b"", stream: str = "embedded:data") -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, "USAGEAUDIT_STREAM": stream}
        command = [COMMAND, "publish", *arguments]
        return subprocess.run(
            command, input=text, env=environment, cwd=tmp_path, capture_output=True, timeout=60, check=False
        )

    return run


def _line(**attributes: Any) -> bytes:
    return json.dumps(envelope(attributes.pop("data", MINIMAL), **attributes)).encode()


def _stored(folder: Path) -> list[StoredRecord]:
    log = EmbeddedLog.open(folder / "data")
    try:
        return log.read("usage-events", 0, 0, 1_000_000, 1 << 40)
    finally:
        log.close()


def _result(done: subprocess.CompletedProcess[bytes]) -> dict[str, int]:
    (line,) = done.stdout.splitlines()
    result: dict[str, int] = json.loads(line)
    return result


def test_lines_are_published_as_they_are(publish: Any, tmp_path: Path) -> None:
    """Every event of a file is in the stream, byte for byte, in order, with its id, key and headers."""
    lines = [_line(id=f"e-{n}") for n in range(1_200)]
    (tmp_path / "events.ndjson").write_bytes(b"\n".join(lines) + b"\n")
    done = publish("events.ndjson")
    assert (done.returncode, done.stderr) == (0, b"")
    assert _result(done) == {"acknowledged": 1_200, "bad": 0, "refused": 0, "not_acknowledged": 0}
    records = _stored(tmp_path)
    assert [record.value for record in records] == lines
    assert [record.key for record in records] == [partition_key("//tests", f"e-{n}") for n in range(1_200)]
    assert all(record.headers == STRUCTURED_HEADERS for record in records)


def test_bad_lines_are_named_and_the_others_published(publish: Any, tmp_path: Path) -> None:
    """Each bad line is named on stderr with its number and what is wrong; the exit code is 1."""
    wrong = {**MINIMAL, "operation": 7}
    lines = [_line(id="a"), b"{oops", b"", _line(data=wrong), b"  ", b"\xff", b"x" * 1_100_000, _line(id="b"), b"{}"]
    done = publish("-", text=b"\r\n".join(lines))
    assert done.returncode == 1
    assert _result(done) == {"acknowledged": 2, "bad": 5, "refused": 0, "not_acknowledged": 0}
    said = done.stderr.decode().splitlines()
    assert [one.split(":")[0] for one in said] == ["line 2", "line 4", "line 6", "line 7", "line 9"]
    assert "data.operation" in said[1]
    assert "longer than 1,000,000 bytes" in said[3]
    assert [decode(record.value, record.headers).id for record in _stored(tmp_path)] == ["a", "b"]


def test_strict_stops_at_the_first_bad_line(publish: Any, tmp_path: Path) -> None:
    """With --strict nothing after the first bad line is published; what came before it is."""
    done = publish("-", "--strict", text=b"\n".join([_line(id="a"), b"{}", _line(id="b"), b"[]"]))
    assert done.returncode == 1
    assert _result(done)["acknowledged"] == 1
    assert done.stderr.decode().startswith("line 2: ")
    assert [decode(record.value).id for record in _stored(tmp_path)] == ["a"]


def test_raw_lines_are_not_looked_at(publish: Any, tmp_path: Path) -> None:
    """With --raw every line goes to the stream as it is, blank and broken ones, too; only a far too long one is bad."""
    lines = [b"{oops", b"", _line(id="a"), b"\xff\x00", b'{"source": 7, "id": "x"}', b"[" * 5_000, b" spaces "]
    done = publish("-", "--raw", text=b"\n".join([*lines, b"x" * 1_048_577]))
    assert done.returncode == 1
    assert done.stderr.decode() == "line 8: is longer than 1,048,576 bytes\n"
    records = _stored(tmp_path)
    assert [record.value for record in records] == lines
    assert [record.key for record in records] == [None, None, partition_key("//tests", "a"), None, None, None, None]


@pytest.mark.parametrize("option", [(), ("--raw",)])
def test_the_partition_key_of_the_envelope_is_the_key(publish: Any, tmp_path: Path, option: tuple[str, ...]) -> None:
    """A CloudEvent with `partitionkey` gets it as the key of its record, another one source and id."""
    text = b"\n".join([_line(partitionkey="mine"), _line(partitionkey=""), _line(id='"partitionkey"')])
    assert publish("-", *option, text=text).returncode == 0
    keys = [b"mine", partition_key("//tests", "e-1"), partition_key("//tests", '"partitionkey"')]
    assert [record.key for record in _stored(tmp_path)] == keys


def test_the_longest_line(publish: Any, tmp_path: Path) -> None:
    """A line of exactly the greatest length is published, with and without an end; a byte more is refused."""
    room = MAX_RECORD_BYTES - len(_line(data={**MINIMAL, "labels": {"a": ""}}))
    longest = _line(data={**MINIMAL, "labels": {"a": "x" * room}})
    longer = _line(data={**MINIMAL, "labels": {"a": "x" * (room + 1)}})
    assert len(longest) == MAX_RECORD_BYTES
    done = publish("-", text=b"\n".join([longest, longer, longest]))
    assert _result(done) == {"acknowledged": 2, "bad": 1, "refused": 0, "not_acknowledged": 0}
    assert [record.value for record in _stored(tmp_path)] == [longest, longest]


def test_a_file_that_cannot_be_read(publish: Any, tmp_path: Path) -> None:
    """A file that is not there, or is a folder, is wrong usage and named."""
    assert publish("missing.ndjson").returncode == 2
    done = publish(str(tmp_path))
    assert (done.returncode, done.stdout) == (2, b"")
    assert str(tmp_path) in done.stderr.decode()


def test_a_stream_that_is_out_of_reach(publish: Any, tmp_path: Path) -> None:
    """Where nothing is acknowledged in time the exit code is 3, and it is said how many events were not."""
    done = publish("-", "--timeout", "7", text=_line() + b"\n" + _line(), stream="kafka://127.0.0.1:1")
    assert done.returncode == 3
    assert _result(done) == {"acknowledged": 0, "bad": 0, "refused": 0, "not_acknowledged": 2}
    assert "2 events were not acknowledged" in done.stderr.decode()
    assert "nothing answers there: is it running" in done.stderr.decode()


def test_faults_that_do_not_pass_are_not_waited_out(publish: Any, tmp_path: Path) -> None:
    """A folder that can't be made and a file that is damaged end the command before the time-out would."""
    (tmp_path / "file").touch()
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "stream.sqlite3").write_bytes(b"no database" * 2_000)
    for stream, code, cause in (("file/data", 2, "the folder can't be made"), ("damaged", 3, "the file is damaged")):
        began = time.monotonic()
        done = publish("-", "--timeout", "45", text=_line(), stream=f"embedded:{stream}")
        assert time.monotonic() - began < 10
        assert (done.returncode, _result(done)["not_acknowledged"]) == (code, 1)
        (error,) = [line for line in done.stderr.decode().splitlines() if line.startswith("error: ")]
        assert "1 event was not acknowledged" in error
        assert cause in error


def test_events_leave_while_the_input_goes_on(tmp_path: Path) -> None:
    """A line from a pipe that stays open is published at once, and Ctrl-C ends it cleanly."""
    environment = {**os.environ, "USAGEAUDIT_STREAM": "embedded:data"}
    command = [COMMAND, "publish", "-"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdin=pipe, stdout=pipe, stderr=pipe) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdin.write(_line() + b"\n")
        child.stdin.flush()
        log = EmbeddedLog.open(tmp_path / "data")
        while not log.end("usage-events", 0):
            assert child.poll() is None
        log.close()
        child.send_signal(signal.SIGINT)
        output = child.stdout.read()
        errors = child.stderr.read()
    assert child.returncode == 130, errors
    assert json.loads(output)["acknowledged"] == 1


def test_what_a_person_sees(tmp_path: Path) -> None:
    """On a terminal the result is a sentence, and progress leaves nothing behind in it."""
    (tmp_path / "events.ndjson").write_bytes(b"\n".join([_line(id=f"e-{n}") for n in range(2_000)] + [b"{}"]))
    ours, theirs = pty.openpty()
    environment = {**os.environ, "USAGEAUDIT_STREAM": "embedded:data", "TERM": "xterm"}
    command = [COMMAND, "publish", "events.ndjson"]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=theirs, stderr=theirs) as child:
        os.close(theirs)
        seen = b""
        while chunk := _read(ours):
            seen += chunk
    os.close(ours)
    assert child.returncode == 1
    assert b"2,000 events acknowledged, 1 bad line not published" in seen
    assert b"line 2001: " in seen


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # the other end was closed
        return b""
