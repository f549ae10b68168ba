"""Prints what the tests of policies leave open: `usageaudit policy test --coverage`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from usageaudit.cli.output import Format, print_rows, print_text
from usageaudit.cli.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from usageaudit.policy.coverage import Coverage, Part

_FIGURES = ("policy_id", "tests", "parts", "decided", "percent", "can_be_unknown", "left_open")
_PART = ("condition", "file", "line", "column", "part", "never")


def print_coverage(found: Sequence[Coverage], format: Format | None) -> None:  # noqa: A002
    """Print the figures of each policy, and the parts that its tests leave open, but for a table or CSV."""
    if format is None and sys.stdout.isatty():
        print_text("\n".join(_text(found)))
    elif format in (Format.table, Format.csv):
        print_rows(_FIGURES, map(_figures, found), format)
    else:
        rows = ((*_figures(one), [_part(part) for part in one.undecided]) for one in found)
        print_rows((*_FIGURES, "undecided"), rows, format)


def percent(found: Iterable[Coverage]) -> float:
    """Return how many of all parts were shown both ways, in percent, rounded down to a tenth; 100 of no parts."""
    decided, total = 0, 0
    for one in found:
        decided, total = decided + one.decided, total + len(one.parts)
    return 1000 * decided // total / 10 if total else 100.0


def _figures(one: Coverage) -> tuple[object, ...]:
    open_ = [part.left_open for part in one.parts if part.left_open is not None]
    return (one.policy_id, one.tests, len(one.parts), one.decided, percent([one]), len(open_), sum(open_))


def _part(part: Part) -> dict[str, object]:
    shown = part.diagnostic()
    values = (part.condition, shown.file, shown.line, shown.column, part.node.span.text, part.never)
    return dict(zip(_PART, values, strict=True))


def _text(found: Sequence[Coverage]) -> Iterable[str]:
    for one in found:
        yield from (printable(part.diagnostic().render(), keep="\n") for part in one.undecided)
        _, tests, parts, decided, share, unknown, left_open = _figures(one)
        shown = f"{decided} of {parts} parts shown true and false ({share} %), {left_open} of {unknown} unknown"
        yield f"{printable(one.policy_id)}: {shown} in {tests} test{'' if tests == 1 else 's'}"
    yield f"all: {percent(found)} %"
