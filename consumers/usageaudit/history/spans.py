"""Cuts a period of the record into pieces with about equally many events, each one statement's work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usageaudit.events.times import MAX_TIME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from usageaudit.stores.port import Store

_HOUR = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Period:
    """Times of events from `start` on and before `end`, in microseconds since 1970."""

    start: int = 0
    end: int = MAX_TIME

    @property
    def accepted(self) -> str:
        """The condition of a ledger row that is an accepted event of that time."""
        return f"status = 'accepted' AND event_time >= {_moment(self.start)} AND event_time < {_moment(self.end)}"


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a period, and how many events it has."""

    period: Period
    events: int


def _moment(micros: int) -> str:
    return f"fromUnixTimestamp64Micro({micros}, 'UTC')"


def spans(store: Store, period: Period, events: int) -> tuple[Span, ...]:
    """Return the pieces of a period that have events, by time: whole hours up to about so many events together.

    An hour that alone has more is cut evenly. The first and last hour of the period are as long as lies inside it.
    """
    sql = (
        "SELECT toUnixTimestamp(toStartOfHour(event_time)) AS hour, count() "
        f"FROM ledger WHERE {period.accepted} GROUP BY hour ORDER BY hour"
    )
    hours = ((int(hour) * 1_000_000, int(count)) for hour, count in store.execute(sql).rows)
    return tuple(_within(piece, period) for piece in _pieces(hours, events))


def _pieces(hours: Iterable[tuple[int, int]], most: int) -> Iterator[Span]:
    waiting: Span | None = None
    for hour, count in hours:
        if waiting is not None and waiting.events + count > most:
            yield waiting
            waiting = None
        if count > most:
            yield from _cut(hour, count, most)
        elif waiting is None:
            waiting = Span(Period(hour, hour + _HOUR), count)
        else:
            waiting = Span(Period(waiting.period.start, hour + _HOUR), waiting.events + count)
    if waiting is not None:
        yield waiting


def _cut(hour: int, count: int, most: int) -> Iterator[Span]:
    pieces = min(-(-count // most), _HOUR)
    bounds = [hour + _HOUR * number // pieces for number in range(pieces + 1)]
    shares = [count * number // pieces for number in range(pieces + 1)]
    for number in range(pieces):
        yield Span(Period(bounds[number], bounds[number + 1]), shares[number + 1] - shares[number])


def _within(span: Span, period: Period) -> Span:
    return Span(Period(max(span.period.start, period.start), min(span.period.end, period.end)), span.events)
