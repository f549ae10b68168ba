"""The store as three replicas: the tables that migrations make there, the ledger's protocol, and reading back."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from tests.integration.test_takeover import EVENTS_A_DAY, GRANULE, fill_and_look_up
from tests.ledger_blocks import ledger_block
from tests.ledger_rows import plain, reads
from usageaudit.errors import Fenced
from usageaudit.ledger.ddl import TABLES, VIEWS
from usageaudit.ledger.replication import DISTRIBUTED, FENCE_KEY
from usageaudit.stores.address import open_store
from usageaudit.stores.ledger import Ledger
from usageaudit.stores.migrate import migrate, pending
from usageaudit.streams.port import Partition

if TYPE_CHECKING:
    from tests.replicated import Connect
    from tests.servers.cluster import Cluster
    from usageaudit.stores.port import Store

BUNDLE_HASH = "b" * 64
SCHEMA = {
    "columns": """SELECT table, position, name, type, default_kind, compression_codec FROM system.columns
WHERE database = currentDatabase() ORDER BY table, position""",
    "indices": """SELECT table, name, type_full, expr, granularity FROM system.data_skipping_indices
WHERE database = currentDatabase() ORDER BY table, name""",
    "projections": """SELECT table, name, type, sorting_key, query FROM system.projections
WHERE database = currentDatabase() ORDER BY table, name""",
    "keys": """SELECT name, sorting_key, partition_key FROM system.tables
WHERE database = currentDatabase() AND engine LIKE '%MergeTree' AND name != 'fence' ORDER BY name""",
    "views": """SELECT name, as_select FROM system.tables
WHERE database = currentDatabase() AND engine = 'View' ORDER BY name""",
}

pytestmark = pytest.mark.clickhouse


@pytest.fixture
def partition() -> Partition:
    """Return a partition of a stream that nobody else has."""
    return Partition(uuid.uuid4().hex, "usage-events", 0)


def _schema(store: Store, what: str) -> list[tuple[object, ...]]:
    ((database,),) = store.execute("SELECT currentDatabase()").rows
    rows = plain(store.execute(SCHEMA[what]))
    return [tuple(str(value).replace(f"{database}.", "") for value in row) for row in rows]


def test_the_tables_of_a_cluster_are_those_of_one_server(
    cluster: Cluster, connect: Connect, clickhouse_database: str
) -> None:
    """Columns, indices, projections, keys and views are the same, but for Keeper's key and the Distributed table."""
    single = open_store(clickhouse_database)
    migrate(single)
    expected = {what: _schema(single, what) for what in SCHEMA}
    single.close()
    store = connect()
    found = {what: _schema(store, what) for what in SCHEMA}
    columns = [row for row in found["columns"] if row[0] != DISTRIBUTED]
    fence = [(row[0], *row[2:]) for row in columns if row[0] == "fence" and row[2] != FENCE_KEY]
    assert fence == [(row[0], *row[2:]) for row in expected["columns"] if row[0] == "fence"]
    assert [row for row in columns if row[0] != "fence"] == [row for row in expected["columns"] if row[0] != "fence"]
    views = [(name, str(query).replace(DISTRIBUTED, "ledger")) for name, query in found["views"]]
    assert views == expected["views"]
    for what in ("indices", "projections", "keys"):
        assert found[what] == expected[what]


def test_looking_up_events_reads_what_is_near_in_time_alone(connect: Connect, cluster: Cluster) -> None:
    """Asking for a thousand events reads as many rows of a ledger of 180 days as of one of sixty."""
    store = connect()
    early = fill_and_look_up(store, cluster.replicas[0], first_day=0, days=60)
    later = fill_and_look_up(store, cluster.replicas[0], first_day=60, days=120)
    assert early < 60 * EVENTS_A_DAY / 4
    assert later <= early + 2 * GRANULE


def test_every_replica_has_every_table_and_view(cluster: Cluster, connect: Connect) -> None:
    """The migrations are done on each server, and are recorded on each."""
    names = {table.name for table in TABLES} | {view.name for view in VIEWS} | {DISTRIBUTED}
    for replica in cluster.replicas:
        store = connect(replica)
        rows = store.execute("SELECT name FROM system.tables WHERE database = currentDatabase()").rows
        assert {name for (name,) in rows} == names
        assert pending(store) == ()
        assert migrate(store) == ()


def test_views_are_answered_by_projections_through_the_distributed_table(
    connect: Connect, partition: Partition
) -> None:
    """What a projection serves on one server it serves on a cluster, too."""
    store = connect()
    ledger = Ledger(store)
    ledger.record(ledger_block(range(50)), partition, ledger.fence(partition, "owner"), 1, bundle=BUNDLE_HASH)
    assert reads(store, "SELECT hour, sum(events) FROM usage_hourly GROUP BY hour") == {"usage_by_hour"}


def test_a_batch_is_recorded_once_and_read_through_any_replica(
    cluster: Cluster, connect: Connect, partition: Partition
) -> None:
    """What was written through one replica is read back through each other, right after a takeover there."""
    first = Ledger(connect(cluster.replicas[0]))
    first.record(ledger_block(range(50)), partition, first.fence(partition, "old"), 1, bundle=BUNDLE_HASH)
    for epoch, replica in enumerate(cluster.replicas, start=2):
        store = connect(replica)
        ledger = Ledger(store)
        assert ledger.fence(partition, "new") == epoch
        assert ledger.present(partition, 0).ranges == ((0, 49),)
        sql = "SELECT count() FROM stream_records WHERE stream = {s:String}"
        assert store.query(sql, {"s": partition.stream}).rows == [(50,)]
    with pytest.raises(Fenced):
        first.record(ledger_block(range(50)), partition, 1, 2, bundle=BUNDLE_HASH)
