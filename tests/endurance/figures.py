"""Figures that the tests state: one JSON line each, printed, and appended to the file that is named for them.

USAGEAUDIT_TEST_ENDURANCE_FIGURES names the file; `python -m tests.endurance.report FILE` makes the table of them.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.endurance.forms import form

FILE = os.environ.get("USAGEAUDIT_TEST_ENDURANCE_FIGURES", "")


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured: of which test, its name, its value with its unit, and the bound that it was held to."""

    test: str
    name: str
    value: float
    unit: str
    bound: str
    form: str
    at: str


def state(test: str, name: str, value: float, unit: str = "", bound: str = "") -> None:
    """State a figure of a test; `bound` says what the test requires of it, if anything."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = json.dumps(asdict(Figure(test, name, value, unit, bound, form(), at)))
    print(line, flush=True)
    if FILE:
        with Path(FILE).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def read(file: Path) -> list[Figure]:
    """Return the figures of a file in their order; of one that was stated more than once, the last."""
    figures: dict[tuple[str, str], Figure] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        figure = Figure(**json.loads(line))
        figures[figure.test, figure.name] = figure
    return list(figures.values())
