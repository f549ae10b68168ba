"""A thread for each target, with a short queue: the trouble of one never delays another."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usageaudit.alerts.targets.port import Answer, DeliveryFailed

if TYPE_CHECKING:
    from usageaudit.alerts.model import Notification
    from usageaudit.alerts.targets.port import Target

AT_ONCE = 16
"""How many notifications wait in the queue of a target."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a notification: what the target said, why it failed, or neither where it was not tried."""

    delivery_id: str
    answer: Answer | None = None
    failure: DeliveryFailed | None = None


class Worker:
    """Tells one target, one notification after the other; what became of them is put into a queue that is shared."""

    def __init__(self, name: str, target: Target, results: queue.SimpleQueue[Result]) -> None:
        self._target, self._results = target, results
        self._waiting: queue.Queue[Notification | None] = queue.Queue(AT_ONCE + 1)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"alerts-{name}", daemon=True)
        self._thread.start()

    def send(self, notification: Notification) -> None:
        """Take a notification; at most AT_ONCE without a result."""
        self._waiting.put_nowait(notification)

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping.set()
        self._waiting.put_nowait(None)

    def join(self, seconds: float) -> bool:
        """Wait until it has stopped, for at most so long, and tell whether it has."""
        self._thread.join(max(seconds, 0.0))
        return not self._thread.is_alive()

    def _work(self) -> None:
        try:
            while (one := self._waiting.get()) is not None:
                if self._stopping.is_set():
                    self._results.put(Result(one.delivery_id))
                else:
                    self._tell(one)
        finally:
            self._target.close()

    def _tell(self, one: Notification) -> None:
        try:
            result = Result(one.delivery_id, answer=self._target.deliver(one))
        except DeliveryFailed as failure:
            result = Result(one.delivery_id, failure=failure)
        except Exception as error:  # noqa: BLE001  a target that breaks must not end the others, nor be silent
            said = f"the target broke: {type(error).__name__}"
            result = Result(one.delivery_id, failure=DeliveryFailed(said, again=True))
        self._results.put(result)
        if result.failure is not None and result.failure.again:
            self._hand_back()

    def _hand_back(self) -> None:
        """Give back what is queued behind a failure, untried: the attempts are not burnt."""
        while True:
            try:
                one = self._waiting.get_nowait()
            except queue.Empty:
                return
            if one is None:
                self._waiting.put_nowait(None)
                return
            self._results.put(Result(one.delivery_id))
