"""Removes what no window needs any more: kept rows that are too old, and all there is of rules that are long gone.

Rows are marked as gone (a lightweight DELETE) and left out when parts are merged. Nothing waits for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.policy.sql.text import literal
from usageaudit.scheduler.reading import between
from usageaudit.scheduler.stepping import MARGIN, kept_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usageaudit.scheduler.progress import Progress
    from usageaudit.scheduler.rules import Rule
    from usageaudit.stores.port import Store

GONE_DAYS = 30
"""How long after its last step a rule that no bundle in force has is forgotten."""
WORTH = 10_000
"""So many rows are worth a DELETE, which rewrites a mark in each part that they are in."""
_SETTINGS = "SETTINGS lightweight_deletes_sync = 0"
_GONE = """SELECT rule FROM window_progress GROUP BY rule
HAVING max(written) < now64(3, 'UTC') - toIntervalDay({days:UInt32}) AND rule NOT IN {rules:Array(String)}"""


def clean(store: Store, rules: Mapping[str, tuple[Rule, Progress]], worth: int = WORTH) -> int:
    """Remove rows that windows of rules, by their ids, don't need at their progress; return how many rows of events.

    What a late event needs later is read in the ledger: rows are taken for missing before they are removed.
    """
    return sum(_clean(store, rule, progress, worth) for rule, progress in rules.values()) + _forget(store, rules)


def _clean(store: Store, rule: Rule, progress: Progress, worth: int) -> int:
    needed = kept_for(rule.window)
    until = progress.watermark - needed - MARGIN
    if not needed or until <= 0:
        return 0
    return _remove(store, f"rule = {literal(rule.id)} AND {between(-1, until)}", worth)


def _forget(store: Store, rules: Mapping[str, tuple[Rule, Progress]]) -> int:
    found = store.execute(_GONE, {"days": GONE_DAYS, "rules": list(rules)}).rows
    if not found:
        return 0
    gone = f"rule IN ({', '.join(literal(str(rule)) for (rule,) in found)})"
    removed = _remove(store, gone, 1)
    store.execute(f"DELETE FROM window_progress WHERE {gone} {_SETTINGS}")
    return removed


def _remove(store: Store, where: str, worth: int) -> int:
    ((rows,),) = store.execute(f"SELECT count() FROM window_events WHERE {where}").rows
    if rows < worth:
        return 0
    store.execute(f"DELETE FROM window_events WHERE {where} {_SETTINGS}")
    return int(rows)
