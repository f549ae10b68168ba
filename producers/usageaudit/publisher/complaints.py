"""Log lines that may come with every event, and must not."""

from __future__ import annotations

import logging
import threading
import time

EVERY_SECONDS = 10.0

logger = logging.getLogger("usageaudit.publisher")


class Complaints:
    """Logs a kind of trouble at once, and then at most every EVERY_SECONDS, with how often it was seen in between."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # re-entrant: a signal handler may emit
        self._totals: dict[str, int] = {}
        self._reported: dict[str, tuple[int, float]] = {}

    def add(self, kind: str, detail: str) -> None:
        """Count one more of this kind; `detail` speaks of the last one and holds nothing of an event's content."""
        now = time.monotonic()
        with self._lock:
            total = self._totals[kind] = self.total(kind) + 1
            before, logged = self._reported.get(kind, (0, now - EVERY_SECONDS))
            if now - logged < EVERY_SECONDS:
                return
            self._reported[kind] = total, now
        logger.warning("%s: %s (%d times since this was last logged)", kind, detail, total - before)

    def total(self, kind: str) -> int:
        """Return how often this kind was seen."""
        return self._totals.get(kind, 0)
