"""Places at which a process can be killed or put to sleep, and the fault that strikes there."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass


@dataclass(slots=True)
class Fault:
    """Strikes when its point is reached for the n-th time; `action` is "kill" or "sleep"."""

    point: str
    nth: int
    action: str

    def at(self, point: str) -> None:
        """Say that a point was reached; "" is none."""
        if not point or point != self.point:
            return
        self.nth -= 1
        if self.nth == 0:
            print(f"struck: {point} {time.monotonic()}", flush=True)
            os.kill(os.getpid(), signal.SIGKILL if self.action == "kill" else signal.SIGSTOP)
