"""Exceptions whose time is over, as findings: what they exempted is a violation from then on.

Somebody must know, so it is not left to whoever happens to read the policies.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from usageaudit.events.times import format_time
from usageaudit.policy.expiry import exceptions_in
from usageaudit.stores.ledger import Finding
from usageaudit.verdicts import finding_id

if TYPE_CHECKING:
    from usageaudit.policy import Bundle, Policy, PolicyException

KIND = "exception_expired"
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def expiry_findings(bundle: Bundle) -> list[Finding]:
    """Return a finding for each exception of a bundle that ever expires, the one that expires first last.

    Its id depends on policy, exception and time of expiry, not on the bundle: each expiry is one finding, whichever
    bundles and consumers see it.
    """
    findings = [_finding(policy, exception, bundle) for policy, exception in exceptions_in(bundle)]
    return sorted(findings, key=lambda one: one.window_end, reverse=True)


def _finding(policy: Policy, exception: PolicyException, bundle: Bundle) -> Finding:
    version, when = _version(policy, exception.expires), format_time(exception.expires)
    key = f"exception/{exception.id}"
    # The store has no times long before the first event.
    moment = _EPOCH + dt.timedelta(microseconds=max(exception.expires, 0))
    return Finding(
        finding_id=finding_id(policy.id, version, key, when),
        kind=KIND,
        effect="notice",
        message=f"exception {exception.id} of {policy.id}, approved by {exception.approved_by}, expired at {when}: "
        "what it exempted is a violation from then on",
        window_start=moment,
        window_end=moment,
        severity=policy.severity,
        policy_id=policy.id,
        policy_version=version,
        bundle=bundle.hash,
        group_key=key,
    )


def _version(policy: Policy, time: int) -> int:
    """Return the version in force when an exception expires, so that a later revision makes no finding of it anew."""
    found = policy.revision_at(time)
    return found.version if found is not None else min(revision.version for revision in policy.revisions)
