"""The logins that deploy/kafka makes, on a real broker: each does its part through the product, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
)
from kafka.structs import TopicPartition

from tests.deploy.deployed import script, usageaudit
from tests.strategies import envelope
from usageaudit.stream_url import KafkaStreamAddress, parse_stream_url
from usageaudit.streams.kafka_topics import KafkaTopics, TopicPlan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.deploy.deployed import DeployedClickHouse, DeployedKafka

TOPIC = "usage-events"
PARTITION = TopicPartition(TOPIC, 0)
QUICK: dict[str, Any] = {"request_timeout_ms": 4_000, "bootstrap_timeout_ms": 4_000}
DENIED = (TopicAuthorizationFailedError, GroupAuthorizationFailedError, ClusterAuthorizationFailedError)
EVENT = {
    "operation": "chat",
    "model": {"provider": "openai", "name": "gpt-4o"},
    "actor": {"id": "u-1"},
    "application": {"name": "claims"},
}


def _settings(url: str) -> dict[str, Any]:
    address = parse_stream_url(url)
    assert isinstance(address, KafkaStreamAddress)
    return {**address.client_settings(), "request_timeout_ms": 10_000}


def _read(url: str) -> None:
    consumer = KafkaConsumer(**_settings(url), group_id=None, auto_offset_reset="earliest")
    try:
        consumer.assign([PARTITION])
        consumer.poll(timeout_ms=5_000)
        consumer.end_offsets([PARTITION])
    finally:
        consumer.close()


def _write(url: str) -> None:
    producer = KafkaProducer(**_settings(url), enable_idempotence=False, acks=1, max_block_ms=10_000)
    try:
        producer.send(TOPIC, b"x").get(timeout=10)
    finally:
        producer.close(timeout=1)


def _commit(group: str) -> Callable[[str], None]:
    def commit(url: str) -> None:
        consumer = KafkaConsumer(**_settings(url), group_id=group, enable_auto_commit=False)
        try:
            consumer.assign([PARTITION])
            consumer.committed(PARTITION)
        finally:
            consumer.close(autocommit=False)

    return commit


def _as_admin(what: Callable[[Any], Any]) -> Callable[[str], None]:
    def act(url: str) -> None:
        admin = KafkaAdminClient(**_settings(url))
        try:
            what(admin)
        finally:
            admin.close()

    return act


READ, WRITE = pytest.param(_read, id="read"), pytest.param(_write, id="write")
OTHER_GROUP = pytest.param(_commit("another"), id="another group")
CREATE = pytest.param(
    _as_admin(lambda admin: admin.create_topics({"other": {"num_partitions": 1, "replication_factor": 1}})),
    id="create a topic",
)
DELETE = pytest.param(_as_admin(lambda admin: admin.delete_topics([TOPIC])), id="delete the topic")
FORBIDDEN = [
    ("publisher", READ),
    ("publisher", OTHER_GROUP),
    ("publisher", CREATE),
    ("publisher", DELETE),
    ("consumer", WRITE),
    ("consumer", OTHER_GROUP),
    ("consumer", CREATE),
    ("operator", CREATE),
    ("operator", DELETE),
]


@pytest.mark.parametrize(
    ("login", "act"), [pytest.param(login, *act.values, id=f"{login}: {act.id}") for login, act in FORBIDDEN]
)
def test_a_login_can_do_nothing_else(broker: DeployedKafka, login: str, act: Callable[[str], None]) -> None:
    """What is none of a login's is refused for want of a right."""
    with pytest.raises(DENIED):
        act(broker.login(login))


@pytest.mark.parametrize(("login", "act"), [("operator", _read), ("operator", _write), ("consumer", _read)])
def test_the_acts_are_refused_for_the_login_alone(
    broker: DeployedKafka, login: str, act: Callable[[str], None]
) -> None:
    """The same acts succeed for a login that may: reading, writing."""
    act(broker.login(login))


def test_nobody_comes_in_without_a_login(broker: DeployedKafka) -> None:
    """A client without a login gets no answer, and one with a wrong password is refused."""
    with pytest.raises(KafkaError):
        KafkaAdminClient(bootstrap_servers=broker.bootstrap, **QUICK)
    settings = {**_settings(broker.login("consumer")), "sasl_plain_password": "wrong", **QUICK}
    with pytest.raises(KafkaError):
        KafkaAdminClient(**settings)


def test_events_go_from_publisher_to_record(broker: DeployedKafka, store: DeployedClickHouse, tmp_path: Path) -> None:
    """The product publishes, consumes, verifies and publishes again, each part with the login that is its own."""
    lines = [json.dumps(envelope(EVENT, id=f"e-{number}")) for number in range(20)]
    (tmp_path / "events").write_text("\n".join([*lines, "{}"]) + "\n", encoding="utf-8")
    published = usageaudit("publish", "--raw", str(tmp_path / "events"), "--stream", broker.login("publisher"))
    assert json.loads(published)["acknowledged"] == 21
    ingest, operate = store.login("ingest"), store.login("operate")
    counted = usageaudit("consume", "--until-caught-up", "--stream", broker.login("consumer"), "--store", ingest)
    counts = json.loads(counted)
    assert (counts["accepted"], counts["duplicates"]) == (20, 0)
    assert counts["consumed"] >= 21  # what other tests wrote is refused
    operator = broker.login("operator")
    rows = [json.loads(line) for line in usageaudit("verify", "--stream", operator, "--store", operate).splitlines()]
    assert sum(row["consumed"] for row in rows) == counts["consumed"]
    doctor = usageaudit("doctor", "--stream", operator, "--store", operate)
    assert {json.loads(line)["check"]: json.loads(line)["status"] for line in doctor.splitlines()}["stream"] == "ok"
    usageaudit("rejects", "replay", "--stream", operator, "--store", operate, expect=1)


def test_the_topic_is_set_up_as_the_command_does_it(broker: DeployedKafka) -> None:
    """The topic that init.sh makes has every setting that `usageaudit topic create` gives."""
    address = parse_stream_url(broker.login("operator"))
    assert isinstance(address, KafkaStreamAddress)
    topics = KafkaTopics(address)
    try:
        found = topics.state().settings
    finally:
        topics.close()
    wanted = TopicPlan(replication=1).settings
    assert {name: found.get(name) for name in wanted} == wanted


def test_what_is_there_stays_when_the_scripts_run_again(broker: DeployedKafka) -> None:
    """Secrets, logins and rights are the same after another run of secrets.sh and init.sh."""
    before = {file.name: file.read_text() for file in broker.secrets.iterdir()}
    script("secrets.sh", str(broker.secrets))
    assert {file.name: file.read_text() for file in broker.secrets.iterdir()} == before
    broker.init()
    _read(broker.login("consumer"))
