"""What the templates of the operator table call: each name here is `op_NAME` in generated code.

Operands are known; a result that does not exist is None. Nothing here raises for any value of the right type.
"""

from __future__ import annotations

from datetime import date
from math import isfinite
from typing import TYPE_CHECKING

from usageaudit.policy.language.times import MOMENT_MAX, MOMENT_MIN, duration, offset_at, timestamp
from usageaudit.policy.language.types import INT_MAX, INT_MIN

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import tzinfo

    from usageaudit.policy.language.patterns import Pattern

_DAY = 86_400_000_000
_DAY_0 = date(1970, 1, 1).toordinal()


def any_(values: Collection[bool | None]) -> bool | None:
    """Kleene's or: true where one is, false where all are; none of them, false."""
    return True if True in values else None if None in values else False


def all_(values: Collection[bool | None]) -> bool | None:
    """Kleene's and: false where one is, true where all are; none of them, true."""
    return False if False in values else None if None in values else True


def one(values: Collection[bool | None]) -> bool | None:
    """Whether exactly one is true; None as soon as one is unknown, as CEL fails as soon as one fails."""
    return None if None in values else sum(map(bool, values)) == 1


def negation(value: bool | None) -> bool | None:
    """Kleene's not."""
    return None if value is None else not value


def _int(value: int) -> int | None:
    return value if INT_MIN <= value <= INT_MAX else None


def add_int(left: int, right: int) -> int | None:
    """Sum in 64 bits."""
    return _int(left + right)


def subtract_int(left: int, right: int) -> int | None:
    """Difference in 64 bits."""
    return _int(left - right)


def multiply_int(left: int, right: int) -> int | None:
    """Product in 64 bits."""
    return _int(left * right)


def divide_int(left: int, right: int) -> int | None:
    """Quotient in 64 bits, cut off towards zero."""
    if right == 0:
        return None
    quotient = abs(left) // abs(right)
    return _int(quotient if (left < 0) == (right < 0) else -quotient)


def remainder(left: int, right: int) -> int | None:
    """Return what the quotient leaves, with the sign of the left operand; None where the quotient does not exist."""
    quotient = divide_int(left, right)
    return None if quotient is None else left - quotient * right


def negate_int(value: int) -> int | None:
    """Negative in 64 bits."""
    return _int(-value)


def finite(value: float) -> float | None:
    """Return the value itself, where it is finite."""
    return value if isfinite(value) else None


def divide_double(left: float, right: float) -> float | None:
    """Quotient, where it is finite."""
    return finite(left / right) if right else None


def moment(micros: int) -> int | None:
    """Return the value itself, where it lies in the years 1 to 9999."""
    return micros if MOMENT_MIN <= micros <= MOMENT_MAX else None


def on_date(micros: int) -> date:
    """Return the date of a time, in UTC."""
    return date.fromordinal(micros // _DAY + _DAY_0)


def yearday(micros: int) -> int:
    """Return the day of the year of a time in UTC, the first is 0."""
    day = on_date(micros)
    return day.toordinal() - date(day.year, 1, 1).toordinal()


def local(micros: int, zone: tzinfo) -> int | None:
    """Return the local time of a zone, as the microseconds of the same date and time in UTC.

    None where it lies outside of the years 1 to 9999, of a zone with a name 1970 to 2099.
    """
    offset = offset_at(micros, zone)
    return None if offset is None else moment(micros + offset)


def matches(pattern: Pattern, text: str) -> bool | None:
    """Whether some part of a text matches; None for a text that is no Unicode (it has surrogates)."""
    try:
        return pattern.found(text)
    except UnicodeEncodeError:
        return None


_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def lower_ascii(text: str) -> str:
    """Return the text with A to Z, and no other letters, in lower case."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


OPERATIONS: dict[str, Callable[..., object]] = {
    "op_any": any_,
    "op_all": all_,
    "op_one": one,
    "op_negation": negation,
    "op_add_int": add_int,
    "op_subtract_int": subtract_int,
    "op_multiply_int": multiply_int,
    "op_divide_int": divide_int,
    "op_remainder": remainder,
    "op_negate_int": negate_int,
    "op_finite": finite,
    "op_divide_double": divide_double,
    "op_timestamp": timestamp,
    "op_duration": duration,
    "op_moment": moment,
    "op_date": on_date,
    "op_yearday": yearday,
    "op_local": local,
    "op_matches": matches,
    "op_lower_ascii": lower_ascii,
}
"""The names that generated code calls."""
