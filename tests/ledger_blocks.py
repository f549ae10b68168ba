"""Blocks of ledger rows for tests of the ledger's protocol: events that are nothing but who they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usageaudit.ledger.columns import BATCH_COLUMNS, COLUMNS, ROW_COLUMNS
from usageaudit.stores.native import NativeBlock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from usageaudit.ledger.columns import Column
    from usageaudit.stores.ledger import EventKey

START_US = 1_700_000_000_000_000
SOURCE = "//svc/tests"


def key(number: int) -> EventKey:
    """Return time, source and id of the event with a number; the times are a second apart."""
    return START_US + number * 1_000_000, SOURCE, f"event-{number}"


def ledger_block(
    offsets: Iterable[int], status: str = "accepted", kind: type[NativeBlock] = NativeBlock, **values: Any
) -> NativeBlock:
    """Return a block of rows with these offsets, each the event of that number unless `values` say otherwise."""
    block = kind([(column.name, column.type) for column in COLUMNS], [column.name for column in BATCH_COLUMNS])
    block.add_rows([_row(offset, status, values) for offset in offsets])
    return block


def _row(offset: int, status: str, values: dict[str, Any]) -> tuple[Any, ...]:
    time, source, event_id = key(offset)
    known = {"offset": offset, "status": status, "event_time": time, "event_source": source, "event_id": event_id}
    known |= values
    return tuple(known.get(column.name, _empty(column)) for column in ROW_COLUMNS)


def _empty(column: Column) -> object:
    if column.type.startswith(("Array", "Map")) or "Nullable" in column.type:
        return None
    return "" if "String" in column.type else 0
