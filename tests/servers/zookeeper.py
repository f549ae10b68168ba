"""A real ZooKeeper on 127.0.0.1, alone: what replicated tables of ClickHouse agree through. Needs Java 17 or later."""

import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.servers.packages import Package, UnavailableError, run
from tests.servers.process import Server, free_ports

# The two libraries are optional to ZooKeeper's own packaging, and its server does not start without them.
POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>usageaudit.tests</groupId>
  <artifactId>zookeeper</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.zookeeper</groupId>
      <artifactId>zookeeper</artifactId>
      <version>3.9.4</version>
    </dependency>
    <dependency>
      <groupId>io.dropwizard.metrics</groupId>
      <artifactId>metrics-core</artifactId>
      <version>4.1.12.1</version>
    </dependency>
    <dependency>
      <groupId>org.xerial.snappy</groupId>
      <artifactId>snappy-java</artifactId>
      <version>1.1.10.5</version>
    </dependency>
  </dependencies>
</project>
"""

CONFIG = """\
tickTime=500
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=ruok,srvr
clientPortAddress=127.0.0.1
clientPort={port}
dataDir={data}
"""


def _fetch(folder: Path) -> None:
    (folder / "pom.xml").write_text(POM, encoding="utf-8")
    run(["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs", "-DincludeScope=runtime"], folder)


ZOOKEEPER = Package("zookeeper", "3.9.4", "mvn", _fetch)


class ZooKeeper(Server):
    """One server that is its own ensemble."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        (self.port,) = free_ports(1)

    def _prepare(self) -> tuple[Sequence[str], Mapping[str, str]]:
        java = shutil.which("java")
        if java is None:
            raise UnavailableError("ZooKeeper needs java, which is not on the PATH")
        config = self.data_dir / "zoo.cfg"
        config.write_text(CONFIG.format(port=self.port, data=self.data_dir / "data"), encoding="utf-8")
        options = ["-Xmx256m", "-XX:+UseSerialGC", "-cp", str(ZOOKEEPER.install() / "libs" / "*")]
        return [java, *options, "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(config)], {}

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as asked:
                asked.sendall(b"ruok")
                return asked.recv(4) == b"imok"
        except OSError:
            return False


def lacking() -> str | None:
    """Say what this machine lacks for ZooKeeper, or `None`."""
    if shutil.which("java") is None:
        return "java, for ZooKeeper"
    return ZOOKEEPER.lacking()
