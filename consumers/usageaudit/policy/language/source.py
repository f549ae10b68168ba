"""Where a condition's text stands in a file, so that an error can name line and column."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Origin:
    """The place of a condition's text in a file; lines and columns count from 1, in code points.

    A condition that stands in the file as it is needs only `line` and `column`. Where the file's form differs from the
    text (a block scalar that is indented, a quoted scalar with escapes), `pieces` maps it: (offset in the text, line,
    column), ascending by offset, each holding until the next. `lines` are the file's lines, for showing the line.
    """

    file: str
    line: int = 1
    column: int = 1
    pieces: tuple[tuple[int, int, int], ...] = ()
    lines: tuple[str, ...] = field(default=(), repr=False)

    def position(self, offset: int) -> tuple[int, int]:
        """Return line and column in the file of an offset in the text."""
        index = bisect_right(self.pieces, offset, key=lambda piece: piece[0]) - 1
        if index < 0:
            return self.line, self.column + offset
        start, line, column = self.pieces[index]
        return line, column + offset - start

    def source_line(self, line: int) -> str:
        """Return a line of the file, empty where the origin does not know it."""
        return self.lines[line - 1] if 1 <= line <= len(self.lines) else ""

    def of(self, text: str) -> Origin:
        """Return this origin with what is missing filled in from the text, taken as standing in the file as it is."""
        written = text.split("\n")
        pieces, lines = self.pieces, self.lines
        if not pieces:
            starts = [0]
            for line in written:
                starts.append(starts[-1] + len(line) + 1)
            places = enumerate(starts[:-1])
            pieces = tuple((at, self.line + n, self.column if n == 0 else 1) for n, at in places)
        if not lines:
            first = " " * (self.column - 1) + written[0]
            lines = ("",) * (self.line - 1) + (first, *written[1:])
        return Origin(self.file, self.line, self.column, pieces, lines)


@dataclass(frozen=True, slots=True)
class Source:
    """The text of one condition, and where it stands."""

    text: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch [start, end) of a condition's text."""

    source: Source = field(repr=False)
    start: int
    end: int

    @property
    def text(self) -> str:
        """The text itself, as the author wrote it."""
        return self.source.text[self.start : self.end]

    def to(self, other: Span) -> Span:
        """Return the span from the start of this to the end of another."""
        return Span(self.source, self.start, other.end)
