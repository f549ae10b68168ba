"""Migrations: what they arrive at, that they may be run again and beside each other, and what they refuse."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import pytest

from tests.ledger_rows import EMBEDDED, LATEST, SERVER, empty_store, plain
from usageaudit.errors import ConfigurationError
from usageaudit.ledger.ddl import TABLES, VIEWS, statements
from usageaudit.stores.migrate import migrate, migrations, newer, pending

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.stores.port import Store

CATALOG = """SELECT name, engine_full, create_table_query FROM system.tables
WHERE database = currentDatabase() ORDER BY name"""
DESCRIBED = """SELECT table, position, name, type, default_kind, compression_codec, is_in_sorting_key
FROM system.columns WHERE database = currentDatabase() ORDER BY table, position"""
VERSIONS = tuple(migration.version for migration in migrations())


@pytest.fixture(params=[EMBEDDED, SERVER, LATEST])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store without tables."""
    with empty_store(request, tmp_path_factory) as empty:
        yield empty


def schema(store: Store) -> list[list[tuple[object, ...]]]:
    """Return tables, views and columns as the engine describes them."""
    return [plain(store.execute(CATALOG)), plain(store.execute(DESCRIBED))]


def drop_everything(store: Store) -> None:
    """Leave an empty database."""
    for view in reversed(VIEWS):
        store.execute(f"DROP VIEW {view.name} SYNC")
    for table in TABLES:
        store.execute(f"DROP TABLE {table.name} SYNC")


def test_all_migrations_arrive_at_the_schema_that_the_columns_say(store: Store) -> None:
    """A database made by the migrations and one made by the definitions are the same to the engine."""
    migrate(store)
    migrated = schema(store)
    drop_everything(store)
    for statement in statements():
        store.execute(statement)
    assert schema(store) == migrated
    assert {name for name, *_ in migrated[0]} == {table.name for table in TABLES} | {view.name for view in VIEWS}


def test_migrating_again_does_nothing(store: Store) -> None:
    """Each migration is applied once; the second run finds nothing to do and changes nothing."""
    assert tuple(migration.version for migration in pending(store)) == VERSIONS
    assert migrate(store) == VERSIONS
    before = schema(store)
    assert pending(store) == ()
    assert migrate(store) == ()
    assert schema(store) == before


def test_an_interrupted_migration_is_repeated(store: Store) -> None:
    """What was applied without being recorded, as when the process was killed, is applied again without an error."""
    migrate(store)
    before = schema(store)
    store.execute("TRUNCATE TABLE schema_migrations")
    assert migrate(store) == VERSIONS
    assert schema(store) == before


def test_two_processes_may_migrate_at_once(store: Store) -> None:
    """Two that start together both succeed, and the store is migrated once."""
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
    assert pending(store) == ()


def test_a_store_of_a_newer_version_is_used(store: Store) -> None:
    """Migrations that this version does not know have only added something: nothing is to be done, and it is told."""
    migrate(store)
    assert newer(store) == ()
    store.execute("INSERT INTO schema_migrations SELECT 9999, '9999_future.sql', '', now64(3, 'UTC')")
    before = schema(store)
    assert (migrate(store), newer(store)) == ((), ("9999_future.sql",))
    assert schema(store) == before


def test_a_store_that_this_version_must_not_write_is_refused(store: Store) -> None:
    """A migration that says it breaks older programs stops them, and the error names both versions."""
    migrate(store)
    store.execute("INSERT INTO schema_migrations SELECT 9999, '9999_future_breaking.sql', '', now64(3, 'UTC')")
    store.execute("INSERT INTO schema_migrations SELECT 10000, '10000_more.sql', '', now64(3, 'UTC')")
    with pytest.raises(
        ConfigurationError, match=rf"version 10000 and this usageaudit knows {VERSIONS[-1]}.*9999_future"
    ):
        migrate(store)


def test_a_store_made_by_other_files_is_refused(store: Store) -> None:
    """A migration whose text is not what was applied under its number is refused by name."""
    migrate(store)
    store.execute("TRUNCATE TABLE schema_migrations")
    store.execute("INSERT INTO schema_migrations SELECT 1, 'other.sql', 'beef', now64(3, 'UTC')")
    with pytest.raises(ConfigurationError, match=re.escape(migrations()[0].name)):
        pending(store)


def test_one_block_stays_one_part(store: Store) -> None:
    """The projections do not split a block: what is inserted at once is one data part, with all of them in it."""
    migrate(store)
    store.execute(
        "INSERT INTO ledger (status, event_time, ingest_time, event_id) SELECT 'accepted',"
        " toDateTime64('2026-03-02 00:00:00', 6, 'UTC') + toIntervalSecond(number), '2026-03-02', toString(number)"
        " FROM numbers(20000) SETTINGS max_insert_threads = 1, max_block_size = 1000000"
    )
    parts = store.execute("SELECT rows FROM system.parts WHERE database = currentDatabase() AND table = 'ledger'")
    projections = store.execute(
        "SELECT DISTINCT name FROM system.projection_parts"
        " WHERE database = currentDatabase() AND table = 'ledger' AND active ORDER BY name"
    )
    assert plain(parts) == [(20000,)]
    assert plain(projections) == [("indeterminates_by_hour",), ("usage_by_hour",), ("violations_by_hour",)]
