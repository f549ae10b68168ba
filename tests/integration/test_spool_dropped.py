"""Events that a publisher drops, as an auditor sees them: in SQL, and in what `verify` says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import MINIMAL
from usageaudit.cloudevents import STRUCTURED_HEADERS
from usageaudit.dropped import DroppedEvents, encode_dropped, read_dropped
from usageaudit.embedded_log import NewRecord
from usageaudit.publisher import Publisher, RecordPublisher

REPORT = encode_dropped(
    "id", 1_700_000_002_000_000, DroppedEvents("/s", "instance-1", 4, 1_700_000_000_000_000, 1_700_000_001_000_000)
)
QUERY = """SELECT * FROM (
    SELECT 'finding' AS what, group_key AS key, message AS text FROM findings WHERE kind = 'dropped_events'
    UNION ALL SELECT 'rejected', '', error FROM rejects) ORDER BY what, key, text"""
USAGEAUDIT = str(Path(sys.executable).with_name("usageaudit"))


def _says(folder: Path, *arguments: str, expected: int = 0) -> list[dict[str, Any]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("USAGEAUDIT_")}
    done = subprocess.run(
        [USAGEAUDIT, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == expected, done.stderr
    return [orjson.loads(line) for line in done.stdout.splitlines()]


def test_drops_are_seen_by_the_auditor(tmp_path: Path) -> None:
    """Events dropped at the very end, where no later number shows a gap, are a finding and a problem of verify.

    The same report twice on the stream is one finding; what only looks like one is rejected like anything else.
    """
    obstacle = tmp_path / "usageaudit-data"
    obstacle.touch()
    publisher = Publisher(f"embedded:{obstacle}", source="/services/chat", max_queued=2, timeout=60)
    assert [publisher.emit(MINIMAL) is None for _ in range(5)] == [False, False, True, True, True]
    obstacle.unlink()
    assert publisher.close() == 0
    _publish(f"embedded:{obstacle}", [REPORT, REPORT.replace(b'"dropped":4', b'"dropped":-4'), REPORT])
    _says(tmp_path, "consume", "--until-caught-up")
    found = _says(tmp_path, "query", QUERY)
    assert [one["key"].partition("/instance")[0].rpartition("/")[0] for one in found[:2]] == ["", "/services/chat"]
    assert "instance-1 of its publisher dropped 4 events" in found[0]["text"]
    assert "dropped 3 events" in found[1]["text"]
    reports = [one["text"] for one in found[2:] if "that a publisher dropped, no usage event" in one["text"]]
    assert (len(found[2:]), len(reports)) == (4, 3)
    problems = _says(tmp_path, "verify", "--problems", expected=1)
    assert [one["problem"] for one in problems] == ["dropped_by_publisher"] * 2


def _publish(url: str, values: list[bytes]) -> None:
    with RecordPublisher(url) as records:
        for value in values:
            records.put(NewRecord(b"k", value, STRUCTURED_HEADERS))


@given(st.integers(1, 2**53), st.integers(0, 4_000_000_000_000_000), st.integers(0, 1_000_000_000))
def test_a_report_is_read_as_it_was_written(dropped: int, first: int, seconds: int) -> None:
    """What a publisher writes of its drops is what the consumer reads; a usage event is no such report."""
    report = DroppedEvents("/s", "instance-1", dropped, first, first + seconds)
    assert read_dropped(encode_dropped("id", first, report)) == report


def test_a_source_may_be_long() -> None:
    """A report has any source that an event may have, however long."""
    report = DroppedEvents("//example.com/" + "x" * 2_000, "instance-1", 1, 0, 0)
    assert read_dropped(encode_dropped("id", 0, report)) == report


def test_what_is_no_report() -> None:
    """A record that breaks the form of a report in any place is none, and nothing is raised."""
    broken = [
        (b'"dropped":4', b'"dropped":0'),
        (b'"dropped":4', b'"dropped":"4"'),
        (b'"dropped":4', b'"dropped":99999999999999999999'),
        (b"2023-11-14T22:13:20", b"2023-99-14T22:13:20"),
        (b'"/s"', b'""'),
        (b'"instance-1"', b'"' + b"x" * 501 + b'"'),
        (b"}}", b"}"),
    ]
    assert [read_dropped(REPORT.replace(*one)) for one in broken] == [None] * len(broken)
    assert read_dropped(None) is None
    assert read_dropped(REPORT) is not None
