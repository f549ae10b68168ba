"""Encoders of single columns: they take chunks of values and keep only bytes.

The forms are those of ClickHouse's `SerializationXxx::serializeBinaryBulk`; every loop over values runs in C, and a
chunk that holds nothing but nulls, empty strings or empty lists is known as such before anything is encoded.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_LONGEST_REMEMBERED = 1 << 14
WRONG_VALUE = (TypeError, AttributeError, ValueError, OverflowError, struct.error)
"""What encoding raises where a value does not fit the type of its column."""


class Encoder(ABC):
    """One column: `prefix` and `parts` are its bytes in Native form, once all values were added.

    A chunk is never empty. A chunk that can't be encoded raises one of WRONG_VALUE; a leaf has then taken nothing.
    """

    prefix: bytes = b""

    @abstractmethod
    def add(self, values: Sequence[Any]) -> None:
        """Append values."""

    @abstractmethod
    def fill(self, count: int) -> None:
        """Append so many default values: null, zero, the empty string or list."""

    @abstractmethod
    def repeat(self, value: Any, count: int) -> None:
        """Append one value so many times."""

    @abstractmethod
    def parts(self) -> Iterator[bytes | bytearray]:
        """Yield the bytes of all values."""


def varint(number: int) -> bytes:
    """Return an unsigned LEB128 number."""
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    data.append(number)
    return bytes(data)


class _Lengths(dict[int, str]):
    """The varints of lengths as Latin-1 text."""

    def __missing__(self, length: int) -> str:
        text = varint(length).decode("latin-1")
        if length < _LONGEST_REMEMBERED:
            self[length] = text
        return text


_LENGTHS = _Lengths()


def _encoded(value: str | bytes) -> bytes:
    # A lone surrogate has no UTF-8: its escape says what was there, and stops nobody's batch.
    return value if isinstance(value, bytes) else value.encode("utf-8", "backslashreplace")


_BYTES = [bytes([number]) for number in range(256)]
_ONLY_BYTES = {bytes}
_PIECES_AT_ONCE = 2048


class Strings(Encoder):
    """String: text as UTF-8, or bytes as they are; each after its length.

    Bytes are kept by reference: they belong to stream records, which are alive as long as their batch.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    @override
    def add(self, values: Sequence[str | bytes]) -> None:
        if set(map(type, values)) == _ONLY_BYTES:
            self._add_encoded(values)  # type: ignore[arg-type]
            return
        try:
            text = "".join(values)  # type: ignore[arg-type]  # bytes and None raise TypeError, as they should
        except TypeError:
            if None in values:
                raise
            self._add_encoded([_encoded(value) for value in values])
            return
        if not text:
            self.fill(len(values))
        elif text.isascii():
            # One encoding for the whole chunk: ASCII is Latin-1, and so is every byte of a varint.
            lengths = map(_LENGTHS.__getitem__, map(len, values))
            self._pieces.append("".join(chain.from_iterable(zip(lengths, values, strict=True))).encode("latin-1"))  # type: ignore[arg-type]
        else:
            self._add_encoded([_encoded(value) for value in values])

    def _add_encoded(self, values: Sequence[bytes]) -> None:
        prefixes = [_BYTES[length] if length < 128 else varint(length) for length in map(len, values)]
        self._pieces += chain.from_iterable(zip(prefixes, values, strict=True))

    @override
    def fill(self, count: int) -> None:
        self._pieces.append(bytes(count))

    @override
    def repeat(self, value: str | bytes, count: int) -> None:
        data = _encoded(value)
        self._pieces.append((varint(len(data)) + data) * count)

    @override
    def parts(self) -> Iterator[bytes | bytearray]:
        for start in range(0, len(self._pieces), _PIECES_AT_ONCE):
            yield b"".join(self._pieces[start : start + _PIECES_AT_ONCE])


class Numbers(Encoder):
    """A type of fixed width, by its code in the `struct` module; `convert` makes integers of the values first."""

    def __init__(self, code: str, convert: Callable[[Any], int] | None = None) -> None:
        self._code, self._convert = code, convert
        self._width = struct.calcsize(f"<{code}")
        self._data = bytearray()

    @override
    def add(self, values: Sequence[Any]) -> None:
        if self._convert:
            values = [self._convert(value) for value in values]
        self._data += struct.pack(f"<{len(values)}{self._code}", *values)

    @override
    def fill(self, count: int) -> None:
        self._data += bytes(count * self._width)

    @override
    def repeat(self, value: Any, count: int) -> None:
        self._data += struct.pack(f"<{self._code}", self._convert(value) if self._convert else value) * count

    @override
    def parts(self) -> Iterator[bytes | bytearray]:
        yield self._data


class Nullable(Encoder):
    """Nullable(T): a byte for each value that says whether it is null, then the values with T's default for null."""

    def __init__(self, inner: Strings | Numbers, default: Any) -> None:
        self._inner, self._default = inner, default
        self._nulls = bytearray()
        self.prefix = inner.prefix

    @override
    def add(self, values: Sequence[Any]) -> None:
        count = len(values)
        if values[0] is None and values.count(None) == count:
            self.fill(count)
            return
        try:
            self._inner.add(values)
        except WRONG_VALUE:
            # A null among them, most likely; asking for one first would cost more than finding out.
            self._inner.add([self._default if value is None else value for value in values])
            self._nulls += bytes([value is None for value in values])
        else:
            self._nulls += bytes(count)

    @override
    def fill(self, count: int) -> None:
        self._nulls += b"\1" * count
        self._inner.fill(count)

    @override
    def repeat(self, value: Any, count: int) -> None:
        if value is None:
            self.fill(count)
        else:
            self._nulls += bytes(count)
            self._inner.repeat(value, count)

    @override
    def parts(self) -> Iterator[bytes | bytearray]:
        yield self._nulls
        yield from self._inner.parts()


class _Keys(dict[Any, int]):
    """Numbers values as they come; a look-up of what is known stays in C."""

    def __missing__(self, value: Any) -> int:
        number = self[value] = len(self)
        return number


_WIDTHS = ((0, 1 << 8, "B"), (1, 1 << 16, "H"), (2, 1 << 32, "I"))
# "additional keys follow" and "the dictionary is new", as in SerializationLowCardinality.cpp
_ADDITIONAL_KEYS = 1 << 9
_UPDATE_DICTIONARY = 1 << 10


class LowCardinality(Encoder):
    """LowCardinality(String) or LowCardinality(Nullable(String)): a dictionary of the block, then indices into it."""

    prefix = struct.pack("<Q", 1)

    def __init__(self, *, nullable: bool) -> None:
        self._nullable = nullable
        self._keys = _Keys({None: 0}) if nullable else _Keys()
        self._width, self._room, self._code = _WIDTHS[0]
        self._count = 0
        self._data = bytearray()

    @override
    def add(self, values: Sequence[Any]) -> None:
        count = len(values)
        if self._nullable and values[0] is None and values.count(None) == count:
            self.fill(count)
            return
        indices = list(map(self._keys.__getitem__, values))
        if len(self._keys) > self._room:
            self._widen()
        self._data += bytes(indices) if self._width == 0 else struct.pack(f"<{count}{self._code}", *indices)
        self._count += count

    def _widen(self) -> None:
        indices = struct.unpack(f"<{self._count}{self._code}", self._data)
        self._width, self._room, self._code = next(width for width in _WIDTHS if len(self._keys) <= width[1])
        self._data = bytearray(struct.pack(f"<{self._count}{self._code}", *indices))

    @override
    def fill(self, count: int) -> None:
        if not self._nullable:
            self.repeat("", count)
            return
        self._data += bytes(count << self._width)
        self._count += count

    @override
    def repeat(self, value: Any, count: int) -> None:
        if count:
            self.add([value])
            self._data += self._data[-(1 << self._width) :] * (count - 1)
            self._count += count - 1

    @override
    def parts(self) -> Iterator[bytes | bytearray]:
        if not self._count:
            return
        dictionary = Strings()
        # The first entry of a nullable one stands for null.
        dictionary.add(["", *list(self._keys)[1:]] if self._nullable else list(self._keys))
        yield struct.pack("<QQ", self._width | _ADDITIONAL_KEYS | _UPDATE_DICTIONARY, len(self._keys))
        yield from dictionary.parts()
        yield struct.pack("<Q", self._count)
        yield self._data


class _Offsets:
    """Where each list ends among the values of all lists."""

    def __init__(self) -> None:
        self._last = 0
        self._data = bytearray()

    def add(self, lists: Sequence[Any]) -> None:
        ends = list(accumulate(map(len, lists), initial=self._last))
        self._last = ends[-1]
        self._data += struct.pack(f"<{len(lists)}Q", *ends[1:])

    def fill(self, count: int) -> None:
        self._data += struct.pack("<Q", self._last) * count

    def parts(self) -> Iterator[bytes | bytearray]:
        yield self._data


class Arrays(Encoder):
    """Array(T): where each list ends, then the values of all lists. None is taken for an empty list."""

    def __init__(self, inner: Encoder) -> None:
        self._inner, self._ends = inner, _Offsets()
        self.prefix = inner.prefix

    @override
    def add(self, values: Sequence[Sequence[Any] | None]) -> None:
        if any(values):
            if None in values:
                values = [value or () for value in values]
            self._ends.add(values)
            self._inner.add(list(chain.from_iterable(values)))  # type: ignore[arg-type]  # no None any more
        else:
            self.fill(len(values))

    @override
    def fill(self, count: int) -> None:
        self._ends.fill(count)

    @override
    def repeat(self, value: Sequence[Any] | None, count: int) -> None:
        if count:
            self.add([value] * count)

    @override
    def parts(self) -> Iterator[bytes | bytearray]:
        yield from self._ends.parts()
        yield from self._inner.parts()


class Maps(Encoder):
    """Map(K, V): where each map ends, then all keys, then all values. None is taken for an empty map."""

    def __init__(self, keys: Encoder, values: Encoder) -> None:
        self._keys, self._values, self._ends = keys, values, _Offsets()
        self.prefix = keys.prefix + values.prefix

    @override
    def add(self, values: Sequence[dict[Any, Any] | None]) -> None:
        if any(values):
            if None in values:
                values = [value or {} for value in values]
            self._ends.add(values)
            self._keys.add(list(chain.from_iterable(values)))  # type: ignore[arg-type]  # no None any more
            self._values.add(list(chain.from_iterable(map(dict.values, values))))  # type: ignore[arg-type]
        else:
            self.fill(len(values))

    @override
    def fill(self, count: int) -> None:
        self._ends.fill(count)

    @override
    def repeat(self, value: dict[Any, Any] | None, count: int) -> None:
        if count:
            self.add([value] * count)

    @override
    def parts(self) -> Iterator[bytes | bytearray]:
        yield from self._ends.parts()
        yield from self._keys.parts()
        yield from self._values.parts()
