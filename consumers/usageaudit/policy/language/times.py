"""Times, lengths of time and time zones as conditions write them."""

from __future__ import annotations

import re
import zoneinfo
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400_000_000
_MICROSECOND = timedelta(microseconds=1)
MOMENT_MIN = (datetime(1, 1, 1, tzinfo=UTC) - EPOCH) // _MICROSECOND
"""The first microsecond of year 1."""
MOMENT_MAX = (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC) - EPOCH) // _MICROSECOND
"""The last microsecond of year 9999."""
ZONED_MIN, ZONED_MAX = 0, (datetime(2100, 1, 1, tzinfo=UTC) - EPOCH) // _MICROSECOND - 1
"""The first and last microsecond for which the time of a named zone is known: older ones are guesses, later ones law
that nobody has made yet."""
DURATION_MAX = 315_576_000_000 * 1_000_000
"""The longest duration, either way: 10,000 years, as in CEL."""

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,20})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)", re.ASCII)
_DURATION = re.compile(r"[+-]?(?:0|(?:(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:h|m|s|ms|us|µs|μs|ns))+)", re.ASCII)
_PART = re.compile(r"(\d*)(?:\.(\d*))?(h|ms|us|µs|μs|ns|m|s)", re.ASCII)
NANOSECONDS = {
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ns": 1,
}
_OFFSET = re.compile(r"([+-]?)(\d\d):(\d\d)", re.ASCII)
_UTC = frozenset({"UTC", "Etc/UTC"})
_MACHINE_ZONES = frozenset({"localtime", "posixrules", "Factory"})
"""Names that mean another zone on every machine, or none."""


def timestamp(text: str) -> int | None:
    """Return the microseconds since 1970 of an RFC 3339 text with a zone, None for any other text.

    Digits finer than a microsecond are cut off; the time must lie in the years 1 to 9999 in UTC.
    """
    if len(text) > 64 or not _TIMESTAMP.fullmatch(text) or text[11:13] == "24":
        return None
    try:
        micros = (datetime.fromisoformat(text) - EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        return None
    return micros if MOMENT_MIN <= micros <= MOMENT_MAX else None


def duration(text: str) -> int | None:
    """Return the microseconds of a text such as "1h30m", "-1.5s" or "0", None for any other text.

    Digits finer than a microsecond are cut off.
    """
    if len(text) > 256 or not _DURATION.fullmatch(text):
        return None
    nanoseconds = sum(_nanoseconds(*part.groups()) for part in _PART.finditer(text))
    micros = nanoseconds // 1000
    if micros > DURATION_MAX:
        return None
    return -micros if text.startswith("-") else micros


def _nanoseconds(whole: str, fraction: str | None, unit: str) -> int:
    scale = NANOSECONDS[unit]
    digits = fraction or ""
    return int(whole or "0") * scale + int(digits or "0") * scale // int(10 ** len(digits))


def zone(name: str) -> tzinfo | None:
    """Return the time zone of an IANA name or of an offset such as "+02:00", None for any other text."""
    if offset := _OFFSET.fullmatch(name):
        sign, hours, minutes = offset.groups()
        length = timedelta(hours=int(hours), minutes=int(minutes))
        if int(hours) > 23 or int(minutes) > 59:
            return None
        return timezone(-length if sign == "-" else length)
    if name in _MACHINE_ZONES:
        return None
    if name in _UTC:
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None


def offset_at(micros: int, at: tzinfo) -> int | None:
    """Return how far a zone is ahead of UTC at a time, in microseconds; None where that is not known."""
    if isinstance(at, timezone):
        return at.utcoffset(None) // _MICROSECOND
    if not ZONED_MIN <= micros <= ZONED_MAX:
        return None
    offset = datetime.fromtimestamp(micros // 1_000_000, at).utcoffset()
    return None if offset is None else offset // _MICROSECOND


@cache
def changes(at: tzinfo) -> tuple[tuple[int, int], ...]:
    """Return the offsets of a zone with a name: from which microsecond on it is how far ahead of UTC, from 1970 on.

    Asks for each day; a zone that changes twice on one day, and back, has never been seen.
    """
    known = [(ZONED_MIN, offset_at(ZONED_MIN, at) or 0)]
    for day in range(ZONED_MIN + _DAY, ZONED_MAX, _DAY):
        offset = offset_at(day, at) or 0
        if offset != known[-1][1]:
            known.append((_change(day - _DAY, day, at), offset))
    return tuple(known)


def _change(before: int, after: int, at: tzinfo) -> int:
    """Return the first second between two times, in microseconds, at which the offset is that of the second one."""
    new = offset_at(after, at)
    low, high = before // 1_000_000, after // 1_000_000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if offset_at(middle * 1_000_000, at) == new else (middle, high)
    return high * 1_000_000
