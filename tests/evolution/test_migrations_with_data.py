"""Migrations with rows in every table: from each version forward, broken off anywhere, beside each other."""

from __future__ import annotations

import datetime as dt
import json
import os
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.evolution.versions import THIS, Place, Version
from tests.integration.test_migrations import schema
from tests.ledger_rows import EMBEDDED, LATEST, SERVER, empty_store, plain
from tests.ledger_world import WORLD
from tests.strategies import envelope, event_data
from usageaudit.cloudevents import decode
from usageaudit.ledger.columns import BATCH_COLUMNS, ROW_COLUMNS
from usageaudit.ledger.ddl import TABLES, VIEWS
from usageaudit.ledger.views import plain_type
from usageaudit.pipeline.rows import NO_VERDICTS, compile_row
from usageaudit.stores.migrate import migrate, migrations, pending
from usageaudit.stores.native import NativeBlock
from usageaudit.stores.port import Insert
from usageaudit.stores.queries import named_queries
from usageaudit.streams.port import Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from usageaudit.stores.port import Parameters, Rows, Store

LONG = os.environ.get("USAGEAUDIT_TEST_MIGRATIONS") == "all"
"""Whether every engine is tried from every version and broken off everywhere, not a choice of them."""
KNOWN = migrations()
ROWS = 50
SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
TODAY = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
BEFORE_REJUDGED = 3
CHOSEN = (2,) if not LONG else tuple(range(1, len(KNOWN)))
FROM = [(SERVER, version) for version in range(1, len(KNOWN))]
FROM += [(engine, version) for engine in (EMBEDDED, LATEST) for version in CHOSEN]

Columns = dict[str, dict[str, str]]
"""Types of columns by name, by table."""


@pytest.fixture(params=[EMBEDDED, SERVER, LATEST] if LONG else [SERVER])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store without tables."""
    with empty_store(request, tmp_path_factory) as empty:
        yield empty


def _bring_to(store: Store, version: int, start: int = 0) -> None:
    """Do what the program did that knew so many migrations."""
    for migration in KNOWN[start:version]:
        for statement in migration.statements:
            store.execute(statement)
        values = f"{migration.version}, '{migration.name}', '{migration.digest}'"
        store.execute(f"INSERT INTO schema_migrations SELECT {values}, now64(3, 'UTC')")


def _clear(store: Store) -> None:
    for view in reversed(VIEWS):
        store.execute(f"DROP VIEW IF EXISTS {view.name} SYNC")
    for table in TABLES:
        store.execute(f"DROP TABLE IF EXISTS {table.name} SYNC")


def _columns(store: Store, tables: bool = True) -> Columns:
    """Return the columns of everything that holds data, or of the views."""
    kind = "LIKE '%MergeTree'" if tables else "= 'View'"
    sql = f"""SELECT table, name, type FROM system.columns WHERE database = currentDatabase() AND table IN
        (SELECT name FROM system.tables WHERE database = currentDatabase() AND engine {kind})
        AND table != 'schema_migrations' ORDER BY table, position"""
    found: Columns = {}
    for table, name, type_name in store.execute(sql).rows:
        found.setdefault(str(table), {})[str(name)] = str(type_name)
    return found


def _fill(store: Store, columns: Columns, events: Sequence[dict[str, Any]]) -> None:
    """Put rows into the tables: into the ledger events of any content, into the others any values at all."""
    for table, named in columns.items():
        names, structure = _names(named), _structure(named)
        if table == "ledger":
            lines = "\n".join(json.dumps({"offset": number, **row}) for number, row in enumerate(WORLD))
            text = lines.replace("\\", "\\\\").replace("'", "\\'")
            source = f"{names} FROM format(JSONEachRow, '{structure}', '{text}')"
        else:
            # Nothing may be so old that the engine forgets it.
            fresh = (
                f"REPLACE (toDateTime64('{TODAY:%F %T}', 3, 'UTC') AS ingest_time)" if "ingest_time" in named else ""
            )
            source = f"* {fresh} FROM generateRandom('{structure}', 7, 12, 3) LIMIT {ROWS}"
        store.execute(f"INSERT INTO {table} ({names}) SELECT {source}")
    store.insert(Insert("ledger", _block(columns["ledger"], events), "tests/events"))


def _names(named: dict[str, str]) -> str:
    return ", ".join(f"`{name}`" for name in named)


def _structure(named: dict[str, str]) -> str:
    return ", ".join(f"`{name}` {kind}" for name, kind in named.items()).replace("'", "\\'")


def _block(named: dict[str, str], events: Sequence[dict[str, Any]]) -> NativeBlock:
    """Return a batch of accepted events as a block of those columns that the ledger has."""
    places = [place for place, column in enumerate(ROW_COLUMNS) if column.name in named]
    chosen = [*BATCH_COLUMNS, *(ROW_COLUMNS[place] for place in places)]
    block = NativeBlock([(one.name, one.type) for one in chosen], [one.name for one in BATCH_COLUMNS])
    row = compile_row()
    for offset, data in enumerate(events):
        value = json.dumps(envelope(data, id=f"e-{offset}")).encode()
        values = row(Record(offset, 0, value, ()), decode(value), NO_VERDICTS)
        block.add_rows([tuple(values[place] for place in places)])
    constants = {"ingest_time": int(TODAY.timestamp() * 1000), "epoch": 1, "batch": 1, "partition": 0}
    for name, constant in {**constants, "stream": "stream-2", "topic": "usage-events", "bundle": "b"}.items():
        block.set_constant(name, constant)
    return block


def _content(store: Store, columns: Columns) -> dict[str, tuple[object, ...]]:
    """Return for each table how many rows it has and a hash of all that is in the columns given."""
    return {
        table: tuple(
            store.execute(f"SELECT count(), sum(sipHash64(toString(tuple({_names(named)})))) FROM {table}").rows[0]
        )
        for table, named in columns.items()
    }


def _answers(store: Store) -> dict[str, list[str]]:
    """Return what every view and every shipped query answers."""
    views = {view.name: store.execute(f"SELECT * FROM {view.name}") for view in VIEWS}
    asked = [query for query in named_queries().values() if len(query.defaults) == len(query.parameters)]
    queries = {query.name: store.execute(query.sql, query.defaults) for query in asked}
    return {name: sorted(map(repr, plain(rows))) for name, rows in {**views, **queries}.items()}


@pytest.mark.parametrize(
    ("engine", "version"), [pytest.param(one.values[0], version, marks=one.marks) for one, version in FROM]
)
def test_every_version_is_brought_forward_with_its_data(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, engine: str, version: int
) -> None:
    """Migrations change no value, and views and queries answer as on a store that was made anew."""
    chosen: Any = SimpleNamespace(param=engine, getfixturevalue=request.getfixturevalue)
    with empty_store(chosen, tmp_path_factory) as store:

        @given(st.lists(event_data, min_size=1, max_size=30))
        @settings(max_examples=6 if LONG else 1, deadline=None, phases=[Phase.generate], suppress_health_check=SLOW)
        def forward(events: list[dict[str, Any]]) -> None:
            _clear(store)
            _bring_to(store, version)
            columns = _columns(store)
            _fill(store, columns, events)
            before = _content(store, columns)
            assert migrate(store) == tuple(range(version + 1, len(KNOWN) + 1))
            assert _content(store, columns) == before
            rewritten = store.execute("SELECT count() FROM system.mutations WHERE database = currentDatabase()").rows
            assert rewritten == [(0,)]
            migrated = schema(store), _answers(store)
            _clear(store)
            migrate(store)
            _fill(store, columns, events)
            assert _content(store, columns) == before
            assert (schema(store), _answers(store)) == migrated

        forward()


class _Broken(Exception):
    """Stands for the end of the process."""


class _Breaking:
    """A store whose process ends before its n-th statement that changes something."""

    def __init__(self, store: Store, after: int) -> None:
        self._store, self._left = store, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def execute(self, sql: str, parameters: Parameters | None = None) -> Rows:
        """Run a statement, or end."""
        if not sql.startswith(("SELECT", "EXISTS")):
            self._left -= 1
            if self._left < 0:
                raise _Broken
        return self._store.execute(sql, parameters)


def test_migrations_that_break_off_anywhere_go_on(store: Store) -> None:
    """Broken off between any two statements, and again and again one later, they arrive where an unbroken one does."""
    _bring_to(store, 2)
    columns = _columns(store)
    _fill(store, columns, [])
    before, breaks = _content(store, columns), 0
    while True:
        unfinished: Any = _Breaking(store, breaks)
        try:
            migrate(unfinished)
        except _Broken:
            breaks += 1
            assert _content(store, columns) == before
        else:
            break
    assert breaks > len(KNOWN)
    assert pending(store) == ()
    migrated = schema(store)
    _clear(store)
    migrate(store)
    assert schema(store) == migrated


def test_two_migrate_the_same_data_at_once(store: Store) -> None:
    """Two that start together both succeed, and change no value."""
    _bring_to(store, BEFORE_REJUDGED)
    columns = _columns(store)
    _fill(store, columns, [])
    before = _content(store, columns)
    start, errors = threading.Barrier(2), []

    def work(own: Store) -> None:
        start.wait()
        try:
            migrate(own)
        except Exception as error:  # noqa: BLE001  whatever it is, it is what the test looks for
            errors.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=work, args=(store.another(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert (pending(store), _content(store, columns)) == ((), before)


def test_two_versions_migrate_at_once(later_version: Version, clickhouse_database: str, tmp_path: Path) -> None:
    """A version and the one after it that start together leave the store as the later one wants it."""
    place = Place("embedded:./data", clickhouse_database, tmp_path)
    both = [place.start(version, "migrate") for version in (THIS, later_version)]
    assert [process.wait(180) for process in both] == [0, 0]
    assert place.run(later_version, "migrate", "--check") == ""
    place.run(later_version, "query", "SELECT purpose_project FROM usage_events")


def test_tables_and_views_only_gain_columns(store: Store) -> None:
    """What a program of any version reads or writes is there, of the same type, in every later version.

    Of a view's column it may be LowCardinality or not, which makes no difference to who reads it.
    """
    seen = []
    for version in range(1, len(KNOWN) + 1):
        _bring_to(store, version, start=version - 1)
        views = _columns(store, tables=False)
        seen.append({**_columns(store), **{name: _plain_types(named) for name, named in views.items()}})
    latest = seen[-1]
    for version, columns in enumerate(seen[:-1], start=1):
        for table, named in columns.items():
            assert named.items() <= latest[table].items(), (version, table)


def _plain_types(named: dict[str, str]) -> dict[str, str]:
    return {name: plain_type(kind) for name, kind in named.items()}
