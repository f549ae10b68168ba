"""The scheduler on three replicas: who leads, what one that was deposed writes, and what is lost with a replica.

As before a consumer takes a partition over, whoever begins to lead ends what is under way on every replica. So the
next one leads when a replica that was killed is back.
"""

from __future__ import annotations

import json
import random
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.windows.reference import Spec, findings
from tests.integration.windows.test_windows import BASE, arriving, row, streams
from tests.ledger_rows import insert
from tests.replicated import WeakenedReplicas, as_it_catches_up
from usageaudit.errors import StoreUnavailable
from usageaudit.ledger.ddl import TABLES
from usageaudit.policy import load_bundle
from usageaudit.scheduler import service
from usageaudit.scheduler.lease import Lease
from usageaudit.scheduler.progress import write_progress
from usageaudit.scheduler.service import Scheduler
from usageaudit.stores.fencing import fence_of
from usageaudit.stores.settling import settle
from usageaudit.streams.port import Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.windows.reference import Event
    from tests.replicated import Connect
    from tests.servers.cluster import Cluster, Replica
    from usageaudit.policy.model import Bundle
    from usageaudit.stores.port import Replicated, Store

pytestmark = [pytest.mark.clickhouse, pytest.mark.timeout(300)]

KEPT = ("ledger", "leases", "findings_log", "window_events", "window_progress")
DEADLINE_S = 60
THREE = Spec("event_count", lambda _: True, length=10, holds=lambda value: value == 3)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a bundle that finds three events of an application within ten seconds."""
    folder: Path = tmp_path_factory.mktemp("own")
    (folder / "policies").mkdir()
    (folder / "bundle.yaml").write_text("name: own\n", encoding="utf-8")
    (folder / "policies" / "one.yaml").write_text(
        "id: own/one\ntitle: one\nseverity: high\nwhen: 'true'\n"
        "window: {kind: event_count, over: 10s, group_by: [application.name]}\ncondition: 'value == 3'\n",
        encoding="utf-8",
    )
    return load_bundle([folder])


@pytest.fixture
def first(cluster: Cluster, connect: Connect) -> Iterator[Replicated]:
    """Yield a store at the first replica, without rows, and with a partition that somebody owns."""
    store = connect(cluster.replicas[0])
    for table in KEPT:
        store.execute(f"TRUNCATE TABLE {table}")
    fence_of(store).raise_epoch(Partition("stream-1", "usage-events", 0), "somebody")
    yield store
    for replica in cluster.replicas:
        replica.execute("SYSTEM START FETCHES")


def _scheduler(store: Store, bundle: Bundle, lease_seconds: float = 15.0) -> Scheduler:
    made = Scheduler(store, bundle, lateness=3_000_000, since=-1)
    made.lease.seconds = lease_seconds
    return made


def _event(t: int, number: int, app: str = "app-0") -> Event:
    return {
        "app": app, "t": BASE + t, "source": "svc-a", "id": f"e{number}", "operation": "chat", "model": "a",
        "tokens": 1, "use_case": None, "status": "accepted",
    }  # fmt: skip


def _add(store: Store, events: list[Event], first: int = 0) -> None:
    insert(store, [row(one, first + number) for number, one in enumerate(events)])


def _found(replica: Replica) -> list[tuple[str, int, int]]:
    """Return each row of the findings that a replica has itself."""
    rows = replica.execute(
        "SELECT group_key, toUnixTimestamp(window_start), toUnixTimestamp(window_end) FROM usageaudit.findings_log "
        "WHERE effect = 'violation' AND group_key NOT LIKE '%\"last\"%'"
    )
    return sorted((json.loads(key)["application.name"], start, end) for key, start, end in rows)


def _standing(replica: Replica) -> list[tuple[str, int, int]]:
    """Return what stands, by a replica's own rows: each finding said once, and once more each time it was cleared."""
    rows = replica.execute(
        "SELECT any(group_key), toUnixTimestamp(any(window_start)), toUnixTimestamp(any(window_end)), "
        "argMax(effect, created), countIf(effect = 'violation') - countIf(effect = 'cleared') "
        "FROM usageaudit.findings_log WHERE group_key NOT LIKE '%\"last\"%' GROUP BY finding_id"
    )
    assert all(said == (effect == "violation") for *_, effect, said in rows)
    names = [(json.loads(key)["application.name"], start, end, effect) for key, start, end, effect, _ in rows]
    return sorted((app, start, end) for app, start, end, effect in names if effect == "violation")


def _until(what: str, condition: Callable[[], Any]) -> None:
    give_up = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < give_up, what
        time.sleep(0.02)


def _finish(scheduler: Scheduler) -> None:
    """Step until nothing is left, as the service does where the store is away."""

    def over() -> bool:
        try:
            return scheduler.step() is not None and scheduler.caught_up()
        except StoreUnavailable:
            return False

    _until("all is read", over)


def test_migrations_make_tables_of_windows_and_alerts_that_replicate(cluster: Cluster, first: Store) -> None:
    """Each table is a replicated one on each replica; the fence alone is kept by Keeper itself."""
    names = {table.name for table in TABLES}
    assert {"leases", "window_events", "window_progress", "alert_decisions", "alert_progress"} < names
    for replica in cluster.replicas:
        rows = replica.execute(
            "SELECT name, engine FROM system.tables WHERE database = 'usageaudit' AND engine != 'View'"
        )
        engines = {name: engine for name, engine in rows if name in names}
        assert {name for name, engine in engines.items() if engine.startswith("Replicated")} == names - {"fence"}


def _taken_while_held(first: Store, lagging: Store, replica: Replica) -> bool:
    """Tell whether a lease that is held is taken through a replica that had not fetched it."""
    lagging.execute("SELECT 1")  # has its connection
    replica.execute("SYSTEM STOP FETCHES usageaudit.leases")
    assert Lease(first, "two").hold()
    found = list[bool]()
    as_it_catches_up(replica, "leases", lambda: found.append(Lease(lagging, "two").hold()))
    return found[0]


def test_a_lease_that_another_replica_knows_of_is_not_taken(
    cluster: Cluster, connect: Connect, first: Replicated
) -> None:
    """Who finds a lease free looks again when its replica has caught up; the control, which does not, deposes."""
    replica = cluster.replicas[2]
    assert not _taken_while_held(first, connect(replica), replica)
    first.execute("TRUNCATE TABLE leases")
    assert _taken_while_held(first, WeakenedReplicas(connect(replica), catches_up=False), replica)


def test_who_was_deposed_leads_no_longer_although_its_replica_lags(
    cluster: Cluster, connect: Connect, first: Replicated
) -> None:
    """Its own replica shows the lease as its own; the fence says that it is another's."""
    replica = cluster.replicas[2]
    deposed, next_ = Lease(connect(replica), "two", 0.1), Lease(first, "two")
    assert deposed.hold()
    settle(first, "leases")
    replica.execute("SYSTEM STOP FETCHES usageaudit.leases")
    _until("the lease is over", next_.hold)
    assert not deposed.hold()


class _Deposed:
    """A store whose user is deposed just before it writes a finding, by one that does nothing else."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def execute(self, sql: str, *arguments: Any, **named: Any) -> Any:
        """Run a statement."""
        if sql.startswith("INSERT INTO findings_log"):
            fence_of(self._store).raise_epoch(Partition("usageaudit", service.LEASE, 0), "died at once")
        return self._store.execute(sql, *arguments, **named)


@pytest.mark.parametrize("fenced", [True, False], ids=["fenced", "control"])
def test_a_finding_that_was_refused_is_written_by_the_next_that_leads(
    cluster: Cluster, connect: Connect, first: Replicated, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, fenced: bool
) -> None:
    """Progress is refused with the findings before it; the control, where it is not, loses the finding."""
    if not fenced:
        nobody = SimpleNamespace(epoch=1, taken_over=lambda: ("0", {}))
        write: Any = write_progress
        monkeypatch.setattr(service, "write_progress", lambda store, rule, after, _: write(store, rule, after, nobody))
    _add(first, [*(_event(number, number) for number in range(3)), _event(60, 9, "last")])
    deposed: Any = _Deposed(first)
    _scheduler(deposed, bundle, 0.1).step()
    assert _found(cluster.replicas[0]) == []
    _finish(_scheduler(connect(cluster.replicas[1]), bundle))
    assert len(_found(cluster.replicas[1])) == fenced


def _taken_over_at(lagging: Store, replica: Replica, first: Store, bundle: Bundle) -> int:
    """Have a leader find something and another go on at a replica that lags; return how many rows are written."""
    lagging.execute("SELECT 1")
    for table in ("window_progress", "findings_log"):
        replica.execute(f"SYSTEM STOP FETCHES usageaudit.{table}")
    _add(first, [*(_event(number, number) for number in range(3)), _event(60, 9, "last")])
    leader = _scheduler(first, bundle)
    _finish(leader)
    leader.give_back()
    follower = _scheduler(lagging, bundle)
    if isinstance(lagging, WeakenedReplicas):
        # What it has to see is there, but for what the one before it wrote.
        settle(lagging.store, "ledger", "leases")
    as_it_catches_up(replica, "window_progress", lambda: _finish(follower))
    settle(first, "findings_log")
    replica.execute("SYSTEM SYNC REPLICA usageaudit.findings_log LIGHTWEIGHT")
    return len(_found(replica))


def test_what_was_found_is_not_found_again_at_a_replica_that_lags(
    cluster: Cluster, connect: Connect, first: Replicated, bundle: Bundle
) -> None:
    """The next leader waits for what the one before wrote; the control, which does not, writes it again."""
    replica = cluster.replicas[2]
    assert _taken_over_at(connect(replica), replica, first, bundle) == 1
    for table in KEPT:
        first.execute(f"TRUNCATE TABLE {table}")
    assert _taken_over_at(WeakenedReplicas(connect(replica), catches_up=False), replica, first, bundle) == 2


def test_a_leader_goes_on_without_its_replica_and_the_next_when_that_is_back(
    cluster: Cluster, connect: Connect, first: Replicated, bundle: Bundle
) -> None:
    """With replicas killed between steps, and a leader killed, every replica has what the reference finds, once."""
    chance = random.Random(7)
    events = streams(8, 1, chance)
    wanted = findings(THREE, events)
    arrivals = arriving(events, 1, chance)
    dies, second, _ = cluster.replicas
    third = len(arrivals) // 3
    leader, other = _scheduler(first, bundle, 3.0), connect(second)
    _add(other, arrivals[:third])
    _finish(leader)
    dies.kill()
    try:
        _add(other, arrivals[third : 2 * third], third)
        _finish(leader)  # through another replica
        _add(other, [*arrivals[2 * third :], {**_event(399 * 86_400, 0, "last"), "id": "last"}], 2 * third)
        next_ = _scheduler(other, bundle)

        def refused() -> bool:
            try:
                assert next_.step() is None
            except StoreUnavailable as error:
                return "can't be reached" in str(error)
            return False

        _until("the lease is over", refused)
    finally:
        dies.start()
    _finish(next_)
    settle(other, "findings_log")
    for replica in cluster.replicas:
        replica.execute("SYSTEM SYNC REPLICA usageaudit.findings_log LIGHTWEIGHT")
        assert _standing(replica) == wanted
    assert wanted
