"""Values that a person gives as text for `{name:Type}` placeholders: what the engine would misread is refused here.

As tried on 25.8, 26.7 and 26.9, the engine takes 2024-13-01 for a Date of 1970 and 2024-02-31 for the 2nd of March,
lets integers wrap around, has times stop at the ends of their type, and knows no zone in the text of a time.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usageaudit.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.stores.port import Parameters

_QUOTED = r"'(?:[^'\\]|\\.|'')*'"
# In the form that FORMAT_SQL gives a statement these are all the places where a brace may stand.
_QUOTED_OR_PLACEHOLDER = re.compile(rf"{_QUOTED}|`(?:[^`\\]|\\.)*`|\{{(\w+):((?:{_QUOTED}|[^{{}}'])*)\}}", re.DOTALL)
_WRAPPED = re.compile(r"(?:Nullable|LowCardinality)\s*\((.*)\)", re.DOTALL)
_TYPE = re.compile(r"([\w ]*\w)\s*(?:\(\s*(\d*).*\))?", re.DOTALL)
# https://clickhouse.com/docs/sql-reference/data-types: the names of other dialects, which any case may have.
_ALIASES = {
    "tinyint": "Int8",
    "smallint": "Int16",
    "int": "Int32",
    "integer": "Int32",
    "bigint": "Int64",
    "date": "Date",
    "datetime": "DateTime",
    "timestamp": "DateTime",
}
_UNSIGNED = " unsigned"
_INTEGER_TYPE = re.compile(r"(U?)Int(8|16|32|64|128|256)")
_INTEGER = re.compile(r"[+-]?[0-9]{1,4000}")
_DATE = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})|([0-9]{4})([0-9]{2})([0-9]{2})")
# RFC 3339, section 5.6; the zone may be left out.
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]+))?([Zz]|[+-][0-9]{2}:[0-9]{2})?"
)
_UNIX = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]+))?")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_DATES = {
    "Date": (dt.date(1970, 1, 1), dt.date(2149, 6, 6)),
    "Date32": (dt.date(1900, 1, 1), dt.date(2299, 12, 31)),
}
_MOMENTS = {
    "DateTime": (0, 2**32 - 1),
    "DateTime64": (-2_208_988_800, 10_413_791_999),  # the years 1900 to 2299
}
_NANOSECONDS = 9
_LAST_IN_NANOSECONDS = 2**63 // 10**9 - 1
_DIGITS_OF_UNIX_TIME = 10  # shorter ones may be taken for a year or a date
_MINUS_ZERO = "-0000000000"  # the engine forgets the sign before a fraction
_LONGEST_SHOWN = 80


@dataclass(frozen=True, slots=True)
class _Type:
    """A scalar type; `digits` are those of the fraction of a second."""

    name: str
    digits: int


def checked(statement: str, parameters: Parameters | None) -> dict[str, Any]:
    """Return the parameters for a statement, those given as text in the form that the engine reads as it was meant.

    `statement` is in the form that FORMAT_SQL gives it. Raises QueryError for a text that is no value of its type.
    """
    values = dict(parameters or {})
    texts: dict[str, set[str]] = {}
    for name, type_name in _placeholders(statement):
        if isinstance(value := values.get(name), str):
            texts.setdefault(name, set()).add(_text(name, type_name, value))
    for name, forms in texts.items():
        if len(forms) > 1:
            raise QueryError(
                f"parameter {name} has several types that read it differently: give each its own parameter"
            )
        (values[name],) = forms
    return values


def check_text(sql: str, parameters: Parameters | None) -> None:
    """Raise QueryError for a statement or a parameter that is not UTF-8."""
    for what, text in (
        ("the statement", sql),
        *((f"parameter {name}", one) for name, one in (parameters or {}).items()),
    ):
        try:
            str(text).encode()
        except UnicodeEncodeError as error:
            raise QueryError(
                f"{what} is not UTF-8 at character {error.start + 1}: give it as UTF-8; for a byte that is none, "
                "write its escape, such as \\xff, in a quoted string"
            ) from None


def statement_text(formatted: str | bytes) -> str:
    r"""Return a statement of the engine's own form: bytes that are not UTF-8 become `\xff`, which quotes read alike."""
    return formatted if isinstance(formatted, str) else formatted.decode("utf-8", "backslashreplace")


def _placeholders(statement: str) -> Iterator[tuple[str, str]]:
    return ((found[1], found[2]) for found in _QUOTED_OR_PLACEHOLDER.finditer(statement) if found[1])


def _text(name: str, type_name: str, text: str) -> str:
    scalar = _scalar(type_name)
    if integer := _INTEGER_TYPE.fullmatch(scalar.name):
        return _integer(name, scalar, text, signed=not integer[1], bits=int(integer[2]))
    if scalar.name in _DATES:
        return _date(name, scalar, text)
    if scalar.name in _MOMENTS:
        return _time(name, scalar, text)
    return text


def _scalar(type_name: str) -> _Type:
    type_name = type_name.strip()
    while wrapped := _WRAPPED.fullmatch(type_name):
        type_name = wrapped[1].strip()
    found = _TYPE.fullmatch(type_name)
    if not found:
        return _Type(type_name, 0)
    name, lower = found[1], found[1].lower()
    alias = _ALIASES.get(lower.removesuffix(_UNSIGNED), name)
    if lower.endswith(_UNSIGNED):
        alias = f"U{alias}"
    # DateTime(6) is DateTime64(6), and DateTime64 alone is DateTime64(3).
    digits = int(found[2]) if found[2] else 3 * (alias == "DateTime64")
    return _Type("DateTime64" if alias == "DateTime" and digits else alias, digits)


def _integer(name: str, scalar: _Type, text: str, *, signed: bool, bits: int) -> str:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if not _INTEGER.fullmatch(text) or not low <= int(text) <= high:
        raise _refusal(name, text, f"is no {scalar.name}; write a whole number from {low} to {high}")
    return text


def _date(name: str, scalar: _Type, text: str) -> str:
    if (date := _existing(text)) is None:
        raise _refusal(name, text, "is no date that exists; write YYYY-MM-DD")
    low, high = _DATES[scalar.name]
    if not low <= date <= high:
        raise _refusal(name, text, f"is outside of {scalar.name}, which goes from {low} to {high}")
    return date.isoformat()


def _existing(text: str) -> dt.date | None:
    found = _DATE.fullmatch(text)
    try:
        return dt.date(*(int(part) for part in found.groups() if part)) if found else None
    except ValueError:
        return None


def _time(name: str, scalar: _Type, text: str) -> str:
    """Return Unix time for what names a moment, and the time of day as it is for what leaves the zone open."""
    try:
        seconds, fraction, form = _moment(text)
    except ValueError:
        raise _refusal(name, text, "is no time that exists; write YYYY-MM-DDThh:mm:ssZ") from None
    if len(fraction) > scalar.digits:
        raise _refusal(name, text, f"is finer than {scalar.name}({scalar.digits}); use DateTime64(6)")
    if fraction and form == _MINUS_ZERO:
        raise _refusal(name, text, "is in the last second before 1970, which can't be given")
    low, high = _MOMENTS[scalar.name]
    high = min(high, _LAST_IN_NANOSECONDS) if scalar.digits == _NANOSECONDS else high
    if not low <= seconds <= high:
        first, last = ((_EPOCH + dt.timedelta(seconds=one)).isoformat() for one in (low, high))
        raise _refusal(name, text, f"is outside of {scalar.name}, which goes from {first} to {last}")
    return f"{form}.{fraction}" if fraction else form


def _moment(text: str) -> tuple[int, str, str]:
    """Return the seconds since 1970, the fraction's digits, and what goes before them; or raise ValueError."""
    if date := _existing(text):
        return _unix(dt.datetime.combine(date, dt.time())), "", f"{date} 00:00:00"
    if found := _TIME.fullmatch(text):
        day, clock, fraction, zone = found[1], found[2], (found[3] or "").rstrip("0"), found[4]
        moment = dt.datetime.fromisoformat(f"{day}T{clock}{(zone or '').upper()}")
        seconds = _unix(moment)
        if not zone:
            return seconds, fraction, f"{day} {clock}"
        if seconds < 0 and fraction:
            # A fraction counts upwards, the text of a negative number downwards.
            whole = 10 ** len(fraction)
            return seconds, f"{whole - int(fraction):0{len(fraction)}d}", _unix_text(-seconds - 1, "-")
        return seconds, fraction, _unix_text(abs(seconds), "-" * (seconds < 0))
    if found := _UNIX.fullmatch(text):
        sign, seconds, fraction = found[1], int(found[2]), (found[3] or "").rstrip("0")
        return (-seconds if sign else seconds), fraction, _unix_text(seconds, sign)
    raise ValueError(text)


def _unix(moment: dt.datetime) -> int:
    # Without a zone as if in UTC: the zone of the type or the server moves the ends of the range by hours.
    return ((moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)) - _EPOCH) // dt.timedelta(seconds=1)


def _unix_text(seconds: int, sign: str) -> str:
    return f"{sign}{seconds:0{_DIGITS_OF_UNIX_TIME}d}"


def _refusal(name: str, text: str, what: str) -> QueryError:
    return QueryError(f"parameter {name}: {text[:_LONGEST_SHOWN]} {what}")
