"""Three ClickHouse 25.8 servers, replicas of one shard, and the ZooKeeper that they agree through."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self
from xml.sax.saxutils import escape

from tests.servers.clickhouse import ClickHouse
from tests.servers.process import free_ports
from tests.servers.zookeeper import ZooKeeper

NAME = "audit"
REPLICAS = 3

# The sessions are short so that a server that was killed is missed, and missed no longer, within seconds.
CONFIG = """\
<clickhouse>
  <macros><shard>1</shard><replica>{name}</replica></macros>
  <interserver_http_host>127.0.0.1</interserver_http_host>
  <interserver_http_port>{interserver_port}</interserver_http_port>
  <zookeeper>
    <node><host>127.0.0.1</host><port>{zookeeper_port}</port></node>
    <session_timeout_ms>4000</session_timeout_ms>
    <operation_timeout_ms>4000</operation_timeout_ms>
  </zookeeper>
  <distributed_ddl><path>/clickhouse/task_queue/ddl</path></distributed_ddl>
  {keeper_map}
  <remote_servers>
    <{cluster}>
      <secret>{secret}</secret>
      <shard><internal_replication>true</internal_replication>{replicas}</shard>
    </{cluster}>
  </remote_servers>
</clickhouse>
"""
KEEPER_MAP = "<keeper_map_path_prefix>/clickhouse/keeper_map</keeper_map_path_prefix>"


class Replica(ClickHouse):
    """One of the servers; `name` is its macro `replica`."""

    def __init__(self, data_dir: Path, name: str) -> None:
        super().__init__(data_dir, "25.8")
        self.name = name
        (self.interserver_port,) = free_ports(1)
        self.configuration = ""

    def _prepare(self) -> tuple[Sequence[str], Mapping[str, str]]:
        folder = self.data_dir / "config.d"
        folder.mkdir(exist_ok=True)
        (folder / "replication.xml").write_text(self.configuration, encoding="utf-8")
        return super()._prepare()


class Cluster:
    """The servers as one context: started on entry, stopped on exit."""

    def __init__(self, data_dir: Path, *, keeper_map: bool = True) -> None:
        self.zookeeper = ZooKeeper(data_dir / "zookeeper")
        self.replicas = [Replica(data_dir / f"r{number}", f"r{number}") for number in range(1, REPLICAS + 1)]
        self.configure(self.replicas, keeper_map=keeper_map)

    def configure(self, members: Sequence[Replica], *, keeper_map: bool = True) -> None:
        """Say to the servers which are members of the cluster, from their next start on."""
        listed = "".join(f"<replica><host>127.0.0.1</host><port>{one.port}</port></replica>" for one in members)
        for one in self.replicas:
            one.configuration = CONFIG.format(
                cluster=NAME,
                name=escape(one.name),
                interserver_port=one.interserver_port,
                zookeeper_port=self.zookeeper.port,
                keeper_map=KEEPER_MAP if keeper_map else "",
                secret="between replicas",
                replicas=listed,
            )

    def url(self, database: str, *replicas: Replica, options: str = "") -> str:
        """Return the store's URL over all replicas, those that are named first before the others."""
        ordered = [*replicas, *(one for one in self.replicas if one not in replicas)]
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in ordered)
        return f"clickhouse://default@{hosts}/{database}?cluster={NAME}{options}"

    @contextmanager
    def database(self) -> Iterator[str]:
        """Create a database on every replica, yield its name, and drop it."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        for one in self.replicas:
            one.execute(f"CREATE DATABASE {name}")
        yield name
        for one in self.replicas:
            one.execute(f"DROP DATABASE {name} SYNC")

    def start(self) -> None:
        """Start ZooKeeper, then all replicas at once."""
        try:
            self.zookeeper.start()
            with ThreadPoolExecutor(REPLICAS) as pool:
                list(pool.map(lambda one: one.start(), self.replicas))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop what runs."""
        with ThreadPoolExecutor(REPLICAS) as pool:
            list(pool.map(lambda one: one.stop(), self.replicas))
        self.zookeeper.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
