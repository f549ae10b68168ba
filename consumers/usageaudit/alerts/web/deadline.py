"""The time that one delivery has, from the first look-up of its name to the last byte of the answer."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Deadline:
    """So many seconds from its making on, by the clock that nobody sets."""

    seconds: float
    _end: float = field(init=False)

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.seconds

    def left(self) -> float:
        """Return the seconds that are left, more than none. Raises TimeoutError."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def shorten(self, seconds: float) -> None:
        """Let it end in so many seconds, where it would end later."""
        self._end = min(self._end, time.monotonic() + seconds)
