"""Whom a change of the policies at a time affects: the revisions in force just before and at it, on the same events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.events.times import format_time
from usageaudit.history.backtest import TRIED, bundle_name, versions
from usageaudit.history.comparing import NOT_JUDGED, Compared, verdicts
from usageaudit.history.running import change, compare, found_examples
from usageaudit.history.unsaid import unsaid
from usageaudit.policy.sql import ledger_columns

if TYPE_CHECKING:
    from collections.abc import Collection

    from usageaudit.history.report import Change
    from usageaudit.history.running import Progress
    from usageaudit.history.spans import Period
    from usageaudit.policy import Bundle, Policy
    from usageaudit.stores.port import Store

_DIMENSIONS = ("organization", "application", "model")


def affected(
    store: Store,
    bundle: Bundle,
    since: int,
    period: Period,
    *,
    progress: Progress,
    only: Collection[str] = (),
    most_examples: int = 3,
) -> Change:
    """Return what the revisions that begin or end at a time, in microseconds, change for the events of a period.

    Every event is judged twice, whenever it was: as just before that time, and as at it. Policies that the same
    revision judges on both sides can't change anything and are left out. Nothing is written.
    """
    revised = [policy for policy in revised_at(bundle, since) if not only or policy.id in only]
    names = {policy.id for policy in revised}
    columns = ledger_columns(bundle.registry)
    before, after = (verdicts(bundle, columns, TRIED, time) for time in (since - 1, since))
    compared = [Compared(name, before.get(name, NOT_JUDGED), after.get(name, NOT_JUDGED)) for name in sorted(names)]
    counts, pieces = compare(store, compared, period, _DIMENSIONS, progress)
    some = found_examples(store, compared, counts, most_examples, bundle, since)
    time = format_time(since)
    return change(
        (f"{bundle_name(bundle)} just before {time}", f"{bundle_name(bundle)} at {time}"),
        [(policy, versions(policy, since, bundle)) for policy in revised],
        counts,
        pieces,
        _DIMENSIONS,
        some,
        unsaid(store, {one.policy_id: one for one in compared}, counts, bundle),
    )


def revised_at(bundle: Bundle, time: int) -> list[Policy]:
    """Return the policies that another revision judges at a time than just before, drafts among them."""
    return [
        policy
        for policy in bundle.policies
        if policy.stage in TRIED and policy.revision_at(time - 1) is not policy.revision_at(time)
    ]
