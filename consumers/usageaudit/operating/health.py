"""Whether a service is alive, which a supervisor acts on, and whether it is ready, which people and roll-outs wait for.

Reasons are sentences of ours without addresses or causes: anyone who reaches the port may read them. The log has both.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threading import Event

    from usageaudit.operating.watching import Watch
    from usageaudit.pipeline.activity import Activity


@dataclass(frozen=True, slots=True)
class Health:
    """The health of a service; `hung_seconds` is how long its loop may give no sign of life.

    `watch` is None while the service starts.
    """

    activity: Activity
    stop: Event
    hung_seconds: float

    def silent(self) -> float | None:
        """Return for how many seconds the loop has given no sign of life, None before its first step."""
        beat = self.activity.beat
        return None if beat is None else max(time.monotonic() - beat, 0.0)

    def hung(self) -> bool:
        """Tell whether the loop has given no sign of life for too long; a service that still starts is not hung."""
        silent = self.silent()
        return silent is not None and silent > self.hung_seconds

    def reasons(self, watch: Watch | None) -> list[str]:
        """Return why the service is not ready, nothing where it is; `watch` is None while it starts."""
        if self.stop.is_set():
            return ["stopping"]
        if watch is None or self.activity.beat is None:
            return ["starting"]
        found = []
        if self.hung():
            found.append(f"the main loop has given no sign of life for {self.silent() or 0.0:.0f} s")
        if not watch.reachable():
            found.append("the store does not answer")
        elif not watch.seen.migrated:
            found.append("the store lacks migrations: run `usageaudit migrate`")
        if not self.activity.connected:
            found.append("the stream does not answer")
        if self.activity.waiting:
            waiting = self.activity.waiting
            found.append(f"{waiting} of {self.activity.owned + waiting} partitions are not taken over")
        return found
