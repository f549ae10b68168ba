"""The later version, which is made once, and a place with embedded data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.evolution.versions import Place, Version, later

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def later_version(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """Return this version with one more field, as docs/upgrading.md says how to add one."""
    return later(tmp_path_factory.mktemp("later"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a place with embedded data."""
    return Place("embedded:./data", "embedded:./data", tmp_path)
