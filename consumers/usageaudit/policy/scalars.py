"""Finds where each character of a YAML scalar stands in its file, whatever way the scalar is written."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Piece = tuple[int, int, int]
"""(offset in the scalar's text, line, column) from which on the characters stand side by side."""

_WHITE = frozenset(" \t\r\n\x85\u2028\u2029")
_WHITE_ESCAPES = frozenset("tnrNLP")
_ESCAPE = re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|\r\n|.)", re.DOTALL)
_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


def pieces_of(text: str, file: str, starts: Sequence[int], start: int, end: int, style: str) -> list[Piece]:
    """Return the pieces of a scalar whose form fills [start, end) of the file.

    `starts` are the offsets at which the file's lines start, `style` is YAML's: empty, ', ", | or >.

    The two are walked along together. They differ by what YAML drops and folds, which is white space and quoting, so
    the next character of the text that is not white is the next of the file that is not, once escapes are undone.
    """
    body = _body(file, start, end, style)
    if text and style not in ("|", ">") and file.startswith(text, body) and not _BREAK.search(text):
        # It stands there as it is, as most do.
        return [(0, *_position(starts, body))]
    offsets = _offsets(text, file, body, end, style)
    pieces: list[Piece] = []
    expected = -1
    for index, offset in enumerate(offsets):
        if offset != expected or (index and file[offset - 1] in "\r\n\x85\u2028\u2029"):
            pieces.append((index, *_position(starts, offset)))
        expected = offset + 1
    return pieces or [(0, *_position(starts, start))]


def _body(file: str, start: int, end: int, style: str) -> int:
    """Return where the characters begin: behind the quote, or behind the line that announces a block."""
    if style in ("|", ">"):
        found = _BREAK.search(file, start, end)
        return found.end() if found else end
    return start + 1 if style in ("'", '"') else start


def _offsets(text: str, file: str, at: int, end: int, style: str) -> list[int]:
    """Return the offset in the file of each character of the text."""
    offsets: list[int] = []
    last = max(end - 1, 0)
    for character in text:
        if character not in _WHITE:
            while at < end and _is_white(file, at, style):
                at += _length(file, at, style)
        offsets.append(min(last, at))
        if character not in _WHITE or (at < end and _is_white(file, at, style)):
            at += _length(file, at, style)
    return offsets


def _is_white(file: str, at: int, style: str) -> bool:
    """Tell whether what is written at an offset is white space, or nothing, as a line break behind a backslash is."""
    if style == '"' and file[at] == "\\":
        return file[at + 1 : at + 2] in _WHITE or file[at + 1 : at + 2] in _WHITE_ESCAPES
    return file[at] in _WHITE


def _length(file: str, at: int, style: str) -> int:
    """Return how many characters of the file write the one at an offset."""
    if style == "'" and file.startswith("''", at):
        return 2
    if style == '"' and (escape := _ESCAPE.match(file, at)):
        return len(escape.group())
    return 1


def _position(starts: Sequence[int], offset: int) -> tuple[int, int]:
    line = bisect_right(starts, offset)
    return line, offset - starts[line - 1] + 1
