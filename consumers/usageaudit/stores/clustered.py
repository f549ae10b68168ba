"""Migrations on a cluster: what its servers must be set up with, which of them lack tables, and each statement's form.

The migrations are written for one server; `usageaudit.ledger.replication` says what they are on a cluster.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from usageaudit.errors import ConfigurationError, QueryError, StoreUnavailable
from usageaudit.ledger.ddl import TABLES, VIEWS
from usageaudit.ledger.replication import DISTRIBUTED, Place, statements_for
from usageaudit.stores.port import Replicated

if TYPE_CHECKING:
    from usageaudit.stores.port import Store

_NAMES = (*(table.name for table in TABLES), DISTRIBUTED, *(view.name for view in VIEWS))
_FENCE_ENGINE = "SELECT engine FROM system.tables WHERE database = currentDatabase() AND name = 'fence'"
_CREATED = """SELECT name, create_table_query FROM system.tables
WHERE database = currentDatabase() AND has({names:Array(String)}, name)"""
_CREATE = re.compile(r"\ACREATE (TABLE|VIEW)\b")
_MEMBERS = "SELECT count(), uniqExact(shard_num) FROM system.clusters WHERE cluster = {cluster:String}"
_CLUSTERS = "SELECT arraySort(groupUniqArray(cluster)) FROM system.clusters"
_MACROS = "SELECT groupArray(macro), anyIf(substitution, macro = 'replica') FROM system.macros"
_FENCE, _IN_KEEPER = "fence", "KeeperMap"
_WITHOUT_KEEPER_MAP = "keeper_map_path_prefix"


def check_tables(store: Store) -> None:
    """Raise ConfigurationError where the tables are those of a cluster and the store is one server, or the reverse."""
    engines = [str(engine) for (engine,) in store.execute(_FENCE_ENGINE).rows]
    if not engines:
        return
    replicated = engines == [_IN_KEEPER]
    if replicated and not isinstance(store, Replicated):
        raise ConfigurationError(
            "the store's tables are replicated and its URL names one server: list every replica as a host, and add "
            "?cluster=NAME; otherwise what was written through another replica could be written again"
        )
    if isinstance(store, Replicated) and not replicated:
        raise _of_one_server()


def _of_one_server() -> ConfigurationError:
    return ConfigurationError(
        "the store's tables are those of a single server and its URL names a cluster: leave ?cluster= out, or "
        "name another database; tables of one server are not made replicated"
    )


def complete_replicas(store: Replicated) -> None:
    """Give each replica that can be reached the tables and views that another has and it has not.

    Raises:
        ConfigurationError: one has the tables of a single server.
        QueryError: a server refuses, such as for want of a grant.
    """
    found: list[tuple[Store, dict[str, str]]] = []
    for replica in store.replicas:
        try:
            rows = replica.execute(_CREATED, {"names": list(_NAMES)}).rows
        except StoreUnavailable:
            continue
        found.append((replica, {str(name): str(created) for name, created in rows}))
    if any(_FENCE in one and _IN_KEEPER not in one[_FENCE] for _, one in found):
        raise _of_one_server()
    everything = {name: created for _, one in found for name, created in one.items()}
    for replica, one in found if _FENCE in everything else ():
        for name in _NAMES:
            if name in everything and name not in one:
                replica.execute(_CREATE.sub(r"CREATE \1 IF NOT EXISTS", everything[name], count=1))


def check_servers(store: Replicated) -> None:
    """Check that each server can be reached and is configured as replicated tables need it.

    Raises:
        ConfigurationError: a server's configuration lacks something.
        StoreUnavailable: a server can't be reached; what is done ON CLUSTER is done everywhere.
    """
    names: list[str] = []
    for replica in store.replicas:
        _check_cluster(replica, store.cluster)
        macros, name = replica.execute(_MACROS).rows[0]
        if lacking := {"shard", "replica"} - set(macros):
            raise ConfigurationError(
                f"ClickHouse at {replica} has no macro {' and no macro '.join(sorted(lacking))}: set <macros><shard>1"
                "</shard><replica>NAME</replica></macros> in its configuration, with another NAME on each replica"
            )
        names.append(str(name))
    if len(set(names)) < len(names):
        raise ConfigurationError(
            f"the macro replica is {', '.join(names)} on the hosts of the store's URL: list each server once, and give "
            "each a name of its own"
        )


def _check_cluster(replica: Store, cluster: str) -> None:
    members, shards = replica.execute(_MEMBERS, {"cluster": cluster}).rows[0]
    if not members:
        ((known,),) = replica.execute(_CLUSTERS).rows
        raise ConfigurationError(
            f"ClickHouse at {replica} knows no cluster {cluster}: define it in <remote_servers> of its configuration, "
            f"or correct ?cluster= in the store's URL; it knows {', '.join(known) or 'none'}"
        )
    if shards > 1:
        raise ConfigurationError(
            f"the cluster {cluster} has {shards} shards: this version keeps the ledger on one, with any number of "
            "replicas"
        )


def execute(store: Replicated, statement: str) -> None:
    """Do on every server what a statement of a migration does on one."""
    ((database,),) = store.execute("SELECT currentDatabase()").rows
    for clustered in statements_for(statement, Place(store.cluster, str(database))):
        try:
            store.execute(clustered)
        except QueryError as error:
            if _WITHOUT_KEEPER_MAP not in str(error):
                raise
            raise ConfigurationError(
                "a server of the cluster has no <keeper_map_path_prefix> in its configuration, and epochs are kept in "
                "Keeper: set <keeper_map_path_prefix>/clickhouse/keeper_map</keeper_map_path_prefix> on every replica "
                "and start it again"
            ) from error
