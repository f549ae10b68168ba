"""Results of the embedded engine: lines of JSON become the Python values that clickhouse-driver makes of them."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import re
import struct
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson

from usageaudit.errors import QueryError
from usageaudit.stores.port import Rows

if TYPE_CHECKING:
    from collections.abc import Callable

FORMAT = "JSONCompactEachRowWithNamesAndTypes"
SETTINGS = (
    "output_format_json_quote_64bit_integers = 0, output_format_json_quote_decimals = 1,"
    " output_format_json_quote_denormals = 1, output_format_json_map_as_array_of_tuples = 1,"
    " output_format_json_named_tuples_as_objects = 0, output_format_json_escape_forward_slashes = 0,"
    " date_time_output_format = 'iso', implicit_select = 0"
)
"""Without loss: decimals and NaN as text, times in UTC, maps with keys of any type."""

_WIDE = re.compile(r"Int(128|256)\b")


def parse_rows(data: bytes) -> Rows:
    """Return the rows of a result in FORMAT; a statement without a result has no columns."""
    if not data:
        return Rows((), (), ())
    lines = data.split(b"\n")
    try:
        names, types = json.loads(lines[0].decode("utf-8", "replace")), json.loads(lines[1])
    except (ValueError, IndexError):
        raise QueryError("the statement has a FORMAT of its own, which can't be read here: leave it out") from None
    # orjson makes floats of integers beyond 64 bits.
    loads = json.loads if any(_WIDE.search(name) for name in types) else orjson.loads
    rows = _read(lines[2:], loads)
    converters = [(index, convert) for index, name in enumerate(types) if (convert := converter(name))]
    for row in rows:
        for index, convert in converters:
            if row[index] is not None:
                row[index] = convert(row[index])
    return Rows(tuple(names), tuple(types), [tuple(row) for row in rows])


def _read(lines: list[bytes], loads: Callable[[bytes], Any]) -> list[list[Any]]:
    try:
        return [loads(line) for line in lines if line]
    except ValueError:
        # A string that is not UTF-8; bytes that are none become lone surrogates, and bytes again at the end.
        return [_undecodable(json.loads(line.decode("utf-8", "surrogateescape"))) for line in lines if line]


def _undecodable(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-8", "surrogateescape")
        return value
    if isinstance(value, list):
        return [_undecodable(item) for item in value]
    return value


def converter(type_name: str) -> Callable[[Any], Any] | None:
    """Return what makes the Python value of a JSON value that is not null; None where it is one already."""
    name, inner = _parts(type_name)
    match name:
        case "Nullable" | "LowCardinality" | "SimpleAggregateFunction":
            return converter(inner[-1])
        case "Array":
            return _list_of(converter(inner[0]))
        case "Tuple":
            return _tuple_of([converter(_unnamed(item)) for item in inner])
        case "Map":
            return _map_of(converter(inner[0]), converter(inner[1]))
        case _:
            return _SCALARS.get(name)


def _parts(type_name: str) -> tuple[str, list[str]]:
    """Return a type's name, and the types in its parentheses."""
    name, _, rest = type_name.partition("(")
    if name not in ("Nullable", "LowCardinality", "SimpleAggregateFunction", "Array", "Tuple", "Map"):
        return name, []
    items, depth, start, quoted = [], 0, 0, False
    for index, character in enumerate(rest):
        quoted ^= character == "'" and rest[index - 1] != "\\"
        depth += 0 if quoted else (character == "(") - (character == ")")
        if not quoted and ((character == "," and depth == 0) or depth < 0):
            items.append(rest[start:index].strip())
            start = index + 1
    return name, items


def _unnamed(element: str) -> str:
    """Return the type of a tuple's element, which may have a name before it."""
    match = re.match(r"(`(?:[^`\\]|\\.)*`|\w+) (?=\w)", element)
    return element[match.end() :] if match else element


def _list_of(convert: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    if convert is None:
        return None
    return lambda items: [None if item is None else convert(item) for item in items]


def _tuple_of(converts: list[Callable[[Any], Any] | None]) -> Callable[[Any], Any]:
    def to_tuple(items: Any) -> Any:
        return tuple(
            convert(item) if convert and item is not None else item
            for convert, item in zip(converts, items, strict=True)
        )

    return to_tuple


def _map_of(key: Callable[[Any], Any] | None, value: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    pair = _tuple_of([key, value])
    return lambda items: dict(map(pair, items))


def _float32(value: Any) -> float:
    # As the engine's four bytes read: its text is the shortest that means them.
    return float(struct.unpack("<f", struct.pack("<f", float(value)))[0])


def _time(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def _unpadded(value: Any) -> Any:
    return value.rstrip("\0") if isinstance(value, str) else value.rstrip(b"\0")


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "Float64": float,
    "Float32": _float32,
    "Decimal": Decimal,
    "DateTime": _time,
    "DateTime64": _time,
    "Date": dt.date.fromisoformat,
    "Date32": dt.date.fromisoformat,
    "FixedString": _unpadded,
    "UUID": uuid.UUID,
    "IPv4": ipaddress.IPv4Address,
    "IPv6": ipaddress.IPv6Address,
}
