"""For the tests of services: a publisher that keeps what was emitted instead of publishing it.

@pytest.fixture
def published() -> CapturingPublisher:
    return CapturingPublisher()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from usageaudit.cloudevents import DecodedEvent, decode
from usageaudit.errors import InvalidEvent
from usageaudit.publisher.encoder import EventEncoder
from usageaudit.publisher.protocol import PublisherStats

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from usageaudit.events.model import UsageEvent

__all__ = ["CapturingPublisher"]


class CapturingPublisher:
    """Takes events as `usageaudit.publisher.Publisher` does, and keeps them in `events` as a consumer would read them.

    Each has `id`, `source`, `time` (microseconds since 1970) and `data` with the attributes of a UsageEvent. Other than
    the publisher it raises InvalidEvent for every event that is invalid, so that the service's test fails.
    """

    def __init__(self, *, source: str = "/services/under-test") -> None:
        self._encoder = EventEncoder(source)
        self._invalid = 0
        self.events: list[DecodedEvent] = []

    @property
    def stats(self) -> PublisherStats:
        """What became of the events so far."""
        captured = len(self.events)
        return PublisherStats(captured, captured, dropped=0, invalid=self._invalid, failed=0, queued=0)

    def emit(
        self,
        event: UsageEvent | Mapping[str, Any],
        *,
        id: str | None = None,  # noqa: A002  the attribute's name in CloudEvents
        time: datetime | str | None = None,
        durable: bool = False,
        timeout: float | None = None,
    ) -> str | None:
        """Keep one event and return its id; raises InvalidEvent."""
        try:
            event_id, record = self._encoder.encode(event, id, time)
        except InvalidEvent:
            self._invalid += 1
            raise
        self.events.append(decode(record.value, record.headers))
        return event_id

    async def aemit(
        self,
        event: UsageEvent | Mapping[str, Any],
        *,
        id: str | None = None,  # noqa: A002
        time: datetime | str | None = None,
        durable: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109  the same meaning as in the publisher
    ) -> str | None:
        """Do what `emit` does."""
        return self.emit(event, id=id, time=time)

    def flush(self, timeout: float | None = None) -> int:
        """Return 0: nothing waits."""
        return 0

    async def aflush(self, timeout: float | None = None) -> int:  # noqa: ASYNC109
        """Return 0: nothing waits."""
        return 0

    def close(self, timeout: float | None = None) -> int:
        """Return 0: nothing waits."""
        return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
