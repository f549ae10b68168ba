"""Judges recorded events by other policies and appends what differs as findings; rows of the ledger stay as they are.

What an event's verdict was is what its row says, or the last rejudged finding about it. So whoever rejudges again by
the same bundle finds nothing that differs, and two at once append findings of the same ids.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from usageaudit.errors import QueryError
from usageaudit.history.comparing import LIMITS, Compared, groups, numbered, verdicts
from usageaudit.history.counting import CODE_OF, NAMES, codes_of, effect_of, pair_of
from usageaudit.history.findings import Event, Replacement, append, finding
from usageaudit.history.recorded import occurrences
from usageaudit.history.spans import moment, spans
from usageaudit.policy import compile_judge
from usageaudit.policy.approvals import recorded as approvals_of
from usageaudit.policy.model import JUDGED
from usageaudit.policy.sql import ledger_columns
from usageaudit.policy.sql.judging import CODES
from usageaudit.stores.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from usageaudit.history.counting import Effect
    from usageaudit.history.findings import Key, Rejudged, Said
    from usageaudit.history.running import Progress
    from usageaudit.history.spans import Period, Span
    from usageaudit.policy import Bundle
    from usageaudit.policy.schema import Occurrence
    from usageaudit.stores.port import Store

SPAN_EVENTS = 50_000
"""Events of one statement: all of them may differ, and then their keys are held at once."""
_AT_ONCE = 1_000
"""Events whose records are held at once."""
_DIFFERING = ", ".join(str(pair_of(b, a)) for b in NAMES for a in NAMES if effect_of(b, a))
_CODES = {name: code for code, name in NAMES.items()}
_EARLIER = """SELECT toUnixTimestamp64Micro(time), source, id, policy,
    argMax(said, (first, finding_id)), argMax(finding_id, (first, finding_id)), argMax(by, (first, finding_id)),
    groupUniqArrayIf(version, what = 'violation')
FROM (
    SELECT finding_id, min(created) AS first, any(window_end) AS time, any(event_refs[1].1) AS source,
        any(event_refs[1].2) AS id, any(policy_id) AS policy, any(verdict) AS said, any(bundle) AS by,
        any(effect) AS what, any(policy_version) AS version
    FROM findings_log WHERE {found} GROUP BY finding_id
) GROUP BY time, source, id, policy"""
_FOUND_IN = "kind = 'rejudged' AND window_end >= {start} AND window_end < {end}"
_SEEN = "(event_time, event_source, event_id) IN (SELECT window_end, event_refs[1].1, event_refs[1].2 FROM findings_log"
_COLUMNS = (
    *("event_source", "event_id", "bundle", "application_name", "actor_organization", "actor_id", "model_provider"),
    "model_name",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many findings of each effect a policy has, appended or to be appended."""

    policy_id: str
    stage: str
    severity: str
    violations: int
    cleared: int
    notices: int


class _Earlier(NamedTuple):
    """The verdict of the last rejudged finding about an event and a policy, its id and the bundle that judged so.

    `versions` are those of the policy by which findings of any time list the event as a violation.
    """

    verdict: str
    finding_id: str
    bundle: str
    versions: Sequence[int]


class _Difference(NamedTuple):
    """A policy whose verdict on an event differs, and how."""

    policy_id: str
    change: Replacement


def rejudge(
    store: Store,
    new: Bundle,
    period: Period,
    *,
    loaded_by: str,
    progress: Progress,
    only: Collection[str] = (),
    dry_run: bool = False,
) -> tuple[Outcome, ...]:
    """Append a finding for each event of a period whose recorded verdict a bundle's policies would not give.

    Judged are the policies in stage shadow and enforce, or those of them in `only`, each by its revision at the event's
    time. The bundle is kept in the store before the first finding names it. With `dry_run` nothing is written.

    Raises QueryError where the two back ends of the language disagree on an event; findings before it are appended.
    """
    after = verdicts(new, ledger_columns(new.registry), JUDGED)
    compared = [Compared(name, None, code) for name, code in after.items() if not only or name in only]
    counts: defaultdict[str, Counter[Effect]] = defaultdict(Counter)
    work = _Work(store, new, loaded_by, dry_run=dry_run)
    pieces = spans(store, period, SPAN_EVENTS)
    total, done = sum(piece.events for piece in pieces), 0
    for piece in pieces:
        for policy_id, effect in work.span(piece, compared):
            counts[policy_id][effect] += 1
        done += piece.events
        progress(done, total)
    return tuple(_outcome(new, one.policy_id, counts[one.policy_id]) for one in compared)


def _outcome(new: Bundle, policy_id: str, found: Counter[Effect]) -> Outcome:
    policy = new.policy(policy_id)
    stage, severity = (policy.stage, policy.severity) if policy else ("", "")
    return Outcome(policy_id, stage, severity, found["violation"], found["cleared"], found["notice"])


class _Work:
    """Rejudges span by span with one judge; keeps the bundle in the store once there is something to append."""

    def __init__(self, store: Store, new: Bundle, loaded_by: str, *, dry_run: bool) -> None:
        self._store, self._new, self._loaded_by, self._dry_run = store, new, loaded_by, dry_run
        self._judge = compile_judge(new)
        self._kept = False

    def span(self, span: Span, compared: Sequence[Compared]) -> Iterator[tuple[str, Effect]]:
        """Yield policy and effect of each difference of a span, after its finding was appended."""
        earlier = self._earlier(span)
        for group in groups(compared):
            differences = self._differences(group, span, earlier)
            keys = list(differences)
            for start in range(0, len(keys), _AT_ONCE):
                some = {key: differences[key] for key in keys[start : start + _AT_ONCE]}
                if not self._dry_run:
                    self._append(some)
                for _, found in some.values():
                    for one in found:
                        if (effect := one.change.effect) is not None:
                            yield one.policy_id, effect

    def _earlier(self, span: Span) -> Mapping[tuple[Key, str], _Earlier]:
        """Return the last rejudged finding by event and policy."""
        sql = _EARLIER.format(found=_found_in(span))
        return {
            ((int(time), source, event_id), policy): _Earlier(*last)
            for time, source, event_id, policy, *last in self._store.query(sql, None, LIMITS).rows
        }

    def _differences(
        self, group: Sequence[Compared], span: Span, earlier: Mapping[tuple[Key, str], _Earlier]
    ) -> dict[Key, tuple[Event, list[_Difference]]]:
        """Return the events of a span with verdicts that differ."""
        found: dict[Key, tuple[Event, list[_Difference]]] = {}
        sql = _differing(group, span, seen=bool(earlier))
        for numbers, time, source, event_id, bundle, *who, violated, versions in self._store.query(
            sql, None, LIMITS
        ).rows:
            key, listed = (int(time), source, event_id), dict(zip(violated, versions, strict=True))
            event = Event(key, *who)
            some = [self._difference(key, group[n // 64].policy_id, n % 64, bundle, earlier, listed) for n in numbers]
            if some := [one for one in some if one.change.effect]:
                found[key] = (event, some)
        return found

    def _difference(
        self,
        key: Key,
        policy_id: str,
        pair: int,
        bundle: str,
        earlier: Mapping[tuple[Key, str], _Earlier],
        violated: Mapping[str, int],
    ) -> _Difference:
        before, after = codes_of(pair)
        policy = self._new.policy(policy_id)
        revision = policy.revision_at(key[0]) if policy else None
        version, now = violated.get(policy_id, 0), revision.version if revision else None
        if (last := earlier.get((key, policy_id))) is None:
            return _Difference(policy_id, Replacement(before, after, bundle, bundle, version, listed=version == now))
        listed = now == version or now in last.versions
        said = _CODES.get(last.verdict, CODES["ok"])
        return _Difference(policy_id, Replacement(said, after, last.finding_id, last.bundle, version, listed=listed))

    def _append(self, differences: Mapping[Key, tuple[Event, list[_Difference]]]) -> None:
        self._keep()
        read = occurrences(self._store, list(differences), self._new)
        findings: list[Rejudged] = []
        for key, (event, some) in differences.items():
            if key not in read:
                raise QueryError(f"the record of {event.name} can't be read any more, so it can't be judged again")
            said = self._said(read[key])
            findings += [self._finding(event, one, said.get(one.policy_id)) for one in some]
        append(self._store, self._new.hash, findings)

    def _said(self, event: Occurrence) -> Mapping[str, Said]:
        """Return what the stream's judge would record of an event, by policy."""
        judged = self._judge(event.data, event.time, event.record_time, event.source, event.event_id)
        listed: tuple[Said, ...] = (*judged.violated, *judged.exempted, *judged.indeterminate)
        return {one.policy_id: one for one in listed}

    def _finding(self, event: Event, one: _Difference, said: Said | None) -> Rejudged:
        codes = CODE_OF.values()
        after = one.change.after
        if (CODE_OF[type(said)] if said else 0) != (after if after in codes else 0):
            raise QueryError(
                f"SQL says {NAMES[after]} of {event.name} by {one.policy_id}, and the stream's judge does not: that "
                "is a mistake in usageaudit, so nothing more is appended; report it, with the policy"
            )
        return finding(self._new, one.policy_id, event, said, one.change)

    def _keep(self) -> None:
        if not self._kept:
            ledger = Ledger(self._store)
            ledger.keep_bundle(self._new, self._loaded_by)
            ledger.keep_approvals(self._new.hash, approvals_of(self._new))
            self._kept = True


def _found_in(span: Span) -> str:
    return _FOUND_IN.format(start=moment(span.period.start), end=moment(span.period.end))


def _differing(group: Sequence[Compared], span: Span, *, seen: bool) -> str:
    """Return the SELECT of the events of a span with the numbers of the policies that may differ.

    Of an event that was rejudged before these are all policies: what differs depends on the findings then.
    """
    was_seen = f"{_SEEN} WHERE {_found_in(span)})" if seen else "0"
    columns = ("event_time", *_COLUMNS, "violated_version", f"{was_seen} AS seen")
    return (
        f"SELECT arrayFilter(n -> seen OR bitAnd(n, 63) IN ({_DIFFERING}), numbers) AS kept, "
        f"toUnixTimestamp64Micro(event_time), {', '.join(_COLUMNS)}, violated, violated_version "
        f"FROM ({numbered(group, span.period.accepted, columns)}) "
        "WHERE notEmpty(kept) ORDER BY event_time, event_source, event_id"
    )
