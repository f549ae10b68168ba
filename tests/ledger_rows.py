"""Rows of the ledger, written as their values, and stores to put them in: for tests of views and queries."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from usageaudit.ledger.columns import COLUMNS
from usageaudit.ledger.ddl import TABLES
from usageaudit.stores.address import open_store
from usageaudit.stores.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.servers.clickhouse import ClickHouse
    from usageaudit.stores.port import Parameters, Rows, Store

Row = dict[str, Any]

EMBEDDED = pytest.param("embedded", id="embedded")
SERVER = pytest.param("clickhouse", id="25.8", marks=pytest.mark.clickhouse)
LATEST = pytest.param("clickhouse_latest", id="26.7", marks=pytest.mark.clickhouse)

_TYPES = {table.name: {column.name: column.type.partition(" CODEC")[0] for column in table.columns} for table in TABLES}
_ROWS_A_STATEMENT = 100  # a statement has at most 256 KiB
_NAMES = {column.name for column in COLUMNS}


@contextmanager
def empty_store(request: pytest.FixtureRequest, folders: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store without tables of the engine that the fixture's parameter names."""
    if request.param == "embedded":
        store = open_store(f"embedded:{folders.mktemp('store')}")
        yield store
        store.close()
        return
    server: ClickHouse = request.getfixturevalue(request.param)
    database = f"test_{uuid.uuid4().hex[:12]}"
    server.execute(f"CREATE DATABASE {database}")
    store = open_store(server.database_url(database))
    yield store
    store.close()
    server.execute(f"DROP DATABASE {database} SYNC")


@contextmanager
def migrated_store(request: pytest.FixtureRequest, folders: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store with every table and view, and no rows."""
    with empty_store(request, folders) as store:
        migrate(store)
        yield store


def accepted(event_id: str, event_time: str, *parts: Row, **values: Any) -> Row:
    """Return the row of an accepted event; later parts win, and what is not given is absent, as far as it may be."""
    row: Row = {
        "ingest_time": event_time[:19],
        "stream": "stream-1",
        "topic": "usage-events",
        "record_time": event_time[:19],
        "status": "accepted",
        "content_mode": "structured",
        "event_source": "svc-a",
        "event_id": event_id,
        "event_time": event_time,
        "operation": "chat",
        "model_provider": "azure.ai.openai",
        "model_name": "gpt-4o",
        "actor_id": "u1",
        "application_name": "chatbot",
    }
    for part in (*parts, values):
        row.update(part)
    if unknown := set(row) - _NAMES:
        raise ValueError(f"the ledger has no column {', '.join(sorted(unknown))}")
    return row


def duplicate(event_id: str, event_time: str, **values: Any) -> Row:
    """Return the row of a further copy of an event: it says who the event is and nothing else."""
    row = accepted(event_id, event_time)
    head = {name: value for name, value in row.items() if not name.startswith(("model_", "actor_", "application_"))}
    return {**head, "operation": "", "status": "duplicate", **values}


def rejected(ingest_time: str, error: str, **values: Any) -> Row:
    """Return the row of a refused record."""
    head = {"stream": "stream-1", "topic": "usage-events", "status": "rejected", "record_time": ingest_time}
    return {**head, "ingest_time": ingest_time, "event_time": "1970-01-01 00:00:00", "error": error, **values}


def verdict(prefix: str, *policies: Sequence[Any]) -> Row:
    """Return the parallel arrays of violated, exempted or indeterminate policies, each a tuple of their columns."""
    names = [column.name for column in COLUMNS if column.origin == "verdict" and column.name.split("_")[0] == prefix]
    return {name: [policy[place] for policy in policies] for place, name in enumerate(names)}


def insert(store: Store, rows: Sequence[Row], table: str = "ledger") -> None:
    """Append rows to a table; offsets are numbered where the first row of the ledger has none."""
    if table == "ledger" and "offset" not in rows[0]:
        rows = [{"offset": number, **row} for number, row in enumerate(rows)]
    structure = ", ".join(f"`{name}` {kind}" for name, kind in _TYPES[table].items()).replace("'", "\\'")
    for start in range(0, len(rows), _ROWS_A_STATEMENT):
        lines = "\n".join(json.dumps(row) for row in rows[start : start + _ROWS_A_STATEMENT])
        text = lines.replace("\\", "\\\\").replace("'", "\\'")
        store.execute(f"INSERT INTO {table} SELECT * FROM format(JSONEachRow, '{structure}', '{text}')")


def plain(rows: Rows) -> list[tuple[Any, ...]]:
    """Return rows in a form that is easy to write down: times and decimals as text, lists as tuples."""
    return [tuple(map(_plain, row)) for row in rows.rows]


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        text = value.strftime("%Y-%m-%d %H:%M:%S.%f")
        return text.rstrip("0").rstrip(".")
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return value


def reads(store: Store, sql: str, parameters: Parameters | None = None) -> set[str]:
    """Return what a query reads: names of projections where they serve it, of tables where none does."""
    lines = [str(line) for (line,) in store.execute(f"EXPLAIN {sql}", parameters).rows]
    found = {line.partition("ReadFromMergeTree (")[2].rstrip(")") for line in lines if "ReadFromMergeTree (" in line}
    return {name.rpartition(".")[2] for name in found}
