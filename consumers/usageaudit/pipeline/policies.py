"""The policies that judge: loaded once, kept in the store before the first row that names them, changed on request."""

from __future__ import annotations

import datetime as dt
import getpass
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import structlog

from usageaudit.errors import BundleError
from usageaudit.pipeline.expired import EXPIRING, KIND, expiry_findings
from usageaudit.policy import compile_judge, load_bundle
from usageaudit.policy.approvals import check_approvals, recorded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usageaudit.pipeline.judging import Judge
    from usageaudit.policy import Bundle
    from usageaudit.stores.ledger import Finding, Ledger

log = structlog.get_logger("usageaudit.consumer")


@dataclass(frozen=True, slots=True)
class InForce:
    """A bundle and the function that judges by it."""

    bundle: Bundle
    judge: Judge


@dataclass(slots=True)
class Policies:
    """The policy sources of a consumer and the bundle made of them. Raises BundleError where they can't be loaded.

    `reloads` counts how often they were read again, with which result, and `reported` the findings that were written
    of exceptions that have expired, `announced` of those that soon will.
    """

    sources: Sequence[str]
    _in_force: InForce = field(init=False)
    _loaded_by: str = field(init=False)
    _expiries: list[Finding] = field(init=False)
    _kept: str = ""
    reloads: dict[Literal["loaded", "failed"], int] = field(default_factory=lambda: {"loaded": 0, "failed": 0})
    reported: int = 0
    announced: int = 0
    _expirations: tuple[dt.datetime, ...] = ()
    # A plain flag: the lock of an Event is not to be taken by a signal handler that interrupts its owner.
    _reload: bool = False

    def __post_init__(self) -> None:
        self._adopt(_load(self.sources))
        self._loaded_by = user_name()

    def request_reload(self) -> None:
        """Ask for the sources to be read again before the next batch; safe to call from a signal handler."""
        self._reload = True

    def current(self, ledger: Ledger) -> InForce:
        """Return what judges the next batch, after the store has its bundle."""
        self._read_again()
        self._keep(ledger)
        return self._in_force

    @property
    def bundle(self) -> Bundle:
        """The bundle in force; other threads may ask for it."""
        return self._in_force.bundle

    @property
    def bundle_hash(self) -> str:
        """The hash of the bundle in force."""
        return self.bundle.hash

    def expired(self, now: dt.datetime | None = None) -> int:
        """Return how many exceptions of the bundle in force have expired."""
        until = now or dt.datetime.now(dt.UTC)
        return sum(moment <= until for moment in self._expirations)

    def report_expired(self, ledger: Ledger, now: dt.datetime | None = None) -> None:
        """Append the findings that exceptions in force have expired, or soon will, since this was last asked."""
        self._read_again()
        until = now or dt.datetime.now(dt.UTC)
        while self._expiries and self._expiries[-1].window_start <= until:
            due = self._expiries[-1]
            if due.kind == EXPIRING and due.window_end <= until:  # too late to be announced
                self._expiries.pop()
                continue
            self._keep(ledger)
            ledger.add_finding(due)
            self._expiries.pop()
            if due.kind == EXPIRING:
                self.announced += 1
                log.warning("an exception expires soon", bundle=due.bundle, finding=due.message)
            else:
                self.reported += 1
                log.warning("an exception has expired", bundle=due.bundle, finding=due.message)

    def _keep(self, ledger: Ledger) -> None:
        """Keep the bundle and its approvals in the store, once."""
        bundle = self._in_force.bundle
        if self._kept != bundle.hash:
            ledger.keep_bundle(bundle, self._loaded_by)
            ledger.keep_approvals(bundle.hash, recorded(bundle))
            self._kept = bundle.hash

    def _adopt(self, in_force: InForce) -> None:
        self._in_force = in_force
        self._expiries = expiry_findings(in_force.bundle)
        self._expirations = tuple(finding.window_end for finding in self._expiries if finding.kind == KIND)

    def _read_again(self) -> None:
        """Where it was asked for, take the new bundle whole, or stay with the one in force where it has an error."""
        if not self._reload:
            return
        self._reload = False
        try:
            self._adopt(_load(self.sources))
        except BundleError as error:
            self.reloads["failed"] += 1
            in_force = self.bundle_hash
            log.error("the policies have errors; the ones in force stay", bundle=in_force, errors=str(error))
            return
        self.reloads["loaded"] += 1
        log.info("policies loaded", bundle=self.bundle_hash)


def user_name() -> str:
    """Return the name of the user, or the number of one without a name, as containers run under."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _load(sources: Sequence[str]) -> InForce:
    bundle = load_bundle(sources)
    if unapproved := check_approvals(bundle):
        log.warning("policies are enforced without an approval; see `usageaudit policy check`", number=len(unapproved))
    return InForce(bundle, compile_judge(bundle))
