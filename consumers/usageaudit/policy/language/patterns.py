"""Regular expressions of conditions: RE2's, so that matching takes linear time and means the same in ClickHouse."""

from __future__ import annotations

from typing import Protocol, cast

import re2

MAX_PROGRAM = 10_000
"""The largest compiled expression, in RE2's instructions: far below what RE2's automaton has memory for, since a set
that runs out of memory answers "no match" instead of failing."""


class _Set(Protocol):
    def Add(self, pattern: str) -> int: ...  # noqa: N802
    def Compile(self) -> None: ...  # noqa: N802
    def Match(self, text: str) -> list[int] | None: ...  # noqa: N802


class PatternError(ValueError):
    """A regular expression that RE2 refuses; the message is RE2's."""


class Pattern:
    """A compiled regular expression, equal to another of the same text; `size` is that of it, in RE2's instructions."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._set, self.size = _compiled(text)

    def found(self, text: str) -> bool:
        """Whether some part of a text matches; raises UnicodeEncodeError for a text with surrogates."""
        return bool(self._set.Match(text))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


def anchored_dot(text: str) -> str:
    """Return the expression as every engine must be given it: without letting the dot match a line break."""
    return "(?-s)" + text


def _compiled(text: str) -> tuple[_Set, int]:
    """Compile an expression, and return its size; a set of one is RE2's quickest way to ask whether a text matches."""
    options = re2.Options()
    options.log_errors = False
    try:
        size = re2.compile(text, options).programsize
    except re2.error as refused:
        raise PatternError(_message(refused)) from refused
    if size > MAX_PROGRAM:
        raise PatternError(f"too large: {size} instructions, {MAX_PROGRAM} are allowed")
    compiled = cast("_Set", re2.Set.SearchSet(options))
    compiled.Add(anchored_dot(text))
    compiled.Compile()
    return compiled, size


def _message(refused: Exception) -> str:
    said = refused.args[0] if refused.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
