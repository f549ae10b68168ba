"""Crossings as findings: each with a deterministic id, the events that make it up, and a last word that stands.

A finding is appended again where what it says has changed: `cleared` where a late event took back what was found, and
`violation` where another one brought it back. What a finding says is what its last row says.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usageaudit.events.times import format_time
from usageaudit.policy.windows.matching import OPENS
from usageaudit.policy.windows.model import VALUE, WINDOW_END, WINDOW_START, Calendar
from usageaudit.scheduler.reading import between
from usageaudit.verdicts import finding_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from decimal import Decimal

    from usageaudit.policy.language import Path
    from usageaudit.scheduler.lease import Lease
    from usageaudit.scheduler.rules import Rule
    from usageaudit.stores.port import Parameters, Store

MOST_EVENTS = 100
"""How many events a finding names: the last ones before it crossed."""
_IN_A_STATEMENT = 500
Rows = Callable[[int, str], str]
"""The statement of the rows of some groups from a time on; the groups are a statement, too."""

_STANDING = """SELECT finding_id, argMax(effect, created), toUnixTimestamp64Milli(max(created)) FROM findings_log
WHERE policy_id = {policy_id:String} AND window_end >= fromUnixTimestamp64Micro({first:Int64}, 'UTC')
    AND window_end <= fromUnixTimestamp64Micro({last:Int64}, 'UTC') AND finding_id IN {ids:Array(String)}
GROUP BY finding_id"""
_STANDING_FROM = """SELECT finding_id, any(group_key), argMax(message, created),
    toUnixTimestamp64Micro(any(window_start)), toUnixTimestamp64Micro(any(window_end)),
    toUnixTimestamp64Milli(max(created))
FROM findings_log WHERE kind = 'windowed' AND policy_id = {policy_id:String} AND policy_version = {version:UInt32}
    AND window_end >= fromUnixTimestamp64Micro({since:Int64}, 'UTC')
    AND window_start <= fromUnixTimestamp64Micro({until:Int64}, 'UTC')
    AND (empty({keys:Array(String)}) OR group_key IN {keys:Array(String)})
GROUP BY finding_id HAVING argMax(effect, created) != 'cleared'"""
_UNDECIDED = """SELECT finding_id, toUnixTimestamp64Micro(any(window_start)), toUnixTimestamp64Micro(any(window_end)),
    any(group_key), argMax(message, created), any(application_name), any(actor_organization),
    toUnixTimestamp64Milli(max(created)), any(event_refs).1, any(event_refs).2
FROM findings_log WHERE kind = 'windowed' AND policy_id = {policy_id:String} AND policy_version = {version:UInt32}
    AND window_end >= fromUnixTimestamp64Micro({since:Int64}, 'UTC')
    AND window_start <= fromUnixTimestamp64Micro({until:Int64}, 'UTC')
GROUP BY finding_id HAVING argMax(effect, created) = 'notice'"""
_COLUMNS = {
    "finding_id": "String",
    "effect": "String",
    "begins": "Int64",
    "ends": "Int64",
    "group_key": "String",
    "message": "String",
    "application": "String",
    "organization": "Nullable(String)",
    "last": "Int64",
    "sources": "Array(String)",
    "ids": "Array(String)",
}
_APPEND = f"""INSERT INTO findings_log (finding_id, kind, effect, policy_id, policy_version, bundle, severity, stage,
    window_start, window_end, group_key, event_refs, message, created, application_name, actor_organization)
SELECT f_finding_id, 'windowed', f_effect, {{policy_id:String}}, {{version:UInt32}}, {{bundle:String}},
    {{severity:String}}, {{stage:String}}, fromUnixTimestamp64Micro(f_begins, 'UTC'),
    fromUnixTimestamp64Micro(f_ends, 'UTC'), f_group_key,
    CAST(arrayZip(f_sources, f_ids), 'Array(Tuple(source String, id String))'), f_message,
    greatest(now64(3, 'UTC'), fromUnixTimestamp64Milli(f_last + 1, 'UTC')), f_application, f_organization
FROM (SELECT 1) ARRAY JOIN {", ".join(f"{{{name}:Array({kind})}} AS f_{name}" for name, kind in _COLUMNS.items())}"""

# Bound, not written into the statement: keys may be as long as fields are.
_GROUPS = "SELECT arrayJoin({keys:Array(Array(String))})"
_CROSSED = """SELECT p.1 AS number, p.2 AS key, p.3 AS first, p.4 AS last FROM (SELECT arrayJoin(arrayZip(
    {numbers:Array(UInt32)}, {keys:Array(Array(String))}, {firsts:Array(Int64)}, {lasts:Array(Int64)})) AS p)"""


@dataclass(frozen=True, slots=True)
class Crossing:
    """A window that crossed: its group, when, its bounds, in microseconds since 1970, and its value."""

    key: tuple[str, ...]
    at: int
    begins: int
    ends: int
    value: int | Decimal


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of a finding, its fields named as the parameters of the statement that appends it."""

    finding_id: str
    effect: str
    begins: int
    ends: int
    group_key: str
    message: str
    application: str
    organization: str | None
    last: int
    sources: Sequence[str] = ()
    ids: Sequence[str] = ()


class Recorder:
    """Writes what the windows of a rule crossed."""

    def __init__(self, store: Store, rule: Rule, lease: Lease | None = None) -> None:
        """With a lease, nothing is written any more once another one has taken it over."""
        self._store, self._rule, self._lease = store, rule, lease

    def record(self, found: Sequence[Crossing], rows: Rows) -> int:
        """Append a finding for each crossing that has none standing, and return how many those were."""
        effects = self.effects(found)
        named = {self.id_of(one): one for one in found}
        standing = self._standing(named)
        new = [
            (one, effects[one], standing[name][1] if name in standing else 0)
            for name, one in named.items()
            if name not in standing or standing[name][0] != effects[one]
        ]
        self._append(new, rows)
        return len(new)

    def correct(
        self, found: Sequence[Crossing], groups: Iterable[tuple[str, ...]], span: tuple[int, int], rows: Rows
    ) -> int:
        """Do the same for groups that were looked at again over a span of time; clear what no longer crosses there."""
        since, until = span
        keys = {self.group_key(key) for key in groups}
        there = {self.id_of(one) for one in found}
        of_policy = {"policy_id": self._rule.policy.id, "version": self._rule.revision.version}
        # Few groups are asked for by name: one event that comes late is no reason to read what all others found.
        named = {"keys": sorted(keys) if len(keys) <= _IN_A_STATEMENT else []}
        standing = self._store.execute(_STANDING_FROM, {**of_policy, **named, "since": since, "until": until}).rows
        gone = [
            _Row(
                str(name),
                "cleared",
                int(begins),
                int(ends),
                str(key),
                f"cleared by a late event: {said}",
                "",
                None,
                int(last),
            )
            for name, key, said, begins, ends, last in standing
            if key in keys and name not in there and self._within(int(begins), int(ends), since, until)
        ]
        self._write(gone)
        return len(gone) + self.record(found, rows)

    def decide(self, span: tuple[int, int]) -> int:
        """Make violations of the notices that a heartbeat was missing for, and that came late; return how many."""
        beat = self._rule.window.heartbeat
        of_policy = {"policy_id": self._rule.policy.id, "version": self._rule.revision.version}
        found = self._store.execute(_UNDECIDED, {**of_policy, "since": span[0], "until": span[1]}).rows
        if beat is None or not found:
            return 0
        waits = [_Row(str(name), "violation", *rest) for name, *rest in found]
        alive = self._alive(min(one.begins for one in waits), max(one.ends for one in waits), beat.every)
        decided = [one for one in waits if stretches(one.begins, one.ends, beat.every) <= alive]
        self._write(decided)
        return len(decided)

    def id_of(self, one: Crossing) -> str:
        """Return the id of the finding of a crossing."""
        version = self._rule.revision.version
        return finding_id(self._rule.policy.id, version, self.group_key(one.key), format_time(one.ends))

    def group_key(self, key: tuple[str, ...]) -> str:
        """Return a group as a JSON object of the fields of group_by and their values."""
        names = map(".".join, self._rule.window.group_by)
        return json.dumps(dict(zip(names, key, strict=True)), ensure_ascii=False)

    def key_of(self, group_key: str) -> tuple[str, ...]:
        """Return the group of a finding."""
        values = json.loads(group_key)
        return tuple(str(values.get(".".join(path), "")) for path in self._rule.window.group_by)

    def _within(self, begins: int, ends: int, since: int, until: int) -> bool:
        """Tell whether a finding with these bounds crossed in a span; of a calendar's only its period is known."""
        if isinstance(self._rule.window.over, Calendar):
            return ends > since and begins <= until
        return since <= ends <= until

    def _standing(self, named: Mapping[str, Crossing]) -> dict[str, tuple[str, int]]:
        """Return what the findings with some ids say last, and when that was, in milliseconds."""
        ids, found = sorted(named, key=lambda name: named[name].ends), dict[str, tuple[str, int]]()
        for start in range(0, len(ids), _IN_A_STATEMENT):
            some = ids[start : start + _IN_A_STATEMENT]
            # Ids are in no order: the time says where to look.
            bounds = {"first": named[some[0]].ends, "last": named[some[-1]].ends}
            rows = self._store.execute(_STANDING, {"policy_id": self._rule.policy.id, "ids": some, **bounds}).rows
            found.update({str(name): (str(effect), int(last)) for name, effect, last in rows})
        return found

    def effects(self, found: Sequence[Crossing]) -> dict[Crossing, str]:
        """Return what each crossing is: a wait during which the heartbeat stopped is no violation, but a notice."""
        beat = self._rule.window.heartbeat
        if beat is None or not found:
            return dict.fromkeys(found, "violation")
        alive = self._alive(min(one.begins for one in found), max(one.ends for one in found), beat.every)
        return {one: "violation" if stretches(one.begins, one.ends, beat.every) <= alive else "notice" for one in found}

    def _alive(self, first: int, last: int, every: int) -> set[int]:
        sql = self._rule.alive(between(first - first % every - 1, last))
        return {int(start) for (start,) in self._store.execute(sql).rows} if sql else set()

    def _append(self, new: Sequence[tuple[Crossing, str, int]], rows: Rows) -> None:
        """Append a row for each of some crossings, with its effect; `last` is when the row before it was appended."""
        for start in range(0, len(new), _IN_A_STATEMENT):
            some = new[start : start + _IN_A_STATEMENT]
            events = self._events([one for one, _, _ in some], rows)
            self._write(
                [self._row(one, effect, last, events.get(at, ())) for at, (one, effect, last) in enumerate(some)]
            )

    def _row(self, one: Crossing, effect: str, last: int, events: Sequence[tuple[str, str]]) -> _Row:
        policy, window = self._rule.policy, self._rule.window
        group = dict(zip(window.group_by, one.key, strict=True))
        values: dict[Path, Any] = {
            **group,
            VALUE: number(one.value),
            WINDOW_START: format_time(one.begins),
            WINDOW_END: format_time(one.ends),
        }
        message = policy.message.fill(values)
        return _Row(
            finding_id=self.id_of(one),
            effect=effect,
            begins=one.begins,
            ends=one.ends,
            group_key=self.group_key(one.key),
            message=message,
            application=group.get(("application", "name"), ""),
            organization=group.get(("actor", "organization")),
            last=last,
            sources=[source for source, _ in events],
            ids=[event_id for _, event_id in events],
        )

    def _events(self, found: Sequence[Crossing], rows: Rows) -> dict[int, Sequence[tuple[str, str]]]:
        """Return the events that make up some crossings, by their place in the list: the last ones of each window."""
        spans = [self._span(one) for one in found]
        among = rows(min(first for first, _ in spans), _GROUPS)
        if self._rule.window.expect is not None:
            among = f"SELECT * FROM ({among}) WHERE bitAnd(role, {OPENS}) != 0"
        sql = (
            f"SELECT c.number, groupArraySorted({MOST_EVENTS})((-r.t, r.source, r.id)) FROM ({among}) AS r "
            f"INNER JOIN ({_CROSSED}) AS c ON r.key = c.key WHERE r.t >= c.first AND r.t <= c.last GROUP BY c.number"
        )
        values = {
            "numbers": list(range(len(found))),
            "keys": [list(one.key) for one in found],
            "firsts": [first for first, _ in spans],
            "lasts": [last for _, last in spans],
        }
        return {
            int(number): [(str(source), str(event_id)) for _, source, event_id in reversed(events)]
            for number, events in self._store.execute(sql, values).rows
        }

    def _span(self, one: Crossing) -> tuple[int, int]:
        """Return the first and last time of the events that make up a crossing, both included."""
        match self._rule.window.kind:
            case "absence":
                return one.begins, one.begins
            case "first_seen":
                return one.at, one.at
            case _ if isinstance(self._rule.window.over, Calendar):
                return one.begins, one.at
            case _:
                return one.begins + 1, one.ends

    def _write(self, rows: Sequence[_Row]) -> None:
        policy = self._rule.policy
        common = {
            "policy_id": policy.id,
            "version": self._rule.revision.version,
            "bundle": self._rule.bundle,
            "severity": policy.severity,
            "stage": policy.stage,
        }
        for start in range(0, len(rows), _IN_A_STATEMENT):
            some = rows[start : start + _IN_A_STATEMENT]
            columns = {name: [_value(getattr(one, name)) for one in some] for name in _COLUMNS}
            self._write_fenced({**common, **columns})

    def _write_fenced(self, values: Parameters) -> None:
        if self._lease is None:
            self._store.execute(_APPEND, values)
            return
        taken_over, parameters = self._lease.taken_over()
        query_id = f"{query_prefix(self._lease.name)}{self._lease.epoch}/{uuid.uuid4().hex}"
        sql = f"{_APPEND} WHERE NOT ifNull(({taken_over}), 1)"
        self._store.execute(sql, {**values, **parameters}, query_id=query_id)


def query_prefix(name: str) -> str:
    """Return how the ids of the statements begin that write findings under a lease."""
    return f"lease/{name}/"


def stretches(begins: int, ends: int, every: int) -> set[int]:
    """Return the beginnings of the stretches of time that ended during a wait: each needs a heartbeat."""
    return set(range(begins - begins % every, ends - every + 1, every))


def number(value: int | Decimal) -> str:
    """Return a value as people write it: without zeros after the point."""
    text = format(value, "f") if not isinstance(value, int) else str(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def _value(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
