"""UUIDs of version 7 (RFC 9562): ids that sort by the time they were made."""

from __future__ import annotations

import os
import threading
import time
import uuid

_COUNTER_BITS = 42
_COUNTER_MASK = (1 << _COUNTER_BITS) - 1


class EventIds:
    """Makes UUIDs that grow from one to the next, whichever thread asks and whatever the clock does.

    Within a millisecond a counter of 42 bits grows, as section 6.2, method 1 has it; it starts at a random number whose
    highest bit is 0, and 32 random bits follow it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # re-entrant: a signal handler may emit
        self._millis = 0
        self._counter = 0

    def next(self) -> str:
        """Return the next id, in lower case with hyphens."""
        noise = int.from_bytes(os.urandom(4))
        with self._lock:
            millis, counter = self._advance()
        high, low = counter >> 30, counter & 0x3FFFFFFF
        value = millis << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low << 32 | noise
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def _advance(self) -> tuple[int, int]:
        now = time.time_ns() // 1_000_000
        if now > self._millis:
            self._millis = now
            self._counter = int.from_bytes(os.urandom(6)) & (_COUNTER_MASK >> 1)
        elif self._counter < _COUNTER_MASK:
            self._counter += 1
        else:
            self._millis += 1
            self._counter = 0
        return self._millis, self._counter


def new_instance() -> str:
    """Return the id of a publisher's instance: random, so that it says nothing of the machine."""
    return str(uuid.uuid4())
