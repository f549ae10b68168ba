"""Connecting to Kafka: every client is told as long to try, and a failure is said in the same words."""

# pyright brings stubs of an older kafka-python.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from kafka.errors import KafkaError, KafkaTimeoutError

from usageaudit.errors import ConfigurationError, StreamUnavailable
from usageaudit.kafka_diagnosis import is_hopeless, listening, require_usable_files, unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.stream_url import KafkaStreamAddress
    from usageaudit.streams.fetching import Clients

CONNECT_SECONDS = 10.0


@contextmanager
def connecting(address: KafkaStreamAddress, clients: Clients) -> Iterator[None]:
    """Turn what a client raises when it can't connect into an error that says why, and close what it leaves open.

    A login or a certificate that is refused again and again is given up early. Raises StreamUnavailable, and
    ConfigurationError for files of the URL that can't be used.
    """
    require_usable_files(address)
    with listening() as causes:
        clients.hopeless = lambda: is_hopeless(address, causes.lines)
        try:
            yield
        except KafkaTimeoutError:
            clients.close()
            raise StreamUnavailable(unreachable(address, causes.lines, CONNECT_SECONDS)) from None
        except (KafkaError, OSError) as error:
            clients.close()
            raise ConfigurationError(f"{address}: {error}") from error
        finally:
            clients.hopeless = lambda: False
