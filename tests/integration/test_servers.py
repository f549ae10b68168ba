"""The servers that other tests rely on keep what they acknowledged, and never outlive the tests."""

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clickhouse_driver import Client
from clickhouse_driver.errors import ServerException
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaTimeoutError
from kafka.structs import TopicPartition

from tests.servers.clickhouse import ClickHouse, Version
from tests.servers.kafka import Kafka
from tests.servers.packages import Package, UnavailableError
from tests.servers.process import ServerError

ROOT = Path(__file__).parents[2]
AUTHENTICATION_FAILED = 516  # ErrorCodes.cpp of ClickHouse
DEADLINE_S = 30

# Starts one process without protection and one server, and says their ids.
START_AND_WAIT = """
import signal, subprocess, sys
from pathlib import Path
from tests.servers.clickhouse import ClickHouse
from tests.servers.kafka import Kafka
unprotected = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL)
server = {"Kafka": Kafka, "ClickHouse": ClickHouse}[sys.argv[1]](Path(sys.argv[2]))
server.start()
print(unprotected.pid, server.pid, flush=True)
signal.pause()
"""


def test_kafka_keeps_an_acknowledged_record_through_kill_9(start_kafka: Callable[..., Kafka]) -> None:
    """A record that all replicas acknowledged is there after the broker was killed, at the same address and offset."""
    partition = TopicPartition("acknowledged", 0)
    broker = start_kafka()
    broker.create_topic(partition.topic)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, acks="all")
    acknowledged = producer.send(partition.topic, b"kept").get(timeout=DEADLINE_S)
    producer.close()
    killed, address = broker.pid, broker.bootstrap
    broker.kill()
    broker.start()
    assert (broker.pid != killed, broker.bootstrap) == (True, address)
    consumer = KafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest")
    consumer.assign([partition])
    record = next(iter(consumer))
    consumer.close()
    assert (record.offset, record.value) == (acknowledged.offset, b"kept")


@pytest.mark.parametrize("version", ["25.8", "26.7"])
def test_clickhouse_keeps_rows_through_kill_9(start_clickhouse: Callable[..., ClickHouse], version: Version) -> None:
    """Rows whose insert was answered are there after the server was killed, at the same address."""
    server = start_clickhouse(version)
    assert server.execute("SELECT version()")[0][0].startswith(version)
    server.execute("CREATE TABLE kept (id UInt64) ENGINE = MergeTree ORDER BY id")
    server.execute("INSERT INTO kept SELECT number FROM numbers(1000)")
    killed, address = server.pid, server.url
    server.kill()
    server.start()
    assert (server.pid != killed, server.url) == (True, address)
    assert server.execute("SELECT count(), sum(id) FROM kept") == [(1000, 499_500)]


def test_clickhouse_answers_a_wrong_login_with_its_own_code(clickhouse: ClickHouse) -> None:
    """The server refuses a wrong password by the code that clients tell it from an outage by, and goes on."""
    with (
        Client(host="127.0.0.1", port=clickhouse.port, user="default", password="wrong") as client,
        pytest.raises(ServerException) as refused,
    ):
        client.execute("SELECT 1")
    assert refused.value.code == AUTHENTICATION_FAILED
    assert clickhouse.execute("SELECT 1") == [(1,)]


def test_a_paused_server_answers_again_once_resumed(start_clickhouse: Callable[..., ClickHouse]) -> None:
    """A paused server keeps a connection open and is silent, and answers the query when it is resumed."""
    server = start_clickhouse()
    answers: list[object] = []
    with Client(host="127.0.0.1", port=server.port) as client:
        client.execute("SELECT 1")
        server.pause()
        query = threading.Thread(target=lambda: answers.append(client.execute("SELECT 2")))
        query.start()
        query.join(timeout=0.5)
        assert query.is_alive()
        server.resume()
        query.join(timeout=DEADLINE_S)
    assert answers == [[(2,)]]


def test_a_paused_server_can_be_stopped(start_clickhouse: Callable[..., ClickHouse]) -> None:
    """Stopping ends a server that is paused, in order and not by force, and it can be started again."""
    server = start_clickhouse()
    server.pause()
    server.stop(timeout_s=DEADLINE_S)
    with pytest.raises(ServerError, match="is not running"):
        _ = server.pid
    server.start()
    assert server.execute("SELECT 1") == [(1,)]


def test_a_server_that_does_not_start_shows_its_log(start_clickhouse: Callable[..., ClickHouse]) -> None:
    """The error of a failed start ends with what the server printed last."""
    server = start_clickhouse()
    server.stop()
    (server.data_dir / "config.d").mkdir()
    (server.data_dir / "config.d" / "broken.xml").write_text("<clickhouse><unfinished>")
    with pytest.raises(ServerError, match=r"broken\.xml"):
        server.start()


def test_a_broker_property_is_overridden_for_one_instance(start_kafka: Callable[..., Kafka]) -> None:
    """A property given for one broker wins over ours: with another number of partitions, a topic has that many."""
    broker = start_kafka({"num.partitions": "7", "auto.create.topics.enable": "true"})
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    try:
        assert len(producer.partitions_for("created-on-demand")) == 7
    finally:
        producer.close()


def test_a_broker_lets_in_only_users_that_log_in(start_kafka: Callable[..., Kafka]) -> None:
    """The listener with logins takes a user's own password and refuses another."""
    broker = start_kafka(users={"service": "right"})
    login: dict[str, Any] = {
        "bootstrap_servers": broker.sasl_bootstrap,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": "service",
    }
    KafkaAdminClient(**login, sasl_plain_password="right").close()
    wrong: dict[str, Any] = {**login, "sasl_plain_password": "wrong", "bootstrap_timeout_ms": 2_000}
    with pytest.raises(KafkaTimeoutError):  # the client tries again until then
        KafkaAdminClient(**wrong)


def test_a_topic_is_ready_with_its_partitions(kafka: Kafka, topic: str) -> None:
    """A topic of the fixture takes a record on each of four partitions at once."""
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all")
    sent = [producer.send(topic, b"", partition=number) for number in range(4)]
    assert [future.get(timeout=DEADLINE_S).offset for future in sent] == [0, 0, 0, 0]
    producer.close()


@pytest.mark.parametrize("kind", ["Kafka", "ClickHouse"])
@pytest.mark.usefixtures("kafka", "clickhouse")
def test_a_server_ends_with_a_killed_test_run(tmp_path: Path, kind: str) -> None:
    """A server whose test run is killed is gone too, while a process without this protection lives on."""
    if sys.platform != "linux":
        pytest.skip("there is no parent-death signal on this system")
    command = [sys.executable, "-c", START_AND_WAIT, kind, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        unprotected, server = (os.pidfd_open(int(pid)) for pid in run.stdout.readline().split())
        try:
            assert not _ended(server, 0)
            run.kill()
            assert _ended(server, DEADLINE_S)
            assert not _ended(unprotected, 0)
        finally:
            signal.pidfd_send_signal(unprotected, signal.SIGKILL)
            os.close(unprotected)
            os.close(server)


def _ended(pidfd: int, timeout_s: float) -> bool:
    """Wait for the end of a process: pidfd_open(2) says that its descriptor is readable then."""
    return bool(select.select([pidfd], [], [], timeout_s)[0])


@pytest.mark.parametrize(("ci", "outcome"), [("false", "1 skipped"), ("true", "1 error")])
def test_what_a_machine_lacks_is_said_and_fails_only_in_ci(tmp_path: Path, ci: str, outcome: str) -> None:
    """Without Java the tests of Kafka are skipped, with CI=true they fail, and both say why, before they run too."""
    environment = {"PATH": str(tmp_path), "USAGEAUDIT_TEST_CACHE": str(tmp_path), "CI": ci}
    test = f"{__file__}::{test_a_topic_is_ready_with_its_partitions.__name__}"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", test]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    reason = "kafka runs on Java 17 or later, and neither JAVA_HOME nor the PATH has it"
    assert outcome in run.stdout
    assert f"lacking on this machine: {reason}" in run.stdout
    assert run.stdout.count(reason) > 1


def test_an_interrupted_download_leaves_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that fails half-way is not taken for the package, and the next one starts afresh."""
    monkeypatch.setenv("USAGEAUDIT_TEST_CACHE", str(tmp_path))
    complete = False

    def fetch(folder: Path) -> None:
        (folder / "first").touch()
        if not complete:
            raise UnavailableError("the connection broke")
        (folder / "second").touch()

    package = Package("example", "1", sys.executable, fetch)
    with pytest.raises(UnavailableError, match="the connection broke"):
        package.install()
    assert not package.path.exists()
    complete = True
    assert {file.name for file in package.install().iterdir()} == {"first", "second"}


def test_runs_beside_each_other_download_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several runs that want the same package at the same time, one downloads it and all get it."""
    monkeypatch.setenv("USAGEAUDIT_TEST_CACHE", str(tmp_path))
    everybody = threading.Barrier(4)
    downloads: list[Path] = []
    installed: list[Path] = []
    package = Package("example", "1", sys.executable, downloads.append)

    def install() -> None:
        everybody.wait(DEADLINE_S)
        installed.append(package.install())

    runs = [threading.Thread(target=install) for _ in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(DEADLINE_S)
    assert (len(downloads), installed) == (1, [tmp_path / "example-1"] * 4)
