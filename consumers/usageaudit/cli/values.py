"""Values of the store, as JSON values and as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import orjson

_LEAST, _MOST = -(2**63), 2**64 - 1


def jsonable(value: Any) -> Any:
    """Return a value that JSON has: times in RFC 3339 with `Z`, decimals, larger integers and the rest as text.

    NaN and the infinities, which JSON does not have, become null.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return value if _LEAST <= value <= _MOST else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {text_of(key): jsonable(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(one) for one in value]
    return _scalar_text(value)


def text_of(value: Any) -> str:
    """Return a value as one text: nothing for null, lists and maps as JSON, the rest as in JSON without quotes."""
    plain = jsonable(value)
    if plain is None:
        return ""
    if isinstance(plain, str):
        return plain
    return orjson.dumps(plain).decode()


def _scalar_text(value: Any) -> str:
    if isinstance(value, datetime):
        moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return moment.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return _text(str(value))


def _text(value: str) -> str:
    """Replace what UTF-8 can't hold: lone surrogates, which stand for bytes that were no text."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if 0xD800 <= ord(one) <= 0xDFFF else one for one in value)
    return value
