"""The scheduler: step after step of every rule, while it holds the lease."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from usageaudit.scheduler.lease import Lease
from usageaudit.scheduler.progress import Progress, former, read_progress, write_progress
from usageaudit.scheduler.reading import MOST, Slice, ends, next_slice
from usageaudit.scheduler.rules import rules_of
from usageaudit.scheduler.stepping import Step

if TYPE_CHECKING:
    from usageaudit.policy.model import Bundle
    from usageaudit.scheduler.rules import Rule
    from usageaudit.stores.port import Store

LEASE = "scheduler"
LATENESS = 10_000_000
"""How long events of a time are waited for, in microseconds."""


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
    lease: Lease = field(init=False)
    _rules: tuple[Rule, ...] = field(init=False)
    _progress: dict[str, Progress] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.lease = Lease(self.store, LEASE)
        self._rules = rules_of(self.bundle)

    def step(self) -> int | None:
        """Take one step with every rule; return how many findings were written, None where another one leads.

        Raises StoreUnavailable, after which it may be called again.
        """
        led = self.lease.epoch
        if not self.lease.hold():
            return None
        if self.lease.epoch != led:
            self._progress = read_progress(self.store, [rule.id for rule in self._rules])
        return sum(self._step(rule) for rule in self._rules)

    def caught_up(self) -> bool:
        """Tell whether no rule has anything left to read."""
        return all(
            rule.id in self._progress
            and next_slice(self.store, self._progress[rule.id], self.lateness, self.most).empty
            for rule in self._rules
        )

    def _step(self, rule: Rule) -> int:
        progress = self._progress.get(rule.id) or self._begin(rule)
        piece = next_slice(self.store, progress, self.lateness, self.most)
        if piece.empty:
            return 0
        written = Step(self.store, rule, piece).run()
        self._keep(rule, progress.since, piece, progress.step + 1)
        return written

    def _begin(self, rule: Rule) -> Progress:
        """Return where a rule begins: where the same version of its policy is, or at the end of what there is."""
        known = former(self.store, rule)
        if known is not None:
            start = Slice(Progress(-1, -1), known.positions, known.watermark, known.seen)
            since = known.since
        elif self.since is not None:
            return self._keep(rule, self.since, Slice(Progress(-1, -1), {}, self.since, 0), 1)
        else:
            found = ends(self.store)
            start = Slice(found.before, found.positions, max(found.watermark - self.lateness, -1), found.seen)
            since = start.watermark
        Step(self.store, rule, start).prepare()
        return self._keep(rule, since, start, 1)

    def _keep(self, rule: Rule, since: int, piece: Slice, step: int) -> Progress:
        after = Progress(since, piece.watermark, piece.positions, piece.seen, step)
        write_progress(self.store, rule, after, self.lease.epoch)
        self._progress[rule.id] = after
        return after
