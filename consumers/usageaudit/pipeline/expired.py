"""Exceptions whose time is over, or soon will be, as findings: what they exempted is a violation from then on.

Somebody must know, and in time to extend one, so it is not left to whoever happens to read the policies.
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
EXPIRING = "exception_expiring"
NOTICE = dt.timedelta(days=14)
"""How long before it expires an exception is said to."""
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def expiry_findings(bundle: Bundle) -> list[Finding]:
    """Return two findings for each exception of a bundle, that it will expire and that it has, the earliest last.

    `window_start` is when each is due, `window_end` when the exception expires. Ids depend on policy, exception and
    time of expiry, not on the bundle: each expiry is one finding, whichever bundles and consumers see it.
    """
    findings = [
        _finding(policy, exception, bundle, kind)
        for policy, exception in exceptions_in(bundle)
        for kind in (KIND, EXPIRING)
    ]
    return sorted(findings, key=lambda one: one.window_start, reverse=True)


def _finding(policy: Policy, exception: PolicyException, bundle: Bundle, kind: str) -> Finding:
    version, when = _version(policy, exception.expires), format_time(exception.expires)
    key = f"{'exception' if kind == KIND else 'expiring'}/{exception.id}"
    verb = "expired" if kind == KIND else "expires"
    # The store has no times long before the first event.
    moment = _EPOCH + dt.timedelta(microseconds=max(exception.expires, 0))
    return Finding(
        finding_id=finding_id(policy.id, version, key, when),
        kind=kind,
        effect="notice",
        message=f"exception {exception.id} of {policy.id}, approved by {exception.approved_by}, {verb} at {when}: "
        "what it exempted is a violation from then on",
        window_start=moment if kind == KIND else max(moment - NOTICE, _EPOCH),
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
