"""What windowed policies would have found in the record, by the SQL that the scheduler runs, and what they can't know.

A finding counts as one violation. Before are the findings of the record, or those of another bundle on the same events.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from usageaudit.events.times import format_time
from usageaudit.history.comparing import LIMITS
from usageaudit.history.counting import Tally, pair_of
from usageaudit.history.examples import always
from usageaudit.history.report import Example, PolicyChange, WindowCoverage
from usageaudit.history.spans import Period, moment
from usageaudit.policy.language import fields_read
from usageaudit.policy.schema import SCHEMA
from usageaudit.policy.sql.judging import CODES
from usageaudit.policy.windows.crossings import reach
from usageaudit.policy.windows.model import Calendar
from usageaudit.scheduler.recording import Crossing, Recorder, number
from usageaudit.scheduler.rules import rules_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from usageaudit.history.comparing import Dimension
    from usageaudit.policy import Bundle, Policy
    from usageaudit.policy.language import Path
    from usageaudit.scheduler.rules import Rule
    from usageaudit.stores.port import Store
    from usageaudit.verdicts import Stage

_Key = tuple[tuple[str, ...], int]
"""A group and the end of its window, which make a finding."""
_OK, _INDETERMINATE, _VIOLATION = CODES["ok"], CODES["indeterminate"], CODES["violation"]
_NAMES: Mapping[Dimension, Path] = {"organization": ("actor", "organization"), "application": ("application", "name")}
_RECORDED = """SELECT group_key, toUnixTimestamp64Micro(window_end) FROM findings
WHERE kind = 'windowed' AND effect = 'violation' AND policy_id = {policy:String}
    AND window_end >= fromUnixTimestamp64Micro({since:Int64}, 'UTC')
    AND window_start <= fromUnixTimestamp64Micro({until:Int64}, 'UTC')"""


@dataclass(slots=True)
class _Side:
    """What one side finds, the statements of what it counts, and the conditions of what it is about and can't count."""

    found: dict[_Key, tuple[Rule, Crossing]] = field(default_factory=dict)
    notices: int = 0
    about: list[str] = field(default_factory=list)
    counted: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)


def windowed_changes(
    store: Store,
    new: Bundle,
    old: Bundle | None,
    period: Period,
    *,
    stages: tuple[Collection[Stage], Collection[Stage]],
    dimensions: Sequence[Dimension],
    as_of: int | None = None,
    only: Collection[str] = (),
    most_examples: int = 3,
) -> tuple[PolicyChange, ...]:
    """Return what becomes of the windowed policies of two bundles, `old` by its stages, the first, `new` by the second.

    Looked at is what crosses in the period; days and months of a calendar are looked at from their beginning.
    """
    bounds = _bounds(store, period)
    known = {policy.id: policy for bundle in (old, new) if bundle is not None for policy in bundle.windowed}
    changes = []
    for name, policy in sorted(known.items()):
        now = _rules(new, name, stages[1], as_of)
        before = _rules(old, name, stages[0], None) if old is not None else ()
        if bounds is not None and (now or before) and (not only or name in only):
            work = _Comparison(store, policy, bounds)
            changes.append(work.change(before if old is not None else None, now, dimensions, most_examples))
    return tuple(changes)


def _bounds(store: Store, period: Period) -> Period | None:
    """Return the times of the first event of a period and just after the last, None where it has none."""
    times = "min(toUnixTimestamp64Micro(event_time)), max(toUnixTimestamp64Micro(event_time))"
    sql = f"SELECT count(), {times} FROM ledger WHERE {period.accepted}"
    ((events, first, last),) = store.query(sql, None, LIMITS).rows
    return Period(int(first), int(last) + 1) if events else None


def _rules(bundle: Bundle, policy_id: str, stages: Collection[Stage], as_of: int | None) -> tuple[Rule, ...]:
    policies = [policy for policy in bundle.windowed if policy.id == policy_id]
    chosen = tuple(policy if as_of is None else always(policy, as_of) for policy in policies)
    return rules_of(replace(bundle, windowed=chosen), stages)


@dataclass(frozen=True, slots=True)
class _Comparison:
    store: Store
    policy: Policy
    period: Period

    def change(
        self, before: Sequence[Rule] | None, after: Sequence[Rule], dimensions: Sequence[Dimension], most: int
    ) -> PolicyChange:
        """Return what becomes of the policy."""
        was, now = self._side(before or ()), self._side(after)
        earlier = set(was.found) if before is not None else self._recorded(after)
        pairs = {
            key: pair_of(_VIOLATION if key in earlier else _OK, _VIOLATION if key in now.found else _OK)
            for key in sorted({*earlier, *now.found}, key=lambda one: (one[1], one[0]))
        }
        tally, coverage, unsaid = Tally(Counter(pairs.values())), *self._coverage(was, now, after)
        tally.pairs.update(coverage.pairs)
        rules = after or before or ()
        names = rules[0].window.group_by if rules else ()
        return PolicyChange(
            policy_id=self.policy.id,
            title=self.policy.title,
            severity=self.policy.severity,
            stage=self.policy.stage,
            versions=tuple(rule.revision.version for rule in after),
            all=tally,
            parts={one: _part(one, names, pairs) for one in dimensions},
            examples=self._examples(pairs, {**was.found, **now.found}, most),
            unsaid=unsaid,
            window=coverage,
        )

    def _side(self, rules: Iterable[Rule]) -> _Side:
        side = _Side()
        for rule in rules:
            found = self._crossings(rule)
            effects = Recorder(self.store, rule).effects(found)
            side.found.update({(one.key, one.ends): (rule, one) for one in found if effects[one] == "violation"})
            side.notices += sum(effect == "notice" for effect in effects.values())
            where = self._where(rule)
            side.about.append(f"({where} AND {rule.matching.seen})")
            side.counted.append(rule.matching.rows(where))
            side.undecided.append(f"({where} AND {rule.matching.seen} AND NOT ({rule.matching.decided}))")
        return side

    def _where(self, rule: Rule) -> str:
        """Return the condition of the events of the period that a revision judges."""
        start, end = rule.revision.start, rule.revision.end
        return Period(
            self.period.start if start is None else max(start, self.period.start),
            self.period.end if end is None else min(end, self.period.end),
        ).accepted

    def _since(self, rule: Rule) -> int:
        span = reach(rule.window, self.period.start, self.period.start)
        return span.crossed_from if isinstance(rule.window.over, Calendar) else self.period.start

    def _crossings(self, rule: Rule) -> list[Crossing]:
        needed = max(reach(rule.window, self.period.start, self.period.start).rows_from, 0)
        rows = rule.matching.rows(f"event_time >= {moment(needed)} AND event_time < {moment(self.period.end)}")
        sql = rule.crossings(rows, self._since(rule), self.period.end - 1)
        return [
            Crossing(tuple(map(str, key)), int(at), int(begins), int(ends), value)
            for key, at, begins, ends, value in self.store.query(sql, None, LIMITS).rows
        ]

    def _recorded(self, rules: Sequence[Rule]) -> set[_Key]:
        """Return the findings of the policy that stand in the record and crossed, as far as is known, in the period."""
        if not rules:
            return set()
        recorder, calendar = Recorder(self.store, rules[0]), isinstance(rules[0].window.over, Calendar)
        times = {"since": self._since(rules[0]), "until": self.period.end - 1}
        found = self.store.query(_RECORDED, {"policy": self.policy.id, **times}, LIMITS).rows
        return {
            (recorder.key_of(str(group)), int(ends)) for group, ends in found if calendar or int(ends) < self.period.end
        }

    def _coverage(self, was: _Side, now: _Side, rules: Sequence[Rule]) -> tuple[WindowCoverage, Mapping[str, int]]:
        """Return how many events could be counted, and which fields those that could not did not say."""
        before, after = (" OR ".join(side.undecided) or "0" for side in (was, now))
        fields = _optional(rules)
        sums = [
            " OR ".join(now.about) or "0",
            f"({after}) AND NOT ({before})",
            f"({before}) AND NOT ({after})",
            f"({after}) AND ({before})",
        ]
        sums += [f"({after}) AND {sql}" for sql in fields.values()]
        counts = ", ".join(f"countIf({one})" for one in sums)
        sql = f"SELECT {counts} FROM ledger WHERE {self.period.accepted}"
        ((seen, newly, no_longer, still, *missing),) = self.store.query(sql, None, LIMITS).rows
        # Each event is counted by one revision.
        counted = sum(
            int(self.store.query(f"SELECT count() FROM ({rows})", None, LIMITS).rows[0][0]) for rows in now.counted
        )
        pairs = {
            pair_of(_OK, _INDETERMINATE): int(newly),
            pair_of(_INDETERMINATE, _OK): int(no_longer),
            pair_of(_INDETERMINATE, _INDETERMINATE): int(still),
        }
        unsaid = {name: int(events) for name, events in zip(fields, missing, strict=True) if events}
        in_order = dict(sorted(unsaid.items(), key=lambda item: -item[1]))
        coverage = WindowCoverage(int(seen), counted, int(newly) + int(still), now.notices, pairs)
        return coverage, in_order

    def _examples(
        self, pairs: Mapping[_Key, int], found: Mapping[_Key, tuple[Rule, Crossing]], most: int
    ) -> tuple[Example, ...]:
        """Return the first findings that come or go, each with the last event of its window."""
        some: Counter[int] = Counter()
        examples = []
        for key, pair in pairs.items():
            if key in found and pair != pair_of(_VIOLATION, _VIOLATION) and some[pair] < most:
                some[pair] += 1
                examples.append(self._example(pair, *found[key]))
        return tuple(examples)

    def _example(self, pair: int, rule: Rule, one: Crossing) -> Example:
        last = one.begins if rule.window.kind == "absence" else one.at
        first = last if rule.window.kind in ("absence", "first_seen") else one.begins
        rows = rule.matching.rows(f"event_time >= {moment(max(first, 0))} AND event_time <= {moment(last)}")
        key = {"key": list(one.key)}
        wanted = "key = CAST({key:Array(String)}, 'Array(String)')"
        sql = f"SELECT source, id FROM ({rows}) WHERE {wanted} ORDER BY t DESC, source DESC, id DESC LIMIT 1"
        ((source, event_id),) = self.store.query(sql, key, LIMITS).rows or (("", ""),)
        group = dict(zip(rule.window.group_by, one.key, strict=True))
        named = [f"{'.'.join(path)} {value}" for path, value in group.items()]
        bounds = f"the window from {format_time(one.begins)} to {format_time(one.ends)}"
        return Example(
            pair=pair,
            source=str(source),
            event_id=str(event_id),
            time=one.at,
            organization=group.get(_NAMES["organization"]),
            application=group.get(_NAMES["application"], ""),
            model=group.get(("model", "name"), ""),
            deciding=(", ".join([*named, f"value {number(one.value)} in {bounds}"]),),
        )


def _part(dimension: Dimension, names: Sequence[Path], pairs: Mapping[_Key, int]) -> dict[str | None, Tally]:
    """Return the tallies by the values of a dimension; None is a group that does not say it."""
    found: dict[str | None, Tally] = {}
    for (key, ends), pair in pairs.items():
        # A period of a calendar ends where the next begins.
        value = format_time(max(ends - 1, 0))[:7] if dimension == "month" else None
        if dimension in _NAMES and _NAMES[dimension] in names:
            value = key[names.index(_NAMES[dimension])]
        found.setdefault(value, Tally()).pairs[pair] += 1
    return found


def _optional(rules: Iterable[Rule]) -> Mapping[str, str]:
    """Return, by name, the SQL that an event did not say a field, of those that decide whether it counts."""
    found = {}
    for rule in rules:
        grouped = [*rule.window.group_by, *([rule.window.field] if rule.window.field else [])]
        conditions = [rule.revision.when, *([rule.policy.applies] if rule.policy.applies else [])]
        for path in (*grouped, *(path for one in conditions for path in fields_read(one))):
            leaf, stored = SCHEMA.leaves[path], rule.columns[path]
            if leaf.type.scalar and not leaf.required:
                found[".".join(path)] = f"isNull({stored.value})"
            elif stored.present:
                found[".".join(path)] = f"NOT ({stored.present})"
    return found
