"""The topic of alerts, on a real broker."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from tests.leftovers import leftovers_collected
from tests.unit.alerts.targets.alerts import SAMPLE, notification
from usageaudit.alerts.config.secrets import Plain
from usageaudit.alerts.config.settings import KafkaSettings, Network
from usageaudit.alerts.targets.opening import open_target
from usageaudit.alerts.targets.port import DeliveryFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.kafka import Kafka
    from usageaudit.alerts.targets.port import Target


@pytest.fixture
def opened() -> Iterator[Callable[..., Target]]:
    """Yield a function that opens the target of a URL, to be closed after the test."""
    targets: list[Target] = []
    with leftovers_collected():
        yield from _opened(targets)


def _opened(targets: list[Target]) -> Iterator[Callable[..., Target]]:

    def opened(url: str, seconds: float = 10.0) -> Target:
        targets.append(open_target(KafkaSettings("topic", Plain(url), seconds), Network()))
        return targets[-1]

    yield opened
    for target in targets:
        target.close()


@pytest.fixture
def alerts_topic(kafka: Kafka) -> str:
    """Return the name of a new topic with one partition."""
    name = f"usage-alerts-{uuid.uuid4().hex[:12]}"
    kafka.create_topic(name)
    return name


def _records(kafka: Kafka, topic: str) -> list[Any]:
    consumer: Any = KafkaConsumer(bootstrap_servers=kafka.bootstrap, enable_auto_commit=False)
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    found: list[Any] = []
    end = consumer.end_offsets([partition])[partition]
    until = time.monotonic() + 30
    while len(found) < end and time.monotonic() < until:
        found += consumer.poll(timeout_ms=500).get(partition, [])
    consumer.close()
    return found


def test_alerts_arrive_on_the_topic(kafka: Kafka, alerts_topic: str, opened: Callable[..., Target]) -> None:
    """Notifications are records of the topic in their order, keyed by the alert, a repeat with the same id."""
    target = opened(f"{kafka.url}?topic={alerts_topic}")
    for one in (notification(), notification(), notification("resolved", delivery_id="d2" * 16)):
        assert alerts_topic in target.deliver(one).said
    found = _records(kafka, alerts_topic)
    assert [record.key for record in found] == [SAMPLE.alert_id.encode()] * 3
    assert [dict(record.headers)["webhook-id"] for record in found] == [b"d1" * 16, b"d1" * 16, b"d2" * 16]
    types = [json.loads(record.value)["type"] for record in found]
    assert types == ["io.usageaudit.alert.opened"] * 2 + ["io.usageaudit.alert.resolved"]


def test_a_broker_that_is_down_is_tried_again(opened: Callable[..., Target]) -> None:
    """Where no broker answers, the delivery fails within its time, and is tried again."""
    began = time.monotonic()
    with pytest.raises(DeliveryFailed, match=r"127\.0\.0\.1:1") as failed:
        opened("kafka://127.0.0.1:1?topic=usage-alerts", 1.0).deliver(notification())
    assert failed.value.again
    assert time.monotonic() - began < 10


def test_a_topic_that_is_not_there_is_tried_again(
    kafka: Kafka, alerts_topic: str, opened: Callable[..., Target]
) -> None:
    """A missing topic is said, and delivered to once somebody has created it, by the same target."""
    target = opened(f"{kafka.url}?topic={alerts_topic}-later", 2.0)
    with pytest.raises(DeliveryFailed, match="later") as failed:
        target.deliver(notification())
    assert failed.value.again
    kafka.create_topic(f"{alerts_topic}-later")
    target.deliver(notification())
    assert len(_records(kafka, f"{alerts_topic}-later")) == 1


@pytest.mark.parametrize("url", ["kafka://127.0.0.1:9092", "kafka://127.0.0.1:9092?topic=usage-events", "embedded:./x"])
def test_alerts_do_not_go_to_the_topic_of_usage_events(url: str, opened: Callable[..., Target]) -> None:
    """The topic that usage events are read from would reject them, so another must be named."""
    with pytest.raises(DeliveryFailed, match="topic=NAME"):
        opened(url).deliver(notification())
