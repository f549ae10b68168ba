"""A block of rows as ClickHouse's Native column buffers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from usageaudit.stores.native.encoders import WRONG_VALUE, varint
from usageaudit.stores.native.types import encoder_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

_CODEC = re.compile(r"\s+CODEC\(.*\)\Z")
# Fields 1 (is_overflows) and 2 (bucket_num, an Int32) of BlockInfo, ended by 0.
_BLOCK_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"
_PLAIN_SERIALIZATION = b"\x00"


class NativeBlock:
    """Rows of typed columns, encoded as they are added, so that only bytes are kept.

    `columns` are names and ClickHouse types, in the order of the table or of the query; a `CODEC(…)` after a type is
    left out. Those in `constants` hold one value for all rows, set by `set_constant`; the rows hold the others.
    """

    def __init__(self, columns: Sequence[tuple[str, str]], constants: Collection[str] = ()) -> None:
        self.columns = tuple((name, _CODEC.sub("", type_name)) for name, type_name in columns)
        self.rows = 0
        self._encoders = {name: encoder_of(type_name) for name, type_name in self.columns if name not in constants}
        self._adders = [encoder.add for encoder in self._encoders.values()]
        self._constants: dict[str, Any] = {}
        self._whole = True

    @property
    def structure(self) -> str:
        """The columns as the engine's table functions take them: `name Type, …`, names quoted."""
        return ", ".join(f"{quoted(name)} {type_name}" for name, type_name in self.columns)

    def add_rows(self, rows: Sequence[Sequence[Any]]) -> None:
        """Append rows, each with a value for every column that is not constant; some 200 at a time are fastest.

        Values of DateTime64 and DateTime are integers in the unit of the type since 1970, of Decimal(18, 9) decimal
        text, of Map dictionaries; strings may be bytes. Raises ValueError where a value does not fit its column; the
        block is then of no use any more.
        """
        if not rows:
            return
        columns = list(zip(*rows, strict=True))
        if len(columns) != len(self._adders):
            raise ValueError(f"rows of {len(columns)} values for {len(self._adders)} columns")
        self._whole = False
        index = 0
        try:
            for index, (add, column) in enumerate(zip(self._adders, columns, strict=True)):  # noqa: B007
                add(column)
        except WRONG_VALUE as error:
            raise ValueError(f"column {list(self._encoders)[index]}: {error}") from error
        self.rows += len(rows)
        self._whole = True

    def set_constant(self, name: str, value: Any) -> None:
        """Give the value that a constant column has in every row; it may be given again."""
        if name in self._encoders or name not in dict(self.columns):
            raise ValueError(f"{name} is not a constant column of this block")
        self._constants[name] = value

    def write_to(self, write: Callable[[bytes | bytearray], object], *, protocol: bool = False) -> None:
        """Write the block in the Native format, or as the data packet of the native protocol has it.

        The protocol puts a block info before the block, and before each column a byte that says how it is serialized.
        Raises ValueError where a constant was not set, or adding rows had failed.
        """
        if not self._whole:
            raise ValueError("adding rows failed, so the columns of this block differ in length")
        write((_BLOCK_INFO if protocol else b"") + varint(len(self.columns)) + varint(self.rows))
        for name, type_name in self.columns:
            head = _text(name) + _text(type_name) + (_PLAIN_SERIALIZATION if protocol else b"")
            encoder = self._encoders.get(name) or self._constant(name, type_name)
            write(head + encoder.prefix if self.rows else head)
            for part in encoder.parts() if self.rows else ():
                write(part)

    def _constant(self, name: str, type_name: str) -> Any:
        if name not in self._constants:
            raise ValueError(f"the constant column {name} has no value yet")
        encoder = encoder_of(type_name)
        try:
            encoder.repeat(self._constants[name], self.rows)
        except WRONG_VALUE as error:
            raise ValueError(f"column {name}: {error}") from error
        return encoder


def quoted(name: str) -> str:
    """Return an identifier in backquotes."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _text(value: str) -> bytes:
    data = value.encode()
    return varint(len(data)) + data
