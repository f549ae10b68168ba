"""Decisions about findings: each row that was appended says what a finding says from then on.

A finding that is cleared resolves its alert where no other finding of it stands; one that is found again after that
opens an alert anew, or is gathered. What says again what the finding said before changes nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from usageaudit.alerts.dispatcher.decisions import Decision, Subject, decided
from usageaudit.policy.sql.text import literal
from usageaudit.stores.settling import settle

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from usageaudit.alerts.dispatcher.gathering import Gatherer
    from usageaudit.alerts.dispatcher.reading import Reached
    from usageaudit.policy.model import Bundle
    from usageaudit.stores.port import Store

BACK_MS = 86_400_000
"""How far back findings are read again: clocks may go back, and rows may be seen late."""
MOST = 2_000
_COUNT = "SELECT count() FROM findings_log"
_ROWS = f"""SELECT finding_id, toUnixTimestamp64Milli(created), kind, effect, policy_id, policy_version, severity,
    toUnixTimestamp64Micro(window_end), group_key, application_name, ifNull(actor_organization, ''), model_name,
    toUnixTimestamp64Milli(now64(3, 'UTC'))
FROM findings_log
WHERE stage IN ('', 'enforce') AND created > fromUnixTimestamp64Milli({{after:Int64}}, 'UTC')
    AND (created, finding_id) NOT IN (
        SELECT recorded, violation_id FROM alert_decisions
        WHERE kind != 'event' AND recorded > fromUnixTimestamp64Milli({{after:Int64}}, 'UTC'))
ORDER BY created, finding_id LIMIT {MOST}"""


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of a finding."""

    subject: Subject
    effect: str


@dataclass(slots=True)
class _State:
    """What a finding said last, and the decision about it where its alert was told of."""

    effect: str = ""
    standing: Decision | None = None


class Findings:
    """Reads findings, and decides about them."""

    def __init__(self, store: Store, bundle: Bundle, gatherer: Gatherer) -> None:
        self._store, self._gatherer = store, gatherer
        self._fields = {
            one.id: tuple(map(".".join, one.alert.dedup_by))
            for one in (*bundle.policies, *bundle.windowed)
            if one.alert is not None
        }
        self._count = -1

    def look(self, reached: Reached) -> tuple[list[Decision], int]:
        """Return the decisions about what is new, and the store's time (ms); cheap where no finding was appended."""
        ((count,),) = self._store.execute(_COUNT).rows
        if int(count) == self._count:
            return [], 0
        # A replica that lags may know that a finding was cleared before it knows of the finding.
        settle(self._store, "findings_log")
        after = max(reached.found - BACK_MS, 0)
        rows = self._store.execute(_ROWS, {"after": after}).rows
        if len(rows) < MOST:
            self._count = int(count)
        if not rows:
            return [], 0
        return self._decide([self._row(row) for row in rows]), int(rows[0][-1])

    def again(self) -> None:
        """Read them all again at the next look."""
        self._count = -1

    def _row(self, row: Sequence[object]) -> _Row:
        name, created, kind, effect, policy, version, severity, ends, key, app, organization, model, _ = row
        group = _group(str(key))
        columns = {"application.name": str(app), "actor.organization": str(organization), "model.name": str(model)}
        fields = self._fields.get(str(policy))
        values = group if fields is None else {field: group.get(field) or columns.get(field, "") for field in fields}
        subject = Subject(
            *(str(name), int(str(created)), str(kind), str(policy), int(str(version))),
            severity=severity,  # type: ignore[arg-type]
            time_us=int(str(ends)),
            application=str(app) or group.get("application.name", ""),
            organization=str(organization) or group.get("actor.organization", ""),
            team=group.get("application.team", ""),
            model=str(model) or group.get("model.name", ""),
            values=values,
        )
        return _Row(subject, str(effect))

    def _decide(self, rows: Sequence[_Row]) -> list[Decision]:
        states = self._states({one.subject.violation_id for one in rows}, min(one.subject.recorded_ms for one in rows))
        firing = [one.subject for one in rows if one.effect != "cleared"]
        routed = {one.subject.key: one for one in self._gatherer.decide(firing)}
        found: list[Decision] = []
        for row in rows:
            state = states.setdefault(row.subject.violation_id, _State())
            found.append(self._one(row, state, routed, found))
        return found

    def _one(
        self, row: _Row, state: _State, routed: Mapping[tuple[int, str], Decision], before: Sequence[Decision]
    ) -> Decision:
        same, state.effect = row.effect == state.effect, row.effect
        # What later policies make of a recorded event matters to people where it is a violation.
        quiet = row.subject.kind == "rejudged" and row.effect != "violation"
        if same or quiet:
            return Decision(row.subject, "unchanged")
        if row.effect != "cleared":
            chosen = routed[row.subject.key]
            state.standing = chosen if chosen.alert_id else None
            return chosen
        standing, state.standing = state.standing, None
        if standing is None:
            return Decision(row.subject, "unchanged")
        return self._resolution(row.subject, standing, before)

    def _resolution(self, subject: Subject, standing: Decision, before: Sequence[Decision]) -> Decision:
        """Return the decision about a finding that was cleared, whose alert may have others that stand."""
        rows = self._store.execute(
            "SELECT violation_id, outcome, toUnixTimestamp64Milli(recorded), targets FROM alert_decisions "
            "WHERE (recorded, violation_id) IN (SELECT recorded, violation_id FROM alert_decisions "
            "WHERE alert_id = {alert:String}) ORDER BY recorded",
            {"alert": standing.alert_id},
        ).rows
        members = [(str(name), str(outcome), tuple(map(str, targets))) for name, outcome, _, targets in rows]
        members += [
            (one.subject.violation_id, one.outcome, one.targets) for one in before if one.alert_id == standing.alert_id
        ]
        last = {name: outcome for name, outcome, _ in members if name != subject.violation_id}
        targets = next((told for _, outcome, told in members if outcome == "opened"), ())
        stands = any(outcome in ("opened", "gathered") for outcome in last.values())
        cleared = Decision(subject, "cleared", standing.alert_id, standing.gathering, standing.routes)
        return cleared if stands else replace(cleared, outcome="resolved", targets=targets)

    def _states(self, names: Iterable[str], before: int) -> dict[str, _State]:
        """Return what some findings said before a time (ms), and what was decided about it."""
        chosen = ", ".join(map(literal, names))
        rows = self._store.execute(
            "SELECT finding_id, toUnixTimestamp64Milli(created), effect, kind FROM findings_log "
            f"WHERE finding_id IN ({chosen}) AND created < fromUnixTimestamp64Milli({before}, 'UTC') ORDER BY created"
        ).rows
        if not rows:
            return {}
        asked = [Subject(str(name), int(at), str(kind), "", 0, "info", 0) for name, at, _, kind in rows]
        there = decided(self._store, asked)
        standing = self._standing(chosen, before)
        states: dict[str, _State] = {}
        for name, at, effect, _ in rows:
            if (int(at), str(name)) in there:
                states.setdefault(str(name), _State()).effect = str(effect)
                states[str(name)].standing = standing.get(str(name))
        return states

    def _standing(self, chosen: str, before: int) -> dict[str, Decision]:
        """Return the last decision about some findings, where their alert is told of and they were not cleared."""
        earlier = f"created < fromUnixTimestamp64Milli({before}, 'UTC')"
        rows = self._store.execute(
            "SELECT violation_id, toUnixTimestamp64Milli(recorded), kind, outcome, alert_id, gathering, routes "
            "FROM alert_decisions WHERE (recorded, violation_id) IN (SELECT created, finding_id FROM findings_log "
            f"WHERE finding_id IN ({chosen}) AND {earlier}) AND outcome != 'unchanged' ORDER BY recorded"
        ).rows
        found: dict[str, Decision] = {}
        for name, at, kind, outcome, alert, gathering, routes in rows:
            found.pop(str(name), None)
            if outcome in ("opened", "gathered"):
                subject = Subject(str(name), int(at), str(kind), "", 0, "info", 0)
                found[str(name)] = Decision(subject, outcome, str(alert), str(gathering), tuple(map(str, routes)), ())
        return found


def _group(key: str) -> dict[str, str]:
    """Return a finding's group as values by field; what has no fields is gathered by its kind alone."""
    try:
        found = json.loads(key)
    except ValueError:
        return {}
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}
