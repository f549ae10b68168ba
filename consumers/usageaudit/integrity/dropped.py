"""What publishers reported that they dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.integrity.report import Problem

if TYPE_CHECKING:
    from usageaudit.stores.port import Store

_DROPPED = """SELECT group_key, count(), min(window_start), max(window_end), any(message)
FROM findings WHERE kind = 'dropped_events' GROUP BY group_key ORDER BY group_key LIMIT 1000"""


def dropped_by_publishers(store: Store) -> list[Problem]:
    """Return a problem for each instance of a publisher that reported drops."""
    return [
        Problem(
            "dropped_by_publisher",
            str(key),
            f"{reports} reports of events that it dropped, from {first} to {last}; one says: {message}",
        )
        for key, reports, first, last, message in store.execute(_DROPPED).rows
    ]
