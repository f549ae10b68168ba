"""Looks at a stream from outside: where its partitions begin and end and what lies between, joining no group."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from usageaudit.embedded_log import FILE_NAME, EmbeddedLog
from usageaudit.errors import StreamUnavailable
from usageaudit.stream_url import EmbeddedStreamAddress, parse_stream_url

if TYPE_CHECKING:
    from collections.abc import Sequence

_MUCH = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """A partition: the first offset it holds, the one the next record gets, and where the group goes on, if it does."""

    number: int
    begin: int
    end: int
    committed: int | None


class Inspection(Protocol):
    """A stream that is looked at. Every call may raise StreamUnavailable."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """Return the identity of the stream, as the ledger names it."""

    @property
    @abstractmethod
    def topic(self) -> str:
        """Return the topic."""

    @abstractmethod
    def bounds(self) -> list[Bounds]:
        """Return the partitions of the topic, none where it does not exist."""

    @abstractmethod
    def records(self, number: int, first: int, last: int) -> Sequence[int]:
        """Return which of the offsets first to last hold a record that a consumer would be given."""

    @abstractmethod
    def close(self) -> None:
        """Give back what is open."""


def inspect(url: str) -> Inspection:
    """Look at the stream of a URL. Raises ConfigurationError and StreamUnavailable."""
    address = parse_stream_url(url)
    if isinstance(address, EmbeddedStreamAddress):
        return EmbeddedInspection(address)
    from usageaudit.streams.kafka_inspection import KafkaInspection

    return KafkaInspection(address)


class EmbeddedInspection:
    """Looks at the file of an embedded stream; makes none where there is none."""

    def __init__(self, address: EmbeddedStreamAddress) -> None:
        if not (address.directory / FILE_NAME).exists():
            raise StreamUnavailable(
                f"{address.directory} holds no stream, so nothing was published there yet: publish an event, or name "
                "the stream with USAGEAUDIT_STREAM"
            )
        self._log = EmbeddedLog.open(address.directory)
        self._group = address.group
        self.identity, self.topic = self._log.identity, address.topic

    def bounds(self) -> list[Bounds]:
        """Return the partitions of the topic."""
        log, topic = self._log, self.topic
        return [
            Bounds(n, log.begin(topic, n), log.end(topic, n), log.committed(self._group, topic, n))
            for n in log.partitions(topic)
        ]

    def records(self, number: int, first: int, last: int) -> Sequence[int]:
        """Return which of the offsets hold a record."""
        found = self._log.read(self.topic, number, first, last + 1 - first, _MUCH)
        return [record.offset for record in found if record.offset <= last]

    def close(self) -> None:
        """Close the file."""
        self._log.close()
