"""What a bundle would have found in the record: against what was recorded, or against another bundle."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from usageaudit.history.comparing import NOT_JUDGED, Compared, verdicts
from usageaudit.history.running import change, compare, found_examples
from usageaudit.history.unsaid import unsaid
from usageaudit.history.windowed import windowed_changes
from usageaudit.policy.model import JUDGED
from usageaudit.policy.sql import ledger_columns

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from usageaudit.history.report import Change
    from usageaudit.history.running import Progress
    from usageaudit.history.spans import Period
    from usageaudit.policy import Bundle, Policy
    from usageaudit.stores.port import Store
    from usageaudit.verdicts import Stage

TRIED: Collection[Stage] = ("draft", *sorted(JUDGED))
"""Stages of the new bundle that are judged: a draft is tried before it is shadowed."""
_DIMENSIONS = ("organization", "application", "month")
_RECORDED = "the record"


def backtest(
    store: Store,
    new: Bundle,
    old: Bundle | None,
    period: Period,
    *,
    progress: Progress,
    as_of: int | None = None,
    only: Collection[str] = (),
    most_examples: int = 3,
) -> Change:
    """Return what the policies of a bundle say of the events of a period, compared with what was said before.

    That is what `old` says by its revisions at each event's own time, or, without it, what was recorded, of which only
    policies of `new` are compared. With `as_of` events are judged by the revision of `new` that is in force then.
    `only` names the policies to compare, by default all; those with a window come last, with findings in place of
    violations. Nothing is written.
    """
    known: Mapping[str, Policy] = {policy.id: policy for bundle in (old, new) if bundle for policy in bundle.policies}
    wanted = [policy for name, policy in sorted(known.items()) if not only or name in only]
    compared = _compared(new, old, as_of, {policy.id for policy in wanted})
    counts, pieces = compare(store, compared, period, _DIMENSIONS, progress)
    some = found_examples(store, compared, counts, most_examples, new, as_of)
    missing = unsaid(store, {one.policy_id: one for one in compared}, counts, new)
    judged = {one.policy_id for one in compared}
    policies = [(policy, versions(policy, as_of, new)) for policy in wanted if policy.id in judged]
    names = (bundle_name(old) if old else _RECORDED, bundle_name(new))
    found = change(names, policies, counts, pieces, _DIMENSIONS, some, missing)
    windowed = windowed_changes(
        store,
        new,
        old,
        period,
        stages=(JUDGED, TRIED),
        dimensions=_DIMENSIONS,
        as_of=as_of,
        only=only,
        most_examples=most_examples,
    )
    return replace(found, policies=(*found.policies, *windowed))


def _compared(new: Bundle, old: Bundle | None, as_of: int | None, wanted: Collection[str]) -> Sequence[Compared]:
    """Return the policies that one of the two sides judges, by id."""
    after = verdicts(new, ledger_columns(new.registry), TRIED, as_of)
    if old is None:
        names = {policy.id for policy in new.policies}
        return [Compared(name, None, after.get(name, NOT_JUDGED)) for name in sorted(names & set(wanted))]
    before = verdicts(old, ledger_columns(old.registry), JUDGED)
    return [
        Compared(name, before.get(name, NOT_JUDGED), after.get(name, NOT_JUDGED))
        for name in sorted({*before, *after})
        if name in wanted
    ]


def bundle_name(bundle: Bundle) -> str:
    """Return how a bundle is called in reports: its name, and as much of its hash as commands need."""
    return f"{bundle.name} ({bundle.hash[:12]})"


def versions(policy: Policy, as_of: int | None, bundle: Bundle) -> tuple[int, ...]:
    """Return the versions of the revisions by which a bundle judges; none where it is not its policy."""
    if bundle.policy(policy.id) is not policy:
        return ()
    return tuple(one.version for one in policy.revisions if as_of is None or one.in_force(as_of))
