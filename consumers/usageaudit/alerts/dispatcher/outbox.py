"""Deliveries on their way: which is due, who takes it, and what became of it. Bounded; the store has the rest."""

from __future__ import annotations

import queue
import random
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from usageaudit.alerts.dispatcher.breaking import Breaker, backoff
from usageaudit.alerts.dispatcher.deliveries import Change
from usageaudit.alerts.dispatcher.sending import AT_ONCE, Result, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from usageaudit.alerts.config.settings import Retry
    from usageaudit.alerts.dispatcher.deliveries import Delivery
    from usageaudit.alerts.model import Notification
    from usageaudit.alerts.targets.port import Target

MOST = 10_000
"""How many unfinished deliveries are in memory."""


@dataclass(slots=True)
class _Entry:
    """A delivery in memory; times are of the outbox's clock. One that was postponed is as if born when that ends."""

    delivery: Delivery
    born: float
    due: float
    in_flight: bool = False


@dataclass(slots=True)
class Outbox:
    """Unfinished deliveries and the targets that take them; for one thread. `clock` counts seconds and never goes back.

    `most` is how many it keeps: where there are more, `more` is set, and they are to be read from the store later.
    """

    targets: Mapping[str, Target]
    retry: Retry
    clock: Callable[[], float] = time.monotonic
    chance: random.Random = field(default_factory=random.Random)
    most: int = MOST
    more: bool = False
    _entries: dict[str, _Entry] = field(init=False, default_factory=dict)
    _by_target: dict[str, dict[str, _Entry]] = field(init=False, default_factory=dict)
    _workers: dict[str, Worker] = field(init=False, default_factory=dict)
    _breakers: dict[str, Breaker] = field(init=False, default_factory=dict)
    _results: queue.SimpleQueue[Result] = field(init=False, default_factory=queue.SimpleQueue)

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Take in unfinished deliveries; those that are there are left as they are."""
        at = self.clock()
        for one in deliveries:
            if one.delivery_id in self._entries:
                continue
            if len(self._entries) >= self.most:
                self.more = True
                return
            due = at + one.wait
            entry = _Entry(one, due if one.state == "postponed" else at - one.age, due)
            self._entries[one.delivery_id] = entry
            self._by_target.setdefault(one.target, {})[one.delivery_id] = entry

    def __contains__(self, delivery_id: str) -> bool:
        """Tell whether a delivery is in memory."""
        return delivery_id in self._entries

    def __len__(self) -> int:
        """Return how many are in memory."""
        return len(self._entries)

    def due(self) -> list[Delivery]:
        """Return the deliveries that can be begun now, as many as their targets have room for."""
        return [entry.delivery for name in self._by_target for entry in self._due(name)]

    def _due(self, target: str) -> Iterator[_Entry]:
        at, entries = self.clock(), self._by_target[target]
        in_flight = sum(entry.in_flight for entry in entries.values())
        room = self._breaker(target).room(at, in_flight, AT_ONCE) if target in self.targets else AT_ONCE
        ready = (entry for entry in entries.values() if not entry.in_flight and entry.due <= at)
        for _, entry in zip(range(room), ready, strict=False):
            yield entry

    def send(self, notification: Notification) -> None:
        """Have a due delivery sent."""
        entry = self._entries[notification.delivery_id]
        entry.in_flight = True
        target = entry.delivery.target
        if target not in self._workers:
            self._workers[target] = Worker(target, self.targets[target], self._results)
        self._workers[target].send(notification)

    def postpone(self, delivery_id: str, seconds: float) -> None:
        """Have a delivery wait."""
        self._entries[delivery_id].due = self.clock() + seconds

    def results(self) -> list[Change]:
        """Return what deliveries came to since this was asked last; `next_ms` is from now on, in milliseconds."""
        found: list[Change] = []
        while True:
            try:
                result = self._results.get_nowait()
            except queue.Empty:
                return found
            if (change := self._result(result)) is not None:
                found.append(change)

    def _result(self, result: Result) -> Change | None:
        entry = self._entries.get(result.delivery_id)
        if entry is None:
            return None
        entry.in_flight = False
        if result.answer is None and result.failure is None:
            return None
        one, at, breaker = entry.delivery, self.clock(), self._breaker(entry.delivery.target)
        attempts = one.attempts + 1
        if result.answer is not None:
            breaker.succeeded()
            return Change(one, "delivered", attempts, result.answer.status, result.answer.said)
        failure = result.failure
        if failure is None:
            return None
        if failure.again:
            breaker.failed(at, failure.after)
        elif failure.status:
            breaker.succeeded()
        said = str(failure)
        if not failure.again or at - entry.born >= self.retry.give_up:
            return Change(one, "dead", attempts, failure.status, said)
        wait = backoff(self.retry, attempts, failure.after, self.chance)
        return Change(one, "retrying", attempts, failure.status, said, int(wait * 1000))

    def recorded(self, change: Change) -> None:
        """Go on after a change was recorded."""
        one = change.delivery
        entry = self._entries.get(one.delivery_id)
        if entry is None:
            return
        if change.state in ("delivered", "dead"):
            del self._entries[one.delivery_id]
            del self._by_target[one.target][one.delivery_id]
            return
        entry.delivery = replace(one, state=change.state, attempts=change.attempts, changes=one.changes + 1)
        entry.due = self.clock() + change.next_ms / 1000
        if change.state == "postponed":
            entry.born = entry.due
        # Behind those that were not tried as often.
        queued = self._by_target[one.target]
        queued[one.delivery_id] = queued.pop(one.delivery_id)

    def forget(self) -> None:
        """Forget the deliveries that are not being sent: another one leads, or they are read again."""
        self._entries = {name: entry for name, entry in self._entries.items() if entry.in_flight}
        self._by_target = {}
        for name, entry in self._entries.items():
            self._by_target.setdefault(entry.delivery.target, {})[name] = entry
        self.more = False

    def numbers(self) -> tuple[int, int, int, float]:
        """Return how many are waiting and retrying, how many circuits are open, and the oldest's age in seconds."""
        retrying = sum(entry.delivery.state == "retrying" for entry in self._entries.values())
        broken = sum(breaker.open for breaker in self._breakers.values())
        born = min((entry.born for entry in self._entries.values()), default=None)
        return len(self._entries) - retrying, retrying, broken, 0.0 if born is None else max(self.clock() - born, 0.0)

    def in_flight(self) -> int:
        """Return how many are being sent."""
        return sum(entry.in_flight for entry in self._entries.values())

    def close(self, seconds: float) -> None:
        """Begin nothing more, and wait for what is on its way for at most so many seconds."""
        until = time.monotonic() + seconds
        for worker in self._workers.values():
            worker.stop()
        for worker in self._workers.values():
            worker.join(until - time.monotonic())
        for name in self.targets.keys() - self._workers.keys():
            self.targets[name].close()
        self._workers.clear()

    def _breaker(self, target: str) -> Breaker:
        return self._breakers.setdefault(target, Breaker(self.retry, _chance=self.chance))
