"""Reads the routes of an `alerts.yaml`."""

from __future__ import annotations

import re
from datetime import time
from typing import TYPE_CHECKING

from usageaudit.alerts.config.quiet import DAYS, Quiet
from usageaudit.alerts.config.settings import Escalation, Match, Route
from usageaudit.alerts.config.shapes import CLOCK, ESCALATE, MATCH, QUIET, ROUTE
from usageaudit.policy.fields import Fields
from usageaudit.policy.language.times import zone
from usageaudit.policy.yamltree import Scalar
from usageaudit.verdicts import SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Collection

    from usageaudit.alerts.config.values import Reading
    from usageaudit.policy.yamltree import Node
    from usageaudit.verdicts import Severity

MAX_ROUTES = 1_000
_CLOCK = re.compile(CLOCK["pattern"])
_MINUTE, _MONTH = 60.0, 30 * 86_400.0


class Routes:
    """Reads routes one by one, by the names of the targets that there are."""

    def __init__(self, reading: Reading, targets: Collection[str]) -> None:
        self._reading, self._report, self._targets = reading, reading.report, sorted(targets)
        self.escalating: list[Node] = []
        """Where routes say that they escalate."""

    def read(self, nodes: tuple[Node, ...]) -> tuple[Route, ...]:
        """Return the routes; one that is never reached is an error."""
        if len(nodes) > MAX_ROUTES:
            self._report.error(nodes[MAX_ROUTES].place, f"there are more than {MAX_ROUTES:,} routes")
            return ()
        routes = [self._route(node, at) for at, node in enumerate(nodes, 1)]
        self._check_names(nodes, routes)
        for route, _, behind in zip(routes, nodes, nodes[1:], strict=False):
            if route.match == Match() and not route.proceed and not self._report.errors:
                hint = f"put {route.name} last, or give it proceed: true"
                self._report.error(behind.place, f"never reached: {route.name} takes everything", hint)
                break
        return tuple(routes)

    def _check_names(self, nodes: tuple[Node, ...], routes: list[Route]) -> None:
        known: set[str] = set()
        for node, route in zip(nodes, routes, strict=True):
            if route.name in known:
                self._report.error(node.place, f"a second route is called {route.name[:60]}", "give it another name")
            known.add(route.name)

    def _route(self, node: Node, at: int) -> Route:
        fields = Fields(node, "a route", ROUTE, self._report)
        name = fields.text("name") or f"route {at}"
        if len(name) > 100 or not name.isprintable():
            self._report.error(node.place, "the name of a route is one line of at most 100 characters")
        return Route(
            name=name,
            to=self._to(fields),
            match=self._match(fields.node_of("match")),
            quiet=self._quiet(fields.node_of("quiet")),
            escalate=self._escalate(fields.node_of("escalate")),
            proceed=fields.flag("proceed"),
        )

    def _to(self, fields: Fields) -> tuple[str, ...]:
        return self._reading.known(self._reading.names(fields, "to", required=True), self._targets, "target")

    def _match(self, node: Node | None) -> Match:
        if node is None:
            return Match()
        fields = Fields(node, "match", MATCH, self._report)
        globs = {name: self._texts(fields, name) for name in MATCH if name != "severity"}
        return Match(self._severities(fields, "severity", full=True), **globs)

    def _texts(self, fields: Fields, name: str) -> tuple[str, ...]:
        return tuple(text.text for text in self._reading.names(fields, name))

    def _severities(self, fields: Fields, name: str, *, full: bool = False) -> tuple[Severity, ...]:
        texts = self._reading.names(fields, name) if full else fields.texts(name)
        named = self._reading.known(texts, SEVERITIES, "severity")
        return tuple(one for one in SEVERITIES if one in named)

    def _escalate(self, node: Node | None) -> Escalation | None:
        if node is None:
            return None
        self.escalating.append(node)
        fields = Fields(node, "escalate", ESCALATE, self._report)
        fields.node_of("after", required=True)
        return Escalation(self._reading.seconds(fields, "after", _MINUTE, _MINUTE, _MONTH), self._to(fields))

    def _quiet(self, node: Node | None) -> Quiet | None:
        if node is None:
            return None
        fields = Fields(node, "quiet", QUIET, self._report)
        named = fields.scalar("zone", required=True)
        if named is not None and zone(named.text) is None:
            self._report.error(named.place, f"unknown time zone {named.text[:60]}", "a name such as Europe/Berlin")
        start, end = self._clock(fields, "from"), self._clock(fields, "to")
        if (start is None) != (end is None):
            self._report.error(node.place, "quiet needs from and to, both or neither", "neither means all day")
        days = self._reading.known(self._reading.names(fields, "days"), DAYS, "day")
        exempt = frozenset(self._severities(fields, "except"))
        quiet = Quiet(
            named.text if named is not None else "UTC",
            start or time(),
            end or time(),
            frozenset(DAYS.index(day) for day in days or DAYS),
            exempt,
        )
        if quiet.endless:
            self._report.error(node.place, "these quiet hours never end", "give from and to, or some days")
        return quiet

    def _clock(self, fields: Fields, name: str) -> time | None:
        node = fields.node_of(name)
        if node is None:
            return None
        # YAML 1.1 takes 22:00 for a number, and 06:00 for none: it is the text that counts.
        if not isinstance(node, Scalar) or not _CLOCK.fullmatch(node.text):
            self._report.error(node.place, f"{name} is a time of day such as 22:00")
            return None
        return time.fromisoformat(node.text)
