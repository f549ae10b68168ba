"""The threads between the queue and the stream: one, or two with a spool between them."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from usageaudit.publisher.sender import Sender

if TYPE_CHECKING:
    from usageaudit.errors import ConfigurationError, StreamUnavailable
    from usageaudit.publisher.buffer import Buffer
    from usageaudit.publisher.complaints import Complaints
    from usageaudit.publisher.port import Outlet
    from usageaudit.publisher.sender import Source
    from usageaudit.publisher.spool.source import SpoolSource

STOP_SECONDS = 1.0
LOOK_SECONDS = 0.05
SPOOL_SECONDS = 2.0
"""What is queued is written to the spool, even where nobody wants to wait for the stream."""


@dataclass(slots=True)
class _Link:
    source: Source
    outlet: Outlet
    linger: float
    sender: Sender | None = None

    @property
    def alive(self) -> bool:
        return self.sender is not None and self.sender.alive


class Shipping:
    """Moves records from the queue to the stream, by way of the spool where there is one."""

    def __init__(
        self, buffer: Buffer, outlet: Outlet, spool: SpoolSource | None, linger: float, complaints: Complaints
    ) -> None:
        self._buffer, self._spool, self._complaints = buffer, spool, complaints
        if spool is None:
            self._links = [_Link(buffer, outlet, linger)]
        else:
            from usageaudit.publisher.spool.source import SpoolOutlet

            self._links = [_Link(buffer, SpoolOutlet(spool, buffer), linger), _Link(spool, outlet, 0.0)]

    @property
    def alive(self) -> bool:
        """Tell whether all threads run."""
        return all(link.alive for link in self._links)

    @property
    def last_error(self) -> str:
        """Why the last group was not taken: by the spool, or else by the stream; empty where all is well."""
        return next((link.sender.last_error for link in self._links if link.sender and link.sender.last_error), "")

    @property
    def lasting_error(self) -> StreamUnavailable | ConfigurationError | None:
        """Why the last group was not taken, where trying again alone will not help; None otherwise."""
        return next((link.sender.lasting_error for link in self._links if link.sender), None)

    def start(self) -> None:
        """Start the threads that do not run; raises RuntimeError where the interpreter is shutting down."""
        for link in self._links:
            if not link.alive:
                link.sender = Sender(link.source, link.outlet, link.linger, self._complaints)
                link.sender.start()

    def drain(self, wait: float, *, patient: bool = True) -> int:
        """Wait until what is queued now is acknowledged; return how many records are not.

        One that is not `patient` leaves to the spool what the stream has just not taken.
        """
        give_up = monotonic() + wait
        left = self._buffer.drain(wait if patient or self._spool is None else max(wait, SPOOL_SECONDS))
        if self._spool is None:
            return left
        position = self._spool.position  # what comes later is not waited for
        while (pending := self._spool.drain(position, min(LOOK_SECONDS, max(0.0, give_up - monotonic())))) and (
            monotonic() < give_up and (patient or not self._is_away())
        ):
            pass
        return left + pending

    def _is_away(self) -> bool:
        sender = self._links[-1].sender
        return sender is None or bool(sender.last_error)

    def stop(self) -> None:
        """End the threads, and let go of the spool with what is left in it."""
        for link in self._links:
            if link.sender is not None:
                link.sender.stop(STOP_SECONDS)
        if self._spool is not None:
            self._spool.release()

    def abandon(self) -> None:
        """In a forked child: forget the parent's connections."""
        for link in self._links:
            link.outlet.abandon()
