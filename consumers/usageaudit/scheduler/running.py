"""The scheduler as a service: it steps about once a second, waits while the store is away, and stops when told to."""

from __future__ import annotations

import random
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from usageaudit.errors import Fenced, OutcomeUnknown, QueryError, StoreUnavailable
from usageaudit.scheduler.service import LATENESS, Scheduler, SchedulerState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from threading import Event

    from usageaudit.policy.model import Bundle
    from usageaudit.scheduler.lease import Lease
    from usageaudit.stores.port import Store

SECONDS = 1.0
"""How long after a step the next one begins."""
LONGEST_SECONDS = 30.0
"""How long at most a store that is away is left alone."""
_RENEWALS = 3
"""How often a lease is renewed in its time, also during a step that takes long."""
_TRANSIENT = (StoreUnavailable, OutcomeUnknown, Fenced)
log = structlog.get_logger("usageaudit.scheduler")


def run_scheduler(
    store: Store,
    bundle: Callable[[], Bundle],
    stop: Event,
    state: SchedulerState | None = None,
    *,
    lateness: int = LATENESS,
    seconds: float = SECONDS,
) -> SchedulerState:
    """Step through the ledger until `stop` is set, and return the state, which others may watch meanwhile.

    `bundle` is asked before every step, so that another bundle is gone on with once it returns one. The store's tables
    have to be up to date; the store is this thread's from then on. A store that is away is waited for.
    """
    scheduler = Scheduler(store, bundle(), lateness=lateness, state=state or SchedulerState())
    failures = 0
    with _renewing(store, scheduler.lease):
        while not stop.is_set():
            if (current := bundle()) is not scheduler.bundle:
                scheduler.use(current)
            failures = 0 if _idle(scheduler) or _stepped(scheduler) else failures + 1
            stop.wait(seconds if not failures else _pause(failures, seconds))
    scheduler.give_back()
    return scheduler.state


def _idle(scheduler: Scheduler) -> bool:
    """Tell whether there is no windowed policy, so that there is nothing that anybody has to lead."""
    if scheduler.bundle.windowed:
        return False
    if scheduler.state.leads:
        scheduler.give_back()
    scheduler.state.rules = 0
    return True


def _stepped(scheduler: Scheduler) -> bool:
    """Take a step and tell whether the store could be reached."""
    state, led = scheduler.state, scheduler.state.leads
    try:
        written = scheduler.step()
    except (*_TRANSIENT, QueryError) as error:
        if state.reachable:
            log.warning("store away", error=str(error))
        state.reachable = False
        return False
    if not state.reachable:
        log.info("store back")
    state.reachable = True
    if state.leads != led:
        log.info("scheduler leads" if state.leads else "another scheduler leads", rules=state.rules)
    if written:
        log.info("findings written", count=written, seconds=round(state.step_seconds, 3))
    return True


def _pause(failures: int, seconds: float) -> float:
    """Return how long to wait: twice as long after each failure, with jitter."""
    return min(LONGEST_SECONDS, seconds * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0)  # noqa: S311


@contextmanager
def _renewing(store: Store, lease: Lease) -> Iterator[None]:
    """Renew a lease from a thread of its own, so that a step may take longer than the lease lasts."""
    over = threading.Event()

    def renew() -> None:
        own = store.another()
        try:
            while not over.wait(lease.seconds / _RENEWALS):
                try:
                    lease.renew(own)
                except (*_TRANSIENT, QueryError) as error:
                    log.warning("lease not renewed", error=str(error))
        finally:
            own.close()

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
