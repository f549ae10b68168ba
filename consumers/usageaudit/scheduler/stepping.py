"""One step of a rule: what is new and counts is kept, and the windows that it falls into are looked at again.

    slice ─▶ keep its rows in window_events ─▶ groups with something new ─▶ crossings of their windows ─▶ findings

Nothing here depends on a step being made once: rows and findings have keys, so a step that broke off is made again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usageaudit.policy.sql.text import literal
from usageaudit.policy.windows.calendar import starts
from usageaudit.policy.windows.crossings import reach
from usageaudit.policy.windows.matching import COLUMNS
from usageaudit.policy.windows.model import Calendar
from usageaudit.scheduler.reading import between
from usageaudit.scheduler.recording import Crossing, Recorder
from usageaudit.stores.settling import settle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usageaudit.policy.windows.model import Window
    from usageaudit.scheduler.lease import Lease
    from usageaudit.scheduler.reading import Slice
    from usageaudit.scheduler.rules import Rule
    from usageaudit.stores.port import Store

KEPT_LATE = 7 * 86_400_000_000
"""How long after its time, in microseconds, an event's windows are looked at by what was kept; later, in the ledger."""
MARGIN = 86_400_000_000
"""By how much rows are kept for longer than they are read, in microseconds."""
_HELD = "key, toUnixTimestamp64Micro(event_time) AS t, event_source AS source, event_id AS id, amount, text, role"
_ANY_DAYS = " SETTINGS max_partitions_per_insert_block = 0"
_KEEP = "INSERT INTO window_events (rule, key, event_time, event_source, event_id, amount, text, role)"


def kept_for(window: Window) -> int:
    """Return for how long before the watermark rows are needed, in microseconds; 0 is for ever."""
    match window.over:
        case None:
            return 0
        case Calendar() as calendar:
            return (2 if calendar.unit == "day" else 32) * 86_400_000_000 + KEPT_LATE
        case length:
            return 2 * length + KEPT_LATE


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a rule through a slice of the ledger."""

    store: Store
    rule: Rule
    slice: Slice
    lease: Lease | None = None

    def run(self) -> int:
        """Make the step and return how many findings it wrote."""
        recorder = Recorder(self.store, self.rule, self.lease)
        late = [(where, found) for where in self._late() if (found := self._extent(where)) is not None]
        on_time = self._extent(self.slice.on_time)
        for where in (*([self.slice.on_time] if on_time is not None else []), *(where for where, _ in late)):
            self._keep(where)
        written = self._go_on(on_time, recorder)
        for where, found in late:
            written += self._go_back(where, found, recorder)
        written += self._decide(recorder)
        if written:
            settle(self.store, "findings_log")
        return written

    def _go_on(self, on_time: tuple[int, int] | None, recorder: Recorder) -> int:
        """Look at the windows that the watermark closes now."""
        span = on_time
        if self.rule.window.expect is not None and self.slice.watermark > self.slice.before.watermark:
            # A wait is over without any event.
            span = (self.slice.before.watermark + 1, self.slice.watermark)
        if span is None:
            return 0
        return recorder.record(self._crossings(self._groups(self.slice.on_time), *span), self._rows)

    def _late(self) -> Sequence[str]:
        """Return the conditions of what came late, apart for what windows are kept for and what lies before that.

        One very old event is no reason to read in the ledger what has happened since.
        """
        needed = kept_for(self.rule.window)
        if not needed or self.slice.before.watermark < 0:
            return (self.slice.late,)
        # The windows of an event reach back by their own length.
        kept = between(self.slice.watermark - KEPT_LATE + MARGIN, self.slice.before.watermark)
        return f"{self.slice.late} AND {kept}", f"{self.slice.late} AND NOT ({kept})"

    def _go_back(self, where: str, late: tuple[int, int], recorder: Recorder) -> int:
        """Look again at the windows that events fall into that come late."""
        span = reach(self.rule.window, *late)
        since = max(span.crossed_from, self._judged_from)
        until = min(span.crossed_to, self.slice.watermark)
        if since > until:
            return 0
        found = self._crossings(self._groups(where), since, until)

        def rows(first: int, groups: str) -> str:
            return self._rows(first, groups, until)

        return recorder.correct(found, self._late_groups(where), (since, until), rows)

    def _decide(self, recorder: Recorder) -> int:
        """Look again at waits that could not be decided, where heartbeats came late."""
        beat, alive = self.rule.window.heartbeat, self.rule.alive(self.slice.late)
        if beat is None or alive is None:
            return 0
        # A heartbeat counts for the stretch that it is in, and so for waits that begin after it in that.
        ((rows, first, last),) = self.store.execute(f"SELECT count(), min(t), max(t) FROM ({alive})").rows
        return recorder.decide((int(first), int(last) + beat.every)) if rows else 0

    @property
    def _judged_from(self) -> int:
        """From when on the rule finds anything; of a day or month that is open when it begins, all of it."""
        since = self.slice.before.since + 1
        return _rows_from(self.rule.window, since) if isinstance(self.rule.window.over, Calendar) else since

    def begin(self) -> int:
        """Keep what a rule that begins needs of the time before its watermark, and return how many findings it wrote.

        A budget that is overrun when a policy is loaded, or that a new list lowers, is found for the open day or month.
        """
        until, needed = self.slice.watermark, kept_for(self.rule.window)
        self._keep(f"{between(until - needed if needed else 0, until)} AND {self.slice.below}")
        if not isinstance(self.rule.window.over, Calendar):
            return 0
        since = _rows_from(self.rule.window, until)
        groups = f"SELECT key FROM window_events WHERE rule = {self._rule} AND {between(since - 1, until)}"
        recorder = Recorder(self.store, self.rule, self.lease)
        written = recorder.record(self._crossings(groups, since, until), self._rows)
        if written:
            settle(self.store, "findings_log")
        return written

    def _extent(self, where: str) -> tuple[int, int] | None:
        """Return the first and last time of what counts among some rows of the ledger, None where nothing does."""
        counted = self.rule.matching.rows(where)
        ((rows, first, last),) = self.store.execute(f"SELECT count(), min(t), max(t) FROM ({counted})").rows
        return (int(first), int(last)) if rows else None

    def _late_groups(self, where: str) -> list[tuple[str, ...]]:
        found = self.store.execute(self._groups(where)).rows
        return [tuple(map(str, key)) for (key,) in found]

    def _keep(self, where: str) -> None:
        counted = self.rule.matching.rows(where)
        if self.rule.window.over is None:
            # Of all time only the first of each group matters.
            first = "min(toUnixTimestamp64Micro(event_time))"
            known = f"SELECT key, {first} AS first FROM window_events WHERE rule = {self._rule} GROUP BY key"
            firsts = f"SELECT key, min((t, source, id)) AS f FROM ({counted}) GROUP BY key"
            counted = (
                "SELECT n.key AS key, n.f.1 AS t, n.f.2 AS source, n.f.3 AS id, 0 AS amount, '' AS text, 0 AS role "
                f"FROM ({firsts}) AS n LEFT JOIN ({known}) AS k ON n.key = k.key WHERE k.first = 0 OR n.f.1 < k.first"
            )
        named = "key, fromUnixTimestamp64Micro(t, 'UTC'), source, id, amount, text, role"
        self.store.execute(f"{_KEEP} SELECT {self._rule}, {named} FROM ({counted}){_ANY_DAYS}")
        settle(self.store, "window_events")

    @property
    def _rule(self) -> str:
        return literal(self.rule.id)

    def _groups(self, where: str) -> str:
        """Return the statement of the groups that have something new."""
        counted = f"SELECT DISTINCT key FROM ({self.rule.matching.rows(where)})"
        if self.rule.window.expect is None or where != self.slice.on_time:
            return counted
        # A wait also ends when nothing comes: its deadline passes with the watermark.
        length = self.rule.window.length
        opened = between(self.slice.before.watermark - length, self.slice.watermark - length)
        return f"SELECT DISTINCT key FROM ({self.rule.matching.rows(opened)}) UNION DISTINCT {counted}"

    def _rows(self, since: int, groups: str, until: int | None = None) -> str:
        """Return the statement of the rows of groups in a time, by default up to the watermark, each event once."""
        until = self.slice.watermark if until is None else until
        needed = kept_for(self.rule.window)
        if needed and since < self.slice.watermark - needed:
            counted = self.rule.matching.rows(f"{between(since - 1, until)}")
            return f"SELECT * FROM ({counted}) WHERE key IN ({groups})"
        held = f"rule = {self._rule} AND key IN ({groups}) AND {between(since - 1, until)}"
        return f"SELECT DISTINCT {', '.join(COLUMNS)} FROM (SELECT {_HELD} FROM window_events WHERE {held})"

    def _crossings(self, groups: str, since: int, until: int) -> list[Crossing]:
        if since > until:
            return []
        rows = self._rows(_rows_from(self.rule.window, since), groups, until)
        found = self.store.execute(self.rule.crossings(rows, since, until)).rows
        return [
            Crossing(tuple(map(str, key)), int(at), int(begins), int(ends), value)
            for key, at, begins, ends, value in found
        ]


def _rows_from(window: Window, since: int) -> int:
    """Return from which time on rows decide about crossings from `since` on."""
    match window.over:
        case None:
            return 0
        case Calendar() as calendar:
            begun = [one for one in starts(calendar, since, since) if one <= since]
            return max(begun, default=since)
        case length:
            return since - 2 * length
