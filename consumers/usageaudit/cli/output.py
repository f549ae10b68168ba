"""Prints rows: a table on a terminal, otherwise a line of JSON each; results on stdout, all else on stderr.

In JSON and CSV times are RFC 3339 in UTC with `Z`, decimals are strings and 64-bit integers numbers.
"""

from __future__ import annotations

import os
import re
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from usageaudit.cli.table import format_table
from usageaudit.cli.text import printable
from usageaudit.cli.values import jsonable, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_CHUNK = 1000
_UNSAFE = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What JSON may hold as it is, and terminals act on or readers of lines take for the end of one."""


class Format(StrEnum):
    """How rows are printed."""

    table = "table"
    json = "json"
    ndjson = "ndjson"
    csv = "csv"


FormatOption = Annotated[
    Format | None,
    typer.Option(
        metavar="FORMAT", help="table, json, ndjson or csv; by default table on a terminal and ndjson otherwise."
    ),
]


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], format: Format | str | None = None) -> None:  # noqa: A002
    """Print rows on stdout; `format` None is a table on a terminal and ndjson otherwise."""
    chosen = Format(format) if format else (Format.table if sys.stdout.isatty() else Format.ndjson)
    match chosen:
        case Format.table:
            _write(format_table(columns, list(rows), width=_width(), bold=_bold()))
        case Format.csv:
            _print_csv(columns, rows)
        case Format.ndjson:
            _write(line + "\n" for line in _objects(columns, rows))
        case Format.json:
            _write(_array(_objects(columns, rows)))


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """Yield the lines of a table, to be part of a text on stdout."""
    return (line.rstrip("\n") for line in format_table(columns, rows, width=_width(), bold=_bold()))


def print_json(value: Any) -> None:
    """Print one JSON value, indented, on stdout."""
    _write([_safe(orjson.dumps(jsonable(value), option=orjson.OPT_INDENT_2)) + "\n"])


def print_text(text: str) -> None:
    """Print a document of our own on stdout."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def say(text: str = "") -> None:
    """Write a line for the person on stderr: progress and hints, never results."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _objects(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    for row in rows:
        yield _safe(orjson.dumps({name: jsonable(value) for name, value in zip(columns, row, strict=True)}))


def _safe(json: bytes) -> str:
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.decode())


def _array(lines: Iterator[str]) -> Iterator[str]:
    before = "["
    for line in lines:
        yield f"{before}\n{line}"
        before = ","
    yield "[]\n" if before == "[" else "\n]\n"


def _print_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    lines = (",".join(map(_csv_field, row)) + "\n" for row in (columns, *rows))
    _write((printable(line, keep="\n") for line in lines) if sys.stdout.isatty() else lines)


def _csv_field(value: Any) -> str:
    """Return a field as RFC 4180 has it; the library's writer leaves a lone carriage return unquoted."""
    text = text_of(value)
    return '"' + text.replace('"', '""') + '"' if any(one in text for one in ',"\r\n') else text


def _write(pieces: Iterable[str]) -> None:
    waiting: list[str] = []
    for piece in pieces:
        waiting.append(piece)
        if len(waiting) >= _CHUNK:
            sys.stdout.write("".join(waiting))
            waiting.clear()
    sys.stdout.write("".join(waiting))


def _bold() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _width() -> int | None:
    """Return the width to keep to; None, for as wide as it gets, where the output is not a terminal."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS"):
        import shutil

        return shutil.get_terminal_size().columns
    return None
