"""Has due deliveries sent, and records what became of them before anything else of them is done."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from usageaudit.alerts.dispatcher import deliveries
from usageaudit.alerts.dispatcher.contents import alerts
from usageaudit.alerts.dispatcher.deliveries import Change
from usageaudit.alerts.model import Notification
from usageaudit.stores.ledger import Finding, Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from usageaudit.alerts.config.settings import AlertsConfig, Route
    from usageaudit.alerts.dispatcher.decisions import Journal
    from usageaudit.alerts.dispatcher.deliveries import Delivery
    from usageaudit.alerts.dispatcher.outbox import Outbox
    from usageaudit.alerts.model import Alert, Status
    from usageaudit.stores.port import Store

UNDELIVERED = "alert_undelivered"
"""The kind of the finding that an alert did not reach a target."""
_ABSENT_SECONDS = 60.0
_NOW = "SELECT toUnixTimestamp64Milli(now64(3, 'UTC'))"


@dataclass(slots=True)
class Delivering:
    """Sends what is in an outbox; for the thread of its store."""

    store: Store
    config: AlertsConfig
    journal: Journal
    outbox: Outbox
    link: Callable[[str], str]
    dead: int = 0
    _changes: list[Change] = field(init=False, default_factory=list)
    _kinds: dict[str, str] = field(init=False, default_factory=dict)

    def send(self, epoch: int) -> int:
        """Begin what is due, but for what waits for quiet hours to end; return how many were begun."""
        due = self.outbox.due()
        if not due:
            return 0
        known = [one for one in due if one.target in self.outbox.targets]
        self._changes += [
            Change(one, "dead", one.attempts, said="the configuration has no such target any more")
            for one in due
            if one.target not in self.outbox.targets
        ]
        found = alerts(self.store, [one.alert_id for one in known], self.link)
        ((now,),) = self.store.execute(_NOW).rows
        begun: list[Notification] = []
        for one in known:
            if one.alert_id not in found:
                self.outbox.postpone(one.delivery_id, _ABSENT_SECONDS)
                continue
            alert = found[one.alert_id]
            if (until := self._quiet(one, alert, int(now))) > int(now):
                self._changes.append(Change(one, "postponed", one.attempts, next_ms=until - int(now)))
                continue
            status: Status = "resolved" if one.occasion == "resolved" else "firing"
            begun.append(Notification(one.delivery_id, one.occasion, replace(alert, status=status)))
        self.record(epoch)
        for notification in begun:
            self._kinds[notification.delivery_id] = notification.alert.kind
            self.outbox.send(notification)
        return len(begun)

    def collect(self, epoch: int) -> int:
        """Record what became of deliveries; return how many."""
        self._changes += self.outbox.results()
        return self.record(epoch)

    def record(self, epoch: int) -> int:
        """Append what is to be recorded as one block, and go on from there."""
        changes = self._changes
        if not changes:
            return 0
        ((now,),) = self.store.execute(_NOW).rows
        for one in changes:
            if one.state == "dead" and self._kinds.get(one.delivery.delivery_id) != UNDELIVERED:
                self._say(one)
        rows = [replace(one, next_ms=one.next_ms + int(now) if one.next_ms else 0) for one in changes]
        deliveries.record(self.journal, rows, epoch, int(now))
        for one in changes:
            self.outbox.recorded(one)
            self._kinds.pop(one.delivery.delivery_id, None)
            self.dead += one.state == "dead"
        self._changes = []
        return len(changes)

    def drop(self) -> None:
        """Forget what is to be recorded: another one leads, and sends it again."""
        self.outbox.results()
        self._changes = []

    def _quiet(self, one: Delivery, alert: Alert, now_ms: int) -> int:
        """Return until when a delivery waits for quiet hours to end (ms), 0 where one of its routes does not."""
        if one.occasion == "acknowledged":
            return 0
        now = dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC)
        routes = [route for route in self.config.routes_for(alert) if one.target in _told(route, one)]
        ends = [route.quiet.until(now, alert.severity) if route.quiet else None for route in routes]
        waits = [int(end.timestamp() * 1000) for end in ends if end is not None]
        return min(waits) if waits and len(waits) == len(ends) else 0

    def _say(self, one: Change) -> None:
        """Append the finding that an alert did not reach a target."""
        now = dt.datetime.now(dt.UTC)
        delivery = one.delivery
        parts = (UNDELIVERED, delivery.delivery_id, str(delivery.changes))
        said = f"after {one.attempts} attempts" if one.attempts else "without an attempt"
        Ledger(self.store).add_finding(
            Finding(
                finding_id=hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32],
                kind=UNDELIVERED,
                effect="notice",
                message=f"alert {delivery.alert_id} was not delivered to {delivery.target} {said}: see "
                f"alert_deliveries, and `usageaudit alerts resend {delivery.delivery_id}`",
                window_start=now,
                window_end=now,
                severity="high",
                group_key=json.dumps({"target": delivery.target}),
            )
        )


def _told(route: Route, one: Delivery) -> Sequence[str]:
    if one.occasion == "escalated":
        return route.escalate.to if route.escalate else ()
    return route.to
