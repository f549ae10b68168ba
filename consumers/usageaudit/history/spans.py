"""Cuts a period of the record into pieces with about equally many events, each one statement's work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usageaudit.events.times import MAX_TIME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from usageaudit.stores.port import Store

_SECOND = 1_000_000
_HOUR = 3_600 * _SECOND


@dataclass(frozen=True, slots=True)
class Period:
    """Times of events from `start` on and before `end`, in microseconds since 1970."""

    start: int = 0
    end: int = MAX_TIME

    @property
    def accepted(self) -> str:
        """The condition of a ledger row that is an accepted event of that time."""
        return f"status = 'accepted' AND event_time >= {moment(self.start)} AND event_time < {moment(self.end)}"


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a period, and how many events it has."""

    period: Period
    events: int


def moment(micros: int) -> str:
    """Return a time, in microseconds since 1970, as SQL of the type of `event_time`."""
    return f"fromUnixTimestamp64Micro({micros}, 'UTC')"


def spans(store: Store, period: Period, events: int) -> tuple[Span, ...]:
    """Return the pieces of a period that have events, by time: whole hours up to about so many events together.

    An hour that alone has more is cut evenly. The first and last hour of the period are as long as lies inside it.
    """
    sql = (
        "SELECT toUnixTimestamp(toStartOfHour(event_time)) AS hour, count() "
        f"FROM ledger WHERE {_hours(period)} GROUP BY toStartOfHour(event_time) ORDER BY hour"
    )
    hours = (
        Span(Period(max(int(hour) * _SECOND, period.start), min(int(hour) * _SECOND + _HOUR, period.end)), int(count))
        for hour, count in store.execute(sql).rows
    )
    return tuple(_pieces(hours, events))


def _hours(period: Period) -> str:
    """Return the condition of a period, of whole hours in the form that the ledger's aggregates are found by."""
    if period.start % _HOUR or period.end % _HOUR:
        return period.accepted
    start, end = (f"toDateTime({at // _SECOND}, 'UTC')" for at in (period.start, period.end))
    return f"status = 'accepted' AND toStartOfHour(event_time) >= {start} AND toStartOfHour(event_time) < {end}"


def _pieces(hours: Iterable[Span], most: int) -> Iterator[Span]:
    waiting: Span | None = None
    for hour in hours:
        if waiting is not None and waiting.events + hour.events > most:
            yield waiting
            waiting = None
        if hour.events > most:
            yield from _cut(hour, most)
        elif waiting is None:
            waiting = hour
        else:
            waiting = Span(Period(waiting.period.start, hour.period.end), waiting.events + hour.events)
    if waiting is not None:
        yield waiting


def _cut(hour: Span, most: int) -> Iterator[Span]:
    start, length = hour.period.start, hour.period.end - hour.period.start
    pieces = min(-(-hour.events // most), length)
    bounds = [start + length * number // pieces for number in range(pieces + 1)]
    shares = [hour.events * number // pieces for number in range(pieces + 1)]
    for number in range(pieces):
        yield Span(Period(bounds[number], bounds[number + 1]), shares[number + 1] - shares[number])
