"""Values that random events and conditions draw from: few, so that they meet, and awkward ones among them."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from math import isfinite
from typing import TYPE_CHECKING

from usageaudit.events.times import MAX_TIME, format_time, to_micros
from usageaudit.policy.language import BOOL, DOUBLE, DURATION, INT, STRING, TIMESTAMP, Type, quote

if TYPE_CHECKING:
    import random

_DAY = 86_400_000_000


def _micros(*parts: int) -> int:
    return to_micros(datetime(*parts, tzinfo=UTC))  # type: ignore[arg-type, misc]


WORDS = ("", "a", "b", "ab", "A", "é")
"""The texts that come up most."""
ODD_TEXTS = (
    "Ab", "É", "ß", "a\nb", "\0", "a\0b", '"', "'", "\\", "a.b", "a'b\"c\\", "\N{GRINNING FACE}", "a\N{GRINNING FACE}b",
    "\u2028", "e\u0301", " ", "%", "_", "{x}", "ÿ", "\r\n", "\t", "\\n", "\uffff", "\x7f", "aab", "1", "NULL", "true",
    "\U0010ffff", "b\n", "\nb", "--", "/*", "0", "K",
)  # fmt: skip
TIME_TEXTS = (
    "2024-05-01T00:00:00Z", "2024-05-01T02:00:00.123456789+02:00", "2024-02-29T23:59:59Z", "2023-02-29T00:00:00Z",
    "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-00:01",
    "9999-12-31T23:59:59.9999999+00:00", "1900-01-01T00:00:00Z", "1899-12-31T23:59:59.999999Z", "2300-01-01T00:00:00Z",
    "2299-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.9999999Z", "1970-01-01T00:00:00Z", "2024-05-01T24:00:00Z",
    "2024-05-01t00:00:00z", "2024-05-01 00:00:00Z", "2024-05-01T00:00:00", "2024-06-30T23:59:60Z",
    "2024-05-01T00:00:00+24:00", "2024-05-01T00:00:00+23:59", "2024-05-01T00:00:00-23:59", "2024-05-01T00:00:00+01:60",
    "2024-05-01T00:00:00,5Z", "2024-05-01T00:00:00.Z", "2024-05-01T00:00:00Z\n", " 2024-05-01T00:00:00Z",
    "2024-13-01T00:00:00Z", "2024-00-01T00:00:00Z", "2024-05-00T00:00:00Z", "2024-04-31T00:00:00Z",
    "2100-02-29T00:00:00Z", "2000-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2024-05-01T23:60:00Z",
    "0000-01-01T00:00:00Z", "2024-05-01T00:00:00.12345678901234567890Z", "2024-05-01T00:00:00.123456789012345678901Z",
    "-024-05-01T00:00:00Z", "٢٠٢٤-05-01T00:00:00Z", "2024-05-01T00:00:00+0200", "10000-01-01T00:00:00Z", "2024-05-01",
    "1600-02-29T12:34:56.7-08:00",
)  # fmt: skip
DURATION_TEXTS = (
    "90s", "1h30m", "1.5s", "-1.5s", "+2m", "0", "-0", "+0", "1h", "10ms", "7us", "7µs", "7μs", "999ns", "1.9us", ".5s",
    "1.s", "s", "1", "1h 2m", "1d", "87660000h", "87660001h", "-87660000h", "-87660000.000001h", "1e3s",
    "99999999999999999999ns", "1h1h", "0.000000999s", "1.0000009s", "-1ns", "-1999ns", "1m1h", "--1s", "1S", ".s",
    "1..5s", "2540400h10m10.00000001s", "123456789012345678901s", "0.12345678901234567890h", "1s\n", " 1s", "00001h",
    "0s0s",
)  # fmt: skip
LISTED = (*WORDS, "a\nb", "\N{GRINNING FACE}", 'q"\\')
"""What named lists and the registry hold."""
REGISTERED = ("a", "b", "é", "ab", 'q"\\', "a\nb")
"""The names of registered applications."""

INTS = (0, 1, 2, 3, 7, 10, 2**31, 2**32, 2**53 - 1, 2**53, 2**53 + 1, 2**62, 2**63 - 513, 2**63 - 2, 2**63 - 1)
NEGATIVE_INTS = (-1, -2, -3, -7, -(2**53) - 1, -(2**62), -(2**63) + 1, -(2**63))
MEASURES = (
    0.0, -0.0, 0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 7.0, 0.30000000000000004, 5e-324, 2.2250738585072014e-308, 1e-9, 1e22,
    1e308, 1.7976931348623157e308, 2.0**53, 2.0**53 + 2, 9.223372036854774784e18, 2.0**63, 2.0**64, 0.1 + 0.7,
)  # fmt: skip
"""Doubles that are not less than zero."""
SCORES = (0.0, -0.0, 0.1, 0.5, 0.8, 1.0, 5e-324, 0.30000000000000004, 0.9999999999999999)
AMOUNTS = (
    "0", "-0", "0.1", "0.3", "0.5", "1", "2", "3.000000001", "-1.5", "999999999.999999999", "-999999999.999999999",
    "0.000000001", "00012.5", "123456789.123456789", "1.10", "987654321.987654321", "0.29", "33554432.3", "4.35",
)  # fmt: skip

MOMENTS = (
    _micros(1970, 1, 1), 1, _micros(1970, 1, 1, 0, 59, 59, 999_999), _micros(2000, 2, 29, 23, 30), MAX_TIME - 1,
    _micros(2024, 3, 31, 0, 59, 59, 999_999), _micros(2024, 3, 31, 1), _micros(2024, 10, 27, 0, 30),
    _micros(2024, 10, 27, 1, 30), _micros(2024, 12, 31, 23, 59, 59, 999_999), _micros(2024, 2, 29, 12),
    _micros(2024, 5, 6, 12, 53, 20, 123_456), _micros(2024, 5, 6, 13), _micros(2011, 12, 30, 10), _micros(2100, 3, 1),
    _micros(2037, 12, 31, 23), _micros(2038, 1, 19, 3, 14, 8), _micros(2023, 1, 1), _micros(2024, 5, 5, 22, 30),
    _micros(1972, 1, 7, 0, 44, 30), _micros(2105, 12, 31, 23, 59, 59, 999_000), _micros(2050, 7, 1, 22, 15),
)  # fmt: skip
"""Times of events: changes of clocks, leap days, ends of years, and the first and last that there can be."""
FAR_MOMENTS = (
    _micros(1, 1, 1), _micros(1, 1, 2), _micros(9999, 12, 31, 23, 59, 59, 999_999), _micros(9999, 12, 30), -1, -_DAY,
    _micros(1900, 1, 1), _micros(1900, 1, 1) - 1, _micros(1899, 6, 1), _micros(1600, 2, 29, 12), _micros(1582, 10, 10),
    _micros(2299, 12, 31, 23, 59, 59, 999_999), _micros(2300, 1, 1), _micros(2500, 7, 1, 12),
    _micros(1940, 6, 15, 1, 2, 3), _micros(1911, 3, 10, 23, 55), _micros(1000, 3, 1), _micros(4000, 2, 29),
    _micros(1925, 1, 1), MAX_TIME,
)  # fmt: skip
RECORD_TIMES = (0, 1, 1_714_564_800_001, 253_402_300_799_999, 10_413_792_000_000, 10_413_791_999_999, 4_294_967_296_000)
"""Times of records in milliseconds, up to the last one that the stream takes for a time."""
SPANS = (
    0, 1, -1, 999, 1000, 1_000_000, -1_500_000, 60_000_000, 3_600_000_000, 5_400_000_000, _DAY, -_DAY, 366 * _DAY,
    -366 * _DAY, 100 * 365 * _DAY, -100 * 365 * _DAY, 7976 * 366 * _DAY, -2024 * 366 * _DAY,
    315_576_000_000 * 1_000_000, -315_576_000_000 * 1_000_000,
)  # fmt: skip

ZONES = (
    "UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu",
    "America/St_Johns", "Africa/Monrovia", "Pacific/Kiritimati", "Africa/Casablanca", "Etc/GMT+12", "+02:00", "-03:30",
    "+23:59", "-23:59", "05:45", "+00:00", "-00:01",
)  # fmt: skip
PATTERNS = (
    "^a", "b$", "a|é", "^$", ".", "", "(?i)AB", "(?m)^b$", "(?s)a.b", "a.b", "[a-c]+", "[^a]", r"\d+", r"\w", r"\bb",
    "^(a|b)*$", r"\x00", r"\Qa.b\E", "é?", "(?i)É", r"\p{Lu}", "a{2,3}", r"\n", "[[:alpha:]]", r"\Aa", r"b\z", "(?U)a+",
    "x*$", "^.$", "^..$", "(?m)$", r"[\x{1F600}]", r"\\", "'", '"', r"(?P<n>a)(b)?", "%", r"^\s*$", "(?-s)a.b",
    "^(?i)k$", "a??b", r"[^\x00-\x7f]", r"\pN", "{", "[]a]", r"(?:a|ab)(?:c|bcd)*$", "(?im)^B$", "(?s).", r"\B",
    "\u2028",
)  # fmt: skip
KEYS = ("a", "b", "team", "é", "", "a\nb", 'q"\\', "k'")


def any_text(rnd: random.Random) -> str:
    """Return a text of a few characters from anywhere in Unicode."""
    return "".join(
        chr(rnd.choice((rnd.randrange(0x80), rnd.randrange(0xD800), rnd.randrange(0xE000, 0x110000))))
        for _ in range(rnd.randrange(5))
    )


def any_int(rnd: random.Random) -> int:
    """Return a number that is not less than zero, of any length up to 63 bits."""
    return rnd.getrandbits(rnd.randrange(1, 64))


def any_double(rnd: random.Random) -> float:
    """Return a finite double that is not less than zero: one with any bits, or one with a fraction of common size."""
    (value,) = struct.unpack("<d", struct.pack("<Q", rnd.getrandbits(63)))
    return value if isfinite(value) and rnd.random() < 0.5 else rnd.random() * 10.0 ** rnd.randrange(-3, 17)


def any_amount(rnd: random.Random) -> str:
    """Return a decimal number of up to nine digits on either side of the point."""
    places = rnd.randrange(1, 10)
    return f"{rnd.choice(('', '-'))}{rnd.randrange(10 ** rnd.randrange(1, 10))}.{rnd.randrange(10**places):0{places}}"


def write(value: object, kind: Type) -> str:
    """Return the literal of a value; of times and durations, in microseconds, the call that reads one."""
    if kind == STRING:
        return quote(str(value))
    if kind == BOOL:
        return "true" if value else "false"
    if kind == TIMESTAMP:
        return f'timestamp("{format_time(int(str(value)))}")'
    if kind == DURATION:
        return f'duration("{value}us")'
    return repr(float(str(value))) if kind == DOUBLE else str(value) if kind == INT else ""
