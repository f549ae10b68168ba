"""Ledger rows: a function, generated from the columns, that turns a decoded event and its verdicts into one row.

Written out as source because a row has about a hundred values: the generated function reads each attribute once and
tests each optional parent once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usageaudit.events.fields import EVENT_FIELDS
from usageaudit.ledger.columns import EVENT_COLUMNS, LISTS, RAW, ROW_COLUMNS
from usageaudit.verdicts import CLEAN, Exemption, Indeterminate, Verdicts, Violation

if TYPE_CHECKING:
    from collections.abc import Callable

    from usageaudit.cloudevents import DecodedEvent
    from usageaudit.errors import InvalidEvent
    from usageaudit.events.fields import EventField
    from usageaudit.ledger.columns import Column
    from usageaudit.streams.port import Record

    AcceptedRow = Callable[[Record, DecodedEvent, tuple[Any, ...]], tuple[Any, ...]]
    """Builds the row of an accepted event from its record, the event and the values of the verdict columns."""

Row = tuple[Any, ...]
"""The values of ROW_COLUMNS in their order, as NativeBlock takes them."""


_VERDICT_COLUMNS = tuple(column for column in ROW_COLUMNS if column.origin == "verdict")
_HEAD_COLUMNS = next(place for place, column in enumerate(ROW_COLUMNS) if column.origin == "event")
_NO_VIOLATION = ((),) * len(Violation._fields)
_NO_EXEMPTION = ((),) * len(Exemption._fields)
_NO_INDETERMINATE = ((),) * len(Indeterminate._fields)
NO_VERDICTS: tuple[Any, ...] = ((),) * len(_VERDICT_COLUMNS)


def verdict_values(verdicts: Verdicts) -> tuple[Any, ...]:
    """Return the values of the verdict columns: parallel arrays, in the columns' order."""
    if verdicts is CLEAN:
        return NO_VERDICTS
    violated, exempted, indeterminate = verdicts
    return (
        *(zip(*violated, strict=True) if violated else _NO_VIOLATION),
        *(zip(*exempted, strict=True) if exempted else _NO_EXEMPTION),
        *(zip(*indeterminate, strict=True) if indeterminate else _NO_INDETERMINATE),
    )


def duplicate_row(record: Record, event: DecodedEvent) -> Row:
    """Return the row of a further copy of an accepted event: who it is, and nothing that an aggregate could count."""
    return _head(record, "duplicate", event.mode, "", "", 0, event.source, event.id, event.time) + _EMPTY_TAIL


def rejected_row(record: Record, error: InvalidEvent) -> Row:
    """Return the row of a record that is no usage event: its length and what is wrong with it, never its bytes."""
    return _head(record, "rejected", "", str(error), error.problems[0].path, 0, "", "", 0) + _EMPTY_TAIL


def _head(
    record: Record, status: str, mode: str, error: str, path: str, unknown: int, source: str, event_id: str, time: int
) -> Row:
    size = len(record.value) if record.value is not None else 0
    return (record.offset, record.timestamp, status, mode, size, error, path, unknown, source, event_id, time)


def _empty(column: Column) -> object:
    """Return what a column holds in a row without an event: ClickHouse's default of its type."""
    if column.type.startswith(("Array", "Map")):
        return () if column.type.startswith("Array") else None
    if "Nullable" in column.type:
        return None
    return b"" if column is RAW else "" if "String" in column.type else 0


def compile_row() -> AcceptedRow:
    """Return the function that builds the row of an accepted event."""
    lines = ["def row(record, event, verdicts):", " d = event.data", *_reads(), " present = 0"]
    for bit, field in enumerate(LISTS):
        name = _local(field)
        lines += [f" if {name} is None: {name} = ()", f" else: present |= {1 << bit}"]
    lines += [line for field in LISTS if field.kind == "objects" for line in _members(field)]
    values = ", ".join(_value(column) for column in EVENT_COLUMNS)
    head = "record.offset, record.timestamp, 'accepted', event.mode, len(record.value), '', '', event.unknown_fields"
    lines.append(f" return ({head}, event.source, event.id, event.time, {values}, present, *verdicts, record.value)")
    namespace: dict[str, Any] = {}
    exec(compile("\n".join(lines), "<ledger row>", "exec"), namespace)  # noqa: S102  the source is made of column names
    built: AcceptedRow = namespace["row"]
    return built


def _local(field: EventField) -> str:
    return f"v_{field.column}"


def _reads() -> list[str]:
    """Return the lines that read every field into a local, parents before children, absent parents as None."""
    lines: list[str] = []
    parents: dict[tuple[str, ...], str] = {(): "d"}
    for field in EVENT_FIELDS:
        parent = field.path[:-1]
        for depth in range(1, len(parent) + 1):
            path = parent[:depth]
            if path not in parents:
                parents[path] = "o_" + "_".join(path)
                lines.append(f" {parents[path]} = {_attribute(parents[path[:-1]], path[-1], path[:-1])}")
    for parent, owner in parents.items():
        fields = [field for field in EVENT_FIELDS if field.path[:-1] == parent]
        reads = [f"{_local(field)} = {owner}.{field.path[-1]}" for field in fields]
        if parent in _ALWAYS_THERE:
            lines += [f" {read}" for read in reads]
        elif reads:
            lines.append(f" if {owner} is None: {' = '.join(map(_local, fields))} = None")
            lines += [" else:", *(f"  {read}" for read in reads)]
    return lines


_ALWAYS_THERE = {(), *(field.path[:-1] for field in EVENT_FIELDS if field.required)}


def _attribute(owner: str, name: str, path: tuple[str, ...]) -> str:
    read = f"{owner}.{name}"
    return read if path in _ALWAYS_THERE else f"{read} if {owner} is not None else None"


def _members(field: EventField) -> list[str]:
    """Return the lines that turn a list of objects into one list a member."""
    name = _local(field)
    makes: list[str] = []
    for member in field.members:
        made = f"{name}_{member.column}"
        if member.kind == "strings":
            makes.append(f"{made}_present = [x.{member.path[0]} is not None for x in {name}]")
            makes.append(f"{made} = [x.{member.path[0]} or () for x in {name}]")
        else:
            makes.append(f"{made} = [x.{member.path[0]} for x in {name}]")
    names = " = ".join(make.split(" = ")[0] for make in makes)
    return [f" if not {name}: {names} = ()", " else:", *(f"  {make}" for make in makes)]


def _value(column: Column) -> str:
    if column.field is None:
        raise ValueError(f"column {column.name} has no field of the event")
    if column.member is None:
        return _local(column.field)
    return "v_" + column.name


_EMPTY_TAIL: Row = tuple(_empty(column) for column in ROW_COLUMNS[_HEAD_COLUMNS:])
