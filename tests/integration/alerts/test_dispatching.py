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
    route = Route("all", names, Match(severity=("medium", "high", "critical")), escalate=escalate)
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
    assert (told.alert.first_time, told.alert.acknowledge_url) == ("2026-03-02T09:00:00Z", f"https://a/{name}")
    assert states(store) == {told.delivery_id: ("delivered", 1)}
    assert plain(store.execute("SELECT alert_id, status, count FROM alerts")) == [(name, "firing", 1)]
    dispatcher.close()


def test_equal_violations_are_one_alert_for_as_long_as_the_policy_says(store: Store, bundle: Bundle) -> None:
    """The first opens, those within its time are gathered, the next after it opens; others open their own."""
    receiver = Receiver()
    dispatcher = Dispatcher(store, config("hook"), bundle, {"hook": receiver})
    dispatcher.step()
    times = ("09:00:00", "09:09:59", "09:10:00", "09:15:00", "09:20:00")
    violations(store, *((f"2026-03-02 {when}", "bot") for when in times), ("2026-03-02 09:05:00", "other"))
    until(dispatcher, lambda: len(receiver.told) == 4)
    expected = {alert_of(0, "bot"): 2, alert_of(2, "bot"): 2, alert_of(4, "bot"): 1, alert_of(5, "other"): 1}
    assert {one.alert.alert_id: one.alert.count for one in receiver.told} == expected
    assert dict(plain(store.execute("SELECT alert_id, count FROM alerts"))) == expected
    violations(store, ("2026-03-02 09:21:00", "bot"))
    for _ in range(3):
        dispatcher.step()
    assert len(receiver.told) == 4
    dispatcher.close()


def test_shadowed_and_unrouted_violations_are_not_alerted(store: Store, bundle: Bundle) -> None:
    """What is in shadow is not decided about; what no route takes is recorded as such; nobody is told of either."""
    receiver = Receiver()
    dispatcher = Dispatcher(store, config("hook"), bundle, {"hook": receiver})
    dispatcher.step()
    violations(store, ("2026-03-02 09:00:00", "bot"), stage="shadow")
    violations(store, ("2026-03-02 09:00:01", "bot"), severity="low")
    for _ in range(3):
        dispatcher.step()
    dispatcher.close()
    assert receiver.tries == []
    assert plain(store.execute("SELECT violation_id, outcome FROM alert_decisions")) == [(id_of(1), "unrouted")]


def test_a_failed_delivery_is_tried_again_with_the_same_id(store: Store, bundle: Bundle) -> None:
    """Each attempt is recorded with its answer, and has the id of the first."""
    receiver = Receiver(DeliveryFailed("the answer was 500", again=True, status=500))
    dispatcher = Dispatcher(store, config("hook"), bundle, {"hook": receiver})
    dispatcher.step()
    violations(store, ("2026-03-02 09:00:00", "bot"))
    until(dispatcher, lambda: len(receiver.tries) == 3)
    receiver.failure = None
    until(dispatcher, lambda: dispatcher.state().retrying + dispatcher.state().waiting == 0)
    assert set(receiver.tries) == {delivery_id(alert_of(0, "bot"), "hook", "opened")}
    log = plain(store.execute("SELECT state, attempts, status, response FROM alert_deliveries_log ORDER BY change"))
    assert log[0] == ("retrying", 1, 500, "the answer was 500")
    assert log[-1] == ("delivered", len(receiver.tries), 200, "ok")
    dispatcher.close()


def test_a_target_that_is_silent_delays_no_other(store: Store, bundle: Bundle) -> None:
    """While one target is being waited for, another gets its alert and the record of it."""
    stuck, fine = Receiver(gate=threading.Event()), Receiver()
    dispatcher = Dispatcher(store, config("stuck", "fine"), bundle, {"stuck": stuck, "fine": fine})
    dispatcher.step()
    violations(store, ("2026-03-02 09:00:00", "bot"))
    done = delivery_id(alert_of(0, "bot"), "fine", "opened")
    until(dispatcher, lambda: states(store).get(done) == ("delivered", 1))
    assert stuck.told == []
    assert stuck.gate is not None
    stuck.gate.set()
    dispatcher.close()
    assert {state for state, _ in states(store).values()} == {"delivered"}


def test_what_was_given_up_is_a_finding_and_may_be_sent_again(store: Store, bundle: Bundle) -> None:
    """A refused delivery is dead, the other target is told of that once, and it is sent again when asked for."""
    dead, fine = Receiver(DeliveryFailed("the answer was 400", again=False, status=400)), Receiver()
    dispatcher = Dispatcher(store, config("dead", "fine"), bundle, {"dead": dead, "fine": fine})
    dispatcher.step()
    violations(store, ("2026-03-02 09:00:00", "bot"), ("2026-03-02 09:00:01", "other"))
    until(dispatcher, lambda: len(fine.told) == 3)
    for _ in range(3):
        dispatcher.step()
    assert sorted(one.alert.kind for one in fine.told) == ["alert_undelivered", "event", "event"]
    assert len(dead.tries) == 2
    name = delivery_id(alert_of(0, "bot"), "dead", "opened")
    assert states(store)[name] == ("dead", 1)
    dead.failure = None
    resend(store, name)
    with pytest.raises(ConfigurationError, match="is waiting"):
        resend(store, name)
    until(dispatcher, lambda: bool(dead.told))
    until(dispatcher, lambda: states(store)[name] == ("delivered", 1))
    assert [one.delivery_id for one in dead.told] == [name]
    dispatcher.close()


def test_a_cleared_finding_resolves_its_alert(store: Store, bundle: Bundle) -> None:
    """A finding opens an alert; saying it again changes nothing; once it is cleared the same targets are told."""
    receiver = Receiver()
    dispatcher = Dispatcher(store, config("hook"), bundle, {"hook": receiver})
    dispatcher.step()
    insert(store, [finding("f1", "violation", "2026-03-02 09:00:00")], "findings_log")
    until(dispatcher, lambda: len(receiver.told) == 1)
    insert(store, [finding("f1", "violation", "2026-03-02 09:00:01")], "findings_log")
    insert(store, [finding("f1", "cleared", "2026-03-02 09:00:02")], "findings_log")
    until(dispatcher, lambda: len(receiver.told) == 2)
    first, last = receiver.told
    assert (first.occasion, first.alert.status, first.alert.message) == ("opened", "firing", "over")
    assert (last.occasion, last.alert.status, last.alert.alert_id) == ("resolved", "resolved", first.alert.alert_id)
    outcomes = plain(store.execute("SELECT outcome FROM alert_decisions ORDER BY recorded"))
    assert outcomes == [("opened",), ("unchanged",), ("resolved",)]
    dispatcher.close()


def test_an_alert_of_two_findings_is_resolved_with_the_last(store: Store, bundle: Bundle) -> None:
    """While another finding of an alert stands, clearing one tells nobody."""
    receiver = Receiver()
    dispatcher = Dispatcher(store, config("hook"), bundle, {"hook": receiver})
    dispatcher.step()
    rows = [finding(f"f{one}", "violation", f"2026-03-02 09:00:0{one}") for one in (1, 2)]
    insert(store, rows, "findings_log")
    until(dispatcher, lambda: len(receiver.told) == 1)
    insert(store, [finding("f1", "cleared", "2026-03-02 09:00:05")], "findings_log")
    for _ in range(3):
        dispatcher.step()
    assert len(receiver.told) == 1
    insert(store, [finding("f2", "cleared", "2026-03-02 09:00:06")], "findings_log")
    until(dispatcher, lambda: len(receiver.told) == 2)
    assert receiver.told[1].occasion == "resolved"
    dispatcher.close()


@pytest.mark.parametrize("seen", [False, True], ids=["nobody", "somebody"])
def test_others_are_told_where_nobody_acknowledges(store: Store, bundle: Bundle, seen: bool) -> None:
    """After the route's time others are told, once; not of what was acknowledged."""
    clock, receiver, boss = Clock(), Receiver(), Receiver()
    escalate = Escalation(0.5, ("boss",))
    targets = {"hook": receiver, "boss": boss}
    dispatcher = Dispatcher(store, config("hook", escalate=escalate), bundle, targets, clock=clock)
    dispatcher.step()
    violations(store, ("2026-03-02 09:00:00", "bot"))
    until(dispatcher, lambda: bool(receiver.told))
    if seen:
        acknowledge(store, alert_of(0, "bot"), "ann", "cli")
    due = "SELECT count() FROM alert_decisions WHERE decided_at <= now64(3, 'UTC') - toIntervalMillisecond(500)"
    until(dispatcher, lambda: bool(store.execute(due).rows[0][0]))
    for _ in range(2):
        clock.now += 10.0
        until(dispatcher, lambda: dispatcher.state().waiting == 0)
    dispatcher.close()
    expected = [] if seen else [delivery_id(alert_of(0, "bot"), "boss", "escalated")]
    assert [one.delivery_id for one in boss.told] == expected
    with pytest.raises(ConfigurationError, match="there is no alert"):
        acknowledge(store, "none", "ann", "cli")


def test_one_of_two_dispatchers_works(store: Store, bundle: Bundle) -> None:
    """The second waits; when it takes over, what the first still holds is refused, and everything is told once."""
    first, second = Receiver(), Receiver()
    one = Dispatcher(store, config("hook"), bundle, {"hook": first}, lease_seconds=50)
    own = store.another()
    other = Dispatcher(own, config("hook"), bundle, {"hook": second})
    assert one.step() == 0
    assert other.step() is None
    store.execute("TRUNCATE TABLE leases")
    assert other.step() == 0
    violations(store, ("2026-03-02 09:00:00", "bot"))
    assert one.step() is None
    until(other, lambda: bool(second.told))
    assert first.told == []
    assert plain(store.execute("SELECT count() FROM alert_decisions")) == [(1,)]
    one.close()
    other.close()
    own.close()
