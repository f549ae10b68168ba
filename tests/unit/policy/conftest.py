"""What tests of policies share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from usageaudit.cli.run import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def command(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs `usageaudit policy` in an empty folder: exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(["policy", *arguments])
        output, errors = capfd.readouterr()
        return code, output, errors

    return call
