"""What a service may count on, whether it was given the publisher or the one that captures in tests."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from usageaudit.events.model import UsageEvent


@dataclass(frozen=True, slots=True)
class PublisherStats:
    """Counts of events since the process started: `emitted` = `acknowledged` + `failed` + `queued`.

    `emitted` were taken into the queue, `acknowledged` are durable in the stream, `failed` were refused by it for good,
    `queued` are still on their way, in memory or in the spool. `dropped` found no room in the queue and `invalid` were
    no usage events; both never entered it.

    `spooled` events wait on disk in `spool_bytes`, in the spool of this process and those that it adopted from others;
    the oldest has been there for `oldest_spooled_seconds`, None where there is none.
    """

    emitted: int
    acknowledged: int
    dropped: int
    invalid: int
    failed: int
    queued: int
    spooled: int = 0
    spool_bytes: int = 0
    oldest_spooled_seconds: float | None = None


class EventPublisher(Protocol):
    """Publishes usage events; `Publisher` and `usageaudit.testing.CapturingPublisher` do."""

    @property
    @abstractmethod
    def stats(self) -> PublisherStats:
        """What became of the events so far."""

    def emit(
        self,
        event: UsageEvent | Mapping[str, Any],
        *,
        id: str | None = None,  # noqa: A002  the attribute's name in CloudEvents
        time: datetime | str | None = None,
        durable: bool = False,
        timeout: float | None = None,
    ) -> str | None:
        """Publish one event and return its id, or None where it could not be queued."""

    async def aemit(
        self,
        event: UsageEvent | Mapping[str, Any],
        *,
        id: str | None = None,  # noqa: A002
        time: datetime | str | None = None,
        durable: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109  the same meaning as in `emit`
    ) -> str | None:
        """Do what `emit` does without holding up the event loop."""

    @abstractmethod
    def flush(self, timeout: float | None = None) -> int:
        """Wait until what was emitted is acknowledged; return how many events are not."""

    @abstractmethod
    async def aflush(self, timeout: float | None = None) -> int:  # noqa: ASYNC109
        """Do what `flush` does without holding up the event loop."""

    @abstractmethod
    def close(self, timeout: float | None = None) -> int:
        """Flush and let go of the stream; return how many events were not acknowledged."""
