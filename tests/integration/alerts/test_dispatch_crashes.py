"""Random histories of violations, and a dispatcher that dies at random points: everybody is told what they should be.

USAGEAUDIT_TEST_DISPATCH_HISTORIES is the number of histories for each store.
"""

from __future__ import annotations

import os
import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.ledger_rows import EMBEDDED, SERVER, Row, accepted, insert, migrated_store, verdict
from usageaudit.alerts.config.settings import AlertsConfig, Match, Retry, Route
from usageaudit.alerts.dispatcher import Dispatcher
from usageaudit.alerts.model import alert_id, delivery_id
from usageaudit.alerts.targets.port import Answer, DeliveryFailed
from usageaudit.policy import load_bundle
from usageaudit.stores.fencing import fence_of
from usageaudit.streams.port import Partition
from usageaudit.verdicts import violation_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from usageaudit.alerts.model import Notification
    from usageaudit.policy.model import Bundle
    from usageaudit.stores.port import Insert, Parameters, Rows, Store

HISTORIES = int(os.environ.get("USAGEAUDIT_TEST_DISPATCH_HISTORIES") or 6)
TABLES = (
    *("ledger", "fence", "leases", "findings_log", "alert_decisions", "alert_deliveries_log"),
    *("alert_progress", "alert_acknowledgements"),
)
TARGETS = ("first", "second")
START = 1_772_400_000
WINDOW = 600
"""Seconds for which the policy gathers."""


class Killed(BaseException):
    """The process is gone."""


@dataclass
class Mortal:
    """A store through which a process dies before or after one of its writes."""

    inner: Store
    left: int
    after: bool

    def execute(self, sql: str, parameters: Parameters | None = None, *, query_id: str | None = None) -> Rows:
        """Run a statement; one that writes counts."""
        writes = not sql.lstrip().startswith(("SELECT", "WITH", "EXISTS"))
        found: Rows = self._counted(lambda: self.inner.execute(sql, parameters, query_id=query_id), writes=writes)
        return found

    def insert(self, insert: Insert) -> None:
        """Write a block."""
        self._counted(lambda: self.inner.insert(insert), writes=True)

    def kill(self, query_id_prefix: str) -> None:
        """End statements."""
        self._counted(lambda: self.inner.kill(query_id_prefix), writes=True)

    def __getattr__(self, name: str) -> Any:
        """Return what is no write."""
        return getattr(self.inner, name)

    def _counted(self, call: Any, *, writes: bool) -> Any:
        self.left -= writes
        if writes and self.left == 0 and not self.after:
            raise Killed
        result = call()
        if writes and self.left == 0:
            raise Killed
        return result


@dataclass
class Receiver:
    """A target that outlives processes, and fails now and then."""

    chance: random.Random
    told: list[Notification] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def deliver(self, notification: Notification) -> Answer:
        """Take a notification, or not; sometimes it was taken although it seems not to be."""
        with self.lock:
            luck = self.chance.random()
            if luck < 0.2:
                raise DeliveryFailed("no answer", again=True)
            self.told.append(notification)
            if luck < 0.3:
                raise DeliveryFailed("the answer was lost", again=True)
            return Answer(200, "ok")

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture(scope="module", params=[EMBEDDED, SERVER])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store with its tables."""
    with migrated_store(request, tmp_path_factory) as made:
        yield made


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a bundle with a policy that gathers by application for ten minutes, and one that has nothing to say."""
    folder: Path = tmp_path_factory.mktemp("own")
    (folder / "policies").mkdir()
    (folder / "bundle.yaml").write_text("name: own\n", encoding="utf-8")
    for name, alert in (("one", "alert: {dedup_by: [application.name], for: 10m}\n"), ("two", "")):
        text = f"id: own/{name}\ntitle: {name}\nseverity: high\nwhen: 'operation == \"chat\"'\nmessage: m\n{alert}"
        (folder / "policies" / f"{name}.yaml").write_text(text, encoding="utf-8")
    return load_bundle([folder])


CONFIG = AlertsConfig(
    {}, (Route("all", TARGETS, Match(severity=("high",))),), retry=Retry(first=0.001, longest=0.001, give_up=3600)
)


@dataclass(frozen=True)
class Violation:
    """A violation of a random history; what is exempted is none."""

    number: int
    at: int
    app: str
    policy: str
    severity: str
    stage: str
    exempted: bool

    @property
    def row(self) -> Row:
        """Return the row of its event."""
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self.at))
        head = (self.policy, 1, self.severity, self.stage, "m")
        judged = verdict("exempted", (*head, "x")) if self.exempted else verdict("violated", (*head, "{}", []))
        return accepted(f"e{self.number}", when, judged, offset=self.number, application_name=self.app)


def history(chance: random.Random) -> list[list[Violation]]:
    """Return batches of violations; clocks go on by up to an hour, and back at times."""
    now, number, batches = START, 0, []
    for _ in range(chance.randrange(1, 5)):
        batch = []
        for _ in range(chance.randrange(1, 9)):
            now += chance.choice((0, 1, 60, 299, 300, 599, 600, 3599, 3600, -60, -3600))
            batch.append(
                Violation(
                    *(number, now, chance.choice("ab"), chance.choice(("own/one", "own/two"))),
                    severity=chance.choice(("high", "high", "high", "low")),
                    stage=chance.choice(("enforce", "enforce", "enforce", "shadow")),
                    exempted=chance.random() < 0.1,
                )
            )
            number += 1
        batches.append(batch)
    return batches


def expected(batches: Sequence[Sequence[Violation]]) -> dict[str, set[str]]:
    """Return, plainly, the violations of each alert that should be told of, by the alerts' ids."""
    alerts: dict[str, set[str]] = {}
    opened: list[tuple[str, str, int, str]] = []
    for batch in batches:
        for one in sorted(batch, key=lambda one: (one.at, one.number)):
            if one.exempted or one.stage != "enforce" or one.severity != "high":
                continue
            window = WINDOW if one.policy == "own/one" else 3600
            name = violation_id("svc-a", f"e{one.number}", one.policy, 1)
            takers = [
                (at, alert)
                for policy, app, at, alert in opened
                if (policy, app) == (one.policy, one.app) and abs(one.at - at) < window
            ]
            if takers:
                alerts[max(takers)[1]].add(name)
                continue
            alert = alert_id(one.policy, {"application.name": one.app}, name)
            opened.append((one.policy, one.app, one.at, alert))
            alerts[alert] = {name}
    return alerts


def run(store: Store, bundle: Bundle, targets: dict[str, Receiver], chance: random.Random, lives: int) -> None:
    """Run dispatchers, each of which dies at a random write but for the last, until nothing is left to do."""
    for life in range(lives + 1):
        left = chance.randrange(1, 12) if life < lives else -1
        mortal = Mortal(store.another(), left, chance.random() < 0.5)
        dispatcher = Dispatcher(cast("Store", mortal), CONFIG, bundle, targets, lease_seconds=0.001)
        idle, end = 0, time.monotonic() + 60
        try:
            while idle < 2:
                done, state = dispatcher.step(), dispatcher.state()
                idle = idle + 1 if done == 0 and not state.waiting + state.retrying else 0
                assert time.monotonic() < end, state
            mortal.left = -1
        except Killed:
            pass
        # A process that is gone writes nothing more; what its threads are sending may still arrive.
        mortal.left = -1
        dispatcher._delivering.outbox.close(10)
        mortal.inner.close()


def play(store: Store, bundle: Bundle, seed: int) -> tuple[dict[str, set[str]], dict[str, Receiver]]:
    """Play a random history with deaths, and return which alerts should be told of, and who was told of what."""
    chance = random.Random(seed)
    for table in TABLES:
        store.execute(f"TRUNCATE TABLE {table}")
    fence_of(store).raise_epoch(Partition("stream-1", "usage-events", 0), "somebody")
    receivers = {name: Receiver(random.Random(seed * 2 + place)) for place, name in enumerate(TARGETS)}
    run(store, bundle, receivers, chance, 0)
    batches = history(chance)
    for batch in batches:
        insert(store, [one.row for one in batch])
        run(store, bundle, receivers, chance, chance.randrange(1, 4))
    return expected(batches), receivers


def doubled(store: Store) -> int:
    """Return how often something was decided about again."""
    ((rows, subjects),) = store.execute("SELECT count(), uniqExact(violation_id) FROM alert_decisions").rows
    return int(rows) - int(subjects)


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_everybody_is_told_what_they_should_be(opened: Store, bundle: Bundle, seed: int) -> None:
    """Whatever it is killed at, each alert reaches each target, always by the same id, and nothing else does."""
    alerts, receivers = play(opened, bundle, seed)
    for name, receiver in receivers.items():
        told = {one.delivery_id: one.alert.alert_id for one in receiver.told}
        assert told == {delivery_id(alert, name, "opened"): alert for alert in alerts}
    found: dict[str, set[str]] = {}
    for alert, violation in opened.execute("SELECT alert_id, violation_id FROM alert_decisions").rows:
        found.setdefault(str(alert), set()).add(str(violation))
    found.pop("", None)
    assert found == alerts
    assert doubled(opened) == 0
    states = opened.execute("SELECT state, count() FROM alert_deliveries GROUP BY state").rows
    assert [tuple(row) for row in states] == ([("delivered", 2 * len(alerts))] if alerts else [])


def test_without_looking_at_what_was_decided_it_is_decided_again(
    opened: Store, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The histories tell: without that look some violations are decided about twice."""
    monkeypatch.setattr("usageaudit.alerts.dispatcher.service.decided", lambda *_: set())
    seeds = iter(range(20))
    times = 0
    while not times:
        play(opened, bundle, next(seeds))
        times = doubled(opened)
