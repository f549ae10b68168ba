"""A real Kafka broker that is its own controller (KRaft), on 127.0.0.1. Needs Java 17 or later."""

import os
import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from tests.servers.packages import KAFKA, UnavailableError
from tests.servers.process import Server, ServerError, accepts_connections, free_ports

FORMAT_TIMEOUT_S = 60
REQUEST_TIMEOUT_MS = 5_000

# One broker has one replica of everything. The rest spares tests what only a cluster needs: waiting for more members
# of a group, fifty partitions of committed offsets, and nine seconds after a crash in which the controller takes the
# broker that comes back for a second one with the same id.
PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
    "sasl.enabled.mechanisms": "SCRAM-SHA-256",
    "listener.name.sasl.scram-sha-256.sasl.jaas.config": (
        "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    ),
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
}


class Kafka(Server):
    """A broker with one listener without security, and a second one (SASL_PLAINTEXT, SCRAM-SHA-256) for its users.

    `properties` are added to those of the broker, and win over them: `{"log.retention.ms": "1000"}`. `users` are the
    passwords by name. With the properties `listener.security.protocol.map` and `listener.name.sasl.ssl.*`, the second
    listener speaks TLS, too.
    """

    def __init__(
        self, data_dir: Path, properties: Mapping[str, str] | None = None, users: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(data_dir)
        self.port, self.sasl_port, self._controller_port = free_ports(3)
        self._properties = dict(properties or {})
        self._users = dict(users or {})

    @property
    def bootstrap(self) -> str:
        """Where clients connect first: `127.0.0.1:PORT`."""
        return f"127.0.0.1:{self.port}"

    @property
    def sasl_bootstrap(self) -> str:
        """Where clients that log in connect first: `127.0.0.1:PORT`."""
        return f"127.0.0.1:{self.sasl_port}"

    @property
    def url(self) -> str:
        """The same as the project's own URL of a stream: `kafka://127.0.0.1:PORT`."""
        return f"kafka://{self.bootstrap}"

    def create_topic(self, name: str, partitions: int = 1, configs: Mapping[str, str] | None = None) -> None:
        """Create a topic and wait until each of its partitions has a leader.

        Raises:
            kafka.errors.KafkaError: the broker refused it.
        """
        options = {"num_partitions": partitions, "replication_factor": 1, "configs": dict(configs or {})}
        admin = self._admin()
        try:
            admin.create_topics({name: options}, wait_for_metadata=True)
        finally:
            admin.close()

    def _prepare(self) -> tuple[Sequence[str], Mapping[str, str]]:
        config = self.data_dir / "server.properties"
        java = self._java()
        if not config.exists():
            config.write_text(self._server_properties(), encoding="utf-8")
            options = ["-c", str(config), "-t", _cluster_id()]
            for login in self._scram():
                options += ["--add-scram", login]
            self._format([*java, "kafka.tools.StorageTool", "format", *options])
        return [*java, "kafka.Kafka", str(config)], {}

    def _java(self) -> list[str]:
        """Return the beginning of a command that runs one of Kafka's programs."""
        options = ["-Xmx512m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        return [_java(), *options, "-cp", str(KAFKA.install() / "libs" / "*")]

    def _scram(self) -> Sequence[str]:
        """Return the logins that are written to the disk when it is formatted."""
        return [f"SCRAM-SHA-256=[name={name},password={password}]" for name, password in self._users.items()]

    def _clients(self) -> Mapping[str, str]:
        """Return where each listener for clients listens."""
        return {"PLAINTEXT": self.bootstrap, "SASL": self.sasl_bootstrap}

    def _own_properties(self) -> Mapping[str, str]:
        """Return what a kind of broker sets differently; called once, before its first start."""
        return {}

    def _format(self, command: Sequence[str]) -> None:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FORMAT_TIMEOUT_S, check=False)
        if done.returncode != 0:
            raise ServerError(f"Kafka did not format {self.data_dir}: {done.stdout}{done.stderr}")

    def _server_properties(self) -> str:
        clients = ",".join(f"{name}://{place}" for name, place in self._clients().items())
        own = {
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "listeners": f"{clients},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": clients,
            "log.dirs": str(self.data_dir / "logs"),
        }
        settings = {**PROPERTIES, **own, **self._own_properties(), **self._properties}
        return "".join(f"{name}={value}\n" for name, value in settings.items())

    def _answers(self) -> bool:
        if not accepts_connections(self.port):
            return False
        try:
            admin = self._admin()
        except KafkaError:
            return False
        try:
            return bool(admin.describe_cluster()["brokers"])
        except KafkaError:
            return False
        finally:
            admin.close()

    def _admin(self) -> Any:
        return KafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS)


def lacking() -> str | None:
    """Say what this machine lacks for Kafka, or `None`."""
    if _find_java() is None:
        return "kafka runs on Java 17 or later, and neither JAVA_HOME nor the PATH has it"
    return KAFKA.lacking()


def _find_java() -> str | None:
    home = os.environ.get("JAVA_HOME")
    return shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")


def _java() -> str:
    if (java := _find_java()) is None:
        raise UnavailableError(str(lacking()))
    return java


def _cluster_id() -> str:
    # One that begins with a dash would be taken for an option of the tool that formats the disk.
    return urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
