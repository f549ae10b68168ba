"""The policies that judge: loaded once, kept in the store before the first row that names them, changed on request."""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from usageaudit.errors import BundleError
from usageaudit.policy import compile_judge, load_bundle
from usageaudit.policy.approvals import check_approvals, recorded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usageaudit.pipeline.judging import Judge
    from usageaudit.policy import Bundle
    from usageaudit.stores.ledger import Ledger

log = structlog.get_logger("usageaudit.consumer")


@dataclass(frozen=True, slots=True)
class InForce:
    """A bundle and the function that judges by it."""

    bundle: Bundle
    judge: Judge


@dataclass(slots=True)
class Policies:
    """The policy sources of a consumer and the bundle made of them. Raises BundleError where they can't be loaded."""

    sources: Sequence[str]
    _in_force: InForce = field(init=False)
    _loaded_by: str = field(init=False)
    _kept: str = ""
    # A plain flag: the lock of an Event is not to be taken by a signal handler that interrupts its owner.
    _reload: bool = False

    def __post_init__(self) -> None:
        self._in_force = _load(self.sources)
        self._loaded_by = _user()

    def request_reload(self) -> None:
        """Ask for the sources to be read again before the next batch; safe to call from a signal handler."""
        self._reload = True

    def current(self, ledger: Ledger) -> InForce:
        """Return what judges the next batch, after the store has its bundle."""
        if self._reload:
            self._reload = False
            self._read_again()
        if self._kept != self._in_force.bundle.hash:
            ledger.keep_bundle(self._in_force.bundle, self._loaded_by)
            ledger.keep_approvals(self._in_force.bundle.hash, recorded(self._in_force.bundle))
            self._kept = self._in_force.bundle.hash
        return self._in_force

    def _read_again(self) -> None:
        """Take the new bundle whole, or stay with the one in force where it has an error."""
        try:
            self._in_force = _load(self.sources)
        except BundleError as error:
            log.error("the policies have errors; the ones in force stay", errors=str(error))
            return
        log.info("policies loaded", bundle=self._in_force.bundle.hash)


def _user() -> str:
    """Return the name of the user, or the number of one without a name, as containers run under."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _load(sources: Sequence[str]) -> InForce:
    bundle = load_bundle(sources)
    for warning in check_approvals(bundle):
        log.warning("a policy is enforced without an approval", policy=warning.message)
    return InForce(bundle, compile_judge(bundle))
