"""Values of `{name:Type}` placeholders, written as ClickHouse reads the value of a query parameter.

That is the escaped text of one field of its TabSeparated format; inside arrays, tuples and maps it is a quoted literal.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any
from uuid import UUID

_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\0": "\\0", "\b": "\\b", "\f": "\\f", "'": "\\'"}
_ESCAPE_TABLE = str.maketrans(_ESCAPES)


def parameter_text(value: Any) -> str:
    """Return the text of a parameter.

    Strings may hold any character, bytes any byte. Times without a zone are taken for UTC; the placeholder's type has
    to name the zone 'UTC', or the engine reads the text in its own.
    """
    if value is None:
        return "\\N"
    if isinstance(value, str):
        return value.translate(_ESCAPE_TABLE)
    if isinstance(value, bytes):
        return _bytes_text(value)
    if isinstance(value, dt.datetime):
        return _time_text(value)
    if isinstance(value, dt.date | UUID):
        return str(value)
    return _literal(value)


def _bytes_text(value: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in value)


def _literal(value: Any) -> str:
    """Return a literal of SQL, as it stands inside an array."""
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return f"'{value.translate(_ESCAPE_TABLE)}'"
    if isinstance(value, bytes):
        return f"'{_bytes_text(value)}'"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_literal(key)}:{_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple):
        return "(" + ",".join(map(_literal, value)) + ")"
    if isinstance(value, list):
        return "[" + ",".join(map(_literal, value)) + "]"
    if isinstance(value, dt.datetime):
        return f"'{_time_text(value)}'"
    if isinstance(value, dt.date | UUID):
        return f"'{value}'"
    return str(value)


def _time_text(value: dt.datetime) -> str:
    if value.tzinfo is not None:
        value = value.astimezone(dt.UTC).replace(tzinfo=None)
    return value.isoformat(" ")
