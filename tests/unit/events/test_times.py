"""Times: RFC 3339 outside, microseconds inside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usageaudit.events.times import MAX_TIME, format_time, parse_time, to_micros

zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime(1970, 1, 2), datetime(2105, 12, 30), timezones=zones)  # noqa: DTZ001


@given(moments)
def test_a_time_in_any_zone_is_the_same_moment(moment: datetime) -> None:
    """Text in any zone is read as the moment that the standard library says it is."""
    assert parse_time(moment.isoformat()) == (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@given(st.integers(0, MAX_TIME - 1))
def test_what_is_formatted_parses(micros: int) -> None:
    """Formatting and parsing gives the same microsecond, written in UTC."""
    text = format_time(micros)
    assert text.endswith("Z")
    assert parse_time(text) == micros


@given(st.from_regex(r"20\d\d-[0-1]\d-[0-3]\d[T t][0-2]\d:[0-6]\d:[0-6]\d[.,]\d{6}[Zz]", fullmatch=True))
def test_the_usual_length_is_read_like_any_other(text: str) -> None:
    """A time with six digits is read, or refused, as the same time with a seventh digit is."""
    assert _read(text) == _read(f"{text[:26]}0{text[26]}")


def _read(text: str) -> int | None:
    try:
        return parse_time(text)
    except ValueError:
        return None


def test_finer_digits_are_cut_off() -> None:
    """Nanoseconds are truncated to microseconds, never rounded."""
    assert parse_time("2024-05-01T00:00:00.123456999Z") == parse_time("2024-05-01T00:00:00.123456Z")


@pytest.mark.parametrize(
    "text",
    ["2024-05-01", "2024-05-01T00:00:00", "2024-05-01 00:00:00Z", "2024-05-01T00:00Z", "20240501T000000Z",
     "2024-05-01T24:00:00Z", "2024-05-01T23:59:60Z", "2024-05-01T00:00:00+2500", "٢٠٢٤-05-01T00:00:00Z",
     "1969-12-31T23:59:59Z", "2106-01-01T00:00:00Z", "0001-01-01T00:00:00+10:00", "now", ""],
)  # fmt: skip
def test_other_texts_are_refused(text: str) -> None:
    """Only a full RFC 3339 time with a zone from 1970 to 2105 is a time."""
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)


def test_a_datetime_without_a_zone_is_refused() -> None:
    """A naive datetime is no moment."""
    with pytest.raises(ValueError, match="zone"):
        to_micros(datetime(2024, 5, 1))  # noqa: DTZ001
