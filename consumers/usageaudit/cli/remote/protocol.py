"""What goes over the socket: frames of JSON, each behind its length in four bytes, most significant first.

A request is one read-only query: `{version, sql, parameters, seconds, memory_bytes, result_rows, long_text}`. The
answer is `{columns, types}`, any number of `{rows}`, and `{end: number of rows}`; or at any point `{error: {kind,
message}}`. A connection carries one request after the other. Values that JSON lacks are objects of one member, its
name the kind.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from usageaudit.errors import ConfigurationError, QueryError, QueryRefused, StoreUnavailable

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from usageaudit.errors import UsageAuditError

VERSION = 1
MAX_REQUEST = 1024 * 1024
MAX_ANSWER = 64 * 1024 * 1024
"""The longest frame of an answer: some hundred rows, or one very long value."""
ROWS_IN_A_FRAME = 200

_LENGTH = struct.Struct(">I")
_ERRORS: dict[str, type[UsageAuditError]] = {
    kind.__name__: kind for kind in (QueryError, QueryRefused, StoreUnavailable, ConfigurationError)
}


class ConnectionEnded(Exception):
    """The other end closed the connection, or sent what is no frame."""


def send(connection: socket.socket, message: Mapping[str, Any], longest: int = MAX_ANSWER) -> None:
    """Send one frame. Raises QueryRefused where it would be too long."""
    body = orjson.dumps(message)
    if len(body) > longest:
        raise QueryRefused(f"{len(body):,} bytes in one piece, and {longest:,} are the most; ask for less at once")
    connection.sendall(_LENGTH.pack(len(body)) + body)


def receive(connection: socket.socket, longest: int = MAX_ANSWER) -> Any:
    """Return the next frame. Raises ConnectionEnded, and TimeoutError after the socket's time-out."""
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    if length > longest:
        raise ConnectionEnded(f"a frame of {length:,} bytes")
    try:
        return orjson.loads(_exactly(connection, length))
    except orjson.JSONDecodeError as error:
        raise ConnectionEnded("a frame that is not JSON") from error


def _exactly(connection: socket.socket, count: int) -> bytearray:
    data = bytearray()
    while len(data) < count:
        piece = connection.recv(min(count - len(data), 1024 * 1024))
        if not piece:
            raise ConnectionEnded("closed")
        data += piece
    return data


def error_frame(error: UsageAuditError) -> dict[str, Any]:
    """Return the frame that carries an error, as the nearest kind that travels."""
    kind = next((one.__name__ for one in type(error).__mro__ if one.__name__ in _ERRORS), QueryError.__name__)
    return {"error": {"kind": kind, "message": str(error)}}


def raise_error(frame: Mapping[str, Any]) -> None:
    """Raise the error that a frame carries, if it does."""
    if "error" in frame:
        raise _ERRORS.get(frame["error"]["kind"], QueryError)(frame["error"]["message"])


def pack(value: Any) -> Any:
    """Return a value as JSON, so that `unpack` gives it back with its type."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value if _is_text(value) else {"s": _base64(value.encode("utf-8", "surrogateescape"))}
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else {"i": str(value)}
    if isinstance(value, float):
        return value if math.isfinite(value) else {"f": str(value)}
    if isinstance(value, list):
        return [pack(one) for one in value]
    if isinstance(value, tuple):
        return {"u": [pack(one) for one in value]}
    if isinstance(value, Mapping):
        return {"m": [[pack(key), pack(one)] for key, one in value.items()]}
    return _packed_scalar(value)


def _packed_scalar(value: Any) -> dict[str, str]:
    if isinstance(value, bytes):
        return {"b": _base64(value)}
    for kind, name in ((datetime, "t"), (date, "d")):
        if isinstance(value, kind):
            return {name: value.isoformat()}
    kinds = ((Decimal, "n"), (UUID, "g"), (IPv4Address, "4"), (IPv6Address, "6"))
    name = next((name for kind, name in kinds if isinstance(value, kind)), "x")
    return {name: str(value)}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _is_text(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= one <= "\udfff" for one in value)


_UNPACK: dict[str, Callable[[Any], Any]] = {
    "s": lambda text: base64.b64decode(text).decode("utf-8", "surrogateescape"),
    "i": int,
    "f": float,
    "u": lambda items: tuple(map(unpack, items)),
    "m": lambda pairs: {unpack(key): unpack(one) for key, one in pairs},
    "b": base64.b64decode,
    "t": datetime.fromisoformat,
    "d": date.fromisoformat,
    "n": Decimal,
    "g": UUID,
    "4": IPv4Address,
    "6": IPv6Address,
    "x": str,
}


def unpack(value: Any) -> Any:
    """Return the value that `pack` made the JSON of. Raises ConnectionEnded for what it never makes."""
    if isinstance(value, list):
        return [unpack(one) for one in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1 or (kind := next(iter(value))) not in _UNPACK:
        raise ConnectionEnded("a value of unknown kind")
    return _UNPACK[kind](value[kind])
