"""Which rows `verify` judges again: those recorded last, by the bundle that judged them, in slices of bounded size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usageaudit.stores.port import Parameters, Store

MOST_ROWS = 1_000_000
"""About how many rows one statement judges; a minute's rows are never taken apart."""

# The span of event times leads to the rows through the ledger's order; that of ingest times alone would look at all.
CHOSEN = """status = 'accepted' AND bundle = {bundle:String}
    AND ingest_time >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
    AND ingest_time < fromUnixTimestamp64Milli({until:Int64}, 'UTC')
    AND event_time >= fromUnixTimestamp64Micro({first:Int64}, 'UTC')
    AND event_time <= fromUnixTimestamp64Micro({last:Int64}, 'UTC')"""
"""The condition of a slice's rows, for its `parameters`."""

_NEWEST = "SELECT toUnixTimestamp64Milli(max(ingest_time)) FROM ledger"
_MINUTE = 60_000
_SLICES = """SELECT toString(bundle), sum(n), min(minute) AS since, max(minute), min(first), max(last) FROM (
    SELECT *, intDiv(sum(n) OVER (PARTITION BY bundle ORDER BY minute) - 1, {most:UInt64}) AS part FROM (
        SELECT bundle, toUnixTimestamp(toStartOfMinute(ingest_time)) AS minute, count() AS n,
            toUnixTimestamp64Micro(min(event_time)) AS first, toUnixTimestamp64Micro(max(event_time)) AS last
        FROM ledger
        WHERE status = 'accepted' AND ingest_time >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
        GROUP BY bundle, minute))
GROUP BY bundle, part ORDER BY bundle, since"""


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows that one bundle judged: `rows` of them, and what binds CHOSEN to them."""

    bundle: str
    rows: int
    parameters: Parameters


def slices(store: Store, seconds: int | None) -> Sequence[Slice]:
    """Return the slices of the rows of so many seconds before the newest, by bundle; None are all rows."""
    since = 0
    if seconds is not None:
        ((newest,),) = store.execute(_NEWEST).rows
        since = max(0, int(newest) - seconds * 1000) // _MINUTE * _MINUTE
    rows = store.execute(_SLICES, {"since": since, "most": MOST_ROWS}).rows
    return [_slice(str(bundle), *map(int, numbers)) for bundle, *numbers in rows]


def _slice(bundle: str, rows: int, since: int, until: int, first: int, last: int) -> Slice:
    span = {"since": since * 1000, "until": until * 1000 + _MINUTE, "first": first, "last": last}
    return Slice(bundle, rows, {"bundle": bundle, **span})
