"""Publishes to Kafka. The one place of the publisher that knows kafka-python.

kafka-python's producer has no bound on its memory and never gives a record up by itself here, so no more than one group
of records is with it at a time; the rest waits in the publisher's own queue. It is idempotent: within its life nothing
is doubled or reordered, whatever the broker does. What it fails is sent again by a new producer, later than records
that came after it, and twice where only the acknowledgement was lost; consumers recognise that by source and id.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kafka import KafkaProducer, errors

from usageaudit.errors import ConfigurationError, StreamUnavailable
from usageaudit.kafka_diagnosis import listening, require_usable_files, unreachable
from usageaudit.publisher.port import Unsent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usageaudit.embedded_log import NewRecord
    from usageaudit.publisher.complaints import Complaints
    from usageaudit.stream_url import KafkaStreamAddress

CONNECT_MS = 5_000
FLUSH_SECONDS = 0.25
SILENT_SECONDS = 5.0
"""How long a broker may take to acknowledge before the log says that it is waited for."""
SETTINGS: dict[str, Any] = {
    "client_id": "usageaudit-publisher",
    "acks": "all",
    "enable_idempotence": True,
    "compression_type": "lz4",
    "batch_size": 256 * 1024,
    "linger_ms": 1_000,  # a group is flushed when it is complete, so nothing ever lingers so long
    "delivery_timeout_ms": 2**31 - 1,  # 24 days: an outage is waited for, it fails no record
    "max_block_ms": CONNECT_MS,
    "bootstrap_timeout_ms": CONNECT_MS,
    "reconnect_backoff_max_ms": 1_000,
    "allow_auto_create_topics": False,
    "metrics_enabled": False,
}


class KafkaOutlet:
    """Ships groups of records with one idempotent producer, made when the first group is shipped."""

    group_records = 1_000

    def __init__(self, address: KafkaStreamAddress, complaints: Complaints) -> None:
        self._address, self._complaints = address, complaints
        self._producer: Any = None
        self._halted = threading.Event()

    def ship(self, records: Sequence[NewRecord]) -> Sequence[Unsent | None]:
        """Hand the group to the producer and wait until the broker acknowledged it."""
        results = self._ship_once(records)
        if len(records) > 1:
            self._ship_refused_alone(records, results)
        return results

    def _ship_refused_alone(self, records: Sequence[NewRecord], results: list[Unsent | None]) -> None:
        """Find out which records are at fault themselves.

        When the broker refuses one for good, kafka-python fails everything else that it holds with the same error.
        """
        for place, result in enumerate(results):
            if result is None or not result.refused:
                continue
            try:
                results[place] = self._ship_once([records[place]])[0]
            except StreamUnavailable as error:
                again = Unsent(str(error), refused=False)
                results[place:] = [again if later is not None else None for later in results[place:]]
                return

    def _ship_once(self, records: Sequence[NewRecord]) -> list[Unsent | None]:
        if self._producer is None:
            self._producer = self._connect()
        sent = self._send(self._producer, records)
        if isinstance(sent[0], Exception) and not _is_refused(sent[0]):
            self.close()
            raise self._unavailable(sent[0])
        futures = [one for one in sent if not isinstance(one, Exception)]
        self._await(self._producer, futures)
        if any(future.failed() for future in futures):
            self.close()  # it takes the error for fatal, and would fail all that follows
        return [_result(one) for one in sent]

    def halt(self) -> None:
        """Let a `ship` that waits for the broker give up."""
        self._halted.set()

    def close(self) -> None:
        """Drop the producer with everything that it still holds."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            producer.close(timeout=0)
        except errors.KafkaError:  # it holds records, and would go on sending what is about to be sent by another
            producer._sender.force_close()  # noqa: SLF001
            producer._closed = True  # noqa: SLF001

    def abandon(self) -> None:
        """Keep the parent's producer from flushing and closing sockets when this process collects it."""
        if self._producer is not None:
            self._producer._closed = True  # noqa: SLF001  close() would wait for threads that were not forked
            self._producer = None

    def _connect(self) -> Any:
        address = self._address
        require_usable_files(address)
        with listening() as causes:
            try:
                producer: Any = KafkaProducer(**SETTINGS, **address.client_settings())
            except errors.KafkaTimeoutError as error:
                raise StreamUnavailable(unreachable(address, causes.lines, CONNECT_MS / 1_000)) from error
            except ValueError as error:
                raise ConfigurationError(f"{address}: {_text(error)}; are the options of the URL right?") from error
            except (errors.KafkaError, OSError) as error:
                raise self._unavailable(error) from error
        producer._unregister_cleanup()  # noqa: SLF001  it would close the producer before the publisher's own flush
        return producer

    def _send(self, producer: Any, records: Sequence[NewRecord]) -> list[Any]:
        """Return the futures of the records, or an exception in the place of those that were not taken."""
        sent: list[Any] = []
        for record in records:
            try:
                headers = list(record.headers)
                sent.append(
                    producer.send(
                        self._address.topic,
                        value=record.value,
                        key=record.key,
                        headers=headers,
                        timestamp_ms=record.timestamp,
                    )
                )
            except (errors.KafkaError, ValueError, TypeError) as error:
                sent.append(error)
                if not _is_refused(error):
                    break
        return sent + [sent[-1]] * (len(records) - len(sent))

    def _await(self, producer: Any, futures: Sequence[Any]) -> None:
        """Wait until the broker answered for all of them; raises StreamUnavailable when it is told to give up."""
        silent_since = time.monotonic()
        while not all(future.is_done for future in futures):
            # The errors are those of a wait that was too short, and of a batch that was split to be sent again.
            with suppress(errors.KafkaTimeoutError, errors.UnknownError):
                producer.flush(timeout=FLUSH_SECONDS)
            if self._halted.is_set() and not all(future.is_done for future in futures):
                raise StreamUnavailable(f"{self._address}: given up while waiting for the broker")
            if time.monotonic() > silent_since + SILENT_SECONDS:
                self._complaints.add("events not sent yet, waiting", f"{self._address} acknowledges nothing")

    def _unavailable(self, error: Exception) -> StreamUnavailable:
        if _lacks_right(error):
            return StreamUnavailable(f"{self._address}: {_text(error)}")
        return StreamUnavailable(
            f"{self._address}: {_text(error)}; is the broker up, is there a topic "
            f"{self._address.topic}, and are address, security, login and ca_file right?"
        )


def _result(future: Any) -> Unsent | None:
    error = future if isinstance(future, Exception) else future.exception
    if error is None:
        return None
    return Unsent(_text(error), _is_refused(error))


def _text(error: Exception) -> str:
    """Return an error with its name, which the errors of kafka-python begin with anyway."""
    if _lacks_right(error):
        return f"this login lacks a right; a publisher needs WRITE and DESCRIBE on its topic ({error})"
    name, text = type(error).__name__, str(error)
    return text if text.startswith(name) else f"{name}: {text}"


def _lacks_right(error: Exception) -> bool:
    """Tell whether the broker refused for want of a right; asked for a producer's id it says so in the text alone."""
    return isinstance(error, errors.AuthorizationError) or "AuthorizationFailedError" in str(error)


def _is_refused(error: Exception) -> bool:
    """Tell whether the record itself is at fault, so that sending it again would change nothing."""
    return isinstance(
        error,
        errors.MessageSizeTooLargeError
        | errors.RecordListTooLargeError
        | errors.InvalidRecordError
        | errors.InvalidTimestampError
        | ValueError
        | TypeError,
    )
