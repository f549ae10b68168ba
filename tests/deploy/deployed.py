"""The servers as deploy/ sets them up: its configuration, its scripts and its secrets, with other ports and folders."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clickhouse_driver import Client
from clickhouse_driver.errors import Error

from tests.deploy.programs import clickhouse_home, kafka_home
from tests.documents import BIN, ROOT
from tests.servers.clickhouse import ClickHouse
from tests.servers.process import Server, accepts_connections, free_ports

DEPLOY = ROOT / "deploy"
LOGINS = ("migrate", "ingest", "schedule", "alert", "read", "review", "operate")
SCRIPT_SECONDS = 180


class ScriptError(Exception):
    """A script of deploy/ failed; the message has what it printed."""


def script(path: str, *arguments: str, **environment: str) -> str:
    """Run a script of deploy/ and return what it printed.

    Raises:
        ScriptError: its exit code is not 0.
    """
    done = subprocess.run(
        [str(DEPLOY / path), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=SCRIPT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise ScriptError(f"{path} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def usageaudit(*arguments: str, expect: int = 0, environment: Mapping[str, str] | None = None) -> str:
    """Run the command and return what it printed; `expect` is its exit code."""
    done = subprocess.run(
        [BIN / "usageaudit", *arguments],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=SCRIPT_SECONDS,
        check=False,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout


class DeployedClickHouse(ClickHouse):
    """The server with deploy/clickhouse/config.d and users.d; `secrets` is what secrets.sh wrote."""

    def __init__(self, data_dir: Path, secrets: Path) -> None:
        super().__init__(data_dir, "25.8")
        self.secrets = secrets
        self.metrics_port = free_ports(1)[0]

    def apply(self, what: str) -> None:
        """Run deploy/clickhouse/apply.sh."""
        home = self.data_dir / "client"
        binaries = home / "bin" if home.exists() else clickhouse_home(home) / "bin"
        path = f"{binaries}:{os.environ['PATH']}"
        script("clickhouse/apply.sh", what, PATH=path, SECRETS=str(self.secrets), CLICKHOUSE_PORT=str(self.port))

    def login(self, user: str, database: str = "usageaudit") -> str:
        """Return the URL of the store for a login of users.sql: `migrate`, `ingest` and so on."""
        password = (self.secrets / f"clickhouse_{user}").read_text()
        return f"clickhouse://usageaudit_{user}:{password}@127.0.0.1:{self.port}/{database}"

    def client(self, user: str, database: str = "usageaudit", **settings: int) -> Any:
        """Return the driver's client for a login of users.sql, or for `admin`; settings are the server's."""
        password = (self.secrets / f"clickhouse_{user}").read_text()
        name = user if user == "admin" else f"usageaudit_{user}"
        options = {"connect_timeout": 2, "send_receive_timeout": 60}
        return Client("127.0.0.1", self.port, database, name, password, settings=settings, **options)

    def execute(self, query: str, parameters: Mapping[str, object] | None = None) -> Any:
        """Run a query as the user `admin`."""
        with self.client("admin", "default") as client:
            return client.execute(query, parameters)

    def _prepare(self) -> tuple[Sequence[str], Mapping[str, str]]:
        secrets = {"/run/secrets/": f"{self.secrets}/"}
        places = {
            "/var/lib/clickhouse/backups/": f"{self.data_dir}/backups/",
            "<port>9363</port>": f"<port>{self.metrics_port}</port>",
            "<listen_host>0.0.0.0</listen_host>": "<listen_host>127.0.0.1</listen_host>",
        }
        for name, replaced in (("config.d", places), ("users.d", secrets)):
            (self.data_dir / name).mkdir(exist_ok=True)
            text = (DEPLOY / "clickhouse" / name / "usageaudit.xml").read_text(encoding="utf-8")
            (self.data_dir / name / "usageaudit.xml").write_text(_replaced(text, replaced), encoding="utf-8")
        return super()._prepare()

    def _answers(self) -> bool:
        if not accepts_connections(self.port):
            return False
        try:
            return bool(self.execute("SELECT 1") == [(1,)])
        except (Error, EOFError, OSError):
            return False


class DeployedKafka(Server):
    """The broker that deploy/kafka/start.sh starts, with deploy/kafka/server.properties."""

    def __init__(self, data_dir: Path, secrets: Path) -> None:
        super().__init__(data_dir)
        self.secrets = secrets
        self.port, self._host_port, self._controller_port = free_ports(3)

    @property
    def bootstrap(self) -> str:
        """Where clients connect first."""
        return f"127.0.0.1:{self.port}"

    def init(self, **settings: str) -> None:
        """Run deploy/kafka/init.sh; settings are its variables, such as TOPIC."""
        home = str(self.data_dir / "kafka")
        script("kafka/init.sh", KAFKA_HOME=home, BOOTSTRAP=self.bootstrap, SECRETS=str(self.secrets), **settings)

    def login(self, user: str, options: str = "") -> str:
        """Return the URL of the stream for a login of init.sh, as secrets.sh wrote it."""
        url = (self.secrets / f"stream_{user}").read_text().strip()
        return url.replace("@kafka:9092", f"@{self.bootstrap}") + options

    def _prepare(self) -> tuple[Sequence[str], Mapping[str, str]]:
        home = self.data_dir / "kafka"
        if not home.exists():
            kafka_home(home)
        config = self.data_dir / "server.properties"
        places = {
            "0.0.0.0:9092": self.bootstrap,
            "kafka:9092": self.bootstrap,
            "0.0.0.0:9094": f"127.0.0.1:{self._host_port}",
            "127.0.0.1:9094": f"127.0.0.1:{self._host_port}",
            "127.0.0.1:9093": f"127.0.0.1:{self._controller_port}",
            "/run/secrets/": f"{self.secrets}/",
            "/var/lib/kafka/data": str(self.data_dir / "logs"),
        }
        text = (DEPLOY / "kafka" / "server.properties").read_text(encoding="utf-8")
        config.write_text(_replaced(text, places) + "group.initial.rebalance.delay.ms=0\n", encoding="utf-8")
        environment = {"KAFKA_HOME": str(home), "CONFIG": str(config), "SECRETS": str(self.secrets)}
        return [str(DEPLOY / "kafka" / "start.sh")], environment

    def _answers(self) -> bool:
        return accepts_connections(self.port) and accepts_connections(self._host_port)


def _replaced(text: str, places: Mapping[str, str]) -> str:
    for old, new in places.items():
        if old not in text:
            raise ValueError(f"{old} is not in the file any more")
        text = text.replace(old, new)
    return text
