"""The stream as the consumer sees it: partitions that come and go, batches of one partition, acknowledgements.

Two adapters implement this port, `kafka` and `embedded`; one conformance suite runs against both.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition of a topic; `stream` is the identity of the stream, so that a recreated topic is another one."""

    stream: str
    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.number}]"


class Record(NamedTuple):
    """A stream record: `timestamp` in milliseconds since 1970, None where the stream has none."""

    offset: int
    timestamp: int | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


@dataclass(slots=True)
class Batch:
    """Records of one partition in the order of their offsets; `next_offset` is where the partition goes on.

    Offsets may have holes: transaction markers and compaction leave them. The batch covers [first offset asked for,
    next_offset) whole.
    """

    partition: Partition
    records: list[Record]
    next_offset: int


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch is complete: so many records or bytes, or so long after its first record came."""

    records: int = 50_000
    bytes: int = 64 * 1024 * 1024
    seconds: float = 0.2


class Stream(Protocol):
    """A stream of usage events, read as a member of a consumer group. Not thread-safe: one loop owns it.

    A partition that was just assigned delivers nothing until `start` says from where. Every call may raise
    StreamUnavailable; after that the stream may be called again.
    """

    @abstractmethod
    def poll(self, seconds: float) -> Batch | None:
        """Return the next batch that is complete, waiting at most so long for one.

        A batch may have no records where the partition went on without any, past transaction markers.
        Also keeps the membership of the group alive, so it has to be called again within the session's time limits.
        Raises RetentionOvertook where the position is no longer in the stream: `start` at `error.last` to go on.
        """

    @abstractmethod
    def assigned(self) -> list[Partition]:
        """Return the partitions that belong to this reader and have not been started since they were assigned."""

    @abstractmethod
    def owns(self, partition: Partition) -> bool:
        """Tell whether the partition still belongs to this reader; a batch of one that does not is thrown away."""

    @abstractmethod
    def committed(self, partition: Partition) -> int | None:
        """Return the offset at which the group goes on, None where it never acknowledged one."""

    @abstractmethod
    def beginning(self, partition: Partition) -> int:
        """Return the first offset that the stream still holds."""

    @abstractmethod
    def end(self, partition: Partition) -> int:
        """Return the offset that the next record will get."""

    @abstractmethod
    def highwater(self, partition: Partition) -> int | None:
        """Return the end of the partition as the last answer of the stream said it, without asking.

        None for a partition that is not read here, or of which nothing has been heard yet. At most some seconds old
        while the stream answers, also while nothing is taken in (`rest`).
        """

    @abstractmethod
    def connected(self) -> bool:
        """Tell whether the stream is there, as far as is known without asking. Raises nothing."""

    @abstractmethod
    def start(self, partition: Partition, offset: int) -> None:
        """Deliver the partition from an offset on; what was fetched of it before is thrown away."""

    @abstractmethod
    def release(self, partition: Partition) -> None:
        """Stop delivering a partition and list it as assigned again, if the group still gives it to this reader."""

    @abstractmethod
    def acknowledge(self, partition: Partition, next_offset: int) -> None:
        """Commit that everything before an offset has been recorded; does nothing where the partition is lost."""

    @abstractmethod
    def rest(self, seconds: float) -> None:
        """Stay in the group for so long without taking in more records: the store is slow or away."""

    @abstractmethod
    def close(self) -> None:
        """Leave the group at once, so that others take over without waiting."""
