"""Quiet hours: when a delivery waits for the morning."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

from usageaudit.policy.language.times import zone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, tzinfo

    from usageaudit.verdicts import Severity

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_BEFORE, _AFTER = 3, 17
"""Around a moment, the days whose quiet hours are looked at: a zone may leave a day out, and days may join."""
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Quiet:
    """Hours in which deliveries wait.

    On each of `days` (0 is Monday), they begin at the first moment whose clock in `zone` shows `start` or later, and
    end at the first that shows `end` or later; `end` is one of the next day where it is not after `start`. Hours that
    touch are one. `exempt` are severities that do not wait.
    """

    zone: str
    start: time
    end: time
    days: frozenset[int]
    exempt: frozenset[Severity] = frozenset()

    def until(self, moment: datetime, severity: Severity) -> datetime | None:
        """Return when a delivery may go out, in UTC, None for at once. `moment` has a zone, and is of 1970 to 2100."""
        if severity in self.exempt:
            return None
        found_zone = zone(self.zone) or UTC
        at = moment = moment.astimezone(UTC)
        for begins, ends in self._hours(moment.astimezone(found_zone).date(), found_zone):
            if begins <= at < ends:
                at = ends
        return at if at > moment else None

    @property
    def endless(self) -> bool:
        """Whether there is no moment outside of it."""
        return self.start == self.end and len(self.days) == len(DAYS)

    def _hours(self, around: date, found_zone: tzinfo) -> Iterator[tuple[datetime, datetime]]:
        for day in (around + timedelta(days=by) for by in range(-_BEFORE, _AFTER)):
            if day.weekday() in self.days:
                last = day if self.end > self.start else day + timedelta(days=1)
                yield _first(day, self.start, found_zone), _first(last, self.end, found_zone)


def _first(day: date, clock: time, found_zone: tzinfo) -> datetime:
    """Return the first moment at which the clocks of a zone show this, or later."""
    shown = datetime.combine(day, clock)
    late = shown.replace(tzinfo=found_zone, fold=0).astimezone(UTC)
    if _clock(late, found_zone) == shown:
        return late
    early = shown.replace(tzinfo=found_zone, fold=1).astimezone(UTC)  # the clocks leap between these two
    while late - early > _SECOND:
        middle = early + ((late - early) // 2 // _SECOND) * _SECOND
        early, late = (early, middle) if _clock(middle, found_zone) >= shown else (middle, late)
    return late


def _clock(moment: datetime, found_zone: tzinfo) -> datetime:
    return moment.astimezone(found_zone).replace(tzinfo=None, fold=0)
