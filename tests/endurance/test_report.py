"""The tables of docs/endurance.md come from figures and from nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.endurance import figures
from tests.endurance.figures import Figure, read, state
from tests.endurance.report import BEGIN, END, written

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

PAGE = f"before\n{BEGIN}\n\n{END}\nafter\n"


def _figure(test: str, name: str, value: float) -> Figure:
    return Figure(test, name, value, "ms", "under 5", "long", "2026-01-01T00:00:00Z")


def test_figures_that_are_stated_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure is a JSON line of the file that is named, and of one that is stated twice the last counts."""
    file = tmp_path / "figures.jsonl"
    monkeypatch.setattr(figures, "FILE", str(file))
    for value in (1.5, 2.5):
        state("soak", "growth", value, "MiB/h", "under 3")
    assert [(one.test, one.name, one.value, one.unit, one.bound) for one in read(file)] == [
        ("soak", "growth", 2.5, "MiB/h", "under 3")
    ]


def test_a_run_replaces_its_own_tables_only() -> None:
    """Writing again changes nothing; a section whose test was not run stays; what is around the tables stays."""
    both = written(PAGE, [_figure("soak", "growth", 1.0), _figure("away", "p99", 2.0)])
    assert written(both, []) == both
    after = written(both, [_figure("soak", "growth", 4.0)])
    assert written(PAGE, [_figure("soak", "growth", 4.0), _figure("away", "p99", 2.0)]) == after
    assert after.startswith(f"before\n{BEGIN}\n")
    assert after.endswith(f"{END}\nafter\n")
