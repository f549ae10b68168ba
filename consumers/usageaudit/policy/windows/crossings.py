"""When a windowed policy's windows cross into what it forbids, as one SELECT over the rows that it counts.

A moment is a time at which a group has an event that counts. A sliding window at a moment t is (t - T, t]: all events
of that time are in it together, whatever their order, and one of exactly t - T is not. A window crosses at a moment
where what is forbidden holds, unless it also held at the moment before and that lies less than T back: so it crosses
once, and is armed again when it does not hold at a moment, or after nothing happened for T.

The same statement serves the live scheduler, over rows that it keeps, and a back-test, over the ledger itself. Sums are
running ones: what enters a window is added when it comes and taken off when it goes, so that a window's length costs
nothing. All numbers that are added are whole or decimal, and so do not depend on their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usageaudit.policy.sql.columns import Stored
from usageaudit.policy.sql.lowering import lower
from usageaudit.policy.windows.calendar import starts
from usageaudit.policy.windows.matching import EXPECTED, OPENS
from usageaudit.policy.windows.model import VALUE, Calendar

if TYPE_CHECKING:
    from usageaudit.policy.language import Condition
    from usageaudit.policy.windows.model import Window

_NEVER = 2**62
_RUNNING = "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
_BEFORE = "ROWS BETWEEN 1 PRECEDING AND CURRENT ROW"
_ONE = "toInt64(1)"
_MOST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Reach:
    """What has to be looked at again where events of [first, last] are new, in microseconds.

    Windows may cross anew, or no longer, at `crossed_from` to `crossed_to`; their rows have times from `rows_from`.
    """

    crossed_from: int
    crossed_to: int
    rows_from: int


def reach(window: Window, first: int, last: int) -> Reach:
    """Return how far the events of a stretch of time reach in the windows of a policy."""
    match window.over:
        case Calendar() as calendar:
            bounds = starts(calendar, first, last)
            if not bounds:
                return Reach(first, last, first)
            begin = max((one for one in bounds if one <= first), default=bounds[0])
            return Reach(begin, bounds[-1] - 1, begin)
        case None:
            return Reach(first, _NEVER, 0)
        case length:
            # A crossing depends on the moment before it, at most T back, and that on a window of T.
            return Reach(first, last + 2 * length, first - 2 * length)


def crossings(
    window: Window, condition: Condition | None, rows: str, since: int, until: int, begun: int | None = None
) -> str:
    """Return the statement of all crossings from `since` to `until`, both included, in microseconds.

    Moments before `begun`, where it is given, are not judged: what holds at the first one after it crosses there.

    Its columns are key, at (when it crossed; of an absence, when the wait was over), begins and ends (the bounds of the
    window: of a sliding one the first is excluded, of a calendar's period the second), and value. `rows` is a SELECT of
    the columns of `matching`, without the same event twice.
    """
    bounds = _Bounds(since, until, -_NEVER if begun is None else begun)
    match window.kind:
        case "first_seen":
            return _first_seen(window, rows, bounds)
        case "temporal_ordered":
            return _crossed(_ordered(rows, len(window.steps), window.length), window.length, bounds)
        case "absence":
            return _absence(rows, window.length, bounds)
        case _ if isinstance(window.over, Calendar):
            return _in_periods(window, window.over, holds_sql(window, condition), rows, bounds)
        case _:
            return _crossed(_totals(window, holds_sql(window, condition), rows), window.length, bounds)


@dataclass(frozen=True, slots=True)
class _Bounds:
    """From when to when crossings are looked for, and from when on moments are judged at all."""

    since: int
    until: int
    begun: int

    @property
    def sql(self) -> str:
        return f"at >= {self.since} AND at <= {self.until}"

    def earlier(self, length: int) -> _Bounds:
        return _Bounds(self.since - length, self.until - length, self.begun - length)


def holds_sql(window: Window, condition: Condition | None) -> str:
    """Return the condition on `total`, with what lists it names have; one that is unknown does not hold."""
    if condition is None:
        return "1"
    return f"ifNull({lower(condition, {VALUE: Stored(value_sql(window, 'total'))})}, 0)"


def value_sql(window: Window, total: str) -> str:
    """Return a total in the type that conditions compute with: an int, or the double nearest to a decimal."""
    if window.kind != "value_sum":
        return f"toInt64({total})"
    return f"if(abs({total}) < {2**53 // 10**9}, toFloat64({total}), toFloat64(toString({total})))"


def _crossed(moments: str, length: int, bounds: _Bounds) -> str:
    """Return those moments (key, at, value, holds) at which a sliding window crosses."""
    return (
        f"SELECT key, at, at - {length} AS begins, at AS ends, value FROM ("
        f"SELECT key, at, value, holds, lagInFrame(holds, 1, 0) OVER w AS held, lagInFrame(at, 1, 0) OVER w AS before "
        f"FROM ({moments}) WINDOW w AS (PARTITION BY key ORDER BY at {_BEFORE})"
        f") WHERE holds AND NOT (held AND before > at - {length} AND before >= {bounds.begun}) AND {bounds.sql} "
        "ORDER BY key, at"
    )


def _totals(window: Window, holds: str, rows: str) -> str:
    """Return the moments of a window that counts, adds or tells apart, with its total at each."""
    length = window.length
    if window.kind == "value_count":
        changes = f"({_values(rows, length)}) ARRAY JOIN [(t, toInt64(comes), 1), (t + {length}, -toInt64(goes), 0)]"
    else:
        amount = "amount" if window.kind == "value_sum" else _ONE
        changes = f"({rows}) ARRAY JOIN [(t, {amount}, 1), (t + {length}, -{amount}, 0)]"
    return (
        f"SELECT key, at, total AS value, {holds} AS holds FROM ("
        f"SELECT key, at, moment, sum(change) OVER (PARTITION BY key ORDER BY at {_RUNNING}) AS total FROM ("
        f"SELECT key, p.1 AS at, sum(p.2) AS change, max(p.3) AS moment FROM {changes} AS p GROUP BY key, at)"
        ") WHERE moment"
    )


def _values(rows: str, length: int) -> str:
    """Return when each value comes into a sliding window and goes: it stays for as long as it is renewed in time."""
    return (
        f"SELECT key, t, before <= t - {length} AS comes, after >= t + {length} AS goes FROM (SELECT key, t, "
        f"lagInFrame(t, 1, -{_NEVER}) OVER w AS before, leadInFrame(t, 1, {_NEVER}) OVER w AS after "
        f"FROM (SELECT DISTINCT key, text, t FROM ({rows})) "
        "WINDOW w AS (PARTITION BY key, text ORDER BY t ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING))"
    )


def _in_periods(window: Window, calendar: Calendar, holds: str, rows: str, between: _Bounds) -> str:
    """Return the first crossing of each group in each period of the calendar."""
    bounds = starts(calendar, between.since, between.until)
    if not bounds:
        return "SELECT [''] AS key, 0 AS at, 0 AS begins, 0 AS ends, 0 AS value WHERE 0"
    inside = f"t >= {bounds[0]} AND t < {bounds[-1]}"
    period = "roundDown(t, bounds)"
    if window.kind == "value_count":
        # The first time of a value in a period is the only one that counts.
        source = f"SELECT key, text, {period} AS period, min(t) AS first FROM ({rows}) WHERE {inside} GROUP BY ALL"
        moments = f"SELECT key, period, first AS at, count() AS change FROM ({source}) GROUP BY key, period, at"
    else:
        change = "sum(amount)" if window.kind == "value_sum" else "count()"
        moments = (
            f"SELECT key, {period} AS period, t AS at, {change} AS change "
            f"FROM ({rows}) WHERE {inside} GROUP BY key, period, at"
        )
    return (
        f"WITH [{', '.join(map(str, bounds))}] AS bounds "
        "SELECT key, min(moment) AS at, period AS begins, bounds[indexOf(bounds, period) + 1] AS ends, "
        "argMin(total, moment) AS value FROM ("
        "SELECT key, period, at AS moment, "
        f"sum(change) OVER (PARTITION BY key, period ORDER BY at {_RUNNING}) AS total "
        f"FROM ({moments})) WHERE {holds} AND moment >= {between.begun} "
        f"GROUP BY key, period HAVING {between.sql} ORDER BY key, at"
    )


def _first_seen(window: Window, rows: str, bounds: _Bounds) -> str:
    """Return when each group was seen for the first time, or again after it was not for the window's length."""
    if window.over is None:
        return (
            f"SELECT key, min(t) AS at, at AS begins, at AS ends, {_ONE} AS value "
            f"FROM ({rows}) GROUP BY key HAVING {bounds.sql} ORDER BY key"
        )
    return (
        f"SELECT key, at, at - {window.length} AS begins, at AS ends, {_ONE} AS value FROM ("
        f"SELECT key, t AS at, lagInFrame(t, 1, -{_NEVER}) OVER (PARTITION BY key ORDER BY t {_BEFORE}) "
        f"AS before FROM (SELECT DISTINCT key, t FROM ({rows}))"
        f") WHERE before <= at - {window.length} AND {bounds.sql} ORDER BY key, at"
    )


def _ordered(rows: str, steps: int, length: int) -> str:
    """Return the moments of a sequence: it holds where all steps lie in the window, one after another.

    For each event that ends the first k steps, the latest possible time of the first of them is carried along, plus
    one: 0 is none. Events of the same time stand in the order of their source and id; one event is one step.
    """
    begun = f"SELECT key, t, source, id, role, if(bitTest(role, 0), t + 1, 0) AS begin FROM ({rows})"
    for step in range(1, steps):
        begun = (
            f"SELECT key, t, source, id, role, if(bitTest(role, {step}), ifNull(max(begin) OVER (PARTITION BY key "
            f"ORDER BY t, source, id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0), 0) AS begin FROM ({begun})"
        )
    return (
        f"SELECT key, t AS at, {_ONE} AS value, "
        f"max(latest) OVER (PARTITION BY key ORDER BY t {_RUNNING}) > greatest(t - {length} + 1, 0) AS holds "
        f"FROM (SELECT key, t, max(begin) AS latest FROM ({begun}) GROUP BY key, t)"
    )


def _absence(rows: str, length: int, bounds: _Bounds) -> str:
    """Return the waits that ended without what was expected: nothing of it from the opening's moment to T after it."""
    moments = (
        f"SELECT key, t AS at, {_ONE} AS value, NOT (next <= t + {length}) AS holds FROM ("
        "SELECT key, t, opens, min(expected) OVER "
        "(PARTITION BY key ORDER BY t ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS next FROM ("
        f"SELECT key, t, max(bitAnd(role, {OPENS})) != 0 AS opens, "
        f"if(max(bitAnd(role, {EXPECTED})) != 0, t, {_NEVER}) AS expected FROM ({rows}) GROUP BY key, t)) WHERE opens"
    )
    crossed = _crossed(moments, length, bounds.earlier(length))
    # The outer names must not be those that the expressions read: an alias would be put in their place.
    waits = f"SELECT key, at AS opened, value FROM ({crossed})"
    over = f"opened + {length}"
    return f"SELECT key, {over} AS at, opened AS begins, {over} AS ends, value FROM ({waits}) ORDER BY key, at"
