"""Writes the SQL of operators for which the engine has no function that means the same.

Each function here is the `composed` of a row of the operator table. Its operands are known; what it returns is NULL
where the result does not exist. Times are microseconds since 1970 as Int64. Dates are computed with whole numbers
instead of the engine's functions for them, which know the years 1900 to 2299.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.policy.language.times import (
    DURATION_MAX,
    MOMENT_MAX,
    MOMENT_MIN,
    NANOSECONDS,
    ZONED_MAX,
    ZONED_MIN,
    changes,
    offset_at,
)
from usageaudit.policy.sql.text import literal, once

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import tzinfo

_DAY = 86_400_000_000
_DAYS_BEFORE_1970 = 719_468
"""Days from 0000-03-01, where the calendar's 400 years begin that all computing with dates here goes by."""
_SHIFT = _DAYS_BEFORE_1970 * _DAY


def _finite(value: str) -> str:
    return once(value, lambda v: f"if(isFinite({v}), {v}, NULL)")


def add_double(left: str, right: str) -> str:
    """Sum, where it is finite."""
    return _finite(f"({left} + {right})")


def subtract_double(left: str, right: str) -> str:
    """Difference, where it is finite."""
    return _finite(f"({left} - {right})")


def multiply_double(left: str, right: str) -> str:
    """Product, where it is finite."""
    return _finite(f"({left} * {right})")


def divide_double(left: str, right: str) -> str:
    """Quotient, where it is finite."""
    return _finite(f"({left} / {right})")


def remainder(left: str, right: str) -> str:
    """Return what the quotient leaves, with the sign of the left operand; NULL where the quotient does not exist."""
    exists = f"{right} != 0 AND NOT ({left} = {literal(-(2**63))} AND {right} = -1)"
    return f"if({exists}, toInt64(moduloOrZero(toInt128({left}), toInt128({right}))), NULL)"


def _moment(value: str) -> str:
    return once(value, lambda v: f"if({v} BETWEEN {MOMENT_MIN} AND {MOMENT_MAX}, {v}, NULL)")


def later(left: str, right: str) -> str:
    """Sum of a time and a duration, in the years 1 to 9999."""
    return _moment(f"({left} + {right})")


def earlier(left: str, right: str) -> str:
    """Difference of a time and a duration, in the years 1 to 9999."""
    return _moment(f"({left} - {right})")


def exactly_one(values: str) -> str:
    """Whether one of an array of truths is true; NULL as soon as one is."""
    return once(values, lambda v: f"if(arrayExists(i -> isNull(i), {v}), NULL, countEqual({v}, 1) = 1)")


def local(micros: str, zone: tzinfo) -> str:
    """Return the local time of a zone; see `usageaudit.policy.python.runtime.local`.

    The changes of the zone are written out, so that both back ends go by one time zone database.
    """
    fixed = offset_at(ZONED_MIN - 1, zone)
    if fixed is not None:
        return _moment(f"({micros} + {fixed})")
    known = changes(zone)
    offset = str(known[0][1])
    if len(known) > 1:
        starts, offsets = (f"CAST([{', '.join(map(str, side))}], 'Array(Int64)')" for side in zip(*known, strict=True))
        offset = f"transform(roundDown({micros}, {starts}), {starts}, {offsets}, toInt64({known[0][1]}))"
    return f"if({micros} BETWEEN {ZONED_MIN} AND {ZONED_MAX}, {micros} + {offset}, NULL)"


# The calendar: days_from_civil and civil_from_days of https://howardhinnant.github.io/date_algorithms.html.


def _day_of_era(micros: str) -> str:
    return f"modulo(intDiv({micros} + {_SHIFT}, {_DAY}), 146097)"


def _year_of_era(day: str) -> str:
    return f"intDiv({day} - intDiv({day}, 1460) + intDiv({day}, 36524) - intDiv({day}, 146096), 365)"


def _of_march_year(micros: str, body: Callable[[str], str]) -> str:
    """Return `body` of the day in the year that begins on 1 March, from 0."""

    def from_year(day: str, year: str) -> str:
        return once(f"{day} - (365 * {year} + intDiv({year}, 4) - intDiv({year}, 100))", body)

    return once(_day_of_era(micros), lambda day: once(_year_of_era(day), lambda year: from_year(day, year)))


def year(micros: str) -> str:
    """Return the year of a time."""
    era = f"intDiv(intDiv({micros} + {_SHIFT}, {_DAY}), 146097)"
    of_era = once(_day_of_era(micros), _year_of_era)
    return f"toInt64({of_era} + {era} * 400 + {_of_march_year(micros, lambda day: f'({day} >= 306)')})"


def month(micros: str) -> str:
    """Return the month of a time, January is 0."""
    return _of_march_year(micros, lambda day: f"toInt64(modulo(intDiv(5 * ({day}) + 2, 153) + 2, 12))")


def day(micros: str) -> str:
    """Return the day of the month of a time, the first is 1."""
    return f"({day_from_0(micros)} + 1)"


def day_from_0(micros: str) -> str:
    """Return the day of the month of a time, the first is 0."""
    return _of_march_year(micros, lambda day: f"toInt64({day} - intDiv(153 * intDiv(5 * ({day}) + 2, 153) + 2, 5))")


def yearday(micros: str) -> str:
    """Return the day of the year of a time, the first is 0."""
    leap = once(year(micros), lambda y: f"({_leap(y)})")
    return _of_march_year(micros, lambda day: f"toInt64(if({day} >= 306, {day} - 306, {day} + 59 + {leap}))")


def _leap(year: str) -> str:
    return f"{year} % 4 = 0 AND ({year} % 100 != 0 OR {year} % 400 = 0)"


def weekday(micros: str) -> str:
    """Return the day of the week of a time, Sunday is 0."""
    return f"toInt64(modulo(intDiv({micros} + {_SHIFT}, {_DAY}) + 3, 7))"


def hours(micros: str) -> str:
    """Return the hour of a time."""
    return _part(micros, 3_600_000_000, 24)


def minutes(micros: str) -> str:
    """Return the minute of a time."""
    return _part(micros, 60_000_000, 60)


def seconds(micros: str) -> str:
    """Return the second of a time."""
    return _part(micros, 1_000_000, 60)


def milliseconds(micros: str) -> str:
    """Return the millisecond of a time."""
    return _part(micros, 1_000, 1_000)


def _part(micros: str, unit: int, count: int) -> str:
    return f"toInt64(modulo(intDiv({micros} + {_SHIFT}, {unit}), {count}))"


_RFC_3339 = (
    r"^(\d{4})-(\d\d)-(\d\d)T([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:\.(\d{1,20}))?"
    r"(?:Z|([+-])([01]\d|2[0-3]):([0-5]\d))\z"
)
_DURATION = r"^[+-]?(?:0|(?:(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:h|m|s|ms|us|µs|μs|ns))+)\z"
_DURATION_PART = r"(\d*)(?:\.(\d*))?(h|ms|us|µs|μs|ns|m|s)"
_DAYS = "[31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]"


def timestamp(text: str) -> str:
    """Return the time of an RFC 3339 text with a zone; see `usageaudit.policy.language.times.timestamp`."""
    groups = f"if(length({text}) <= 64, extractGroups({text}, {literal(_RFC_3339)}), [])"
    return once(groups, _from_groups)


def _from_groups(groups: str) -> str:
    year, month, day, hour, minute, second = (f"toInt64OrZero({groups}[{at}])" for at in range(1, 7))
    micro = f"toInt64OrZero(rightPad(substring({groups}[7], 1, 6), 6, '0'))"
    ahead = f"(if({groups}[8] = '-', -1, 1) * (toInt64OrZero({groups}[9]) * 60 + toInt64OrZero({groups}[10])))"
    length = f"({_DAYS}[{month}] + ({month} = 2 AND {_leap(year)}))"
    valid = f"{year} >= 1 AND {month} BETWEEN 1 AND 12 AND {day} BETWEEN 1 AND {length}"
    march_year = f"({year} - ({month} <= 2))"
    march_day = f"(intDiv(153 * modulo({month} + 9, 12) + 2, 5) + {day} - 1)"
    days = (
        f"{march_year} * 365 + intDiv({march_year}, 4) - intDiv({march_year}, 100) + intDiv({march_year}, 400)"
        f" + {march_day} - {_DAYS_BEFORE_1970}"
    )
    minutes = f"(({days}) * 24 + {hour}) * 60 + {minute} - {ahead}"
    micros = f"(({minutes}) * 60 + {second}) * 1000000 + {micro}"
    return f"if(notEmpty({groups}) AND {valid}, {_moment(f'({micros})')}, NULL)"


def duration(text: str) -> str:
    """Return the length of a text such as 1h30m; see `usageaudit.policy.language.times.duration`."""
    units, scales = list(NANOSECONDS), [str(scale) for scale in NANOSECONDS.values()]
    scale = f"toInt128(transform(p[3], [{', '.join(map(literal, units))}], [{', '.join(scales)}], 0))"
    fraction = f"intDiv(toInt128OrZero(p[2]) * {scale}, toInt128(concat('1', repeat('0', length(p[2])))))"
    part = f"toInt128OrZero(p[1]) * {scale} + {fraction}"
    parts = f"extractAllGroupsVertical({text}, {literal(_DURATION_PART)})"
    micros = f"intDiv(arraySum(p -> {part}, {parts}), 1000)"
    bounded = once(micros, lambda m: f"if({m} <= {DURATION_MAX}, toInt64({m}), NULL)")
    return (
        f"if(lengthUTF8({text}) <= 256 AND match({text}, {literal(_DURATION)}),"
        f" if(startsWith({text}, '-'), -1, 1) * {bounded}, NULL)"
    )


COMPOSED: Mapping[str, Callable[..., str]] = {
    function.__name__: function
    for function in (
        add_double,
        subtract_double,
        multiply_double,
        divide_double,
        remainder,
        exactly_one,
        timestamp,
        duration,
        later,
        earlier,
        year,
        month,
        day,
        day_from_0,
        yearday,
        weekday,
        hours,
        minutes,
        seconds,
        milliseconds,
    )
}
"""What the operator table calls by name."""
