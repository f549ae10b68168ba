"""What the dispatcher asks of a target."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from usageaudit.errors import UsageAuditError

if TYPE_CHECKING:
    from usageaudit.alerts.model import Notification


@dataclass(frozen=True, slots=True)
class Answer:
    """What a target said when it took a notification: the status of HTTP or 0, and the beginning of its text."""

    status: int = 0
    said: str = ""


class DeliveryFailed(UsageAuditError):
    """A notification that was not taken, or not for certain.

    `again` says whether trying again can help, `after` how many seconds the target asked to wait for, `status` the
    status of HTTP or 0. The message says what happened and names no secret.
    """

    def __init__(self, message: str, *, again: bool, after: float | None = None, status: int = 0) -> None:
        self.again, self.after, self.status = again, after, status
        super().__init__(message)


class Target(Protocol):
    """Somebody who is told of alerts. For one thread at a time."""

    @abstractmethod
    def deliver(self, notification: Notification) -> Answer:
        """Tell it, within the seconds that its settings allow. Raises DeliveryFailed."""

    @abstractmethod
    def close(self) -> None:
        """Let go of connections."""


@runtime_checkable
class Acknowledging(Protocol):
    """A target that has alerts of its own which can be acknowledged: it is told when somebody did so elsewhere."""

    acknowledges: Literal[True]
