"""Quiet hours end when the clocks on the wall say so, also where these are changed: a plain reference is the judge."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from usageaudit.alerts.config.quiet import Quiet

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",  # changes its clocks at midnight
    "Australia/Lord_Howe",  # by half an hour
    "Asia/Kathmandu",
    "Pacific/Apia",  # left out the 30th of December 2011
)
CHANGES = (
    datetime(2011, 12, 30, 10, tzinfo=UTC),
    datetime(2025, 3, 30, 1, tzinfo=UTC),
    datetime(2025, 10, 26, 1, tzinfo=UTC),
    datetime(2025, 3, 9, 7, tzinfo=UTC),
    datetime(2025, 11, 2, 6, tzinfo=UTC),
    datetime(2025, 4, 6, 3, tzinfo=UTC),
    datetime(2025, 9, 7, 4, tzinfo=UTC),
    datetime(2025, 10, 4, 15, 30, tzinfo=UTC),
)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
CLOCKS = st.builds(time, st.integers(0, 23), st.sampled_from((0, 1, 15, 30, 59)))
DAYS = st.frozensets(st.integers(0, 6), min_size=1)
MOMENTS = st.builds(
    lambda around, minutes, micros: around + timedelta(minutes=minutes, microseconds=micros),
    st.sampled_from(CHANGES),
    st.integers(-5 * 1440, 5 * 1440),
    st.sampled_from((0, 1, 999_999, 30_000_000)),
)


@lru_cache(maxsize=4096)
def _first_shown(zone: str, day: date, clock: time) -> datetime:
    """Return the first whole minute whose clocks show this or later, found by looking at the clocks again and again."""
    shown = datetime.combine(day, clock)
    at = datetime.combine(day, clock, UTC) - 2 * DAY
    while at.astimezone(ZoneInfo(zone)).replace(tzinfo=None) < shown:
        # Far from it, an hour at a time does no harm: no clocks leap by more than a day.
        far = shown - at.astimezone(ZoneInfo(zone)).replace(tzinfo=None) > DAY + timedelta(hours=2)
        at += timedelta(hours=1) if far else MINUTE
    return at


def _reference(quiet: Quiet, moment: datetime) -> datetime | None:
    """Return when it is no longer quiet: go on from hours to hours for as long as the moment is in some."""
    today = moment.astimezone(UTC).date()
    hours = []
    for day in (today + timedelta(days=by) for by in range(-3, 12)):
        if day.weekday() in quiet.days:
            last = day if quiet.end > quiet.start else day + DAY
            hours.append((_first_shown(quiet.zone, day, quiet.start), _first_shown(quiet.zone, last, quiet.end)))
    at = moment
    while any(begins <= at < ends for begins, ends in hours):
        at = max(ends for begins, ends in hours if begins <= at < ends)
    return at if at != moment else None


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=40, deadline=None)
@given(CLOCKS, CLOCKS, DAYS, MOMENTS)
@example(time(2, 30), time(3, 30), frozenset(range(7)), CHANGES[1])
@example(time(22), time(2, 30), frozenset(range(7)), CHANGES[2] + 20 * MINUTE)
@example(time(0), time(0), frozenset((4, 5)), CHANGES[0])
def test_quiet_hours_end_as_the_reference_says(
    zone: str, start: time, end: time, days: frozenset[int], moment: datetime
) -> None:
    """In every zone and around every change of clocks, they end when the reference says; outside there is no wait."""
    quiet = Quiet(zone, start, end, days)
    if not quiet.endless:
        assert quiet.until(moment, "low") == _reference(quiet, moment)


@given(CLOCKS, CLOCKS, DAYS, MOMENTS)
def test_after_the_wait_there_is_none(start: time, end: time, days: frozenset[int], moment: datetime) -> None:
    """A delivery that waited until it was told to does not wait again."""
    quiet = Quiet("Europe/Berlin", start, end, days)
    until = quiet.until(moment, "low")
    assert quiet.endless or until is None or (until > moment and quiet.until(until, "low") is None)


def test_severities_may_be_exempt() -> None:
    """What is exempt goes out at once, and what is not waits for the end, whatever zone the moment is told in."""
    quiet = Quiet("Europe/Berlin", time(22), time(6), frozenset(range(7)), frozenset(("critical",)))
    night = datetime(2025, 6, 2, 23, tzinfo=ZoneInfo("Europe/Berlin"))
    assert quiet.until(night, "critical") is None
    assert quiet.until(night, "high") == datetime(2025, 6, 3, 4, tzinfo=UTC)
    assert quiet.until(night.astimezone(ZoneInfo("Asia/Tokyo")), "high") == datetime(2025, 6, 3, 4, tzinfo=UTC)


def test_whole_days_join() -> None:
    """Two quiet days end when the third begins, which on the day that the clocks are changed is an hour earlier."""
    quiet = Quiet("Europe/Berlin", time(), time(), frozenset((5, 6)))
    saturday = datetime(2025, 3, 29, 12, tzinfo=UTC)
    assert quiet.until(saturday, "low") == datetime(2025, 3, 30, 22, tzinfo=UTC)
