"""The dispatcher killed by SIGKILL at any step, as a process with real targets: who is told of what, and the record.

USAGEAUDIT_TEST_ALERT_KILLS is how often it is killed.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from standardwebhooks import Webhook

from tests.integration.alerts.dispatchers import Dispatchers, dispatchers
from tests.ledger_rows import EMBEDDED, SERVER, accepted, duplicate, insert, rejected, verdict
from tests.servers.receivers import Receiver, answering
from usageaudit.alerts.model import alert_id, delivery_id
from usageaudit.alerts.signing import new_secret
from usageaudit.stores.address import open_store
from usageaudit.stores.fencing import fence_of
from usageaudit.stores.migrate import migrate
from usageaudit.streams.port import Partition
from usageaudit.verdicts import violation_id

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

    from tests.ledger_rows import Row
    from tests.servers.receivers import Request
    from usageaudit.stores.port import Store

KILLS = int(os.environ.get("USAGEAUDIT_TEST_ALERT_KILLS") or 6)
TARGETS = ("first", "second")
START = 1_772_400_000
WINDOW = 600
"""Seconds for which the policy own/one gathers; own/two gathers for an hour, as alerts.yaml says."""
HOUR = 3_600


@dataclass
class World:
    """What is recorded, and, plainly, who is to be told of what."""

    chance: random.Random
    now: int = START
    number: int = 0
    opened: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    standing: dict[str, str] = field(default_factory=dict)
    told: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Deliveries by their ids: the alert and the occasion."""
    members: Counter[str] = field(default_factory=Counter)
    suppressed: Counter[str] = field(default_factory=Counter)

    def batch(self) -> tuple[list[Row], list[Row]]:
        """Return rows of the ledger and of findings that come next; time goes on."""
        rows = [self._record() for _ in range(self.chance.randrange(1, 9))]
        return rows, [self._finding() for _ in range(self.chance.randrange(3))]

    def _record(self) -> Row:
        self.now += self.chance.choice((0, 1, 60, 299, 300, 599, 600, 3599, 3600))
        number, when = self.number, _text(self.now)
        self.number += 1
        kind = self.chance.choice(
            (*("violation",) * 6, "shadow", "low", "exempted", "duplicate", "rejected", "nothing")
        )
        app, policy = self.chance.choice("ab"), self.chance.choice(("own/one", "own/two"))
        said = (policy, 1, "low" if kind == "low" else "high", "shadow" if kind == "shadow" else "enforce", "m")
        if kind == "violation":
            self._alert(policy, app, violation_id("svc-a", f"e{number}", policy, 1))
        else:
            self.suppressed[kind] += 1
        match kind:
            case "duplicate":
                return duplicate(f"e{number}", when, offset=number)
            case "rejected":
                return rejected(when, "no", offset=number)
            case "nothing":
                return accepted(f"e{number}", when, offset=number, application_name=app)
            case "exempted":
                judged = verdict("exempted", (*said, "x"))
            case _:
                judged = verdict("violated", (*said, "{}", []))
        return accepted(f"e{number}", when, judged, offset=number, application_name=app)

    def _alert(self, policy: str, app: str, violation: str) -> None:
        at, alert = self.opened.get((policy, app), (0, ""))
        if self.now - at >= (WINDOW if policy == "own/one" else HOUR):
            alert = alert_id(policy, {"application.name": app}, violation)
            self.opened[policy, app] = self.now, alert
            self._tell(alert, "opened")
        else:
            self.suppressed["gathered"] += 1
        self.members[alert] += 1

    def _finding(self) -> Row:
        """Return a finding that is new, is found again, or is cleared; each opens alerts of its own."""
        self.now += HOUR
        name = f"finding-{self.chance.randrange(5)}"
        effect = self.chance.choice(("violation", "violation", "cleared"))
        if effect == "violation" and name not in self.standing:
            alert = alert_id("own/two", {"application.name": name}, f"{name}@{self.now * 1000}")
            self.standing[name] = alert
            self.members[alert] += 1
            self._tell(alert, "opened")
        elif effect == "cleared" and name in self.standing:
            self._tell(self.standing.pop(name), "resolved")
        else:
            self.suppressed["unchanged"] += 1
        key = orjson.dumps({"application.name": name}).decode()
        row = {"finding_id": name, "kind": "windowed", "effect": effect, "policy_id": "own/two", "policy_version": 1}
        return {**row, "severity": "high", "stage": "enforce", "group_key": key, "created": _text(self.now)}

    def _tell(self, alert: str, occasion: Any) -> None:
        self.told |= {delivery_id(alert, target, occasion): (alert, occasion) for target in TARGETS}


def _text(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


@dataclass
class Moody:
    """How a receiver behaves: it takes most, refuses some, and sometimes takes one without saying so, or kills."""

    chance: random.Random
    secret: str
    arrived: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Ids and bodies, each verified when it came: a signature is good for five minutes."""
    left: int = 0
    """How many requests it takes until it kills the process that sent one, instead of an answer."""
    victim: int = 0
    _known: threading.Event = field(default_factory=threading.Event)

    def aim(self, left: int) -> None:
        """Kill at a request to come."""
        self._known.clear()
        self.left = left

    def at(self, victim: int) -> None:
        """Say which process to kill."""
        self.victim = victim
        self._known.set()

    def __call__(self, receiver: Receiver, connection: socket.socket, request: Request) -> None:
        """Answer, or not."""
        body = Webhook(self.secret).verify(request.body, request.headers)
        self.arrived.append((request.headers["webhook-id"], body))
        if self.left:
            self.left -= 1
            if not self.left:
                self._known.wait()
                os.kill(self.victim, signal.SIGKILL)
                return
        luck = self.chance.random()
        if luck < 0.06:
            return  # the connection is closed without an answer
        answering("503 Service Unavailable" if luck < 0.12 else "200 OK", b"said")(receiver, connection, request)


@dataclass
class Scene:
    """A store, a receiver, and the process that forks dispatchers."""

    url: str
    receiver: Receiver
    moody: Moody
    processes: Dispatchers
    world: World

    def record(self) -> None:
        """Record what comes next."""
        rows, found = self.world.batch()
        with _opened(self.url) as store:
            insert(store, rows)
            if found:
                insert(store, found, "findings_log")

    def kill(self) -> tuple[int, str]:
        """Kill a dispatcher at a step chosen by chance, and return its exit code and where that was."""
        chance = self.world.chance
        what, most = chance.choice((("store", 40), ("store", 12), ("target", 6), ("answer", 4)))
        nth = chance.randrange(1, most)
        if what != "answer":
            return self.processes.tell(f"{what} {nth} {chance.choice(('before', 'after'))}")
        self.moody.aim(nth)
        code, _ = self.processes.tell(what, self.moody.at)
        self.moody.left = 0
        return code, "between a delivery's request and its answer"

    def seen(self) -> Counter[str]:
        """Return how often each delivery came, all of them signed."""
        assert len(self.moody.arrived) == len(self.receiver.requests)
        ids: Counter[str] = Counter()
        for name, body in self.moody.arrived:
            alert, occasion = self.world.told.get(name, ("", ""))
            assert (body["data"]["alert_id"], body["type"]) == (alert, f"io.usageaudit.alert.{occasion}")
            ids[name] += 1
        return ids


@contextmanager
def _opened(url: str) -> Iterator[Store]:
    """Have the store open for a moment: the embedded one belongs to one process at a time."""
    store = open_store(url)
    try:
        yield store
    finally:
        store.close()


@pytest.fixture(params=[EMBEDDED, SERVER])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a store with its tables, and no rows."""
    if request.param == "embedded":
        made = f"embedded:{tmp_path / 'store'}"
    else:
        made = str(request.getfixturevalue("clickhouse_database"))
    with _opened(made) as store:
        migrate(store)
        fence_of(store).raise_epoch(Partition("stream-1", "usage-events", 0), "somebody")
    return made


@pytest.fixture
def scene(url: str, tmp_path: Path) -> Iterator[Scene]:
    """Yield an empty store in which a dispatcher has begun, and what belongs to it."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "bundle.yaml").write_text("name: own\n")
    for name, alert in (("one", "alert: {dedup_by: [application.name], for: 10m}\n"), ("two", "")):
        text = f"id: own/{name}\ntitle: {name}\nseverity: high\nwhen: 'operation == \"chat\"'\nmessage: m\n{alert}"
        (tmp_path / "policies" / f"{name}.yaml").write_text(text)
    secret, seed = new_secret(), random.randrange(10**6)
    print(f"seed {seed}")
    moody = Moody(random.Random(seed), secret)
    with Receiver(moody) as receiver:
        hook = f"{{webhook: {{url: '{receiver.url}', secrets: [{{env: HOOK}}]}}}}"
        alerts = tmp_path / "alerts.yaml"
        alerts.write_text(
            f"alerts: 1\ntargets: {{{', '.join(f'{name}: {hook}' for name in TARGETS)}}}\n"
            f"routes: [{{match: {{severity: [high]}}, to: [{', '.join(TARGETS)}]}}]\n"
            "network: {allow: [127.0.0.1]}\nretry: {first: 1s, longest: 1s, give_up: 1d}\n"
        )
        with dispatchers(url, tmp_path, alerts, {"HOOK": secret}) as processes:
            assert processes.tell("finish")[0] == 0
            yield Scene(url, receiver, moody, processes, World(random.Random(seed + 1)))


@pytest.mark.timeout(3600 if KILLS > 20 else 120)
def test_killed_at_any_step_it_tells_of_all_that_it_should_and_of_nothing_else(scene: Scene) -> None:
    """Each alert reaches each target by one id, what is suppressed reaches nobody, and the record tells all of it."""
    world, places = scene.world, Counter[str]()
    while places.total() < KILLS:
        scene.record()
        code, where = scene.kill()
        assert code in (0, -signal.SIGKILL)
        if code:
            places[where] += 1
    assert scene.processes.tell("finish") == (0, "")
    seen = scene.seen()
    assert seen.keys() == world.told.keys()
    with _opened(scene.url) as store:
        _assert_the_record_tells_all(store, world, seen)
    repeats = seen.total() - len(seen)
    print(f"{places.total()} kills, {len(seen)} deliveries, {repeats} repeats, suppressed: {dict(world.suppressed)}")
    print(*(f"{count:4} {where}" for where, count in sorted(places.items())), sep="\n")


def _assert_the_record_tells_all(store: Store, world: World, seen: Counter[str]) -> None:
    deliveries = store.execute(
        "SELECT delivery_id, alert_id, occasion, state, attempts, status, response FROM alert_deliveries"
    )
    found = {str(name): rest for name, *rest in deliveries.rows}
    assert {name: (alert, occasion) for name, (alert, occasion, *_) in found.items()} == world.told
    assert {tuple(rest[2:3] + rest[4:]) for rest in found.values()} == {("delivered", 200, "said")}
    assert all(1 <= rest[3] <= seen[name] for name, rest in found.items())
    changes = store.execute(
        "SELECT delivery_id, groupArray(change), groupArray(toString(state)), groupArray(attempts) "
        "FROM (SELECT * FROM alert_deliveries_log ORDER BY change) GROUP BY delivery_id"
    ).rows
    for _, numbers, states, attempts in changes:
        assert list(numbers) == list(range(len(numbers)))
        assert list(states) == ["retrying"] * (len(states) - 1) + ["delivered"]
        assert list(attempts) == list(range(1, len(attempts) + 1))
    counted = store.execute(
        "SELECT alert_id, uniqExact(violation_id), count() FROM alert_decisions "
        "WHERE outcome IN ('opened', 'gathered') GROUP BY alert_id"
    ).rows
    assert {str(alert): (int(ids), int(rows)) for alert, ids, rows in counted} == {
        alert: (count, count) for alert, count in world.members.items()
    }


def test_one_that_forgets_what_was_left_unfinished_loses_alerts(scene: Scene) -> None:
    """Control: where a dispatcher does not look for unfinished deliveries, what was to be sent at the kill is lost."""
    while not scene.world.told:
        scene.record()
    assert scene.processes.tell("forget 1") == (-9, "before a delivery")
    assert scene.processes.tell("forgotten")[0] == 0
    assert scene.seen().keys() < scene.world.told.keys()
    assert scene.processes.tell("finish")[0] == 0
    assert scene.seen().keys() == scene.world.told.keys()
