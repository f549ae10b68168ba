"""The files of migrations: numbered without a gap, safe to repeat, and unchanged once they are out."""

from __future__ import annotations

import re

import pytest

from usageaudit.stores.migrate import Migration, migrations

REPEATABLE = re.compile(
    r"CREATE TABLE IF NOT EXISTS \w+"
    r"|CREATE (OR REPLACE VIEW|VIEW IF NOT EXISTS) \w+"
    r"|DROP (TABLE|VIEW) IF EXISTS \w+"
    r"|ALTER TABLE \w+ (ADD (COLUMN|INDEX|PROJECTION) IF NOT EXISTS|DROP (COLUMN|INDEX|PROJECTION) IF EXISTS"
    r"|MODIFY (COLUMN|SETTING|TTL|COMMENT)) "
)
ADDING = re.compile(
    r"CREATE (TABLE|VIEW) IF NOT EXISTS|CREATE OR REPLACE VIEW|ALTER TABLE \w+ ADD (COLUMN|INDEX|PROJECTION) "
)


def test_migrations_are_numbered_from_one_on() -> None:
    """Each migration has the number after the one before it."""
    assert [migration.version for migration in migrations()] == list(range(1, len(migrations()) + 1))


@pytest.mark.parametrize("migration", migrations(), ids=lambda migration: migration.name)
def test_every_statement_may_be_run_again(migration: Migration) -> None:
    """An interrupted migration is run again from its start, so each statement says what if it is done already."""
    assert migration.statements
    for statement in migration.statements:
        assert REPEATABLE.match(statement), statement


@pytest.mark.parametrize("migration", migrations(), ids=lambda migration: migration.name)
def test_migrations_only_add(migration: Migration) -> None:
    """Programs of the version before go on with the store: nothing is taken away, unless the file's name says so."""
    if not migration.name.endswith("_breaking.sql"):
        assert [statement for statement in migration.statements if not ADDING.match(statement)] == []


def test_statements_end_at_a_semicolon_at_the_end_of_a_line() -> None:
    """A semicolon within a line, as in a string, ends nothing; comments are whole lines and are left out."""
    text = "-- a comment;\nCREATE TABLE a (s String DEFAULT ';x');\n\n-- another\nDROP TABLE IF EXISTS b;\n"
    assert Migration(1, "0001_a.sql", text).statements == (
        "CREATE TABLE a (s String DEFAULT ';x')",
        "DROP TABLE IF EXISTS b",
    )


RELEASED = {
    "0001_tables.sql": "42a724ffddd1a5cfcd92b09f121cc315c0452865619dd3641d50dcbaa043abfc",
    "0002_views.sql": "0d9752e6541cf74d555b375725636d54366dfc811f5b98ad6bb05fde87f9ce78",
    "0003_approvals.sql": "5d892a718399cdde41eadd7ed2cbf292eddad1220cc17c2de9a0f16ca8df88f9",
    "0004_rejudged.sql": "145571768728c0fe81deeeb4861cf4342e80e597a28375e2b764684fc1ee11b3",
    "0005_headers.sql": "646cd4738c3062dcabf6cada46b98e7bbf5d5a66d7e682ab6771d4c307e8cf93",
    "0006_windows.sql": "12fc26a7484dfb6b986fc783be383e6474d4cbc200e3610079f4279a49bb52c1",
    "0007_alerts.sql": "190487723c55b180145dba197da10ce7c0fa539925b94b8853de99bb1a6719f4",
}


def test_a_migration_never_changes() -> None:
    """A store that has applied a migration refuses another text under its number: changes are new migrations."""
    assert {migration.name: migration.digest for migration in migrations()} == RELEASED
