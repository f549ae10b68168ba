"""docs/replicated.md is true: its statements are run in its order, on servers with its configuration."""

from __future__ import annotations

import os
import re
import subprocess
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from clickhouse_driver.errors import ServerException

from tests.documents import BIN, ROOT, code_blocks
from tests.ledger_blocks import key, ledger_block
from tests.replicated import BUNDLE_HASH, DEADLINE_S, OFFSETS, new_partition, rows_of, take_over
from tests.servers.cluster import Cluster
from usageaudit.errors import ConfigurationError
from usageaudit.stores.address import open_store
from usageaudit.stores.ledger import Ledger
from usageaudit.stores.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.replicated import Connect
    from tests.servers.clickhouse import ClickHouse
    from tests.servers.cluster import Replica

DOCUMENT = ROOT / "docs" / "replicated.md"
ON_ONE_SERVER = (
    "GRANT SELECT, INSERT ON usageaudit.* TO audit",
    "REVOKE SELECT, INSERT ON usageaudit.fence FROM audit",
    "REVOKE SELECT ON usageaudit.ledger_distributed FROM audit",
    "GRANT SELECT ON system.processes TO audit",
    "GRANT CREATE TEMPORARY TABLE ON *.* TO audit",
)
"""What the consumer's login needs on one server; what a cluster needs in addition is taken away again."""

pytestmark = [pytest.mark.clickhouse, pytest.mark.timeout(600)]


def _statements(database: str, user: str = "audit") -> list[list[str]]:
    """Return the statements of each block of SQL, for a database and a login of this test, and for these replicas."""
    blocks = [block.text for block in code_blocks(DOCUMENT) if block.language == "sql"]
    return [[_here(one, database, user) for one in block.split(";") if one.strip()] for block in blocks]


def _here(statement: str, database: str, user: str) -> str:
    text = statement.strip().replace("usageaudit", database).replace("clickhouse-3", "r3")
    return re.sub(r"\b(TO|FROM) audit\b", rf"\1 {user}", text)


def test_operators_set_up_replicas_remove_one_and_add_one(cluster: Cluster, tmp_path: Path) -> None:
    """From an empty cluster: the database, the tables, the grants, a look at the replicas, one removed, one added."""
    database, user = f"test_{uuid.uuid4().hex[:12]}", f"audit_{uuid.uuid4().hex[:12]}"
    create, grants, status, same, remove, again = _statements(database, user)
    first, second, third = cluster.replicas
    _run(first, create)
    try:
        _migrate_by_command(cluster, database, tmp_path)
        _grant(cluster, [*(_here(one, database, user) for one in ON_ONE_SERVER), *grants], user)
        partition = new_partition()
        store = open_store(cluster.url(database).replace("default@", f"{user}:secret@"))
        ledger = Ledger(store)
        take_over(ledger, partition)
        assert ledger.accepted({key(0)}) == {key(0)}
        ledger.keep_rejected(partition, [(1, b"{", (), ())])
        ledger.add_offset_gap(partition, 1, 2)
        assert store.query("SELECT count() FROM usage_events").rows == [(len(OFFSETS),)]
        assert migrate(store) == ()
        (seen,) = _run(second, status)
        assert seen[1:4] == (3, 3, 0)
        _await_same(first, same)
        with _down(third):
            _await_removed(first, remove)
            assert ledger.fence(partition, "without it") == 2
        _run(third, again)
        store.close()
        _migrate_by_command(cluster, database, tmp_path)
        _await_same(first, same)
        rows = [rows_of(replica, database, f"stream = '{partition.stream}'") for replica in cluster.replicas]
        assert rows == [(len(OFFSETS),) * 3] * 3
    finally:
        for replica in cluster.replicas:
            replica.execute(f"DROP DATABASE IF EXISTS {database} SYNC")
            replica.execute(f"DROP USER IF EXISTS {user}")


@contextmanager
def _down(replica: Replica) -> Iterator[None]:
    """Have a replica not run while the block does."""
    replica.kill()
    try:
        yield
    finally:
        replica.start()


def _await_removed(replica: Replica, statements: list[str]) -> None:
    """Remove a replica that does not run, as soon as Keeper has missed it."""
    give_up = time.monotonic() + DEADLINE_S
    while True:
        try:
            _run(replica, statements)
        except ServerException as error:
            if "it's active" not in str(error) or time.monotonic() > give_up:
                raise
        else:
            return


def _run(replica: Replica, statements: list[str]) -> list[tuple[object, ...]]:
    """Run the statements of a block on a replica, and return the rows of the last."""
    rows: list[tuple[object, ...]] = []
    for statement in statements:
        rows = replica.execute(statement)
    return rows


def _migrate_by_command(cluster: Cluster, database: str, folder: Path) -> None:
    """Type what the document types first."""
    (typed,) = (block for block in code_blocks(DOCUMENT) if block.language == "")
    export, *commands = typed.lines
    assert re.fullmatch(
        r"export USAGEAUDIT_STORE='clickhouse://audit:password@(clickhouse-\d:9000,?)+/.*=audit'", export
    )
    environment = {**os.environ, "USAGEAUDIT_STORE": cluster.url(database), "PATH": f"{BIN}:{os.environ['PATH']}"}
    for command in commands:
        done = subprocess.run(command.split(), cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if "migrate" in command:
            assert done.returncode == 0, done.stderr
        else:
            assert '"migrations","status":"ok"' in done.stdout, done.stdout + done.stderr


def _grant(cluster: Cluster, grants: list[str], user: str) -> None:
    for replica in cluster.replicas:
        replica.execute(f"CREATE USER {user} IDENTIFIED BY 'secret'")
        for grant in grants:
            replica.execute(grant)


def _await_same(replica: Replica, statements: list[str]) -> None:
    """Wait until every replica has the same rows."""
    give_up = time.monotonic() + DEADLINE_S
    while True:
        rows = _run(replica, statements)
        if len(rows) == 3 and len({tuple(row[2:]) for row in rows}) == 1:
            return
        assert time.monotonic() < give_up, rows


def test_a_replica_that_lags_is_passed_over(connect: Connect, cluster: Cluster, replicated_database: str) -> None:
    """A view asked of it is answered by another, and so is who connects anew; its own ledger is behind."""
    lagging, partition = cluster.replicas[2], new_partition()
    store, asked = connect(cluster.replicas[0]), connect(lagging)
    ledger = Ledger(store)
    epoch = ledger.fence(partition, "owner")
    asked.execute("SELECT 1")
    lagging.execute(f"SYSTEM STOP FETCHES {replicated_database}.ledger")
    try:
        ledger.record(ledger_block(OFFSETS), partition, epoch, 1, bundle=BUNDLE_HASH)
        of_this = "WHERE stream = {s:String}"
        setting = "SETTINGS max_replica_delay_for_distributed_queries = 1"
        values, give_up = {"s": partition.stream}, time.monotonic() + DEADLINE_S
        through_view = f"SELECT count() FROM stream_records {of_this} {setting}"
        while asked.execute(through_view, values).rows != [(len(OFFSETS),)]:
            assert time.monotonic() < give_up
        assert asked.execute(f"SELECT count() FROM ledger {of_this}", values).rows == [(0,)]
        ((answering,),) = connect(lagging).execute("SELECT getMacro('replica')").rows
        assert answering != lagging.name
    finally:
        lagging.execute(f"SYSTEM START FETCHES {replicated_database}.ledger")


def test_a_replica_without_tables_is_passed_over(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """Where a replica's database is new the consumer goes on with the others, whether or not it may create tables."""
    user = f"audit_{uuid.uuid4().hex[:12]}"
    first, second, third = cluster.replicas
    with cluster.database() as database:
        owner = open_store(cluster.url(database))
        migrate(owner)
        owner.close()
        grants = [_here(one, database, user) for one in ON_ONE_SERVER]
        _grant(cluster, [*grants, *_statements(database, user)[1]], user)
        third.execute(f"DROP DATABASE {database} SYNC")
        third.execute(f"CREATE DATABASE {database}")
        store = open_store(cluster.url(database, third).replace("default@", f"{user}:secret@"))
        assert migrate(store) == ()
        assert "this user may not create them" in caplog.text
        partition, ledger = new_partition(), Ledger(store)
        take_over(ledger, partition)
        assert ledger.end(partition) == len(OFFSETS)
        store.close()
        for replica in (first, second):
            assert rows_of(replica, database, f"stream = '{partition.stream}'") == (len(OFFSETS),) * 3
        for replica in cluster.replicas:
            replica.execute(f"DROP USER {user}")


def test_migrate_names_a_cluster_that_is_not_there(clickhouse: ClickHouse) -> None:
    """A cluster that the server does not know is named, and those that it knows."""
    store = open_store(f"{clickhouse.url}?cluster=nowhere")
    with pytest.raises(ConfigurationError, match="knows no cluster nowhere: define it in <remote_servers>"):
        migrate(store)
    store.close()


def test_migrate_says_what_a_servers_configuration_lacks(tmp_path: Path) -> None:
    """Macros, one shard, keeper_map_path_prefix: the error says what to write, or what is not supported."""
    bare = Cluster(tmp_path, 1, keeper_map=False)
    (server,) = bare.replicas
    without_keeper_map = server.configuration
    shard = f"<shard><replica><host>127.0.0.1</host><port>{server.port}</port></replica></shard>"
    without_macros = re.sub(r"<macros>.*?</macros>", "", without_keeper_map, flags=re.DOTALL)
    server.configuration = without_macros.replace("<audit>", f"<two>{shard}{shard}</two><audit>")
    with bare, bare.database() as database:
        _refuses_to_migrate(bare.url(database).replace("=audit", "=two"), "two has 2 shards")
        _refuses_to_migrate(bare.url(database), "has no macro replica and no macro shard: set <macros>")
        server.kill()
        server.configuration = without_keeper_map
        server.start()
        _refuses_to_migrate(bare.url(database), "no <keeper_map_path_prefix> in its configuration")


def _refuses_to_migrate(url: str, why: str) -> None:
    store = open_store(url)
    with pytest.raises(ConfigurationError, match=why):
        migrate(store)
    store.close()


def test_tables_of_a_cluster_and_of_one_server_are_not_taken_for_each_other(
    cluster: Cluster, replicated_database: str, clickhouse_database: str, clickhouse: ClickHouse
) -> None:
    """A URL with one server is refused for replicated tables, and one with a cluster for those of one server."""
    store = open_store(f"clickhouse://default@127.0.0.1:{cluster.replicas[0].port}/{replicated_database}")
    with pytest.raises(ConfigurationError, match="tables are replicated and its URL names one server"):
        migrate(store)
    store.close()
    single = open_store(clickhouse_database)
    migrate(single)
    single.close()
    store = open_store(f"{clickhouse_database}?cluster=audit")
    with pytest.raises(ConfigurationError, match="tables are those of a single server"):
        migrate(store)
    store.close()


def test_tables_of_one_server_are_not_copied_to_the_others(cluster: Cluster) -> None:
    """Adding a cluster to the URL of a store of one server is refused before anything is created."""
    first, second, third = cluster.replicas
    with cluster.database() as database:
        single = open_store(f"clickhouse://default@127.0.0.1:{first.port}/{database}")
        migrate(single)
        single.close()
        for asked_first in (first, second):
            store = open_store(cluster.url(database, asked_first))
            with pytest.raises(ConfigurationError, match="tables are those of a single server"):
                migrate(store)
            store.close()
        tables = f"SELECT count() FROM system.tables WHERE database = '{database}'"
        assert [replica.execute(tables) for replica in (second, third)] == [[(0,)], [(0,)]]
