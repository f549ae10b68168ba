"""A topic of alerts on Kafka: each notification is a CloudEvent, keyed by its alert, with the data of a webhook.

Sources: CloudEvents 1.0.2, its JSON format and its Kafka protocol binding (structured mode). The headers `ce_id` and
`webhook-id` are the delivery's id, by which a reader drops a repeat.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from kafka import KafkaProducer, errors

from usageaudit.alerts.targets.port import Answer, DeliveryFailed
from usageaudit.alerts.targets.text import evidence_text, fit, link
from usageaudit.alerts.targets.webhook_body import TYPE, evidence_of
from usageaudit.alerts.web.deadline import Deadline
from usageaudit.cloudevents import CONTENT_TYPE, encode_structured
from usageaudit.errors import ConfigurationError
from usageaudit.events.times import parse_time, to_micros
from usageaudit.kafka_diagnosis import listening, require_usable_files, unreachable
from usageaudit.stream_url import DEFAULT_TOPIC, KafkaStreamAddress, parse_stream_url

if TYPE_CHECKING:
    from usageaudit.alerts.config.settings import KafkaSettings
    from usageaudit.alerts.model import Alert, Notification

SOURCE = "usageaudit/alerts"
MOST_TEXT = 16_384
"""So that a record stays below the million bytes that a broker takes by default."""
SETTINGS: dict[str, Any] = {
    "client_id": "usageaudit-alerts",
    "acks": "all",
    "enable_idempotence": True,
    "compression_type": "lz4",
    "linger_ms": 0,
    "reconnect_backoff_max_ms": 1_000,
    "allow_auto_create_topics": False,
    "metrics_enabled": False,
}


class Record(NamedTuple):
    """A record of the topic."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def render(notification: Notification, now: datetime) -> Record:
    """Return the record; `now` is the event's time where the alert has none that can be read."""
    delivery = fit(notification.delivery_id, MOST_TEXT)
    value = encode_structured(
        event_id=delivery,
        source=SOURCE,
        time=_time(notification, now),
        data=orjson.dumps(_data(notification.alert)),
        event_type=f"{TYPE}.{notification.occasion}",
    )
    ids = [("ce_id", delivery.encode()), ("webhook-id", delivery.encode())]
    return Record(
        fit(notification.alert.alert_id, MOST_TEXT).encode(), value, [("content-type", CONTENT_TYPE.encode()), *ids]
    )


def _time(notification: Notification, now: datetime) -> int:
    """Return when what is told happened, in microseconds: for the opening that is the first violation."""
    try:
        return parse_time(notification.alert.first_time if notification.occasion == "opened" else "")
    except ValueError:
        return to_micros(now)


def _data(alert: Alert) -> dict[str, Any]:
    texts = {
        name: fit(getattr(alert, name), MOST_TEXT, lines=True)
        for name in (
            *("alert_id", "status", "kind", "policy_id", "severity", "message", "violation_id", "first_time"),
            *("application", "team", "organization", "model", "event_source", "event_id", "bundle"),
        )
    }
    rest = {
        "policy_version": alert.policy_version,
        "count": alert.count,
        "group": {fit(name, 256): fit(value, 1_024) for name, value in sorted(alert.group.items())[:100]},
        "evidence": evidence_of(evidence_text(alert)),
        "acknowledge_url": link(alert.acknowledge_url),
    }
    return texts | rest


class KafkaTarget:
    """Writes to a topic with one producer, made at the first delivery and anew after a failed one."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: Any = None
        self._address: KafkaStreamAddress | None = None

    def deliver(self, notification: Notification) -> Answer:
        """Write the record and wait until all replicas in sync have it. Raises DeliveryFailed."""
        record, deadline = render(notification, datetime.now(UTC)), Deadline(self._settings.seconds)
        try:
            address = self._connect()
            sent = self._producer.send(address.topic, value=record.value, key=record.key, headers=record.headers)
            place = sent.get(timeout=deadline.left())
        except ConfigurationError as error:
            raise DeliveryFailed(f"{self._settings.name}: {error}", again=True) from error
        except (errors.KafkaError, ValueError, OSError) as error:
            self.close()
            raise DeliveryFailed(self._said(error), again=not _is_refused(error)) from error
        return Answer(said=f"{place.topic}[{place.partition}] at {place.offset}")

    def close(self) -> None:
        """Let go of the producer with everything that it still holds."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            producer.close(timeout=0)
        except errors.KafkaError:  # it holds a record, and would go on sending what is about to be sent by another
            producer._sender.force_close()  # noqa: SLF001
            producer._closed = True  # noqa: SLF001

    def _said(self, error: Exception) -> str:
        place = f"{self._settings.name}: {self._address}" if self._address else self._settings.name
        topic = f" {self._address.topic}" if self._address else ""
        return f"{place}: {_text(error)}; is the broker up, and is there a topic{topic} that this login may write?"

    def _connect(self) -> KafkaStreamAddress:
        if self._producer is not None and self._address is not None:
            return self._address
        address = _address(self._settings)
        require_usable_files(address)
        milliseconds = int(self._settings.seconds * 1_000)
        bounds = dict.fromkeys(("max_block_ms", "bootstrap_timeout_ms"), milliseconds)
        bounds |= {"delivery_timeout_ms": milliseconds, "request_timeout_ms": milliseconds}
        with listening() as causes:
            try:
                producer: Any = KafkaProducer(**SETTINGS, **bounds, **address.client_settings())
            except errors.KafkaTimeoutError as error:
                message = f"{self._settings.name}: {unreachable(address, causes.lines, self._settings.seconds)}"
                raise DeliveryFailed(message, again=True) from error
        self._address, self._producer = address, producer
        return address


def _address(settings: KafkaSettings) -> KafkaStreamAddress:
    address = parse_stream_url(settings.url.reveal())
    if not isinstance(address, KafkaStreamAddress):
        raise ConfigurationError(f"the target {settings.name} is a topic of Kafka; write kafka://HOST:9092?topic=NAME")
    if address.topic == DEFAULT_TOPIC:  # it would be read as a topic of usage events, and rejected record by record
        raise ConfigurationError(f"the target {settings.name} needs a topic of its own: kafka://HOST:9092?topic=NAME")
    return address


def _text(error: Exception) -> str:
    name, text = type(error).__name__, str(error)
    shown = text if text.startswith(name) else f"{name}: {text}"
    return fit(shown, 500)


def _is_refused(error: Exception) -> bool:
    """Tell whether the record itself is at fault, so that sending it again would change nothing."""
    return isinstance(
        error, errors.MessageSizeTooLargeError | errors.RecordListTooLargeError | errors.InvalidRecordError
    )
