"""Writes the table of docs/endurance.md from the figures that the tests stated.

python -m tests.endurance.report FIGURES
"""

from __future__ import annotations

import argparse
import re
import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.report import table
from tests.endurance.figures import read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.endurance.figures import Figure

DOCUMENT = Path(__file__).parents[2] / "docs" / "endurance.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
_SECTION = re.compile(r"(?ms)^### ([^\n]+)\n\n(.*?\|\n)(?=\n)")
_BETWEEN = re.compile(f"(?s){re.escape(BEGIN)}\n.*{re.escape(END)}")


def section(figures: Sequence[Figure]) -> str:
    """Return the table of one test, with the form that was run where it was not the long one."""
    rows = [(one.name, _number(one.value), one.unit, one.bound) for one in figures]
    forms = sorted({one.form for one in figures} - {"long"})
    said = f"Run in the form: {', '.join(forms)}.\n\n" if forms else ""
    return f"{said}{table(('figure', 'value', 'unit', 'required'), rows)}\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,}"


def written(document: str, figures: Sequence[Figure]) -> str:
    """Return the document with the figures in it; sections of tests that have none here stay as they are.

    Raises ValueError where the document has no place for figures.
    """
    if (found := _BETWEEN.search(document)) is None:
        raise ValueError(f"the document has no lines {BEGIN} and {END}")
    sections = dict(_SECTION.findall(found[0]))
    for test, of_test in groupby(figures, key=lambda figure: figure.test):
        sections[f"{test[:1].upper()}{test[1:]}"] = section(list(of_test))
    body = "".join(f"### {title}\n\n{text}\n" for title, text in sorted(sections.items()))
    return document[: found.start()] + f"{BEGIN}\n\n{body}{END}" + document[found.end() :]


def main(arguments: Sequence[str]) -> None:
    """Write the tables into the document."""
    parser = argparse.ArgumentParser(prog="python -m tests.endurance.report")
    parser.add_argument("figures", type=Path, help="the file that USAGEAUDIT_TEST_ENDURANCE_FIGURES named")
    given = parser.parse_args(arguments)
    figures = read(given.figures)
    DOCUMENT.write_text(written(DOCUMENT.read_text(encoding="utf-8"), figures), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
