"""What is said of a field of the event beside its Python type; each mark is read by those who need it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast

import annotated_types
import msgspec

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

MAX_COUNT = 2**63 - 1
"""The largest count: 64-bit, signed, the integer of CEL."""


@dataclass(frozen=True, slots=True)
class Stored:
    """How the ledger keeps a field: few distinct values or many, and whether it may identify a person."""

    low_cardinality: bool = True
    personal: bool = False


@dataclass(frozen=True, slots=True)
class DecimalText:
    """Tells pydantic, without importing it, that a string is a decimal number of a fixed scale."""

    pattern: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Add the pattern to the string schema."""
        return cast("CoreSchema", {**handler(source), "pattern": self.pattern})


IDENTIFIER = Stored(low_cardinality=False)
PERSONAL = Stored(low_cardinality=False, personal=True)

Name = Annotated[str, msgspec.Meta(min_length=1), annotated_types.MinLen(1)]
"""A string that is not empty."""

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT), annotated_types.Ge(0), annotated_types.Le(MAX_COUNT)]
"""A non-negative 64-bit integer."""

Measure = Annotated[float, msgspec.Meta(ge=0), annotated_types.Ge(0)]
"""A finite, non-negative number."""

Score = Annotated[float, msgspec.Meta(ge=0, le=1), annotated_types.Ge(0), annotated_types.Le(1)]
"""A number from 0 to 1."""

_DECIMAL = r"^-?[0-9]{1,9}(\.[0-9]{1,9})?"
DECIMAL_PATTERN = re.compile(_DECIMAL + r"\Z")
Amount = Annotated[str, msgspec.Meta(pattern=DECIMAL_PATTERN.pattern), DecimalText(_DECIMAL + "$")]
"""A decimal number as text, up to nine digits before and nine after the point: ClickHouse's Decimal(18, 9)."""
