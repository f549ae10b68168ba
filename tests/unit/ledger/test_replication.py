"""Statements of migrations in the form that a cluster takes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usageaudit.ledger.ddl import TABLES, VIEWS, statements
from usageaudit.ledger.replication import DISTRIBUTED, FENCE_KEY, Place, statements_for
from usageaudit.stores.migrate import migrations

PLACE = Place("audit", "usageaudit")
ALL = [statement for migration in migrations() for statement in migration.statements]


@pytest.mark.parametrize("statement", [*ALL, *statements()], ids=lambda text: " ".join(text.split()[:8]))
def test_every_statement_has_a_form_for_a_cluster(statement: str) -> None:
    """Each statement of each migration, and of the definitions, is rewritten; none loses a column or a clause."""
    first, *others = statements_for(statement, PLACE)
    assert all("ON CLUSTER `audit`" in other and DISTRIBUTED in other for other in others)
    if statement.startswith("ALTER"):
        assert first == statement
        return
    assert "ON CLUSTER `audit`" in first
    assert re.findall(r"^    `.*?,?$", statement, re.MULTILINE) == [
        line for line in re.findall(r"^    `.*?,?$", first, re.MULTILINE) if FENCE_KEY not in line
    ]


def test_tables_replicate_without_deduplication() -> None:
    """Every table but the fence has an engine that replicates and a path of its own, and keeps a block twice."""
    paths = set()
    for table in TABLES:
        created = statements_for(table.create, PLACE)[0]
        if table.name == "fence":
            assert created.endswith(f"ENGINE = KeeperMap('/usageaudit/usageaudit/fence')\nPRIMARY KEY {FENCE_KEY}")
            continue
        engine = re.search(rf"^ENGINE = Replicated{table.engine}\('(.+)', '{{replica}}'\)$", created, re.MULTILINE)
        assert engine, created
        paths.add(engine[1])
        assert re.search(r"(SETTINGS|,) replicated_deduplication_window = 0\Z", created)
        assert "non_replicated" not in created
        assert table.order_by in created
        assert table.ttl in created
    assert len(paths) == len(TABLES) - 1


def test_views_read_the_ledger_through_the_distributed_table() -> None:
    """No view reads `ledger` itself; their other words stay as they are."""
    for view in VIEWS:
        (created,) = statements_for(view.create, PLACE)
        assert not re.search(r"\b(FROM|JOIN) ledger\b", created)
        assert created.replace(DISTRIBUTED, "ledger").replace(" ON CLUSTER `audit`", "") == view.create


def test_the_distributed_table_follows_the_ledger() -> None:
    """It is made after the ledger, and anew after each change of it."""
    (ledger,) = (table for table in TABLES if table.name == "ledger")
    _, made = statements_for(ledger.create, PLACE)
    assert made == (
        "CREATE TABLE IF NOT EXISTS ledger_distributed ON CLUSTER `audit` AS ledger\n"
        "ENGINE = Distributed('audit', 'usageaudit', 'ledger')"
    )
    change, again = statements_for("ALTER TABLE ledger ADD COLUMN IF NOT EXISTS `x` String", PLACE)
    assert change.startswith("ALTER TABLE ledger ADD")
    assert again.startswith("CREATE OR REPLACE TABLE ledger_distributed ON CLUSTER `audit` AS ledger\n")


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE ledger",
        "CREATE TABLE ledger (a UInt8) ENGINE = MergeTree ORDER BY a",
        "INSERT INTO ledger SELECT 1",
        "ALTER TABLE fence ADD COLUMN x String",
        "CREATE MATERIALIZED VIEW x AS SELECT 1",
        "RENAME TABLE ledger TO other",
    ],
)
def test_a_statement_of_another_form_is_refused(statement: str) -> None:
    """What has no form for a cluster is an error, and not run as it is."""
    with pytest.raises(ValueError, match=r"no form for a cluster|table of Keeper"):
        statements_for(statement, PLACE)


@given(cluster=st.text(min_size=1), database=st.text(min_size=1))
def test_names_are_quoted(cluster: str, database: str) -> None:
    """Whatever a cluster or database is called, its name ends no quoted text before its end."""
    for statement in statements_for(TABLES[1].create, Place(cluster, database)):
        outside = re.sub(r"'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`", "", statement, flags=re.DOTALL)
        assert "'" not in outside
        assert "`" not in outside
