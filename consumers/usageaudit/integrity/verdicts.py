"""Judges what was recorded last again, in SQL, and compares: both back ends of the policy language have to agree."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING

from usageaudit.errors import BundleError, QueryError
from usageaudit.integrity.alarms import keep_differences
from usageaudit.integrity.rejudging import EXAMPLES, Difference, statements
from usageaudit.integrity.report import Problem
from usageaudit.integrity.sampling import sampled
from usageaudit.integrity.window import slices
from usageaudit.policy import InvalidBundle, bundle_from_archive
from usageaudit.policy.archive import UnknownArchive, archived_hash
from usageaudit.stores.port import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from usageaudit.integrity.rejudging import Kind, Statement
    from usageaudit.integrity.window import Slice
    from usageaudit.policy import Bundle
    from usageaudit.stores.port import Store

    Advance = Callable[[int, int], None]
    """Is told how many rows were judged again, and of how many."""

MOST_NAMED = 1000
"""How many kinds of difference become problems and findings."""
LIMITS = Limits(seconds=600, long_text=True)
"""What one statement about one slice may use."""
_DAY = 86_400
_ARCHIVE = "SELECT archive FROM bundles WHERE hash = {hash:String}"


@dataclass(slots=True)
class Rejudged:
    """How many accepted rows of the window were judged again, how many of those from their bytes, and what is wrong.

    `notes` are what could not be compared or kept, which is no mismatch.
    """

    rows: int = 0
    sampled: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)


def check_verdicts(store: Store, seconds: int | None, advance: Advance = lambda _done, _all: None) -> Rejudged:
    """Judge the rows of so many seconds before the newest again; None are all rows.

    What differs is appended to the findings, too, where the store may be written. Raises StoreUnavailable.
    """
    chosen = slices(store, seconds)
    check = _Check(store, sum(one.rows for one in chosen), advance)
    for bundle_hash, group in groupby(chosen, key=lambda one: one.bundle):
        check.bundle(bundle_hash, list(group))
    return check.result()


class _Check:
    """Gathers what differs, bundle by bundle."""

    def __init__(self, store: Store, rows: int, advance: Advance) -> None:
        self._store = store
        self._rows = rows
        self._advance = advance
        self._found = Rejudged()
        self._done = 0
        self._differences: dict[tuple[object, ...], Difference] = {}
        self._unnamed = 0
        self._failed: set[tuple[str, int]] = set()

    def bundle(self, bundle_hash: str, group: Sequence[Slice]) -> None:
        """Compare the rows that a bundle judged."""
        bundle = self._load(bundle_hash, group)
        if bundle is None:
            self._advanced(sum(one.rows for one in group))
            return
        asked = list(statements(bundle))
        for one in group:
            for number, statement in enumerate(asked):
                if (bundle_hash, number) not in self._failed:
                    self._compare(one, statement, number)
            for difference in sampled(self._store, one, bundle):
                self._found.sampled += 1
                self._add(difference)
            self._found.rows += one.rows
            self._advanced(one.rows)

    def _load(self, bundle_hash: str, group: Sequence[Slice]) -> Bundle | None:
        """Return a bundle from the store; where it is not there as it was, say so."""
        found = self._store.execute(_ARCHIVE, {"hash": bundle_hash}).rows
        if not found:
            what = "they name a policy bundle that the store does not have" if bundle_hash else "they name no bundle"
            self._without_bundle("bundle_unknown", group, what)
            return None
        content = found[0][0].encode() if isinstance(found[0][0], str) else found[0][0]
        try:
            if archived_hash(content) == bundle_hash:
                return bundle_from_archive(content)
        except (UnknownArchive, InvalidBundle) as error:
            self._unreadable(group, error)
            return None
        except BundleError:
            pass
        self._without_bundle("bundle_altered", group, "what the store keeps as their policy bundle is not that bundle")
        return None

    def _unreadable(self, group: Sequence[Slice], error: BundleError) -> None:
        """Say that the bundle is the right one, and not for this version of usageaudit."""
        rows = sum(one.rows for one in group)
        text = f"{rows:,} rows were not judged again, since their policy bundle does not load: {error}"
        self._found.notes.append(Problem("bundle_unreadable", f"bundle {group[0].bundle[:12]}", text))

    def _without_bundle(self, kind: Kind, group: Sequence[Slice], what: str) -> None:
        for one in group:
            day = int(one.parameters["since"]) // 1000 // _DAY * _DAY
            self._add(Difference(one.bundle, "", 0, what, day, one.rows, (), kind))

    def _compare(self, one: Slice, statement: Statement, number: int) -> None:
        try:
            rows = self._store.query(statement.sql, {**one.parameters, **statement.parameters}, LIMITS).rows
        except QueryError as error:
            self._failed.add((one.bundle, number))
            text = f"{statement.about} could not be judged again: {error}"
            self._found.problems.append(Problem("not_rejudged", f"bundle {one.bundle[:12]}", text))
            return
        for row in rows:
            self._add(statement.difference(one.bundle, row))

    def _add(self, difference: Difference | None) -> None:
        if difference is None:
            return
        key = (difference.bundle, difference.policy_id, difference.policy_version, difference.what, difference.day)
        before = self._differences.get(key)
        if before is not None:
            self._differences[key] = _sum([before, difference])
        elif len(self._differences) < MOST_NAMED:
            self._differences[key] = difference
        else:
            self._unnamed += difference.rows

    def _advanced(self, rows: int) -> None:
        self._done += rows
        self._advance(self._done, self._rows)

    def result(self) -> Rejudged:
        """Return what was found, after keeping it as findings."""
        by_kind: dict[tuple[object, ...], list[Difference]] = {}
        for one in self._differences.values():
            by_kind.setdefault((one.bundle, one.policy_id, one.policy_version, one.what), []).append(one)
        self._found.problems += [_problem(_sum(several)) for several in by_kind.values()]
        if self._unnamed:
            text = f"{self._unnamed:,} verdicts more differ in other ways; these are the first {MOST_NAMED:,}"
            self._found.problems.append(Problem("verdicts_differ", "verdicts", text))
        if self._differences and (refused := keep_differences(self._store, self._differences.values())):
            text = f"what differs was not added to the findings: {refused}"
            self._found.notes.append(Problem("findings_not_kept", "findings", text))
        return self._found


def _sum(several: Sequence[Difference]) -> Difference:
    events = dict.fromkeys(event for one in several for event in one.events)
    return replace(several[0], rows=sum(one.rows for one in several), events=tuple(events)[:EXAMPLES])


def _problem(one: Difference) -> Problem:
    where = f"{one.policy_id} version {one.policy_version}" if one.policy_id else f"bundle {one.bundle[:12]}"
    by = f" judged by bundle {one.bundle[:12]}" if one.policy_id else ""
    examples = ", ".join(f"{source} {event_id}" for source, event_id in one.events)
    return Problem(one.kind, where, f"{one.rows:,} rows{by}: {one.what}{examples and f'; such as {examples}'}")
