"""Connecting to Kafka: every client is told as long to try, and a failure is said in the same words."""

# pyright brings stubs of an older kafka-python.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kafka.errors import KafkaError, KafkaTimeoutError

from usageaudit.errors import ConfigurationError, StreamUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from usageaudit.stream_url import KafkaStreamAddress
    from usageaudit.streams.fetching import Clients

CONNECT_SECONDS = 12.0


@contextmanager
def connecting(address: KafkaStreamAddress, clients: Clients) -> Iterator[None]:
    """Turn what a client raises when it can't connect into an error that says why, and close what it leaves open.

    Why can only be found in what it logs.
    """
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("kafka")
    logger.addHandler(handler)
    try:
        yield
    except KafkaTimeoutError:
        clients.close()
        raise StreamUnavailable(_unreachable(address, said)) from None
    except (KafkaError, OSError) as error:  # a certificate that can't be read is an OSError
        clients.close()
        raise ConfigurationError(f"{address}: {error}") from error
    finally:
        logger.removeHandler(handler)


def _unreachable(address: KafkaStreamAddress, said: Sequence[str]) -> str:
    causes = [line for line in said if " failed: " in line and "KafkaTimeoutError" not in line]
    last = f"; the last attempt said: {causes[-1][:300]}" if causes else ""
    return (
        f"no broker answered at {address} within {CONNECT_SECONDS:.0f} s; is it running, is this its port, and do "
        f"security={address.security}, the login and the certificates fit that port{last}"
    )
