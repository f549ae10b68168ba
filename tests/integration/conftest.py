"""The cluster of three replicas, started when the first test asks for it, once in a run."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.conftest import skip
from tests.servers.cluster import Cluster
from tests.servers.packages import UnavailableError
from usageaudit.stores.address import open_store
from usageaudit.stores.migrate import migrate
from usageaudit.stores.port import Replicated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.replicated import Connect
    from tests.servers.cluster import Replica


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Yield three ClickHouse 25.8 servers, shared by a file: leave them running, use databases of your own."""
    found = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        found.start()
    except UnavailableError as error:
        skip(str(error))
    try:
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="module")
def replicated_database(cluster: Cluster) -> str:
    """Return the name of a database with every table and view on each replica: use streams of your own."""
    for replica in cluster.replicas:
        replica.execute("CREATE DATABASE usageaudit")
    store = open_store(cluster.url("usageaudit"))
    migrate(store)
    store.close()
    return "usageaudit"


@pytest.fixture
def connect(cluster: Cluster, replicated_database: str) -> Iterator[Connect]:
    """Yield a function that opens one more store, which speaks to the replica that it is given first."""
    with ExitStack() as opened:

        def open_another(*first: Replica) -> Replicated:
            store = open_store(cluster.url(replicated_database, *first))
            assert isinstance(store, Replicated)
            opened.callback(store.close)
            return store

        yield open_another
