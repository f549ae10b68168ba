"""Which alert a violation opens, or belongs to.

An alert takes what is recorded less than the policy's `for` away from its first violation, on either side: clocks go
back at times. So those that gather the same are at least that far apart, and which one takes a violation depends on
nothing but what was recorded before it. Violations that are told to different people are gathered apart.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from usageaudit.alerts.dispatcher.decisions import Decision
from usageaudit.alerts.model import Alert, alert_id
from usageaudit.events.times import format_time
from usageaudit.policy.sql.text import literal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from usageaudit.alerts.config.settings import AlertsConfig, Route
    from usageaudit.alerts.dispatcher.decisions import Subject
    from usageaudit.policy.model import Bundle
    from usageaudit.stores.port import Store

_IN_A_STATEMENT = 2000


class Gatherer:
    """Decides about violations, by the alerts that are open."""

    def __init__(self, store: Store, bundle: Bundle, config: AlertsConfig) -> None:
        self._store, self._config = store, config
        policies = (*bundle.policies, *bundle.windowed)
        self._windows = {one.id: one.alert.window // 1000 for one in policies if one.alert is not None}
        self._default = config.gathering.window // 1000
        self._opened: dict[str, list[tuple[int, str]]] = {}

    def decide(self, subjects: Sequence[Subject]) -> list[Decision]:
        """Return the decision about each of some subjects, in their order."""
        routed = [(one, self._config.routes_for(_as_alert(one))) for one in subjects]
        gatherings = [_gathering(one, routes) if routes else "" for one, routes in routed]
        self._opened = self._open(subjects, {one for one in gatherings if one})
        return [
            self.decide_one(one, routes, gathering) for (one, routes), gathering in zip(routed, gatherings, strict=True)
        ]

    def decide_one(self, one: Subject, routes: Sequence[Route], gathering: str) -> Decision:
        """Return the decision about one subject, among those that `decide` looked at."""
        targets = tuple(dict.fromkeys(name for route in routes for name in route.to if name not in _silent(one)))
        if not targets:
            return Decision(one, "unrouted")
        names = tuple(route.name for route in routes)
        window = self._windows.get(one.policy_id, self._default)
        opened = self._opened.setdefault(gathering, [])
        takers = [taker for taker in opened if abs(one.recorded_ms - taker[0]) < window]
        if takers:
            return Decision(one, "gathered", max(takers)[1], gathering, names)
        name = alert_id(one.policy_id, one.values, _opening(one))
        opened.append((one.recorded_ms, name))
        return Decision(one, "opened", name, gathering, names, targets)

    def _open(self, subjects: Sequence[Subject], gatherings: Collection[str]) -> dict[str, list[tuple[int, str]]]:
        """Return when the alerts were opened that may take some subjects, by what they gather."""
        if not gatherings:
            return {}
        times = [one.recorded_ms for one in subjects]
        reach = max([self._default, *self._windows.values()])
        found: dict[str, list[tuple[int, str]]] = {}
        some = list(gatherings)
        for start in range(0, len(some), _IN_A_STATEMENT):
            rows = self._store.execute(
                "SELECT gathering, toUnixTimestamp64Milli(recorded), alert_id FROM alert_decisions "
                f"WHERE gathering IN ({', '.join(map(literal, some[start : start + _IN_A_STATEMENT]))}) "
                f"AND outcome = 'opened' AND recorded > fromUnixTimestamp64Milli({max(min(times) - reach, 0)}, 'UTC') "
                f"AND recorded < fromUnixTimestamp64Milli({max(times) + reach}, 'UTC')"
            ).rows
            for gathering, recorded, name in rows:
                found.setdefault(str(gathering), []).append((int(recorded), str(name)))
        return found


def targets_of(routes: Iterable[Route]) -> tuple[str, ...]:
    """Return the targets of some routes, each once."""
    return tuple(dict.fromkeys(name for route in routes for name in route.to))


def _silent(one: Subject) -> tuple[str, ...]:
    """Return the targets that are not told of a subject: one that takes nothing is not told that it does not."""
    return (one.values.get("target", ""),) if one.kind == "alert_undelivered" else ()


def _opening(one: Subject) -> str:
    """Return what tells an alert from others that a finding opened, which may be found again after it was cleared."""
    return one.violation_id if one.kind == "event" else f"{one.violation_id}@{one.recorded_ms}"


def _as_alert(one: Subject) -> Alert:
    return Alert(
        *("", "firing", one.kind, one.policy_id, one.policy_version, one.severity, "", one.violation_id),
        first_time=format_time(one.time_us),
        application=one.application,
        team=one.team,
        organization=one.organization,
        model=one.model,
    )


def _gathering(one: Subject, routes: Sequence[Route]) -> str:
    names = sorted(route.name for route in routes)
    values = [part for item in sorted(one.values.items()) for part in item]
    parts = [one.kind, one.policy_id, str(len(names)), *names, *values]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
