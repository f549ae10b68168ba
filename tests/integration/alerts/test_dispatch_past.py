"""Where a dispatcher begins, in which order partitions come, clocks that go back, and one that wakes up too late."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.integration.alerts.test_dispatching import POLICY, TABLES, Receiver, alert_of, bundle, config, until
from tests.ledger_rows import EMBEDDED, accepted, insert, migrated_store, plain, verdict
from usageaudit.alerts.dispatcher import Dispatcher
from usageaudit.stores.fencing import fence_of
from usageaudit.streams.port import Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from usageaudit.policy.model import Bundle
    from usageaudit.stores.port import Insert, Store

__all__ = ["bundle"]
NINE = 1_772_442_000_000
"""2026-03-02 09:00:00 in milliseconds."""
DECIDED = "SELECT count(), uniqExact(violation_id) FROM alert_decisions"


@pytest.fixture(scope="module", params=[EMBEDDED])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store with its tables."""
    with migrated_store(request, tmp_path_factory) as made:
        yield made


@pytest.fixture
def store(opened: Store) -> Store:
    """Return the store without rows but for three partitions that were taken over."""
    for table in TABLES:
        opened.execute(f"TRUNCATE TABLE {table}")
    for number in range(3):
        fence_of(opened).raise_epoch(Partition("stream-1", "usage-events", number), "somebody")
    return opened


def record(store: Store, number: int, when: str, partition: int = 0, offset: int = 0) -> None:
    """Record a violation of an application of its own."""
    judged = verdict("violated", (POLICY, 1, "high", "enforce", "m", "{}", []))
    place = {"partition": partition, "offset": offset, "application_name": f"app-{number}"}
    insert(store, [accepted(f"e{number}", when, judged, **place)])


def _told(receiver: Receiver) -> list[str]:
    return sorted(one.alert.alert_id for one in receiver.told)


def test_it_begins_where_it_is_told_to(store: Store, bundle: Bundle) -> None:
    """With `since` it tells of what was recorded after that, and of nothing before."""
    for number, hour in enumerate(("08:00", "08:59", "09:00", "09:01", "10:00")):
        record(store, number, f"2026-03-02 {hour}:00", partition=number % 3, offset=number)
    receiver = Receiver()
    dispatcher = Dispatcher(store, config("hook"), bundle, {"hook": receiver}, since=NINE)
    until(dispatcher, lambda: len(receiver.told) >= 2)
    dispatcher.close()
    assert _told(receiver) == sorted(alert_of(number, f"app-{number}") for number in (3, 4))


def test_partitions_and_clocks_of_any_order_are_told_of(store: Store, bundle: Bundle) -> None:
    """Partitions far apart, and a consumer whose clock is an hour behind the one before, leave nothing untold."""
    receiver = Receiver()
    dispatcher = Dispatcher(store, config("hook"), bundle, {"hook": receiver})
    dispatcher.step()
    record(store, 0, "2026-03-02 09:00:00", partition=0, offset=0)
    record(store, 1, "2026-03-02 09:00:01", partition=2, offset=5_000_000)
    until(dispatcher, lambda: len(receiver.told) == 2)
    record(store, 2, "2026-03-02 08:00:00", partition=0, offset=1)
    record(store, 3, "2026-03-02 08:00:01", partition=1, offset=0)
    record(store, 4, "2026-03-02 08:00:02", partition=2, offset=5_000_001)
    dispatcher._last.pop("thorough")  # it takes such a look every ten seconds
    until(dispatcher, lambda: len(receiver.told) == 5)
    dispatcher.close()
    assert _told(receiver) == sorted(alert_of(number, f"app-{number}") for number in range(5))
    assert plain(store.execute(DECIDED)) == [(5, 5)]


@dataclass
class Sleeping:
    """A store that does something before a block is written, as if its process had been asleep meanwhile."""

    store: Any
    meanwhile: Callable[[], None]
    fenced: bool

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def insert(self, block: Insert) -> None:
        """Sleep, and write what was under way."""
        self.meanwhile()
        self.store.insert(block if self.fenced else replace(block, unless="", parameters={}))


@pytest.mark.parametrize("fenced", [True, False], ids=["fenced", "control"])
def test_one_that_wakes_up_too_late_writes_nothing(store: Store, bundle: Bundle, fenced: bool) -> None:
    """Asleep while another took over, it decides and sends nothing more; without the fence it is decided twice."""
    asleep, awake, own = Receiver(), Receiver(), store.another()
    other = Dispatcher(own, config("hook"), bundle, {"hook": awake})

    def take_over() -> None:
        store.execute("TRUNCATE TABLE leases")
        until(other, lambda: bool(awake.told))

    sleeping = cast("Store", Sleeping(store, take_over, fenced))
    late = Dispatcher(sleeping, config("hook"), bundle, {"hook": asleep}, lease_seconds=50)
    assert late.step() == 0
    record(store, 0, "2026-03-02 09:00:00")
    late.step()
    assert plain(store.execute(DECIDED)) == [(1 if fenced else 2, 1)]
    if fenced:
        assert late.step() is None
        assert asleep.told == []
    late.close()
    other.close()
    own.close()
    assert [one.alert.alert_id for one in awake.told] == [alert_of(0, "app-0")]
