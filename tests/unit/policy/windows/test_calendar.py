"""Where days and months begin, held against the clocks of the time zone database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usageaudit.policy.windows.calendar import starts
from usageaudit.policy.windows.model import Calendar

SECOND = 1_000_000
LAST = 4_102_444_799
"""The last second of 2099."""
# Clocks that leap over midnight (Beirut, Asuncion), go back over it (Toronto's 1980s, Azores), leave a day out (Apia).
ZONES = (
    *("UTC", "Europe/Paris", "America/New_York", "Asia/Kathmandu", "Asia/Beirut", "America/Asuncion"),
    *("Pacific/Apia", "Atlantic/Azores", "America/St_Johns", "Australia/Lord_Howe", "Africa/Casablanca"),
)


def _shown(second: int, zone: str, unit: str) -> tuple[int, ...]:
    local = datetime.fromtimestamp(second, UTC).astimezone(ZoneInfo(zone))
    return (local.year, local.month, local.day)[: 2 if unit == "month" else 3]


@given(
    zone=st.sampled_from(ZONES),
    unit=st.sampled_from(("day", "month")),
    second=st.integers(0, LAST),
    days=st.integers(0, 40),
)
def test_periods_begin_where_clocks_first_show_their_date(zone: str, unit: str, second: int, days: int) -> None:
    """Starts ascend, cover the span, and each is the first second at which clocks show a later date."""
    last = min(second + days * 86_400, LAST)
    found = starts(Calendar(unit, zone), second * SECOND, last * SECOND)  # type: ignore[arg-type]
    assert found == sorted(set(found))
    assert found[0] <= second * SECOND
    assert found[-1] > last * SECOND
    for start in found:
        assert start % SECOND == 0
        before, at = _shown(start // SECOND - 1, zone, unit), _shown(start // SECOND, zone, unit)
        assert before < at
    for earlier, later in pairwise(found):
        inside = _shown(earlier // SECOND, zone, unit)
        # Clocks that go back over midnight show the day before once more; it stays in the new day's period.
        assert _shown(later // SECOND - 1, zone, unit) == inside


def test_a_day_that_clocks_leave_out_is_none() -> None:
    """Samoa had no 30 December 2011: the day before it is followed by the 31st."""
    noon = int(datetime(2011, 12, 29, 12, tzinfo=ZoneInfo("Pacific/Apia")).timestamp())
    found = starts(Calendar("day", "Pacific/Apia"), noon * SECOND, (noon + 86_400) * SECOND)
    shown = [_shown(start // SECOND, "Pacific/Apia", "day") for start in found]
    assert (2011, 12, 30) not in shown
    assert {(2011, 12, 29), (2011, 12, 31)} <= set(shown)


def test_months_are_as_long_as_they_are() -> None:
    """From January 2024 on, months begin 31, 29, 31 days after each other."""
    first = int(datetime(2024, 1, 15, tzinfo=UTC).timestamp())
    found = starts(Calendar("month", "UTC"), first * SECOND, (first + 75 * 86_400) * SECOND)
    days = [timedelta(microseconds=b - a).days for a, b in pairwise(found)]
    assert days[-3:] == [31, 29, 31]


@pytest.mark.parametrize(("first", "last"), [(LAST + 1, LAST + 2), (-2, -1)])
def test_what_clocks_show_is_not_known_for_ever(first: int, last: int) -> None:
    """Before 1970 and after 2099 there is no period."""
    assert starts(Calendar("day", "UTC"), first * SECOND, last * SECOND) == []
