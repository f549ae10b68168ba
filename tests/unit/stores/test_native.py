"""Blocks in the Native format, read by the engine whose format it is."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.native_values import samples
from usageaudit.stores.address import open_store
from usageaudit.stores.native import NativeBlock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.native_values import Sample
    from usageaudit.stores.port import Store

A_BLOCK_INFO_AND_NO_COLUMNS = b"\x01\x00\x02\xff\xff\xff\xff\x00" + b"\x00\x00"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield the engine that reads the files."""
    store = open_store(f"embedded:{tmp_path_factory.mktemp('store')}")
    yield store
    store.close()


def _read(engine: Store, folder: Path, block: NativeBlock, what: str = "*") -> list[tuple[Any, ...]]:
    path = folder / "block.native"
    with path.open("wb") as file:
        block.write_to(file.write)
    return list(engine.execute(f"SELECT {what} FROM file({{path:String}}, 'Native')", {"path": str(path)}).rows)


@given(sample=samples())
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_reads_back_as_the_rows_that_were_added(engine: Store, tmp_path: Path, sample: Sample) -> None:
    """Rows of any types, in chunks of any size, are what the engine reads from the file."""
    assert _read(engine, tmp_path, sample.block()) == sample.read


@pytest.mark.parametrize("distinct", [255, 256, 257, 65_536, 65_537, 70_000])
@pytest.mark.parametrize("type_name", ["LowCardinality(String)", "LowCardinality(Nullable(String))"])
def test_a_dictionary_may_be_of_any_size(engine: Store, tmp_path: Path, distinct: int, type_name: str) -> None:
    """A LowCardinality column with more values than its indices had room for keeps every value in its place."""
    block = NativeBlock([("value", type_name)])
    given_values = [str(number % distinct) for number in range(distinct + 500)]
    for start in range(0, len(given_values), 200):
        block.add_rows([(value,) for value in given_values[start : start + 200]])
    in_place = f"count(), countIf(value != toString(rowNumberInAllBlocks() % {distinct}))"
    assert _read(engine, tmp_path, block, in_place) == [(len(given_values), 0)]


def test_a_lone_surrogate_is_written_as_its_escape(engine: Store, tmp_path: Path) -> None:
    """Text that has no UTF-8 is kept readable, and refuses nobody's batch."""
    block = NativeBlock([("a", "String"), ("b", "LowCardinality(String)")])
    block.add_rows([("x\ud800é", "\udfff")])
    assert _read(engine, tmp_path, block) == [("x\\ud800é", "\\udfff")]


def test_a_constant_may_be_given_again(engine: Store, tmp_path: Path) -> None:
    """A block can be written twice with another value of its constant columns: a batch that is tried again."""
    block = NativeBlock([("epoch", "UInt64"), ("topic", "LowCardinality(String)"), ("x", "UInt8")], ["epoch", "topic"])
    block.add_rows([(1,), (2,)])
    for epoch in (1, 2):
        block.set_constant("epoch", epoch)
        block.set_constant("topic", f"t{epoch}")
        assert _read(engine, tmp_path, block) == [(epoch, f"t{epoch}", 1), (epoch, f"t{epoch}", 2)]


@pytest.mark.parametrize(
    ("type_name", "value"),
    [
        ("UInt8", 256),
        ("UInt64", -1),
        ("UInt64", 1.5),
        ("UInt16", None),
        ("Float64", "1"),
        ("String", None),
        ("String", 1),
        ("Nullable(String)", 1),
        ("Decimal(18, 9)", "1.0000000001"),
        ("Decimal(18, 9)", "1000000000"),
        ("Decimal(18, 9)", "1" + "0" * 40 + ".1"),
        ("Decimal(18, 9)", "NaN"),
        ("Decimal(18, 9)", "Infinity"),
        ("Decimal(18, 9)", ""),
        ("Nullable(Decimal(18, 9))", "x"),
        ("Array(Float64)", ["x"]),
        ("Map(LowCardinality(String), String)", {"a": 1}),
    ],
)
def test_a_value_that_does_not_fit_is_refused(type_name: str, value: object) -> None:
    """A value that its column can't hold raises ValueError with the column's name, and the block can't be written."""
    block = NativeBlock([("fits", "UInt8"), ("column", type_name)])
    with pytest.raises(ValueError, match="column column"):
        block.add_rows([(1, value)])
    with pytest.raises(ValueError, match="adding rows failed"):
        block.write_to(io.BytesIO().write)


@pytest.mark.parametrize("type_name", ["Int128", "Nullable(Array(String))", "LowCardinality(UInt8)", "Map(String)", ""])
def test_a_type_that_the_ledger_does_not_use_is_refused(type_name: str) -> None:
    """A column of a type without an encoder raises ValueError when the block is made, not when it is written."""
    with pytest.raises(ValueError, match="no encoder"):
        NativeBlock([("column", type_name)])


def test_rows_of_another_length_are_refused() -> None:
    """Rows with too few values, or not all of one length, raise ValueError."""
    block = NativeBlock([("a", "UInt8"), ("b", "UInt8")])
    with pytest.raises(ValueError, match="rows of 1 values for 2 columns"):
        block.add_rows([(1,)])
    with pytest.raises(ValueError, match="shorter"):
        block.add_rows([(1, 2), (1,)])


def test_a_constant_without_a_value_is_refused() -> None:
    """A block whose constant was forgotten is not written with a default."""
    block = NativeBlock([("a", "UInt8"), ("b", "UInt8")], ["b"])
    block.add_rows([(1,)])
    with pytest.raises(ValueError, match="constant column b has no value"):
        block.write_to(io.BytesIO().write)
    with pytest.raises(ValueError, match="a is not a constant column"):
        block.set_constant("a", 1)


def test_the_protocol_has_a_block_info_first() -> None:
    """The packet of the native protocol begins with the block info, which the file format has not."""
    packet = io.BytesIO()
    NativeBlock([]).write_to(packet.write, protocol=True)
    assert packet.getvalue() == A_BLOCK_INFO_AND_NO_COLUMNS
