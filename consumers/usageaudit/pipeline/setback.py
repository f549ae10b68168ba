"""How long to wait after failures in a row: longer after each, with jitter."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 15.0
MOST_DOUBLINGS = 32
"""A wait has met its limit long before; without one the number would overflow after hours of failures."""


@dataclass(slots=True)
class Setback:
    """Failures in a row, and until when to wait after the last of them."""

    times: int = 0
    until: float = 0.0

    def grow(self, seconds: float | None = None) -> float:
        """Note another failure; return for how many seconds to wait, `seconds` where the wait is given."""
        pause = seconds
        if pause is None:
            longest = min(FIRST_PAUSE * 2.0 ** min(self.times, MOST_DOUBLINGS), LONGEST_PAUSE)
            pause = longest * random.uniform(0.5, 1.0)  # noqa: S311  jitter
        self.times += 1
        self.until = time.monotonic() + pause
        return pause

    def is_over(self) -> bool:
        """Tell whether the wait after the last failure is over."""
        return time.monotonic() >= self.until
