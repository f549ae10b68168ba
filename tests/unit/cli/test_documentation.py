"""What the documentation says of commands and settings is what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from usageaudit.cli.reference import reference

DOCS = Path(__file__).parents[3] / "docs"


def test_the_documented_commands_and_settings_are_the_real_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/commands.md holds the help of every command, and every setting."""
    monkeypatch.delenv("COLUMNS", raising=False)
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    documented = text[text.index("## Commands") :]
    assert documented.strip() == reference().strip(), "python -m usageaudit.cli.reference writes it anew"


@pytest.mark.parametrize("name", ["commands.md", "operating.md"])
def test_no_line_of_the_documentation_is_left_to_be_written(name: str) -> None:
    """Pages are finished."""
    text = (DOCS / name).read_text(encoding="utf-8")
    assert "TODO" not in text
    assert text.startswith("# ")
