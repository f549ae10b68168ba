"""A set of offsets, kept as ranges: what the ledger has of a partition is a few long runs."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Offsets:
    """Offsets of one partition; `ranges` are (first, last), ascending and apart from each other."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        pairs = sorted(ranges)
        self._firsts = [first for first, _ in pairs]
        self._lasts = [last for _, last in pairs]

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The runs of offsets, each by its first and last."""
        return tuple(zip(self._firsts, self._lasts, strict=True))

    @property
    def last(self) -> int:
        """The highest offset; raises IndexError where there is none."""
        return self._lasts[-1]

    def gaps(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the runs [from, to) of offsets between `first` and `end` that are not in the set."""
        for low, high in self.ranges:
            if first >= end or low >= end:
                break
            if first < low:
                yield first, low
            first = max(first, high + 1)
        if first < end:
            yield first, end

    def __contains__(self, offset: int) -> bool:
        index = bisect_right(self._firsts, offset) - 1
        return index >= 0 and offset <= self._lasts[index]

    def __len__(self) -> int:
        return sum(self._lasts) - sum(self._firsts) + len(self._firsts)

    def __repr__(self) -> str:
        return f"Offsets({self.ranges!r})"
