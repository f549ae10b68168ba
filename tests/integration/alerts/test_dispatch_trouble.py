"""The dispatcher in trouble: targets that are down or wait, and a store that refuses or goes away within a step."""

from __future__ import annotations

import datetime as dt
import os
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

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
from tests.ledger_rows import EMBEDDED, migrated_store, plain
from usageaudit.alerts.config.quiet import Quiet
from usageaudit.alerts.config.settings import Retry
from usageaudit.alerts.dispatcher import Dispatcher, resend, run_dispatcher
from usageaudit.alerts.model import delivery_id
from usageaudit.alerts.targets.port import DeliveryFailed
from usageaudit.errors import OutcomeUnknown, QueryError, StoreUnavailable
from usageaudit.stores.fencing import fence_of
from usageaudit.streams.port import Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from usageaudit.policy.model import Bundle
    from usageaudit.stores.port import Store

__all__ = ["bundle"]
WHEN = "2026-03-02 09:00:00"
NTH = range(1, 24, 1 if os.environ.get("USAGEAUDIT_TEST_STATEMENTS") else 4)
"""The statements that fail: some, or all where the variable is set."""
DOWN = DeliveryFailed("the answer was 503", again=True, status=503)


@pytest.fixture(scope="module", params=[EMBEDDED])
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


@dataclass
class Faulty:
    """A store that raises at its N-th call, before or after the call is done."""

    store: Any
    error: Exception
    left: int
    after: bool

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.store, name)
        if name not in ("execute", "insert", "look_up"):
            return found

        def call(*args: Any, **values: Any) -> Any:
            self.left -= 1
            if self.left == 0 and not self.after:
                raise self.error
            answer = found(*args, **values)
            if self.left == 0:
                raise self.error
            return answer

        return call


def quiet_now(*exempt: Any) -> Quiet:
    """Return hours that are quiet now and for hours to come."""
    now = dt.datetime.now(dt.UTC)
    start = (now - dt.timedelta(hours=2)).time().replace(microsecond=0)
    end = (now + dt.timedelta(hours=2)).time().replace(microsecond=0)
    return Quiet("UTC", start, end, frozenset(range(7)), frozenset(exempt))


def test_quiet_hours_hold_alerts_over_a_restart(store: Store, bundle: Bundle) -> None:
    """What waits for quiet hours to end is told afterwards, also by another dispatcher; severities excepted at once."""
    clock, receiver = Clock(), Receiver()
    plainly = config("hook")
    quiet = replace(plainly, routes=(replace(plainly.routes[0], quiet=quiet_now("critical")),))
    first = Dispatcher(store, quiet, bundle, {"hook": receiver}, clock=clock)
    first.step()
    violations(store, (WHEN, "bot"))
    violations(store, (WHEN, "grave"), severity="critical")
    grave, held = (delivery_id(alert_of(at, app), "hook", "opened") for at, app in ((1, "grave"), (0, "bot")))
    until(first, lambda: states(store).get(grave) == ("delivered", 1) and states(store)[held] == ("postponed", 0))
    assert [one.delivery_id for one in receiver.told] == [grave]
    first.close()
    second = Dispatcher(store, plainly, bundle, {"hook": receiver}, clock=clock)
    for _ in range(3):
        second.step()
    assert [one.delivery_id for one in receiver.told] == [grave]
    clock.now += 3 * 3600
    until(second, lambda: states(store)[held] == ("delivered", 1))
    second.close()
    assert [one.delivery_id for one in receiver.told] == [grave, held]


def test_what_waited_for_longer_than_give_up_is_tried_again(store: Store, bundle: Bundle) -> None:
    """A night of quiet hours takes none of the time for which a delivery that fails is tried again."""
    clock, receiver = Clock(), Receiver(DOWN)
    plainly = config("hook", retry=Retry(1, 5, 600))
    quiet = replace(plainly, routes=(replace(plainly.routes[0], quiet=quiet_now()),))
    first = Dispatcher(store, quiet, bundle, {"hook": receiver}, clock=clock)
    first.step()
    violations(store, (WHEN, "bot"))
    name = delivery_id(alert_of(0, "bot"), "hook", "opened")
    until(first, lambda: states(store).get(name) == ("postponed", 0))
    clock.now += 3600
    assert first.state().oldest == 0
    first.close()
    second = Dispatcher(store, plainly, bundle, {"hook": receiver}, clock=clock)
    second.step()
    clock.now += 2 * 3600 + 60
    until(second, lambda: states(store)[name] == ("retrying", 1))
    receiver.failure = None
    clock.now += 60
    until(second, lambda: states(store)[name] == ("delivered", 2))
    second.close()


def test_a_receiver_that_is_down_for_an_hour_gets_everything_once(store: Store, bundle: Bundle) -> None:
    """Its circuit opens and spares attempts, and once it is back every alert arrives once with its id."""
    clock, receiver = Clock(), Receiver(DOWN)
    retrying = config("hook", retry=Retry(1, 60, 86_400))
    dispatcher = Dispatcher(store, retrying, bundle, {"hook": receiver}, clock=clock)
    dispatcher.step()
    violations(store, *((WHEN, f"bot{one}") for one in range(8)))
    opened = False
    for _ in range(60):
        clock.now += 60
        before = len(receiver.tries)
        dispatcher.step()
        until(dispatcher, lambda: dispatcher._delivering.outbox.in_flight() == 0)
        opened = opened or dispatcher.state().open_breakers == 1
        assert len(receiver.tries) - before <= 8
    assert opened
    assert receiver.told == []
    receiver.failure = None
    while len(receiver.told) < 8:
        clock.now += 60
        until(dispatcher, lambda: dispatcher._delivering.outbox.in_flight() == 0)
    until(dispatcher, lambda: {state for state, _ in states(store).values()} == {"delivered"})
    assert dispatcher.state().open_breakers == 0
    dispatcher.close()
    assert len({one.delivery_id for one in receiver.told}) == len(receiver.told) == 8
    assert sum(attempts for _, attempts in states(store).values()) == len(receiver.tries)


def test_after_give_up_there_is_a_dead_letter_that_can_be_resent(store: Store, bundle: Bundle) -> None:
    """A delivery that fails for longer than `give_up` is dead and a finding says so; sent again it arrives."""
    clock, receiver = Clock(), Receiver(DOWN)
    dispatcher = Dispatcher(store, config("hook", retry=Retry(1, 60, 600)), bundle, {"hook": receiver}, clock=clock)
    dispatcher.step()
    violations(store, (WHEN, "bot"))
    name = delivery_id(alert_of(0, "bot"), "hook", "opened")
    for _ in range(30):
        clock.now += 70
        dispatcher.step()
        until(dispatcher, lambda: dispatcher._delivering.outbox.in_flight() == 0)
        if states(store)[name][0] == "dead":
            break
    assert states(store)[name][0] == "dead"
    kinds = "SELECT count() FROM findings_log WHERE kind = 'alert_undelivered' AND message LIKE {name:String}"
    assert plain(store.execute(kinds, {"name": f"%{name}%"})) == [(1,)]
    receiver.failure = None
    resend(store, name)
    for _ in range(20):
        clock.now += 70
        until(dispatcher, lambda: dispatcher._delivering.outbox.in_flight() == 0)
    dispatcher.close()
    assert states(store)[name] == ("delivered", 1)


@pytest.mark.parametrize(
    ("error", "after"),
    [(StoreUnavailable("away"), False), (OutcomeUnknown("away"), True), (QueryError("memory limit"), False)],
    ids=["away", "outcome unknown", "refused"],
)
def test_a_store_that_fails_at_any_statement_loses_and_doubles_nothing(
    store: Store, bundle: Bundle, error: Exception, after: bool
) -> None:
    """Whichever statement of a step fails, done or not done, the alert is recorded once and told by one id."""
    receiver = Receiver()
    faulty = Faulty(store, error, 0, after)
    dispatcher = Dispatcher(cast("Store", faulty), config("hook"), bundle, {"hook": receiver})
    until(dispatcher, lambda: True)
    for number, nth in enumerate(NTH):
        violations(store, (f"2026-03-02 {number:02}:00:00", "bot"))
        faulty.left = nth
        done = delivery_id(alert_of(number, "bot"), "hook", "opened")
        _through(dispatcher, lambda done=done: states(store).get(done, ("", 0))[0] == "delivered")  # type: ignore[misc]
    faulty.left = 0
    dispatcher.close()
    assert plain(store.execute("SELECT count(), uniqExact(violation_id) FROM alert_decisions")) == [
        (len(NTH), len(NTH))
    ]
    assert {one.delivery_id for one in receiver.told} == set(states(store))
    assert len(states(store)) == len(NTH)


def _through(dispatcher: Dispatcher, done: Callable[[], bool]) -> None:
    for _ in range(400):
        try:
            dispatcher.step()
        except (StoreUnavailable, QueryError):
            continue
        if done():
            return
    raise AssertionError(dispatcher.state())


def test_a_refused_statement_does_not_end_the_dispatcher(store: Store, bundle: Bundle) -> None:
    """After a statement was refused, the running dispatcher goes on and alerts what was recorded."""
    receiver, stop = Receiver(), threading.Event()
    faulty = Faulty(store.another(), QueryError("memory limit"), 0, after=False)
    dispatcher = Dispatcher(cast("Store", faulty), config("hook"), bundle, {"hook": receiver})
    dispatcher.step()
    violations(store, (WHEN, "bot"))
    faulty.left = 3
    running = threading.Thread(target=run_dispatcher, args=(dispatcher, stop, 0.01))
    running.start()
    assert receiver.entered.wait(30)
    assert running.is_alive()
    stop.set()
    running.join(30)
    faulty.store.close()
    assert faulty.left <= 0
    assert [one.alert.alert_id for one in receiver.told] == [alert_of(0, "bot")]
