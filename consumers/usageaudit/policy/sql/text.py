"""Writes pieces of ClickHouse SQL: literals, and expressions that are mentioned once however often they are used."""

from __future__ import annotations

import hashlib
import struct
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from usageaudit.policy.language import Scalar

_SHORT = 120
"""Characters up to which an expression is repeated; so the length of SQL grows with that of a condition, not faster."""
_ESCAPES = str.maketrans({"\\": "\\\\", "'": "\\'", "\0": "\\0", "\b": "\\b", "\f": "\\f", "\r": "\\r"})
_SAME_WIDTH = 2**31


def literal(value: Scalar) -> str:
    """Return a constant; an int has a type that goes with Int64, whatever its size."""
    if isinstance(value, str):
        return f"'{value.translate(_ESCAPES)}'"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if -_SAME_WIDTH < value < _SAME_WIDTH else f"toInt64({value})"
    if 0 < abs(value) < sys.float_info.min:
        # ClickHouse 25.8 takes the text of such a small number for no number.
        (bits,) = struct.unpack("<Q", struct.pack("<d", value))
        return f"reinterpretAsFloat64(toUInt64({bits}))"
    return repr(value)


def once(expression: str, body: Callable[[str], str]) -> str:
    """Return `body` of an expression, or of a name for it where it is long.

    ClickHouse puts the text of an alias wherever it is read, so the name is that of a lambda's parameter.
    """
    if len(expression) <= _SHORT:
        return body(expression)
    name = f"x_{hashlib.sha256(expression.encode()).hexdigest()[:12]}"
    return f"arrayMap({name} -> {body(name)}, [{expression}])[1]"
