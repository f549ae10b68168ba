"""The dispatcher on three replicas: through one that lags, and past one that goes away, each is told once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.alerts.test_dispatching import Receiver, alert_of, config, violations
from tests.ledger_rows import accepted, insert, verdict
from tests.replicated import WeakenedReplicas, as_it_catches_up
from usageaudit.alerts.dispatcher import Dispatcher
from usageaudit.alerts.model import delivery_id
from usageaudit.errors import StoreUnavailable
from usageaudit.policy import load_bundle
from usageaudit.stores.fencing import fence_of
from usageaudit.stores.settling import settle
from usageaudit.streams.port import Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.replicated import Connect
    from tests.servers.cluster import Cluster, Replica
    from usageaudit.policy.model import Bundle
    from usageaudit.stores.port import Replicated, Store

pytestmark = [pytest.mark.clickhouse, pytest.mark.timeout(300)]

DEADLINE_S = 60
KEPT = ("ledger", "leases", "findings_log", "alert_decisions", "alert_deliveries_log", "alert_progress")
WHEN = "2026-03-02 09:00:00"


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


@pytest.fixture
def first(cluster: Cluster, connect: Connect) -> Iterator[Replicated]:
    """Yield a store at the first replica, without rows, and with a partition that somebody owns."""
    store = connect(cluster.replicas[0])
    _empty(store)
    fence_of(store).raise_epoch(Partition("stream-1", "usage-events", 0), "somebody")
    yield store
    for replica in cluster.replicas:
        replica.execute("SYSTEM START FETCHES")


def _empty(store: Store) -> None:
    for table in KEPT:
        store.execute(f"TRUNCATE TABLE {table}")


def _dispatcher(store: Store, bundle: Bundle, receiver: Receiver, lease_seconds: float = 15.0) -> Dispatcher:
    return Dispatcher(store, config("hook"), bundle, {"hook": receiver}, since=0, lease_seconds=lease_seconds)


def _violate(store: Store, first: int, *apps: str) -> None:
    """Record a violation of each application, at offsets from the first on."""
    of = verdict("violated", ("own/one", 1, "high", "enforce", "m", "{}", []))
    rows = [
        accepted(f"e{first + place}", WHEN, of, offset=first + place, application_name=app)
        for place, app in enumerate(apps)
    ]
    insert(store, rows)


def _finish(dispatcher: Dispatcher, over: Callable[[], bool] = lambda: True) -> None:
    """Step until nothing is left to do, as the service does where the store is away."""
    give_up, idle = time.monotonic() + DEADLINE_S, 0
    while idle < 2 or not over():
        assert time.monotonic() < give_up, dispatcher.state()
        try:
            done = dispatcher.step()
        except StoreUnavailable:
            done = None
        state = dispatcher.state()
        idle = idle + 1 if done == 0 and not state.waiting + state.retrying else 0
        time.sleep(0.01)


def _ids(*apps: str) -> list[str]:
    return sorted(delivery_id(alert_of(offset, app), "hook", "opened") for offset, app in enumerate(apps))


def _with_a_hole(lagging: Store, replica: Replica, first: Store, bundle: Bundle) -> list[str]:
    """Have a replica know of later rows before earlier ones; return the ids of what its dispatcher delivers."""
    receiver = Receiver()
    dispatcher = _dispatcher(lagging, bundle, receiver)
    _violate(lagging, 0, "a")
    _finish(dispatcher)
    replica.execute("SYSTEM STOP FETCHES usageaudit.ledger")
    _violate(first, 1, "b")
    _violate(lagging, 2, "c")
    as_it_catches_up(replica, "ledger", lambda: _finish(dispatcher))
    replica.execute("SYSTEM SYNC REPLICA usageaudit.ledger LIGHTWEIGHT")
    _finish(dispatcher)
    dispatcher.close()
    return sorted(receiver.tries)


def test_rows_that_a_replica_fetches_after_later_ones_are_alerted(
    cluster: Cluster, connect: Connect, first: Replicated, bundle: Bundle
) -> None:
    """The dispatcher waits for its replica before it goes by offsets; the control, which does not, passes one over."""
    replica = cluster.replicas[2]
    assert _with_a_hole(connect(replica), replica, first, bundle) == _ids("a", "b", "c")
    _empty(first)
    control = _with_a_hole(WeakenedReplicas(connect(replica), catches_up=False), replica, first, bundle)
    assert len(control) == 2


def _followed(lagging: Store, replica: Replica, first: Store, bundle: Bundle) -> list[str]:
    """Have a dispatcher deliver, and another follow it at a replica that lags; return the ids of all deliveries."""
    lagging.execute("SELECT 1")  # has its connection
    receiver = Receiver()
    before = _dispatcher(first, bundle, receiver)
    _violate(first, 0, "a", "b")
    settle(first, "ledger")
    for table in ("alert_decisions", "alert_deliveries_log", "alert_progress"):
        replica.execute(f"SYSTEM STOP FETCHES usageaudit.{table}")
    _finish(before)
    before.close()
    replica.execute("SYSTEM SYNC REPLICA usageaudit.leases LIGHTWEIGHT")
    replica.execute("SYSTEM SYNC REPLICA usageaudit.ledger LIGHTWEIGHT")
    after = _dispatcher(lagging, bundle, receiver)
    as_it_catches_up(replica, "alert_decisions", lambda: _finish(after))
    after.close()
    return sorted(receiver.tries)


def test_what_was_decided_is_not_decided_again_at_a_replica_that_lags(
    cluster: Cluster, connect: Connect, first: Replicated, bundle: Bundle
) -> None:
    """Who follows waits for what was decided before; the control, which does not, tells everybody again."""
    replica = cluster.replicas[2]
    assert _followed(connect(replica), replica, first, bundle) == _ids("a", "b")
    _empty(first)
    control: Any = WeakenedReplicas(connect(replica), catches_up=False)
    assert len(_followed(control, replica, first, bundle)) == 4


def test_alerts_go_on_without_a_replica_and_with_another_dispatcher_when_it_is_back(
    cluster: Cluster, connect: Connect, first: Replicated, bundle: Bundle
) -> None:
    """With a replica killed between steps, and a dispatcher left, each violation is told of once, with its own id."""
    dies, second, _ = cluster.replicas
    receiver, other = Receiver(), connect(second)
    left = _dispatcher(first, bundle, receiver, 3.0)
    violations(other, (WHEN, "a"))
    _finish(left, lambda: len(receiver.told) == 1)
    dies.kill()
    try:
        violations(other, (WHEN, "b"))
        _finish(left, lambda: len(receiver.told) == 2)  # through another replica
    finally:
        dies.start()
    violations(other, (WHEN, "c"))
    _finish(_dispatcher(other, bundle, receiver), lambda: len(receiver.told) == 3)
    assert sorted(receiver.tries) == _ids("a", "b", "c")
    for replica in cluster.replicas:
        for table in ("alert_decisions", "alert_deliveries_log"):
            replica.execute(f"SYSTEM SYNC REPLICA usageaudit.{table} LIGHTWEIGHT")
        ((decided, distinct),) = replica.execute(
            "SELECT count(), uniqExact(recorded, violation_id) FROM usageaudit.alert_decisions"
        )
        assert (decided, distinct) == (3, 3)
