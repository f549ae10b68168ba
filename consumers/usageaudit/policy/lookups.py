"""Look-ups that the generated judge does: texts against many patterns at once, and numbers against sorted bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import re2

from usageaudit.policy.language.patterns import MAX_PROGRAM, anchored_dot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Found = tuple[tuple[int, ...], tuple["Callable[..., None]", ...]]
"""Numbers of rules that hold, and functions that test more rules."""
MAX_REMEMBERED = 20_000
"""How many texts are remembered with what was found in them."""
MAX_TEXT = 200
"""Longer texts are not remembered."""


class Patterns(dict[str, "Found | None"]):
    """What each text leads to: entries that are not there yet are found out, all patterns in one pass over the text.

    None stands for a text that is no Unicode, in which nothing can be found nor not found.
    """

    def __init__(self, entries: Sequence[tuple[str, int | Callable[..., None]]]) -> None:
        super().__init__()
        self._entries = [entry for _, entry in entries]
        self._sets = _sets([pattern for pattern, _ in entries])

    def __missing__(self, text: str) -> Found | None:
        try:
            matched = [self._entries[first + index] for first, one in self._sets for index in one.Match(text) or ()]
        except UnicodeEncodeError:
            return None
        numbers = tuple(entry for entry in matched if isinstance(entry, int))
        found = (numbers, tuple(entry for entry in matched if not isinstance(entry, int)))
        if len(text) <= MAX_TEXT:
            if len(self) >= MAX_REMEMBERED:
                self.clear()
            self[text] = found
        return found


def _sets(patterns: Sequence[str]) -> list[tuple[int, Any]]:
    """Return sets of patterns, each with the index of its first one.

    A set that outgrows RE2's memory would find nothing at all, so none has more instructions than one pattern may have.
    """
    options = re2.Options()
    options.log_errors = False
    sets: list[tuple[int, Any]] = []
    room = 0
    for index, pattern in enumerate(map(anchored_dot, patterns)):
        size = cast("int", re2.compile(pattern, options).programsize)
        if size > room:
            sets.append((index, re2.Set.SearchSet(options)))
            room = MAX_PROGRAM
        sets[-1][1].Add(pattern)
        room -= size
    for _, one in sets:
        one.Compile()
    return sets
