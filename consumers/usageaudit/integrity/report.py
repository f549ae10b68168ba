"""What `verify` finds: the count of each partition, what is wrong, and what can no longer be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal[
    "repeated_offsets",
    "unknown_status",
    "missing_records",
    "no_longer_known",
    "dropped_by_stream",
    "not_recorded_yet",
    "stream_ends_before_ledger",
    "publisher_gap",
    "dropped_by_publisher",
    "accepted_twice",
    "conflicting_duplicate",
    "verdicts_differ",
    "bundle_unknown",
    "bundle_altered",
    "bundle_unreadable",
    "not_rejudged",
    "findings_not_kept",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it should be: what kind, where, and what it means or what to do.

    `stream` is the identity of the stream that it is about, `event` source and id of the event, where it is about one,
    `offsets` the range that it is about, where there may be several of a kind in one partition.
    """

    kind: Kind
    where: str
    message: str
    stream: str = ""
    event: tuple[str, str] | None = None
    offsets: str = ""


@dataclass(frozen=True, slots=True)
class PartitionReport:
    """The count of one partition: consumed = accepted + duplicate + rejected, and its offsets against the stream's.

    `stream_end` is None where the stream is not there any more. `missing` counts the offsets between the first and the
    last that no row has; `explained` how many of those hold no record.
    """

    stream: str
    topic: str
    partition: int
    consumed: int = 0
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    first_offset: int | None = None
    last_offset: int | None = None
    distinct_offsets: int = 0
    missing: int = 0
    explained: int = 0
    stream_end: int | None = None
    behind: int = 0

    @property
    def name(self) -> str:
        """The partition as messages name it."""
        return f"{self.topic}[{self.partition}]"

    @property
    def next_offset(self) -> int | None:
        """The offset after the last one recorded."""
        return None if self.last_offset is None else self.last_offset + 1


@dataclass(frozen=True, slots=True)
class Completeness:
    """What was counted, what is wrong, and what can no longer be told, which is no mismatch."""

    partitions: Sequence[PartitionReport]
    problems: Sequence[Problem]
    notes: Sequence[Problem] = ()
