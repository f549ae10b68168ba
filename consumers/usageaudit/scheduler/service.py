"""The scheduler: step after step of every rule, while it holds the lease."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from usageaudit.errors import Fenced, OutcomeUnknown, QueryError, StoreUnavailable
from usageaudit.scheduler.cleaning import clean
from usageaudit.scheduler.lease import Lease
from usageaudit.scheduler.progress import Progress, former, read_progress, write_progress
from usageaudit.scheduler.reading import MOST, Reader, Slice, ends
from usageaudit.scheduler.recording import query_prefix
from usageaudit.scheduler.rules import rules_of
from usageaudit.scheduler.stepping import Step
from usageaudit.stores.settling import settle, staying

if TYPE_CHECKING:
    from usageaudit.policy.model import Bundle
    from usageaudit.scheduler.rules import Rule
    from usageaudit.stores.port import Store

LEASE = "scheduler"
LATENESS = 10_000_000
"""How long events of a time are waited for, in microseconds."""
CLEAN_SECONDS = 3600.0
"""How often rows that no window needs are removed."""
_WRITTEN = ("window_progress", "window_events", "findings_log")
log = structlog.get_logger("usageaudit.scheduler")


@dataclass(slots=True)
class SchedulerState:
    """What a scheduler does, for others to watch: each value is replaced whole, so that any thread may read it.

    `leads` tells whether it holds the lease, and `lag_seconds` how old what it read last is while there is more to
    read, 0 where there is nothing. `findings` counts rows of findings that were written since the start, `steps` the
    steps made, `failing` the rules whose last step the store refused; `reachable` is false while the store is away.
    """

    leads: bool = False
    reachable: bool = True
    rules: int = 0
    failing: int = 0
    steps: int = 0
    findings: int = 0
    step_seconds: float = 0.0
    lag_seconds: float = 0.0


@dataclass(slots=True)
class Scheduler:
    """Runs the windowed policies of a bundle over the ledger of a store; for one thread.

    A policy that is new begins with what comes from now on, or, where `since` is given, with what crossed after that,
    in microseconds since 1970: what was before, `usageaudit policy backtest` tells of.
    """

    store: Store
    bundle: Bundle
    lateness: int = LATENESS
    since: int | None = None
    most: int = MOST
    state: SchedulerState = field(default_factory=SchedulerState)
    lease: Lease = field(init=False)
    _rules: tuple[Rule, ...] = field(init=False)
    _led: int = 0
    _replica: str = ""
    _progress: dict[str, Progress] = field(init=False, default_factory=dict)
    _refused: dict[str, str] = field(init=False, default_factory=dict)
    _cleaned: float = field(init=False, default_factory=time.monotonic)
    _behind: list[int] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.lease = Lease(self.store, LEASE)
        self._rules = rules_of(self.bundle)

    def use(self, bundle: Bundle) -> None:
        """Go on with another bundle: rules that it does not change go on from where they are."""
        self.bundle, self._rules = bundle, rules_of(bundle)
        self._led = 0

    def step(self) -> int | None:
        """Take one step with every rule; return how many findings were written, None where another one leads.

        A rule that the store refuses does not hold up the others; it is logged and tried again in the next step. Raises
        StoreUnavailable or OutcomeUnknown, after which it may be called again.
        """
        begun = time.monotonic()
        self.state.rules = len(self._rules)
        self.state.leads = self.lease.hold()
        if not self.state.leads:
            self._led = 0
            return None
        try:
            with staying(self.store) as replica:
                written = self._lead(replica)
        except (StoreUnavailable, OutcomeUnknown):
            # Another replica may answer from now on.
            self._led = 0
            raise
        self._report(written, time.monotonic() - begun)
        return written

    def _lead(self, replica: str) -> int:
        if self.lease.epoch != self._led:
            self._take_over()
        elif replica != self._replica:
            settle(self.store, *_WRITTEN)
        self._replica = replica
        settle(self.store, "ledger")
        self._behind.clear()
        reader = Reader(self.store)
        written = sum(self._tried(rule, reader) for rule in self._rules)
        if time.monotonic() - self._cleaned > CLEAN_SECONDS:
            self.clean()
        return written

    def clean(self) -> int:
        """Remove rows that no window needs any more, and return how many."""
        self._cleaned = time.monotonic()
        steady = {rule.id: (rule, self._progress[rule.id]) for rule in self._rules if rule.id in self._progress}
        return clean(self.store, steady) if len(steady) == len(self._rules) else 0

    def _take_over(self) -> None:
        """End what the one before still has under way, and begin from what it had written."""
        self.store.kill(query_prefix(LEASE))
        settle(self.store, *_WRITTEN)
        self._progress = read_progress(self.store, [rule.id for rule in self._rules])
        self._refused.clear()
        self._led = self.lease.epoch

    def _tried(self, rule: Rule, reader: Reader) -> int:
        try:
            written = self._step(rule, reader)
        except QueryError as error:
            if self._refused.get(rule.id) != str(error):
                log.error("policy refused", policy=rule.policy.id, version=rule.revision.version, error=str(error))
            self._refused[rule.id] = str(error)
            return 0
        self._refused.pop(rule.id, None)
        return written

    def _report(self, written: int, seconds: float) -> None:
        state = self.state
        state.failing, state.step_seconds = len(self._refused), seconds
        state.steps += 1
        state.findings += written
        state.lag_seconds = max(0.0, time.time() - min(self._behind) / 1000) if self._behind else 0.0

    def caught_up(self) -> bool:
        """Tell whether no rule has anything left to read."""
        reader = Reader(self.store)
        return all(
            rule.id in self._progress and reader.next_slice(self._progress[rule.id], self.lateness, self.most).empty
            for rule in self._rules
        )

    def _step(self, rule: Rule, reader: Reader) -> int:
        progress, begun = self._progress.get(rule.id), 0
        if progress is None:
            progress, begun = self._begin(rule)
        piece = reader.next_slice(progress, self.lateness, self.most)
        if piece.partial:
            self._behind.append(piece.seen)
        if piece.empty:
            return begun
        written = Step(self.store, rule, piece, self.lease).run()
        self._keep(rule, progress.since, piece, progress.step + 1)
        return begun + written

    def _begin(self, rule: Rule) -> tuple[Progress, int]:
        """Return where a rule begins: where the same version of its policy is, or at the end of what there is.

        Beside it is the number of findings that were written.
        """
        before = former(self.store, rule)
        if before is None and self.since is not None:
            return self._keep(rule, self.since, Slice(Progress(-1, -1), {}, self.since, 0), 1), 0
        # Another rule knows where the ledger ends; to ask the ledger is to read all of it.
        known = before or max(self._progress.values(), key=lambda one: one.watermark, default=None)
        if known is not None:
            start = Slice(Progress(-1, -1), known.positions, known.watermark, known.seen, peak=known.peak)
        else:
            found = ends(self.store)
            start = Slice(found.before, found.positions, max(found.watermark - self.lateness, -1), found.seen)
        since = start.watermark if before is None else before.since
        written = Step(self.store, rule, start, self.lease).begin()
        return self._keep(rule, since, start, 1), written

    def _keep(self, rule: Rule, since: int, piece: Slice, step: int) -> Progress:
        after = Progress(since, piece.watermark, piece.positions, piece.seen, step, piece.peak)
        write_progress(self.store, rule, after, self.lease)
        settle(self.store, "window_progress")
        self._progress[rule.id] = after
        return after

    def give_back(self) -> None:
        """Let the next scheduler lead at once, as far as the store can be told."""
        self.state.leads = False
        try:
            self.lease.give_back()
        except (StoreUnavailable, OutcomeUnknown, Fenced) as error:
            log.warning("lease not given back", error=str(error))
