"""Rows as a table of text that fits the terminal; where it can't, each row as a block of names and values."""

from __future__ import annotations

import textwrap
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size

from usageaudit.cli.text import printable
from usageaudit.cli.values import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_GAP = "  "
_NARROWEST = 16
"""A column of text is cut to no less than this; before that the rows are printed as blocks."""
_ELLIPSIS = "…"


def format_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, width: int | None = None, bold: bool = False
) -> Iterator[str]:
    """Yield the lines of a table no wider than `width` columns of the terminal; None for any width.

    Columns of numbers are aligned to the right. Long text is cut, which an ellipsis shows.
    """
    names = [printable(name) for name in columns]
    cells = [[printable(text_of(value)) for value in row] for row in rows]
    natural = [max(cell_len(name), *(cell_len(row[i]) for row in cells), 0) for i, name in enumerate(names)]
    widths = _fit(natural, [cell_len(name) for name in names], width)
    if widths is None:
        yield from _blocks(names, cells, width or 80)
        return
    right = [_is_numeric([row[i] for row in rows]) for i in range(len(names))]
    yield _line(names, widths, right, bold=bold)
    yield _line(["─" * one for one in widths], widths, right)
    for row in cells:
        yield _line(row, widths, right)


def _fit(natural: list[int], least: list[int], width: int | None) -> list[int] | None:
    """Return widths of columns that fit, made by narrowing the widest; None where no such widths are left."""
    widths = list(natural)
    room = None if width is None else width - len(_GAP) * (len(widths) - 1)
    while room is not None and (over := sum(widths) - room) > 0:
        widest = max(range(len(widths)), key=widths.__getitem__)
        floor = max(_NARROWEST, least[widest], sorted(widths)[-2] if len(widths) > 1 else 0)
        if widths[widest] == floor:
            floor = max(_NARROWEST, least[widest], floor - 1)
        if widths[widest] <= floor:
            return None
        widths[widest] = max(floor, widths[widest] - over)
    return widths


def _is_numeric(values: Sequence[Any]) -> bool:
    some = [value for value in values if value is not None]
    return bool(some) and all(
        isinstance(value, int | float | Decimal) and not isinstance(value, bool) for value in some
    )


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool], *, bold: bool = False) -> str:
    line = _GAP.join(_cell(*one) for one in zip(cells, widths, right, strict=True)).rstrip()
    return f"\x1b[1m{line}\x1b[0m\n" if bold else line + "\n"


def _cell(text: str, width: int, right: bool) -> str:
    if (length := cell_len(text)) > width:
        return set_cell_size(text, width - 1) + _ELLIPSIS
    return " " * (width - length) + text if right else text + " " * (width - length)


def _blocks(names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    column = max(map(cell_len, names))
    for number, row in enumerate(rows, 1):
        yield f"── {number} " + "─" * max(0, min(width, 60) - 5 - len(str(number))) + "\n"
        for name, text in zip(names, row, strict=True):
            if text:
                yield from _block_line(set_cell_size(name, column) + _GAP, text, width)


def _block_line(head: str, text: str, width: int) -> Iterator[str]:
    room = max(20, width - cell_len(head))
    for first, piece in enumerate(textwrap.wrap(text, room) or [""]):
        yield (" " * cell_len(head) if first else head) + piece + "\n"
