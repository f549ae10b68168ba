"""Hypothesis strategies of native blocks: columns of the ledger's types, rows for them, and what is read back."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from usageaudit.ledger.columns import COLUMNS
from usageaudit.stores.native import NativeBlock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    Value = tuple[Any, Any]

TYPES = sorted(
    {column.type.partition(" CODEC")[0] for column in COLUMNS} | {"UInt8", "Int64", "DateTime", "Array(Bool)"}
)
"""Every type that the ledger uses, and those that its other tables do."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_LATEST_SECOND = 2**32 - 1


def _same(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Value]:
    return strategy.map(lambda value: (value, value))


def _integers(bits: int) -> st.SearchStrategy[Value]:
    return _same(st.integers(0, 2**bits - 1))


def _times(per_second: int) -> st.SearchStrategy[Value]:
    ticks = st.integers(0, _LATEST_SECOND * per_second)
    return ticks.map(lambda tick: (tick, _EPOCH + dt.timedelta(microseconds=tick * 1_000_000 // per_second)))


def _decimal(value: Decimal) -> Value:
    return f"{value:f}", value


# What a String holds is text where it is UTF-8, or else bytes: so both adapters read it.
_TEXTS = _same(st.text(st.characters(exclude_categories=["Cs"]), max_size=300) | st.sampled_from(["", "\0", "é" * 200]))
_BYTES = st.binary(max_size=300).map(lambda value: (value, _read_back(value)))


def _read_back(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


_PLAIN: dict[str, st.SearchStrategy[Value]] = {
    "String": _TEXTS | _BYTES,
    "UInt8": _integers(8),
    "UInt16": _integers(16),
    "UInt32": _integers(32),
    "UInt64": _integers(64),
    "Int64": _same(st.integers(-(2**63), 2**63 - 1)),
    "Float64": _same(st.floats(allow_nan=False)),
    "Bool": _same(st.booleans()),
    "DateTime": _times(1),
    "DateTime64(3, 'UTC')": _times(1000),
    "DateTime64(6, 'UTC')": _times(1_000_000),
    "Decimal(18, 9)": st.decimals(-999_999_999, 999_999_999, places=9).map(_decimal),
}


def values(type_name: str) -> st.SearchStrategy[Value]:
    """Return a strategy of pairs: a value for a block, and the value that a store gives back for it."""
    if type_name in _PLAIN:
        return _PLAIN[type_name]
    wrapper, _, rest = type_name.partition("(")
    inner = rest.removesuffix(")")
    match wrapper:
        case "Nullable":
            return st.just((None, None)) | values(inner)
        case "LowCardinality":
            return _same(st.none()) | _TEXTS if inner.startswith("Nullable") else _TEXTS
        case "Array":
            return st.just((None, [])) | st.lists(values(inner), max_size=4).map(_unzip)
        case "Map":
            pairs = st.dictionaries(_TEXTS.map(lambda text: text[0]), _TEXTS.map(lambda text: text[0]), max_size=4)
            return st.just((None, {})) | _same(pairs)
    raise ValueError(type_name)


def _unzip(pairs: Sequence[Value]) -> Value:
    return [given for given, _ in pairs], [read for _, read in pairs]


@dataclass(frozen=True)
class Sample:
    """A block's columns and rows, the value of its constant column, and the rows that a store gives back."""

    columns: list[tuple[str, str]]
    rows: list[list[Any]]
    constant: Any
    read: list[tuple[Any, ...]]
    chunk: int

    def block(self) -> NativeBlock:
        """Return the block: a number for each row to order by, the columns, and at last the constant one."""
        block = NativeBlock(self.columns, [self.columns[-1][0]])
        for start in range(0, len(self.rows), self.chunk):
            block.add_rows(self.rows[start : start + self.chunk])
        block.set_constant(self.columns[-1][0], self.constant)
        return block


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Return blocks of some columns and rows; every type comes up."""
    types = draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=5))
    constant_type = draw(st.sampled_from(TYPES))
    constant, constant_read = draw(values(constant_type))
    count = draw(st.integers(0, 12))
    columns = [draw(st.lists(values(name), min_size=count, max_size=count)) for name in types]
    cells = [[pairs[place] for pairs in columns] for place in range(count)]
    return Sample(
        [("row", "UInt32"), *((f"column {n}", name) for n, name in enumerate(types)), ("constant`", constant_type)],
        [[place, *(given for given, _ in row)] for place, row in enumerate(cells)],
        constant,
        [(place, *(read for _, read in row), constant_read) for place, row in enumerate(cells)],
        draw(st.integers(1, 5)),
    )
