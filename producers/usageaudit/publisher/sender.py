"""The thread that ships what waits somewhere, in order, and tries again for as long as it takes."""

from __future__ import annotations

import random
import threading
from abc import abstractmethod
from typing import TYPE_CHECKING, Protocol

from usageaudit.errors import ConfigurationError, PublishError, StreamUnavailable
from usageaudit.publisher.port import is_lasting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usageaudit.publisher.buffer import Item
    from usageaudit.publisher.complaints import Complaints
    from usageaudit.publisher.port import Outlet, Unsent

GROUP_BYTES = 1024 * 1024
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0


class Source(Protocol):
    """Where records wait: the queue in memory, and the spool."""

    @abstractmethod
    def take(self, records: int, size: int, linger: float) -> list[Item]:
        """Return the next group, at most so many records and bytes; none once the source is closed and empty.

        Waits for a first record, and then for others, but no longer than `linger` seconds.
        """

    def settle(self, acknowledged: Sequence[Item], failed: Sequence[Item]) -> None:
        """Be done with these records of the group that was taken; the others go first next time."""

    def close(self) -> None:
        """Take in no more."""


class Sender:
    """Takes groups of records from their source and ships them through the outlet, one after the other."""

    def __init__(self, source: Source, outlet: Outlet, linger: float, complaints: Complaints) -> None:
        self._source, self._outlet, self._linger, self._complaints = source, outlet, linger, complaints
        self._stopping = threading.Event()
        self._pause = FIRST_PAUSE
        self.last_error = ""
        self.lasting_error: StreamUnavailable | ConfigurationError | None = None
        self._thread = threading.Thread(target=self._run, name="usageaudit-publisher", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Tell whether the thread runs."""
        return self._thread.is_alive()

    def join(self, wait: float) -> None:
        """Wait so long for the thread to end."""
        self._thread.join(wait)

    def stop(self, wait: float) -> None:
        """Give up what is still queued, and wait so long for the thread to end."""
        self._stopping.set()
        self._outlet.halt()
        self._source.close()
        if self.alive:
            self._thread.join(wait)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                group = self._source.take(self._outlet.group_records, GROUP_BYTES, self._linger)
                if not group:
                    break
                self._ship(group)
        finally:
            self._source.settle((), ())
            self._outlet.close()

    def _ship(self, group: Sequence[Item]) -> None:
        try:
            results = self._outlet.ship([item.record for item in group])
        except (StreamUnavailable, ConfigurationError) as error:
            self._source.settle((), ())
            self.lasting_error = error if is_lasting(error) else None
            self._rest(str(error))
            return
        self.lasting_error = None
        self._settle(group, results)

    def _settle(self, group: Sequence[Item], results: Sequence[Unsent | None]) -> None:
        acknowledged = [item for item, unsent in zip(group, results, strict=True) if unsent is None]
        refused = [(item, unsent) for item, unsent in zip(group, results, strict=True) if unsent and unsent.refused]
        for item, unsent in refused:
            item.reason = unsent.reason
        self._source.settle(acknowledged, [item for item, _ in refused])
        for item in acknowledged:
            if item.done is not None:
                item.done(None)
        for item, unsent in refused:
            self._complaints.add("events refused by the stream", unsent.reason)
            if item.done is not None:
                item.done(PublishError(f"the stream refused the event: {unsent.reason}"))
        again = next((unsent.reason for unsent in results if unsent and not unsent.refused), None)
        if again is None:
            self._pause, self.last_error = FIRST_PAUSE, ""
        else:
            self._rest(again)

    def _rest(self, reason: str) -> None:
        """Wait before the next attempt, longer from one to the next and never in step with other publishers."""
        self.last_error = reason
        self._complaints.add("events not sent yet, trying again", reason)
        self._stopping.wait(self._pause * random.uniform(0.5, 1.0))  # noqa: S311
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
