"""What is wrong, or doubtful, in a condition: where, and what to do."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from usageaudit.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from usageaudit.policy.language.source import Span

Severity = Literal["error", "warning"]

MAX_PROBLEMS = 20
"""How many errors of one condition are told; looking for more ends there."""

_SHOWN = 120
"""How much of a source line is shown, in characters; a longer line is cut around the error."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """An error or a warning at a place of a file; `width` is how many characters the carets underline."""

    severity: Severity
    message: str
    file: str
    line: int
    column: int
    source_line: str = ""
    width: int = 1
    hint: str = ""

    def render(self) -> str:
        """Return the place and the message, the source line, and carets under the spot with the hint beside them."""
        message = self.message if self.severity == "error" else f"{self.severity}: {self.message}"
        head = _visible(f"{self.file}:{self.line}:{self.column}: {message}")
        hint = _visible(self.hint)
        if not self.source_line.strip():
            return f"{head}\n    {hint}" if hint else head
        shown, start = _cut(self.source_line, self.column - 1)
        width = max(1, min(self.width, len(shown) - start))
        before, spot = shown[:start], shown[start : start + width]
        carets = " " * _columns(before) + "^" * max(1, _columns(spot))
        return f"{head}\n    {_visible(shown)}\n    {carets} {hint}".rstrip()

    def __str__(self) -> str:
        return self.render()


class InvalidCondition(BundleError):
    """A condition with errors; `diagnostics` has all of them, and the warnings found beside them."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(diagnostic.render() for diagnostic in self.diagnostics))


def at(span: Span, severity: Severity, message: str, hint: str = "") -> Diagnostic:
    """Return a diagnostic that underlines a span, up to the end of its first line."""
    origin = span.source.origin
    line, column = origin.position(span.start)
    last_line, end = origin.position(max(span.start, span.end - 1))
    source_line = origin.source_line(line)
    width = end + 1 - column if last_line == line else len(source_line.rstrip()) + 1 - column
    return Diagnostic(severity, message, origin.file, line, column, source_line, max(1, width), hint)


def _cut(line: str, start: int) -> tuple[str, int]:
    """Return the line without indentation, or a window of it around `start`, and where `start` lies in that."""
    if len(line) > 4 * _SHOWN:
        # Of a line of a megabyte only what is near the error is looked at.
        near = max(0, start - 2 * _SHOWN)
        dots = "…" if near else ""
        line, start = dots + line[near : start + 2 * _SHOWN], start - near + len(dots)
    indent = len(line) - len(line.lstrip())
    first = min(indent, start)
    line, start = line[first:].rstrip(), start - first
    start = min(start, len(line))
    if len(line) <= _SHOWN:
        return line, start
    left = max(0, min(start - _SHOWN // 3, len(line) - _SHOWN))
    window = line[left : left + _SHOWN]
    if left:
        window = "…" + window[1:]
    if left + _SHOWN < len(line):
        window = window[:-1] + "…"
    return window, start - left


def _visible(text: str) -> str:
    """Replace control characters, which could drive a terminal, by a mark of one column; a tab by a space."""
    return "".join(" " if c == "\t" else c if _harmless(c) else "\N{REPLACEMENT CHARACTER}" for c in text)


def _harmless(character: str) -> bool:
    return (character.isascii() and character.isprintable()) or unicodedata.category(character)[0] not in "CZ"


def _columns(text: str) -> int:
    """Return how many columns of a terminal a text takes: wide characters take two, combining marks none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
