"""docs/sizing.md: its table has the figures that its script measures, and its arithmetic is right."""

from __future__ import annotations

import re
import shlex
import sys
from typing import TYPE_CHECKING

from tests.conftest import skip
from tests.deploy import sizing
from tests.documents import ROOT, code_blocks
from tests.servers import clickhouse, kafka

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "docs" / "sizing.md"
TEXT = PAGE.read_text(encoding="utf-8")
DAY = 86_400


def _measured() -> dict[str, float]:
    rows = dict(re.findall(r"(?m)^\| ([^|]+?) \| ([\d,.]+) \|$", TEXT))
    return {name: float(rows[meaning].replace(",", "")) for name, meaning in sizing.FIGURES.items()}


def test_the_script_measures_what_the_page_says(tmp_path: Path) -> None:
    """The script of docs/sizing.md measures every figure of its table, and none is off by a power of ten."""
    if lacking := kafka.lacking() or clickhouse.lacking("25.8"):
        skip(lacking)
    found = sizing.measure(2_000, tmp_path)
    assert set(found) == set(sizing.FIGURES)
    for name in ("value", "kafka", "parts", "raw"):  # sizes do not depend on the machine
        assert _measured()[name] / 3 < found[name] < _measured()[name] * 3, name


def test_the_command_is_the_script() -> None:
    """The command that the page shows runs the module that the test above imports."""
    (block,) = code_blocks(PAGE)
    words = shlex.split(block.text)
    assert words[1:3] == ["-m", sizing.__name__]
    assert sys.modules[words[2]] is sizing


def test_the_table_by_load_follows_from_the_measured_figures() -> None:
    """Each row of the second table is the first table times its load."""
    figures = _measured()
    rows = re.findall(r"(?m)^\| ([\d,]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", TEXT)
    assert len(rows) >= 4
    for row in rows:
        rate, *shown = (float(value.replace(",", "")) for value in row)
        cores = rate * figures["consumer"] / 1e6
        server = rate * (figures["clickhouse"] + 3 * figures["merge"]) / 1e6
        stream, store = (rate * DAY * figures[name] / 1e9 for name in ("kafka", "merged"))
        for expected, value in zip((cores, server, stream, store), shown, strict=True):
            assert abs(expected - value) <= max(0.05, expected * 0.05), (row, expected)
