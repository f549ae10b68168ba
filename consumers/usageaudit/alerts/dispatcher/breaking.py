"""When a delivery is tried again, and when a target is left alone for a while."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usageaudit.alerts.config.settings import Retry

FAILURES = 5
"""After so many failures in a row a target's circuit opens."""
LONGEST_ASKED = 86_400.0
"""For how long, in seconds, a target may ask to be left alone."""


def backoff(retry: Retry, attempts: int, asked: float | None, chance: random.Random) -> float:
    """Return how many seconds to wait after so many attempts: exponential with full jitter, or what was asked for.

    The form is that of "Exponential Backoff And Jitter" of the AWS Architecture Blog; RFC 9110, 10.2.3, is Retry-After.
    """
    wait = chance.uniform(0.0, min(retry.longest, retry.first * 2.0 ** min(attempts - 1, 40)))
    return max(wait, min(asked or 0.0, LONGEST_ASKED))


@dataclass(slots=True)
class Breaker:
    """The circuit of a target: after failures in a row it opens, and then lets one probe through at a time."""

    retry: Retry
    failures: int = 0
    closed_again: float = 0.0
    _chance: random.Random = field(default_factory=random.Random)

    @property
    def open(self) -> bool:
        """Whether it takes probes only."""
        return self.failures >= FAILURES

    def room(self, at: float, in_flight: int, most: int) -> int:
        """Return how many deliveries may be begun: after a failure one at a time, none while the target is left."""
        if at < self.closed_again:
            return 0
        return max((1 if self.failures else most) - in_flight, 0)

    def succeeded(self) -> None:
        """Close it."""
        self.failures, self.closed_again = 0, 0.0

    def failed(self, at: float, asked: float | None) -> None:
        """Count a failure; from the fifth on the target is left for longer and longer."""
        self.failures += 1
        if self.open or asked:
            over = max(self.failures - FAILURES + 1, 1) if self.open else 0
            wait = backoff(self.retry, over, asked, self._chance) if over else min(asked or 0.0, LONGEST_ASKED)
            self.closed_again = at + wait
