"""The guide for developers of services works as it is written, and leaves nothing out."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.documents import ROOT, Reader, code_blocks
from usageaudit.embedded_log import EmbeddedLog
from usageaudit.publisher import Publisher
from usageaudit.stream_url import KAFKA_OPTIONS

if TYPE_CHECKING:
    from pathlib import Path

GUIDE = ROOT / "docs" / "publishing.md"
BLOCKS = code_blocks(GUIDE)


def _stored(folder: Path) -> list[dict[str, Any]]:
    log = EmbeddedLog.open(folder / "usageaudit-data")
    records = log.read("usage-events", 0, 0, 1_000, 1 << 30)
    log.close()
    return [json.loads(record.value or b"null") for record in records]


def test_the_python_of_the_guide_runs(tmp_path: Path) -> None:
    """All Python of the guide, one block after the other in one module, runs; its test passes; its events arrive."""
    source = "\n\n".join(block.text for block in BLOCKS if block.language == "python")
    (tmp_path / "test_guide.py").write_text(source, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_guide.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    events = _stored(tmp_path)
    assert len(events) == 1 + 1 + 1 + 11
    assert {event["source"] for event in events} == {"//example.com/claims-triage"}
    assert [event["data"]["outcome"]["status"] for event in events[:3]] == ["ok", "error", "ok"]


def test_the_event_of_the_guide_is_one(tmp_path: Path) -> None:
    """The event shown as JSON can be published as a line."""
    (block,) = (block for block in BLOCKS if block.language == "json")
    Reader(tmp_path).types("usageaudit publish -", json.dumps(json.loads(block.text)))
    assert _stored(tmp_path) == [json.loads(block.text)]


@pytest.mark.parametrize(
    ("heading", "function"),
    [
        ("`Publisher(stream_url, ...)`:", Publisher),
        ("`emit(event, ...)` and `aemit`:", Publisher.emit),
        ("`emit(event, ...)` and `aemit`:", Publisher.aemit),
    ],
)
def test_every_parameter_is_in_its_table(heading: str, function: Any) -> None:
    """The tables of the guide name every parameter and no other, and defaults as they are."""
    table = GUIDE.read_text(encoding="utf-8").split(heading)[1].split("\n\n")[1]
    rows = dict(re.findall(r"(?m)^\| `(\w+)` \| (.*?) ?\|", table))
    parameters = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in ("self", "event")
    }
    assert set(rows) == set(parameters)
    for name, default in parameters.items():
        if default not in (None, inspect.Parameter.empty):
            assert rows[name].strip("`").replace('"', "'") == repr(default)


def test_every_option_of_the_stream_is_named() -> None:
    """The guide names each option that a stream URL may have."""
    text = GUIDE.read_text(encoding="utf-8")
    assert [option for option in KAFKA_OPTIONS if f"`{option}`" not in text] == []
