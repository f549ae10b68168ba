"""The dispatcher where time matters: what falls due in a pause, and who is told that an alert was acknowledged."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pytest

from tests.integration.alerts.test_dispatching import (
    TABLES,
    Clock,
    Receiver,
    alert_of,
    bundle,
    config,
    states,
    until,
    violations,
)
from tests.ledger_rows import EMBEDDED, SERVER, migrated_store
from usageaudit.alerts.config.settings import Escalation
from usageaudit.alerts.dispatcher import Dispatcher, acknowledge
from usageaudit.alerts.model import delivery_id
from usageaudit.alerts.targets.pagerduty import render
from usageaudit.stores.fencing import fence_of
from usageaudit.streams.port import Partition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.policy.model import Bundle
    from usageaudit.stores.port import Store

__all__ = ["bundle"]
WHEN = "2026-03-02 09:00:00"
STORES = [EMBEDDED, SERVER] if os.environ.get("USAGEAUDIT_TEST_STATEMENTS") else [EMBEDDED]


@dataclass
class Pager(Receiver):
    """A target that has alerts of its own."""

    acknowledges: Literal[True] = True


@pytest.fixture(scope="module", params=STORES)
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


def rounds(dispatcher: Dispatcher, clock: Clock, seconds: float, count: int) -> None:
    """Take steps, each so many seconds after the one before."""
    for _ in range(count):
        clock.now += seconds
        until(dispatcher, lambda: dispatcher.state().waiting == 0)


def test_a_target_with_alerts_of_its_own_is_told_once_of_an_acknowledgement(store: Store, bundle: Bundle) -> None:
    """Who has alerts of its own is told of the first acknowledgement, once, also over a restart; chats are not told."""
    clock, pager, chat = Clock(), Pager(), Receiver()
    targets = {"pager": pager, "chat": chat}
    dispatcher = Dispatcher(store, config("pager", "chat"), bundle, targets, clock=clock)
    dispatcher.step()
    violations(store, (WHEN, "bot"))
    name = alert_of(0, "bot")
    until(dispatcher, lambda: {state for state, _ in states(store).values()} == {"delivered"})
    rounds(dispatcher, clock, 10, 2)
    assert len(pager.told) == 1
    acknowledge(store, name, "ann", "cli")
    clock.now += 10
    until(dispatcher, lambda: len(pager.told) == 2)
    acknowledge(store, name, "bob", "cli")
    rounds(dispatcher, clock, 10, 3)
    dispatcher.close()
    again = Dispatcher(store, config("pager", "chat"), bundle, targets, clock=clock)
    rounds(again, clock, 10, 2)
    again.close()
    told = pager.told[1]
    assert [one.occasion for one in pager.told] == ["opened", "acknowledged"]
    assert [one.occasion for one in chat.told] == ["opened"]
    assert told.delivery_id == delivery_id(name, "pager", "acknowledged")
    assert render(told, "key") == {"routing_key": "key", "dedup_key": name, "event_action": "acknowledge"}


@pytest.mark.parametrize("silent", [20, 0], ids=["silent for 20 days", "at work"])
def test_escalations_that_fell_due_in_a_pause_are_late_and_not_lost(store: Store, bundle: Bundle, silent: int) -> None:
    """After a pause of 20 days people are told of what fell due in it; one at work does not look back so far."""
    receiver, boss = Receiver(), Receiver()
    targets = {"hook": receiver, "boss": boss}
    escalate = Escalation(60, ("boss",))
    first = Dispatcher(store, config("hook", escalate=escalate), bundle, targets)
    first.step()
    violations(store, (WHEN, "bot"))
    until(first, lambda: bool(receiver.told))
    first.close()
    store.execute("CREATE TABLE was AS alert_decisions ENGINE = Memory")
    store.execute(
        "INSERT INTO was SELECT * REPLACE (decided_at - toIntervalDay(19) AS decided_at) FROM alert_decisions"
    )
    store.execute("TRUNCATE TABLE alert_decisions")
    store.execute("INSERT INTO alert_decisions SELECT * FROM was")
    store.execute("DROP TABLE was")
    store.execute(
        "INSERT INTO alert_progress SELECT * REPLACE (epoch + 1 AS epoch, "
        f"written - toIntervalDay({silent}) AS written) FROM alert_progress ORDER BY epoch DESC, step DESC LIMIT 1"
    )
    if silent:
        store.execute(
            "ALTER TABLE alert_progress DELETE WHERE written > now64(3, 'UTC') - toIntervalDay(1) "
            "SETTINGS mutations_sync = 1"
        )
    second = Dispatcher(store, config("hook", escalate=escalate), bundle, targets)
    for _ in range(3):
        until(second, lambda: second.state().waiting == 0)
    second.close()
    expected = [delivery_id(alert_of(0, "bot"), "boss", "escalated")] if silent else []
    assert [one.delivery_id for one in boss.told] == expected
    assert len(receiver.told) == 1
