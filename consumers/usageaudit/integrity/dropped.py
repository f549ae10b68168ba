"""What publishers reported that they dropped."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from usageaudit.integrity.report import Problem

if TYPE_CHECKING:
    from usageaudit.stores.port import Store

_DROPPED = """SELECT group_key, count(), min(window_start), max(window_end), any(message)
FROM findings WHERE kind = 'dropped_events' AND created >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
GROUP BY group_key ORDER BY group_key LIMIT 1000"""


def dropped_by_publishers(store: Store, seconds: int | None = None) -> list[Problem]:
    """Return a problem for each instance of a publisher whose reports of drops were recorded in so many seconds.

    None is ever since. What was dropped can't be mended: it stays a finding, and is a problem while it is news.
    """
    since = 0 if seconds is None else max(0, round((time.time() - seconds) * 1000))
    return [
        Problem(
            "dropped_by_publisher",
            str(key),
            f"{reports} reports of events that it dropped, from {first} to {last}; one says: {message}",
        )
        for key, reports, first, last, message in store.execute(_DROPPED, {"since": since}).rows
    ]
