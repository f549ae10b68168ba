"""A real ClickHouse on 127.0.0.1: the server of the long-term support release 25.8, or the engine of 26.7."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import escape

from clickhouse_driver import Client
from clickhouse_driver.errors import Error

from tests.servers.packages import CLICKHOUSE_LATEST, CLICKHOUSE_LTS
from tests.servers.process import Server, accepts_connections, free_ports

Version = Literal["25.8", "26.7"]
PACKAGES = {"25.8": CLICKHOUSE_LTS, "26.7": CLICKHOUSE_LATEST}

# In force in both versions.
COMMON = """\
  <timezone>UTC</timezone>
  <max_server_memory_usage>4294967296</max_server_memory_usage>
  <asynchronous_metrics_update_period_s>60</asynchronous_metrics_update_period_s>
  <query_log><database>system</database><table>query_log</table></query_log>
  <part_log><database>system</database><table>part_log</table></part_log>
"""
LOCAL_CONFIG = f"<clickhouse>\n{COMMON}</clickhouse>\n"
# Files that a test puts into config.d/ and users.d/ of the data folder before the start are merged into these two.
CONFIG = f"""\
<clickhouse>
{COMMON}\
  <logger><level>warning</level><console>true</console></logger>
  <listen_host>127.0.0.1</listen_host>
  <tcp_port>{{port}}</tcp_port>
  <http_port>{{http_port}}</http_port>
  <mlock_executable>false</mlock_executable>
  <path>{{data}}/store/</path>
  <tmp_path>{{data}}/tmp/</tmp_path>
  <user_files_path>{{data}}/user_files/</user_files_path>
  <format_schema_path>{{data}}/format_schemas/</format_schema_path>
  <user_directories>
    <users_xml><path>{{data}}/users.xml</path></users_xml>
    <local_directory><path>{{data}}/access/</path></local_directory>
  </user_directories>
</clickhouse>
"""
USERS = """\
<clickhouse>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <users>
    <default>
      <password></password>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
      <access_management>1</access_management>
      <named_collection_control>1</named_collection_control>
    </default>
  </users>
</clickhouse>
"""

# The newest release is packaged without its server, but the local engine listens when it is told to. It does so for as
# long as its last query runs: this one sleeps for thirty years.
LISTEN = (
    "SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP; SELECT sleepEachRow(1) FROM numbers(1000000000) "
    "SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 100000000000"
)


class ClickHouse(Server):
    """A server whose user `default` has no password and may do everything, with `system.query_log` and `part_log`.

    `version` 25.8 is a complete server. 26.7 is the newest engine without access control: it has no other user, and a
    failed login ends it.
    """

    def __init__(self, data_dir: Path, version: Version = "25.8") -> None:
        super().__init__(data_dir)
        self.version = version
        self.port, self.http_port = free_ports(2)

    @property
    def url(self) -> str:
        """The URL of the database `default` over the native protocol: `clickhouse://default@127.0.0.1:PORT/default`."""
        return self.database_url("default")

    def database_url(self, name: str) -> str:
        """Return the same for another database; it need not exist."""
        return f"clickhouse://default@127.0.0.1:{self.port}/{name}"

    def execute(self, query: str, parameters: Mapping[str, object] | None = None) -> Any:
        """Run a query on a connection of its own: a list of tuples, or the number of rows inserted.

        Raises:
            clickhouse_driver.errors.Error: the server refused it, or can't be reached.
        """
        with Client(host="127.0.0.1", port=self.port, connect_timeout=2, send_receive_timeout=60) as client:
            return client.execute(query, parameters)

    def _prepare(self) -> tuple[Sequence[str], Mapping[str, str]]:
        package = PACKAGES[self.version].install()
        main = [sys.executable, "-I", "-S", str(Path(__file__).with_name("clickhouse_main.py"))]
        if self.version == "26.7":
            self._write("config.xml", LOCAL_CONFIG)
            return [*main, "local", str(package / "package" / "libchdb.so"), *self._local_options()], {"TZ": "UTC"}
        self._write("config.xml", CONFIG)
        self._write("users.xml", USERS)
        library = package / "chdb" / "_chdb.abi3.so"
        # Its watchdog would be a second process, whose id is not that of the server.
        return [*main, "server", str(library), str(self.data_dir / "config.xml")], {"CLICKHOUSE_WATCHDOG_ENABLE": "0"}

    def _local_options(self) -> Sequence[str]:
        ports = ["--tcp_port", str(self.port), "--http_port", str(self.http_port), "--listen_host", "127.0.0.1"]
        files = ["--config-file", str(self.data_dir / "config.xml"), "--path", str(self.data_dir / "store")]
        return [*files, *ports, "--query", LISTEN]

    def _write(self, name: str, template: str) -> None:
        text = template.format(data=escape(str(self.data_dir)), port=self.port, http_port=self.http_port)
        (self.data_dir / name).write_text(text, encoding="utf-8")

    def _answers(self) -> bool:
        if not (accepts_connections(self.port) and accepts_connections(self.http_port)):
            return False
        try:
            return bool(self.execute("SELECT 1") == [(1,)])
        except (Error, EOFError, OSError):
            return False


def lacking(version: Version) -> str | None:
    """Say what this machine lacks for this version, or `None`."""
    return PACKAGES[version].lacking()
