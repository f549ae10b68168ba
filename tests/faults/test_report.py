"""The report says what the campaigns found: it adds up, and hides neither a loss nor a control that did not fail."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from tests.faults.report import END, PAGE, START, Line, append, read, tables, written

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

KILLED = Line(
    "consumer", "kill -9", "after insert", 20, 1_000, 0, 0, also=3, recovered_s=[0.5, 2.0], at="2026-01-02T03"
)
AGAIN = Line("consumer", "kill -9", "after insert", 10, 500, 1, 2, wrong=4, recovered_s=[0.7, 3.0], at="2026-01-03T03")
CONTROL = Line("consumer", "kill -9", "after insert", 5, 200, 0, 40, control="without reading back", at="2026-01-02T03")
SILENT = Line("store", "kill -9", "at random", 5, 200, 0, 0, control="without the spool", at="2026-01-02T03")


def test_lines_of_one_campaign_add_up() -> None:
    """Two runs of a campaign are one row, with the control beside them, and the totals count what was injected."""
    text = tables([KILLED, AGAIN, CONTROL])
    assert "| kill -9 | after insert | 30 | 1,500 | 1 | 2 (4 otherwise wrong) | 0.7, at most 3.0 |" in text
    assert "without reading back: 40 doubled in 5 |" in text
    assert "| **all** | 33 | 1,500 | 1 | 2 | 4 | 1 of 1 |" in text


def test_a_control_that_found_nothing_is_said() -> None:
    """A control that did not fail is not counted as one that did, and stands out."""
    text = tables([KILLED, SILENT, Line("store", "kill -9", "at random", 9, 9, 0, 0)])
    assert "without the spool: **nothing found** in 5" in text
    assert "| store | 9 | 9 | 0 | 0 | 0 | 0 of 1 |" in text


def test_lines_come_back_as_they_were_appended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is appended is read again; without a file named nothing is written anywhere."""
    path = tmp_path / "of-a-run" / "lines.jsonl"
    monkeypatch.setenv("USAGEAUDIT_TEST_FAULT_REPORT", str(path))
    append(KILLED)
    append(CONTROL)
    assert [asdict(line) for line in read(path)] == json.loads(json.dumps([asdict(KILLED), asdict(CONTROL)]))
    monkeypatch.delenv("USAGEAUDIT_TEST_FAULT_REPORT")
    append(KILLED)
    assert [entry.name for entry in tmp_path.iterdir()] == ["of-a-run"]


def test_the_page_keeps_what_is_around_the_tables() -> None:
    """Writing the tables anew changes nothing else of docs/faults.md, and twice the same is the same."""
    page = PAGE.read_text(encoding="utf-8")
    assert page.count(START) == page.count(END) == 1
    once = written(page, [KILLED, CONTROL])
    assert written(once, [KILLED, CONTROL]) == once
    assert once.partition(START)[0] == page.partition(START)[0]
    assert once.partition(END)[2] == page.partition(END)[2]
    assert "Measured on 2026-01-02." in once
