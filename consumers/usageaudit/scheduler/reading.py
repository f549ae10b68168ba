"""What is new in the ledger since a rule last read, and up to which time nothing more is expected."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from usageaudit.policy.sql.text import literal
from usageaudit.policy.windows.matching import TIME
from usageaudit.scheduler.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from usageaudit.scheduler.progress import Place
    from usageaudit.stores.port import Store

MOST = 200_000
"""How many offsets of a partition are taken in one step: after a pause it is caught up with piece by piece."""

SKEW = 3_900_000
"""How far the clocks of consumers may be apart, in milliseconds, before new rows are only found by those after them.

An hour, by which clocks are wrong most often, and five minutes beyond.
"""
OWN_STREAM = "usageaudit"
"""The stream under which the fence has the epochs of leases."""
_PLACES = "SELECT DISTINCT stream, topic, partition FROM fence ORDER BY stream, topic, partition"
# A consumer's clock that is ahead must not hide what is recorded once it was set right, nor close windows.
_SEEN = "toUnixTimestamp64Milli(least(max(ingest_time), now64(3, 'UTC')))"
_RECORDED = "toUnixTimestamp64Milli(least(ingest_time, now64(3, 'UTC'))) * 1000"
_PEAK = f"max(if(status = 'accepted', least({TIME}, {_RECORDED}), 0))"


@dataclass(frozen=True, slots=True)
class Slice:
    """What a step takes in: offsets up to `positions`, and times up to the watermark, in microseconds since 1970.

    `seen` is when the last of those rows was recorded, in milliseconds. `partial` is true where a partition has more
    than a step takes in. All that is new was recorded after `recorded_after`, in milliseconds, which tells the store
    which of its rows are old. `peak` is the latest time of all that was taken in while a partition was waited for.
    """

    before: Progress
    positions: Mapping[Place, int]
    watermark: int
    seen: int
    partial: bool = False
    recorded_after: int = 0
    peak: int = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing new."""
        return self.watermark == self.before.watermark and self.positions == self.before.positions

    @property
    def on_time(self) -> str:
        """The condition of ledger rows whose time the watermark passes now, whenever they came."""
        times = f"event_time > {_moment(self.before.watermark)} AND event_time <= {_moment(self.watermark)}"
        return f"{times} AND {self.below}"

    @property
    def below(self) -> str:
        """The condition of ledger rows whose offsets are taken in, now or before."""
        return f"({self._places({}, self.positions)})"

    @property
    def late(self) -> str:
        """The condition of ledger rows that are new and whose time the watermark had passed."""
        until = f"event_time <= {_moment(self.before.watermark)} AND {_recorded_after(self.recorded_after)}"
        return f"{until} AND ({self._places(self.before.positions, self.positions)})"

    def _places(self, first: Mapping[Place, int], end: Mapping[Place, int]) -> str:
        conditions = (
            f"({_is(place)} AND `offset` >= {first.get(place, 0)} AND `offset` < {next_})"
            for place, next_ in end.items()
            if next_ > first.get(place, 0)
        )
        return " OR ".join(conditions) or "0"


@dataclass(slots=True)
class Reader:
    """Says what is new to rules; what one rule asked for is not asked again for the next that is as far."""

    store: Store
    _found: dict[tuple[Place, int, int], _New | None] = field(default_factory=dict)
    _places: Sequence[Place] | None = None

    def next_slice(self, progress: Progress, lateness: int, most: int = MOST) -> Slice:
        """Return what a rule takes in next; `lateness` is how long events of a time are waited for, in microseconds.

        The watermark follows the latest time of any accepted event, taken as not later than when it was recorded, so
        that a clock that is ahead does not close windows. Where a partition has more than a step takes in, it waits for
        that.
        """
        positions, seen, bounds = dict(progress.positions), progress.seen, list[int]()
        peaks, waiting = [progress.watermark + lateness, progress.peak], list[int]()
        for place in self._all_places():
            first = positions.get(place, 0)
            if (new := self._new(place, first, most, progress.seen)) is None:
                continue
            positions[place], seen = new.next, max(seen, new.seen)
            bounds.append(new.recorded_after)
            (waiting if new.next - first >= most else peaks).append(new.peak)
        peak = max(*peaks, *waiting)
        watermark = max(progress.watermark, (min(waiting) if waiting else peak) - lateness)
        return Slice(progress, positions, watermark, seen, bool(waiting), min(bounds, default=0), peak)

    def _all_places(self) -> Sequence[Place]:
        if self._places is None:
            self._places = _places(self.store)
        return self._places

    def _new(self, place: Place, first: int, most: int, seen: int) -> _New | None:
        asked = (place, first, seen)
        if asked not in self._found:
            self._found[asked] = _new(self.store, place, first, most, seen)
        return self._found[asked]


def next_slice(store: Store, progress: Progress, lateness: int, most: int = MOST) -> Slice:
    """Return what comes next for one that reads alone; see `Reader`."""
    return Reader(store).next_slice(progress, lateness, most)


def ends(store: Store) -> Slice:
    """Return the slice that has all there is, for a rule that begins with what comes next."""
    columns = f"stream, topic, partition, max(`offset`) + 1, {_PEAK}, {_SEEN}"
    rows = store.execute(f"SELECT {columns} FROM ledger GROUP BY stream, topic, partition").rows
    positions = {(str(stream), str(topic), int(number)): int(end) for stream, topic, number, end, _, _ in rows}
    peak = max((int(row[4]) for row in rows), default=-1)
    return Slice(Progress(-1, -1), positions, peak, max((int(row[5]) for row in rows), default=0))


@dataclass(frozen=True, slots=True)
class _New:
    """New rows of a partition: the offset after them, their latest time, and when the last was recorded (ms).

    All were recorded after `recorded_after`.
    """

    next: int
    peak: int
    seen: int
    recorded_after: int


def _places(store: Store) -> Sequence[Place]:
    rows = store.execute(_PLACES).rows
    return [(str(stream), str(topic), int(number)) for stream, topic, number in rows if stream != OWN_STREAM]


def _new(store: Store, place: Place, first: int, most: int, seen: int) -> _New | None:
    """Return the new rows of a partition from an offset on, None where there are none."""
    recent = max(seen - SKEW, 0)
    from_ = f"FROM ledger WHERE {_is(place)} AND `offset` >= {first} AND {_recorded_after(recent)}"
    rows, start = _count(store, from_)
    if not rows:
        return None
    if start != first:
        # Compaction and transactions leave offsets out, at times more than a step takes in; or a clock was behind.
        recent, from_ = 0, f"FROM ledger WHERE {_is(place)} AND `offset` >= {first}"
        _, start = _count(store, from_)
    found = f"SELECT max(`offset`), {_PEAK}, {_SEEN} {from_} AND `offset` < {start + most}"
    ((last, peak, latest),) = store.execute(found).rows
    return _New(int(last) + 1, int(peak), int(latest), recent)


def _count(store: Store, from_: str) -> tuple[int, int]:
    ((rows, start),) = store.execute(f"SELECT count(), min(`offset`) {from_}").rows
    return int(rows), int(start)


def _recorded_after(millis: int) -> str:
    return f"ingest_time > fromUnixTimestamp64Milli({millis}, 'UTC')" if millis > 0 else "1"


def _is(place: Place) -> str:
    stream, topic, number = place
    return f"stream = {literal(stream)} AND topic = {literal(topic)} AND partition = {number}"


def between(after: int, until: int) -> str:
    """Return the condition of an event's time in (after, until], in microseconds."""
    return f"event_time > {_moment(max(after, -1))} AND event_time <= {_moment(max(until, -1))}"


def _moment(micros: int) -> str:
    return f"fromUnixTimestamp64Micro({micros}, 'UTC')"
