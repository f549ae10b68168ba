"""Runs a comparison over a period, piece by piece, and makes the report of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from usageaudit.history.comparing import SPAN_EVENTS, Counts, count, groups
from usageaudit.history.examples import examples, explained
from usageaudit.history.report import Change, PolicyChange
from usageaudit.history.spans import spans

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from usageaudit.history.comparing import Compared, Dimension
    from usageaudit.history.counting import Tally
    from usageaudit.history.report import Example
    from usageaudit.history.spans import Period, Span
    from usageaudit.policy import Bundle, Policy
    from usageaudit.stores.port import Store

Progress = Callable[[int, int], None]
"""Told after each piece how many events are done, and how many there are."""


def compare(
    store: Store,
    compared: Sequence[Compared],
    period: Period,
    dimensions: Sequence[Dimension],
    progress: Progress,
) -> tuple[Counts, tuple[Span, ...]]:
    """Return how the verdicts of policies compare, and the pieces of time that have events.

    Raises QueryRefused where one piece takes longer, or more memory, than it may.
    """
    pieces = spans(store, period, SPAN_EVENTS)
    total, done = sum(piece.events for piece in pieces), 0
    counts = Counts()
    by_statement = list(groups(compared))
    for piece in pieces if by_statement else ():
        for group in by_statement:
            counts.add(group, dimensions, piece, count(store, group, piece, dimensions))
        done += piece.events
        progress(done, total)
    return counts, pieces


def found_examples(
    store: Store, compared: Sequence[Compared], counts: Counts, most: int, after: Bundle, as_of: int | None
) -> Mapping[str, Sequence[Example]]:
    """Return examples of each policy's changes; those of policies that `after` has say why."""
    if most <= 0:
        return {}
    found = examples(store, {one.policy_id: one for one in compared}, counts, most)
    return explained(store, after, found, as_of)


def change(
    names: tuple[str, str],
    policies: Sequence[tuple[Policy, tuple[int, ...]]],
    counts: Counts,
    pieces: Sequence[Span],
    dimensions: tuple[Dimension, ...],
    some: Mapping[str, Sequence[Example]],
    missing: Mapping[str, Mapping[str, int]],
) -> Change:
    """Return the report of a comparison."""
    parts: defaultdict[str, dict[Dimension, dict[str | None, Tally]]]
    parts = defaultdict(lambda: {dimension: {} for dimension in dimensions})
    for (policy_id, dimension, value), tally in counts.parts.items():
        parts[policy_id][dimension][value] = tally
    return Change(
        before=names[0],
        after=names[1],
        events=sum(piece.events for piece in pieces),
        start=pieces[0].period.start if pieces else None,
        end=pieces[-1].period.end if pieces else None,
        dimensions=dimensions,
        policies=tuple(
            PolicyChange(
                policy_id=policy.id,
                title=policy.title,
                severity=policy.severity,
                stage=policy.stage,
                versions=versions,
                all=counts.policies[policy.id],
                parts=parts[policy.id],
                examples=some.get(policy.id, ()),
                unsaid=missing.get(policy.id, {}),
            )
            for policy, versions in policies
        ),
    )
