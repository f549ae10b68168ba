"""ClickHouse 25.8 servers, replicas of one shard, and the ZooKeeper that they agree through."""

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self
from xml.etree import ElementTree as ET

from tests.servers.clickhouse import ClickHouse
from tests.servers.process import free_ports
from tests.servers.zookeeper import ZooKeeper

NAME = "audit"

DOCUMENTED = Path(__file__).parents[2] / "docs" / "replicated.md"
_BLOCK = re.compile(r"^```xml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


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
    """Three replicas, or as many as are asked for, as one context: started on entry, stopped on exit."""

    def __init__(self, data_dir: Path, replicas: int = 3, *, keeper_map: bool = True) -> None:
        self.zookeeper = ZooKeeper(data_dir / "zookeeper")
        self.replicas = [Replica(data_dir / f"r{number}", f"r{number}") for number in range(1, replicas + 1)]
        self.configure(self.replicas, keeper_map=keeper_map)

    def configure(self, members: Sequence[Replica], *, keeper_map: bool = True) -> None:
        """Say to the servers which are members of the cluster, from their next start on."""
        for one in self.replicas:
            one.configuration = self._configuration(one, members, keeper_map=keeper_map)

    def _configuration(self, replica: Replica, members: Sequence[Replica], *, keeper_map: bool) -> str:
        """Return the configuration that operators are given, with the hosts and ports of these servers."""
        (text,) = _BLOCK.findall(DOCUMENTED.read_text(encoding="utf-8"))
        root = ET.fromstring(text)
        _at(root, "macros/replica").text = replica.name
        _at(root, "interserver_http_host").text = "127.0.0.1"
        _at(root, "interserver_http_port").text = str(replica.interserver_port)
        zookeeper, shard = _at(root, "zookeeper"), _at(root, f"remote_servers/{NAME}/shard")
        _replace(zookeeper, "node", [self.zookeeper.port])
        _replace(shard, "replica", [one.port for one in members])
        for name in ("session_timeout_ms", "operation_timeout_ms"):
            # A server that was killed is missed, and missed no longer, within seconds.
            ET.SubElement(zookeeper, name).text = "4000"
        if not keeper_map:
            root.remove(_at(root, "keeper_map_path_prefix"))
        return ET.tostring(root, encoding="unicode")

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
            with ThreadPoolExecutor(len(self.replicas)) as pool:
                list(pool.map(lambda one: one.start(), self.replicas))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End what runs, at once: nobody starts it again."""
        for one in (*self.replicas, self.zookeeper):
            one.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _at(root: ET.Element, path: str) -> ET.Element:
    found = root.find(path)
    if found is None:
        raise ValueError(f"the configuration in {DOCUMENTED} has no {path}")
    return found


def _replace(parent: ET.Element, name: str, ports: Sequence[int]) -> None:
    """Put servers of this machine in the place of those that are documented."""
    for documented in parent.findall(name):
        parent.remove(documented)
    for port in ports:
        server = ET.SubElement(parent, name)
        ET.SubElement(server, "host").text = "127.0.0.1"
        ET.SubElement(server, "port").text = str(port)
