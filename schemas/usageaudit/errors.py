"""The errors of usageaudit, one tree.

    UsageAuditError
    ├── InvalidEvent            an event that breaks the definition of a usage event; names every wrong field
    ├── ConfigurationError      a setting that is unknown, missing or wrong                         (exit code 2)
    ├── BundleError             a policy bundle with errors; carries all of them, with their places (exit code 2)
    ├── QueryError              SQL that the store refused                                          (exit code 2)
    │   └── QueryRefused        SQL that is not read-only, or went over a limit
    ├── Unavailable             a server that can't be reached                                      (exit code 3)
    │   ├── StreamUnavailable
    │   └── StoreUnavailable
    ├── PublishError            an event that was not acknowledged
    │   ├── NotAcknowledged     the stream did not confirm it in time; it may still arrive
    │   └── QueueFull           the publisher's bounded queue had no room
    ├── Fenced                  another owner took the partition over; what was being written was not
    ├── OutcomeUnknown          a write whose result is not known; recovery finds out
    └── RetentionOvertook       records that the stream dropped before they were read; carries the range

Every message says what is wrong, where, and what to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class UsageAuditError(Exception):
    """Base of every error that usageaudit raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an event: `path` like `data.input.modalities[0]`, and what is wrong there."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class InvalidEvent(UsageAuditError):
    """An event that breaks the definition; `problems` names every wrong field."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))


class ConfigurationError(UsageAuditError):
    """A setting that is unknown, missing or wrong."""


class BundleError(UsageAuditError):
    """A policy bundle that can't be used; the message shows every error with its place."""


class QueryError(UsageAuditError):
    """SQL that the store could not run."""


class QueryRefused(QueryError):
    """SQL that is not read-only, or went over a limit of time, memory or rows."""


class Unavailable(UsageAuditError):
    """A server that can't be reached; the message names the likely causes."""


class StreamUnavailable(Unavailable):
    """The stream can't be reached."""


class StoreUnavailable(Unavailable):
    """The analytics store can't be reached."""


class PublishError(UsageAuditError):
    """An event that was not acknowledged by the stream."""


class NotAcknowledged(PublishError):
    """The stream did not confirm the event in time; it may still arrive."""


class QueueFull(PublishError):
    """The publisher's bounded queue had no room for the event."""


class Fenced(UsageAuditError):
    """Another owner took the partition over, so nothing was written."""


class OutcomeUnknown(UsageAuditError):
    """A write was sent and its result is not known; reading back finds out."""


class RetentionOvertook(UsageAuditError):
    """The stream dropped records before they were read: offsets [first, last) of one partition."""

    def __init__(self, topic: str, partition: int, first: int, last: int) -> None:
        self.topic, self.partition, self.first, self.last = topic, partition, first, last
        super().__init__(
            f"{topic}[{partition}]: offsets {first} to {last - 1} are gone from the stream and were never read; "
            "keep records longer than the longest stop of the consumer (retention.ms)"
        )
