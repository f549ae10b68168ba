"""Which encoder a column's type has."""

from __future__ import annotations

import re
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import TYPE_CHECKING, Any

from usageaudit.stores.native.encoders import Arrays, LowCardinality, Maps, Nullable, Numbers, Strings

if TYPE_CHECKING:
    from collections.abc import Callable

    from usageaudit.stores.native.encoders import Encoder

_EXACT = Context(traps=[Inexact, InvalidOperation])
_BILLION = Decimal(10**9)


def _billionths(text: str) -> int:
    """Return a decimal number, given as text, in billionths; raises ValueError where it has more digits."""
    whole, _, fraction = text.partition(".")
    if len(whole) <= 9 and len(fraction) <= 9 and fraction.isdecimal():
        return int(whole + fraction.ljust(9, "0"))
    return _exact_billionths(text)


def _exact_billionths(text: str) -> int:
    try:
        scaled = _EXACT.multiply(Decimal(text), _BILLION)
        number = int(scaled)
    except (InvalidOperation, Inexact):
        raise ValueError(f"{text!r} is not a decimal number of nine digits before and after the point") from None
    if number != scaled or abs(number) >= 10**18:
        raise ValueError(f"{text!r} has more than nine digits before or after the point")
    return number


_NUMBERS: dict[str, tuple[str, Callable[[Any], int] | None]] = {
    "UInt8": ("B", None),
    "UInt16": ("H", None),
    "UInt32": ("I", None),
    "UInt64": ("Q", None),
    "Int64": ("q", None),
    "Float64": ("d", None),
    "Bool": ("B", None),
    "DateTime": ("I", None),
    "DateTime('UTC')": ("I", None),
    "DateTime64(3, 'UTC')": ("q", None),
    "DateTime64(6, 'UTC')": ("q", None),
    "Decimal(18, 9)": ("q", _billionths),
}
_WRAPPER = re.compile(r"(Nullable|LowCardinality|Array|Map)\((.*)\)", re.DOTALL)


def encoder_of(type_name: str) -> Encoder:
    """Return the encoder of a type; raises ValueError for a type that the ledger does not use.

    Values of DateTime64 and DateTime are integers in the unit of the type since 1970, of Decimal(18, 9) decimal text.
    """
    if type_name == "String" or type_name in _NUMBERS:
        return _plain(type_name)
    wrapper = _WRAPPER.fullmatch(type_name)
    match wrapper.groups() if wrapper else ():
        case ("Nullable", inner) if inner == "String" or inner in _NUMBERS:
            # Zero as an integer serves every number but a decimal, whose value is text.
            return Nullable(_plain(inner), "" if inner == "String" else "0" if inner.startswith("Decimal") else 0)
        case ("LowCardinality", "String" | "Nullable(String)" as inner):
            return LowCardinality(nullable=inner != "String")
        case ("Array", inner):
            return Arrays(encoder_of(inner))
        case ("Map", inner) if ", " in inner:
            key, value = inner.split(", ", 1)
            return Maps(encoder_of(key), encoder_of(value))
        case _:
            raise ValueError(f"no encoder for columns of type {type_name}")


def _plain(type_name: str) -> Strings | Numbers:
    return Strings() if type_name == "String" else Numbers(*_NUMBERS[type_name])
