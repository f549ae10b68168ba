"""What docs/alerts.md shows is read, and its tables are those of the definitions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.documents import ROOT, Reader, code_blocks
from tests.unit.alerts.config.files import KEY, SECRETS, written
from usageaudit.alerts.config import read_alerts
from usageaudit.alerts.config.fileschema import reference
from usageaudit.alerts.config.templates import FIELDS

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

PAGE = ROOT / "docs" / "alerts.md"


def _blocks(language: str) -> list[str]:
    return [block.text for block in code_blocks(PAGE) if block.language == language]


def test_the_files_that_are_shown_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file of the page is read without a mistake, given the secrets that it names."""
    first, more = _blocks("yaml")
    for name in re.findall(r"env: (\w+)", first + more):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv("SLACK_URL", SECRETS["SLACK_URL"])
    (tmp_path / "soc.key").write_text(KEY, encoding="utf-8")
    assert [route.to for route in read_alerts(written(tmp_path, first)).routes] == [("try-out",)]
    assert [route.name for route in read_alerts(written(tmp_path, more)).routes] == ["grave", "claims", "route 3"]


def test_the_first_file_is_checked_as_shown(tmp_path: Path) -> None:
    """The commands of the page check its first file."""
    written(tmp_path, _blocks("yaml")[0])
    [script] = _blocks("sh")
    assert "try-out" in Reader(tmp_path).types(script)


def test_the_tables_are_those_of_the_definitions() -> None:
    """The reference of keys and the fields of templates are what the definitions say."""
    text = PAGE.read_text(encoding="utf-8")
    assert text.endswith(f"## Reference\n\n{reference()}")
    assert [name for name, doc in FIELDS.items() if f"| `{name}` | {doc} |\n" not in text] == []
