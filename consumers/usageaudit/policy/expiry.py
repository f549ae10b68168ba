"""Exceptions come to an end: which have, and which soon will."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from usageaudit.events.times import format_time, to_micros
from usageaudit.policy.language import Diagnostic
from usageaudit.policy.model import JUDGED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.policy.model import Bundle, Policy, PolicyException

SOON = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Expiring:
    """An exception of a policy that is judged, and whether its time is over."""

    policy: Policy
    exception: PolicyException
    expired: bool


def exceptions_in(bundle: Bundle) -> Iterator[tuple[Policy, PolicyException]]:
    """Yield the exceptions of all policies that are judged, with their policies."""
    for policy in bundle.all_policies:
        if policy.stage in JUDGED:
            yield from ((policy, exception) for exception in policy.exceptions)


def expiring(bundle: Bundle, now: datetime, within: timedelta = SOON) -> Iterator[Expiring]:
    """Yield the exceptions that have expired at a time, or will within the span."""
    moment, horizon = to_micros(now), to_micros(now + within)
    for policy, exception in exceptions_in(bundle):
        if exception.expires <= horizon:
            yield Expiring(policy, exception, expired=exception.expires <= moment)


def expiry_warnings(bundle: Bundle, now: datetime | None = None) -> tuple[Diagnostic, ...]:
    """Return a warning for each exception that has expired, or will within thirty days; by default, from now on."""
    return tuple(_warning(one) for one in expiring(bundle, now or datetime.now(UTC)))


def _warning(one: Expiring) -> Diagnostic:
    exception, when = one.exception, format_time(one.exception.expires)
    what = f"exception {exception.id} of {one.policy.id} {'expired' if one.expired else 'expires'} at {when}"
    if one.expired:
        hint = "it exempts nothing any more: extend it with a reason, or retire it once no event of its time is to come"
    else:
        hint = f"{exception.approved_by} approved it: extend it in time where it is still needed"
    return Diagnostic("warning", what, exception.file, exception.line, 1, hint=hint)
