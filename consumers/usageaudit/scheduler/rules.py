"""What the windowed policies of a bundle come to: one rule for each revision, with the SQL of what it counts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usageaudit.policy.model import JUDGED
from usageaudit.policy.sql import ledger_columns
from usageaudit.policy.windows.crossings import crossings, holds_sql
from usageaudit.policy.windows.matching import alive_sql, matching
from usageaudit.policy.windows.model import Calendar

if TYPE_CHECKING:
    from collections.abc import Collection

    from usageaudit.policy.model import Bundle, Policy, Revision
    from usageaudit.policy.sql import Columns
    from usageaudit.policy.windows.matching import Matching
    from usageaudit.policy.windows.model import Window
    from usageaudit.verdicts import Stage

_FORMAT = 1


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A revision of a windowed policy. `id` is a digest of all that decides what it counts and finds."""

    policy: Policy
    revision: Revision
    window: Window
    matching: Matching
    columns: Columns
    bundle: str
    id: str

    def alive(self, where: str) -> str | None:
        """Return the statement of the stretches of time that had a heartbeat, None where the policy asks for none."""
        beat = self.window.heartbeat
        return None if beat is None else alive_sql(beat.when, beat.every, self.columns, where)

    def crossings(self, rows: str, since: int, until: int) -> str:
        """Return the statement of the crossings from `since` to `until` that lie in the time of the revision.

        What holds when a revision begins crosses then: the one before may have had another condition.
        """
        start, end = self.revision.start, self.revision.end
        since = since if start is None else max(since, start)
        until = until if end is None else min(until, end - 1)
        return crossings(self.window, self.revision.condition, rows, since, until, start)


def rules_of(bundle: Bundle, stages: Collection[Stage] = JUDGED) -> tuple[Rule, ...]:
    """Return the rules of the windowed policies of some stages, by default of those that are judged."""
    columns = ledger_columns(bundle.registry)
    return tuple(
        _rule(policy, revision, policy.window, columns, bundle.hash)
        for policy in bundle.windowed
        if policy.stage in stages and policy.window is not None
        for revision in policy.revisions
    )


def _rule(policy: Policy, revision: Revision, window: Window, columns: Columns, bundle: str) -> Rule:
    counted = matching(policy, revision, window, columns)
    over = [window.over.unit, window.over.zone] if isinstance(window.over, Calendar) else window.over
    beat = None if window.heartbeat is None else alive_sql(window.heartbeat.when, window.heartbeat.every, columns, "1")
    holds = holds_sql(window, revision.condition)
    said = [_FORMAT, policy.id, revision.version, counted.rows("1"), window.kind, over, beat, holds]
    bounds = [revision.start, revision.end]
    digest = hashlib.sha256(json.dumps([*said, *bounds]).encode()).hexdigest()[:32]
    return Rule(policy, revision, window, counted, columns, bundle, digest)
