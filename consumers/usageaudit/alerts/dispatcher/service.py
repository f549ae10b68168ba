"""The dispatcher: step after step, while it holds the lease."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog

from usageaudit.alerts.dispatcher import deliveries
from usageaudit.alerts.dispatcher.acknowledgements import DAYS_MS, acknowledged, escalations
from usageaudit.alerts.dispatcher.acknowledgements import MOST as ESCALATED_MOST
from usageaudit.alerts.dispatcher.decisions import LEASE, TABLES, Journal, decided
from usageaudit.alerts.dispatcher.deliveries import Change, Delivery
from usageaudit.alerts.dispatcher.delivering import Delivering
from usageaudit.alerts.dispatcher.findings import Findings
from usageaudit.alerts.dispatcher.gathering import Gatherer
from usageaudit.alerts.dispatcher.outbox import Outbox
from usageaudit.alerts.dispatcher.reading import Reached, Reader, begin, read_reached, silent_ms, write_reached
from usageaudit.alerts.model import delivery_id
from usageaudit.alerts.targets.port import Acknowledging
from usageaudit.errors import Fenced, OutcomeUnknown, QueryError, StoreUnavailable
from usageaudit.scheduler.lease import SECONDS, Lease
from usageaudit.stores.settling import settle, staying

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from threading import Event

    from usageaudit.alerts.config.settings import AlertsConfig
    from usageaudit.alerts.dispatcher.decisions import Decision
    from usageaudit.alerts.model import Occasion
    from usageaudit.alerts.targets.port import Target
    from usageaudit.policy.model import Bundle
    from usageaudit.stores.port import Store

log = structlog.get_logger("usageaudit.alerts")

INTERVAL = 0.5
"""Seconds between two steps."""
REST = 4.0
"""How many times as long as the last step took the store is left to others, which record what there is to tell of."""
MOST = 20_000
"""How many records of the ledger are looked at in one step."""
THOROUGH, ESCALATING, RESENDING, KEEPING = 10.0, 5.0, 2.0, 5.0
"""Seconds between two thorough looks, looks for escalations and for what was sent again, and notes of progress."""
LONGEST_PAUSE = 5.0


@dataclass(frozen=True, slots=True)
class DispatcherState:
    """Numbers to publish: `backlog` are the records of the ledger that wait to be looked at.

    `waiting` and `retrying` are the deliveries in memory, `more` says that the store has others; `dead` counts since
    the start; `oldest` is the age of the oldest unfinished delivery in seconds.
    """

    leading: bool = False
    backlog: int = 0
    waiting: int = 0
    retrying: int = 0
    dead: int = 0
    open_breakers: int = 0
    oldest: float = 0.0
    more: bool = False


@dataclass(slots=True)
class Dispatcher:
    """Decides about violations and findings of a store, and delivers alerts to targets; for one thread.

    `targets` are by the names of the configuration, and closed by `close`. Where nothing was ever decided it begins
    with what is recorded from now on, or after `since`, in milliseconds since 1970. `link` returns where an alert is
    acknowledged. Another dispatcher of the same store waits until this one is silent for `lease_seconds`.
    """

    store: Store
    config: AlertsConfig
    bundle: Bundle
    targets: Mapping[str, Target]
    link: Callable[[str], str] = lambda _: ""
    since: int | None = None
    most: int = MOST
    lease_seconds: float = SECONDS
    clock: Callable[[], float] = time.monotonic
    _lease: Lease = field(init=False)
    _journal: Journal = field(init=False)
    _reader: Reader = field(init=False)
    _gatherer: Gatherer = field(init=False)
    _findings: Findings = field(init=False)
    _delivering: Delivering = field(init=False)
    _reached: Reached = field(init=False, default_factory=Reached)
    _recovered: bool = field(init=False, default=False)
    _back: int = field(init=False, default=DAYS_MS)
    _replica: str = field(init=False, default="")
    _steps: int = field(init=False, default=0)
    _kept: Reached = field(init=False, default_factory=Reached)
    _last: dict[str, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._lease = Lease(self.store, LEASE, self.lease_seconds)
        self._journal = Journal(self.store)
        self._reader = Reader(self.store, self.bundle, self.config, self.most)
        self._gatherer = Gatherer(self.store, self.bundle, self.config)
        self._findings = Findings(self.store, self.bundle, self._gatherer)
        outbox = Outbox(self.targets, self.config.retry, self.clock)
        self._delivering = Delivering(self.store, self.config, self._journal, outbox, self.link)

    def step(self) -> int | None:
        """Take one step; return how many things were done, None where another one leads.

        Raises StoreUnavailable, and QueryError where the store refuses a statement; it may be called again after both.
        """
        try:
            if not self._lead():
                return None
            with staying(self.store) as replica:
                return self._step_at(replica)
        except Fenced:
            log.warning("another dispatcher has taken over")
            self._stand_back()
            return None
        except OutcomeUnknown as error:
            self._recovered = False
            raise StoreUnavailable(str(error)) from error
        except (StoreUnavailable, QueryError):
            self._recovered = False
            raise

    def state(self) -> DispatcherState:
        """Return numbers to publish; of what the last step saw."""
        outbox = self._delivering.outbox
        waiting, retrying, broken, oldest = outbox.numbers()
        return DispatcherState(
            leading=self._lease.epoch != 0,
            backlog=self._reader.behind,
            waiting=waiting,
            retrying=retrying,
            dead=self._delivering.dead,
            open_breakers=broken,
            oldest=oldest,
            more=outbox.more,
        )

    def close(self, seconds: float = 10.0) -> None:
        """Wait for what is being sent, for at most so long, record it, and let the next one lead at once."""
        self._delivering.outbox.close(seconds)
        if not self._lease.epoch:
            return
        try:
            if self._recovered:
                self._delivering.collect(self._lease.epoch)
                self._keep_reached()
            self._lease.give_back()
        except (StoreUnavailable, OutcomeUnknown, QueryError, Fenced) as error:
            log.warning("what was sent last is not recorded and will be sent again", error=type(error).__name__)

    def _lead(self) -> bool:
        """Hold the lease, asking often enough that nobody else takes it."""
        if self._lease.epoch and not self._every("lease", self.lease_seconds / 3):
            return True
        before = self._lease.epoch
        held = self._lease.hold()
        if self._lease.epoch != before:
            self._stand_back(keep=held)
        return held

    def _stand_back(self, *, keep: bool = False) -> None:
        self._recovered = False
        self._delivering.drop()
        self._delivering.outbox.forget()
        if not keep:
            self._lease.epoch = 0

    def _recover(self) -> None:
        """Find out what was decided and delivered before."""
        self._journal.recover()
        # What became due while no dispatcher was at work is late, and not forgotten.
        self._back = max(self._back, DAYS_MS + silent_ms(self.store))
        reached = read_reached(self.store)
        if reached is None:
            reached = begin(self.store, self.since)
            write_reached(self.store, reached, self._lease.epoch, self._steps)
            # Where that is lost, what was recorded since is taken for history.
            settle(self.store, *TABLES)
        self._reached = self._kept = reached
        self._findings.again()
        self._delivering.collect(self._lease.epoch)
        self._load()
        self._last = {"lease": self._last.get("lease", self.clock())}
        self._recovered = True

    def _load(self) -> None:
        outbox = self._delivering.outbox
        outbox.forget()
        found = deliveries.pending(self.store, outbox.most)
        outbox.add(found)
        outbox.more = len(found) >= outbox.most

    def _step_at(self, replica: str) -> int:
        """Take a step at a replica, which has to know first what was decided at another."""
        if not self._recovered:
            self._recover()
        elif replica != self._replica:
            self._journal.catch_up()
        self._replica = replica
        return self._step()

    def _step(self) -> int:
        self._steps += 1
        epoch = self._lease.epoch
        done = self._delivering.collect(epoch)
        try:
            done += self._decide_events() + self._decide_findings()
        except QueryError:
            # What was decided before goes out although nothing can be decided now.
            self._delivering.send(epoch)
            raise
        if self._every("escalating", ESCALATING):
            done += self._tell_acknowledged() + self._escalate()
        if self._every("resending", RESENDING):
            self._take_up()
        done += self._delivering.send(epoch)
        if self._every("keeping", KEEPING):
            self._keep_reached()
        return done

    def _decide_events(self) -> int:
        # A replica that lags may have later rows of a partition before earlier ones, which would be passed over.
        settle(self.store, "ledger")
        thorough = self._every("thorough", THOROUGH)
        news = None if thorough else self._reader.recent(self._reached)
        if news is None:
            news = self._reader.thorough(self._reached)
        if news.reached.positions == self._reached.positions:
            return 0
        subjects, now = self._reader.violations(news)
        there = decided(self.store, subjects)
        new = [one for one in subjects if one.key not in there]
        self._keep(self._gatherer.decide(new), now)
        self._reached = replace(news.reached, found=self._reached.found)
        return len(new)

    def _decide_findings(self) -> int:
        decisions, now = self._findings.look(self._reached)
        if not decisions:
            return 0
        self._keep(decisions, now)
        last = max(one.subject.recorded_ms for one in decisions)
        self._reached = replace(self._reached, found=max(last, self._reached.found))
        return len(decisions)

    def _keep(self, decisions: Sequence[Decision], now_ms: int) -> None:
        if not decisions:
            return
        self._journal.keep(decisions, self._lease.epoch, now_ms)
        self._delivering.outbox.add(_deliveries(decisions))
        opened = sum(one.outcome == "opened" for one in decisions)
        log.info("decided about violations", decisions=len(decisions), opened=opened)

    def _escalate(self) -> int:
        due = escalations(self.store, self.config.routes, self._back)
        if due:
            settle(self.store, "alert_acknowledgements")
            due = escalations(self.store, self.config.routes, self._back)
        if len(due) < ESCALATED_MOST:
            self._back = DAYS_MS
        return self._begin(due)

    def _tell_acknowledged(self) -> int:
        names = [name for name, target in self.targets.items() if isinstance(target, Acknowledging)]
        return self._begin(acknowledged(self.store, names, self._back))

    def _begin(self, due: Sequence[Delivery]) -> int:
        """Record deliveries that no decision names, and have them sent."""
        if due:
            ((now,),) = self.store.execute("SELECT toUnixTimestamp64Milli(now64(3, 'UTC'))").rows
            deliveries.record(self._journal, [Change(one, "waiting", 0) for one in due], self._lease.epoch, int(now))
            self._delivering.outbox.add(replace(one, changes=1) for one in due)
        return len(due)

    def _take_up(self) -> None:
        """Take up what a person sent again, and what did not fit into memory."""
        outbox = self._delivering.outbox
        if outbox.more and len(outbox) < outbox.most // 2:
            self._load()
        again = [name for name in deliveries.resent(self.store) if name not in outbox]
        if again:
            outbox.add(deliveries.pending(self.store, outbox.most, again))

    def _keep_reached(self) -> None:
        if self._reached != self._kept:
            write_reached(self.store, self._reached, self._lease.epoch, self._steps)
            self._kept = self._reached

    def _every(self, what: str, seconds: float) -> bool:
        """Tell whether something is to be done again."""
        at = self.clock()
        if what in self._last and at - self._last[what] < seconds:
            return False
        self._last[what] = at
        return True


def _deliveries(decisions: Sequence[Decision]) -> list[Delivery]:
    found: list[Delivery] = []
    for one in decisions:
        if one.outcome in ("opened", "resolved"):
            occasion: Occasion = "opened" if one.outcome == "opened" else "resolved"
            names = [(delivery_id(one.alert_id, target, occasion), target) for target in one.targets]
            found += [Delivery(name, one.alert_id, target, occasion) for name, target in names]
    return found


def run_dispatcher(dispatcher: Dispatcher, stop: Event, interval: float = INTERVAL) -> None:
    """Take step after step until `stop` is set, then close; go on where the store was away."""
    pause = interval
    while not stop.is_set():
        begun = time.monotonic()
        try:
            leads = dispatcher.step() is not None
            rest = REST * (time.monotonic() - begun) if leads else dispatcher.lease_seconds / 3
            pause = max(interval, min(rest, LONGEST_PAUSE))
        except StoreUnavailable as error:
            log.warning("the store can't be reached; alerts wait", error=str(error))
            pause = min(max(pause * 2, interval), LONGEST_PAUSE)
        except QueryError as error:
            log.error("the store refuses a statement; no new alerts until it takes it", error=str(error))
            pause = min(max(pause * 2, interval), LONGEST_PAUSE)
        stop.wait(pause)
    dispatcher.close()
