"""Where the days and months of a time zone begin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from usageaudit.events.times import to_micros
from usageaudit.policy.language.times import EPOCH, ZONED_MAX, ZONED_MIN, zone

if TYPE_CHECKING:
    from datetime import tzinfo

    from usageaudit.policy.windows.model import Calendar, Unit


def starts(calendar: Calendar, first: int, last: int) -> list[int]:
    """Return when the periods begin that have a time from `first` to `last`, and the one after them, in microseconds.

    Times before 1970 and after 2099 are in no period: what a zone's clocks showed, or will, is not known for them.
    A day begins at the first moment that shows its date, which need not be midnight; one that a zone left out is none.
    """
    found_zone = zone(calendar.zone) or UTC
    first, last = max(first, ZONED_MIN), min(last, ZONED_MAX)
    if first > last:
        return []
    local = (EPOCH + timedelta(microseconds=first)).astimezone(found_zone)
    # One period too early does no harm, and is right where a day's first moment is shown twice.
    at = _shift(local.replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0, fold=0), calendar.unit, -1)
    found: list[int] = []
    while not found or found[-1] <= last:
        start = _instant(at, found_zone)
        if not found or start > found[-1]:
            found.append(start)
        at = _shift(at, calendar.unit, 1)
    return found


def _shift(day: datetime, unit: Unit, by: int) -> datetime:
    if unit == "day":
        return day + timedelta(days=by)
    months = day.year * 12 + day.month - 1 + by
    return day.replace(year=months // 12, month=months % 12 + 1, day=1)


def _instant(midnight: datetime, found_zone: tzinfo) -> int:
    """Return the moment of a midnight; of one that the clocks leap over, that of the leap (PEP 495, fold 0)."""
    return to_micros(midnight.replace(tzinfo=found_zone).astimezone(UTC))
