"""The dispatcher on a real store: what is recorded is alerted, once, as its policy gathers, and the record tells it."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.ledger_rows import EMBEDDED, SERVER, accepted, insert, migrated_store, plain, verdict
from usageaudit.alerts.config.settings import AlertsConfig, Escalation, Gathering, Match, Retry, Route
from usageaudit.alerts.dispatcher import Dispatcher, acknowledge, resend
from usageaudit.alerts.model import alert_id, delivery_id
from usageaudit.alerts.targets.port import Answer, DeliveryFailed
from usageaudit.errors import ConfigurationError
from usageaudit.policy import load_bundle
from usageaudit.stores.fencing import fence_of
from usageaudit.streams.port import Partition
from usageaudit.verdicts import violation_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from usageaudit.alerts.model import Notification
    from usageaudit.policy.model import Bundle
    from usageaudit.stores.port import Store

TABLES = (
    *("ledger", "fence", "leases", "findings_log", "alert_decisions", "alert_deliveries_log"),
    *("alert_progress", "alert_acknowledgements"),
)
POLICY = "own/one"


@dataclass
class Receiver:
    """A target in memory that keeps what it is told, and fails while `failure` is set."""

    failure: DeliveryFailed | None = None
    told: list[Notification] = field(default_factory=list)
    tries: list[str] = field(default_factory=list)
    entered: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event | None = None

    def deliver(self, notification: Notification) -> Answer:
        """Keep a notification, once the gate is open."""
        self.entered.set()
        if self.gate is not None:
            self.gate.wait(30)
        self.tries.append(notification.delivery_id)
        if self.failure is not None:
            raise self.failure
        self.told.append(notification)
        return Answer(200, "ok")

    def close(self) -> None:
        """Do nothing."""


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    now: float = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture(scope="module", params=[EMBEDDED, SERVER])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store with its tables."""
    with migrated_store(request, tmp_path_factory) as made:
        yield made


@pytest.fixture
def store(opened: Store) -> Store:
    """Return the store without rows but for a partition that was taken over."""
    for table in TABLES:
        opened.execute(f"TRUNCATE TABLE {table}")
    fence_of(opened).raise_epoch(Partition("stream-1", "usage-events", 0), "somebody")
    return opened


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a bundle whose policy gathers by application and model for ten minutes."""
    folder: Path = tmp_path_factory.mktemp("own")
    (folder / "policies").mkdir()
    (folder / "bundle.yaml").write_text("name: own\n", encoding="utf-8")
    (folder / "policies" / "one.yaml").write_text(
        "id: own/one\ntitle: one\nseverity: high\nwhen: 'operation == \"chat\"'\nmessage: m\n"
        "alert: {dedup_by: [application.name, model.name], for: 10m}\n",
        encoding="utf-8",
    )
    return load_bundle([folder])


def config(*names: str, escalate: Escalation | None = None, retry: Retry | None = None) -> AlertsConfig:
    """Return a configuration that tells some targets of everything but what is low."""
    severities = ("medium", "high", "critical")
    route = Route("all", names, Match(severity=severities), escalate=escalate)
    return AlertsConfig({}, (route,), Gathering(), retry=retry or Retry(first=0.01, longest=0.01))


def violations(store: Store, *found: tuple[str, str], severity: str = "high", stage: str = "enforce") -> None:
    """Record violations, each at its time by an application; offsets go on."""
    ((first,),) = store.execute("SELECT count() FROM ledger").rows
    insert(
        store,
        [
            accepted(
                f"e{int(first) + number}",
                when,
                verdict("violated", (POLICY, 1, severity, stage, f"message {app}", '{"a":1}', [])),
                offset=int(first) + number,
                application_name=app,
            )
            for number, (when, app) in enumerate(found)
        ],
    )


def id_of(offset: int) -> str:
    """Return the id of a violation by its offset."""
    return violation_id("svc-a", f"e{offset}", POLICY, 1)


def alert_of(offset: int, app: str) -> str:
    """Return the id of the alert that a violation opens."""
    return alert_id(POLICY, {"application.name": app, "model.name": "gpt-4o"}, id_of(offset))


def until(dispatcher: Dispatcher, done: Callable[[], bool], seconds: float = 30.0) -> None:
    """Step until something is so."""
    end = time.monotonic() + seconds
    while not done():
        dispatcher.step()
        assert time.monotonic() < end, dispatcher.state()
    dispatcher.step()


def finding(name: str, effect: str, created: str, **values: object) -> dict[str, object]:
    """Return a row of a finding."""
    row = {"finding_id": name, "kind": "windowed", "effect": effect, "policy_id": POLICY, "policy_version": 1}
    group = json.dumps({"application.name": "bot"})
    more = {"severity": "high", "stage": "enforce", "message": "over", "created": created, "group_key": group}
    return {**row, **more, **values}


def states(store: Store) -> dict[str, tuple[str, int]]:
    """Return state and attempts of each delivery."""
    rows = store.execute("SELECT delivery_id, state, attempts FROM alert_deliveries").rows
    return {str(name): (str(state), int(attempts)) for name, state, attempts in rows}


def test_a_violation_is_alerted_and_recorded(store: Store, bundle: Bundle) -> None:
    """What was there before is history; what is recorded later is told with ids and words, and recorded."""
    violations(store, ("2026-03-02 08:00:00", "old"))
    receiver = Receiver()
    dispatcher = Dispatcher(store, config("hook"), bundle, {"hook": receiver}, link=lambda name: f"https://a/{name}")
    assert dispatcher.step() == 0
    violations(store, ("2026-03-02 09:00:00", "bot"))
    until(dispatcher, lambda: bool(receiver.told))
    until(dispatcher, lambda: dispatcher.state().waiting == 0)
    (told,) = receiver.told
    name = alert_of(1, "bot")
    assert (told.delivery_id, told.alert.alert_id) == (delivery_id(name, "hook", "opened"), name)
    assert (told.alert.message, told.alert.evidence, told.alert.count) == ("message bot", '{"a":1}', 1)
    assert (told.alert.first_time, told.alert.acknowledge_url) == ("2026-03-02T09:00:00.000000Z", f"https://a/{name}")
    assert states(store) == {told.delivery_id: ("delivered", 1)}
    assert plain(store.execute("SELECT alert_id, status, count FROM alerts")) == [(name, "firing", 1)]
    dispatcher.close()
