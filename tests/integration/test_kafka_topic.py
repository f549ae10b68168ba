"""The topic as operators make it, check it and watch it: `usageaudit topic` and the lines of `doctor`."""

from __future__ import annotations

import json
import shlex
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.structs import OffsetAndMetadata, TopicPartition

from tests.documents import ROOT, Reader, code_blocks
from usageaudit.cli.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers.kafka import Kafka

pytestmark = pytest.mark.kafka
Rows = dict[str, dict[str, Any]]


@pytest.fixture
def admin(kafka: Kafka) -> Iterator[Any]:
    """Yield an administrator of the broker."""
    client = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    yield client
    client.close()


@pytest.fixture
def name() -> str:
    """Return the name of a topic that does not exist."""
    return f"usage-events-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def check(kafka: Kafka, name: str, capsys: pytest.CaptureFixture[str]) -> Callable[[int], Rows]:
    """Return a function that checks the topic and returns the lines by name, expecting an exit code."""

    def check(code: int) -> Rows:
        capsys.readouterr()
        assert run(["topic", "check", "--format", "ndjson", "--stream", f"{kafka.url}?topic={name}"]) == code
        return {row["check"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}

    return check


def test_the_lines_of_the_document_work(kafka: Kafka, name: str, tmp_path: Path) -> None:
    """What docs/kafka.md types creates, checks and shows a topic; with the one broker of this test, one replica."""
    (block,) = code_blocks(ROOT / "docs" / "kafka.md")
    create, check, lag = block.lines
    reader = Reader(tmp_path, {"USAGEAUDIT_STREAM": f"{kafka.url}?topic={name}"})
    assert "has 1 brokers, too few for 3 replicas" in reader.types(f"{create} 2>&1 || test $? = 2")
    created = reader.types(create.replace("--replication 3", "--replication 1"))
    assert {"setting": "retention.ms", "value": str(14 * 24 * 3600 * 1000)} in map(json.loads, created.splitlines())
    assert reader.types(create) == ""
    rows = {row["check"]: row for row in map(json.loads, reader.types(check).splitlines())}
    warned = {name for name, row in rows.items() if row["status"] != "ok"}
    assert warned == {"replication", "min.insync.replicas"}, "one broker has one replica"
    assert len(reader.types(lag).splitlines()) == 12


BAD = {
    "retention.ms": ("3600000", "loses events"),
    "retention.bytes": ("1000000", "before retention.ms"),
    "cleanup.policy": ("compact,delete", "replace one another"),
    "unclean.leader.election.enable": ("true", "acknowledged events are gone"),
    "message.timestamp.type": ("CreateTime", "publishers' clocks"),
    "max.message.bytes": ("1000", "larger events are refused"),
}


def test_every_bad_setting_is_warned_about(kafka: Kafka, name: str, admin: Any, check: Callable[[int], Rows]) -> None:
    """Each setting that can lose events is named with what to do; as `create` sets it, it is found well."""
    url = f"{kafka.url}?topic={name}"
    assert run(["topic", "create", "--replication", "1", "--partitions", "2", "--stream", url]) == 0
    before = check(0)
    assert {before[setting]["status"] for setting in BAD} == {"ok"}
    admin.alter_configs(
        [ConfigResource(ConfigResourceType.TOPIC, name, {key: value for key, (value, _) in BAD.items()})]
    )
    after = check(0)
    for setting, (_, said) in BAD.items():
        assert after[setting]["status"] == "warn", setting
        assert said in after[setting]["todo"]


def test_more_replicas_asked_for_than_there_are_fails(
    name: str, kafka: Kafka, admin: Any, check: Callable[[int], Rows]
) -> None:
    """A topic that takes no event, since it wants more replicas in sync than it has, ends with 1."""
    kafka.create_topic(name, configs={"min.insync.replicas": "2"})
    assert check(1)["min.insync.replicas"]["status"] == "fail"


def test_times_in_the_future_are_seen(name: str, kafka: Kafka, check: Callable[[int], Rows]) -> None:
    """A record whose time is ahead of this machine's clock is told; before any record there is nothing to tell."""
    kafka.create_topic(name)
    assert check(0)["record times"]["found"] == "no record yet"
    producer: Any = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    producer.send(name, b"x", timestamp_ms=round((time.time() + 1800) * 1000)).get(30)
    producer.close()
    found = check(0)["record times"]
    assert found["status"] == "warn"
    assert "some publisher is ahead" in found["todo"]


def test_lag_and_loss_are_counted(name: str, kafka: Kafka, admin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What the group has before it is its lag; what was deleted before it read it is lost, and `doctor` fails."""
    kafka.create_topic(name)
    producer: Any = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    for _ in range(10):
        producer.send(name, b"x")
    producer.close()
    url = f"{kafka.url}?topic={name}&group=group-{name}"
    options = ["--stream", url, "--format", "ndjson"]

    def lag(code: int) -> tuple[int, int]:
        capsys.readouterr()
        assert run(["topic", "lag", *options]) == code
        row = json.loads(capsys.readouterr().out)
        return row["lag"], row["lost"]

    assert lag(0) == (10, 0)
    partition = TopicPartition(name, 0)
    admin.alter_group_offsets(f"group-{name}", {partition: OffsetAndMetadata(4, "", -1)})
    assert lag(0) == (6, 0)
    admin.delete_records({partition: 7})
    assert lag(1) == (3, 3)
    capsys.readouterr()
    assert run(["doctor", *options]) in (1, 3)
    rows = {row["check"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["retention"]["status"] == "fail"
    assert f"offsets 4 to 6 of {name}[0]" in rows["retention"]["found"]


def test_a_file_has_no_topic_to_create(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Creating or checking the topic of an embedded stream is a wrong usage, said in one line."""
    for command in ("create", "check"):
        assert run(["topic", command, "--stream", f"embedded:{shlex.quote(str(tmp_path))}"]) == 2
        assert "its topic needs no creation" in capsys.readouterr().err
