"""Routes take alerts by what these are; templates put in fields as text and do nothing else."""

from __future__ import annotations

import re
from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from usageaudit.alerts.config.settings import AlertsConfig, Match, Route
from usageaudit.alerts.config.templates import FIELDS, MAX_FILLED, Field, Template
from usageaudit.alerts.model import Alert
from usageaudit.verdicts import SEVERITIES

VALUES = st.text(alphabet="abAB-/*?", max_size=6)
GLOBS = st.lists(st.text(alphabet="abAB-/*?", min_size=1, max_size=5), max_size=3).map(tuple)
ALERTS = st.builds(
    Alert,
    alert_id=st.just("0" * 32),
    status=st.just("firing"),
    kind=VALUES,
    policy_id=VALUES,
    policy_version=st.just(1),
    severity=st.sampled_from(SEVERITIES),
    message=st.text(max_size=30),
    violation_id=st.just("1" * 32),
    first_time=st.just("2026-05-01T12:00:00Z"),
    application=VALUES,
    team=VALUES,
    organization=VALUES,
)
MATCHES = st.builds(
    Match,
    severity=st.lists(st.sampled_from(SEVERITIES), max_size=2).map(tuple),
    policy=GLOBS,
    organization=GLOBS,
    application=GLOBS,
    team=GLOBS,
    kind=GLOBS,
)


def _fits(glob: str, value: str) -> bool:
    """Return whether a glob of * and ? fits, by going through it letter by letter."""
    if not glob:
        return not value
    if glob[0] == "*":
        return any(_fits(glob[1:], value[at:]) for at in range(len(value) + 1))
    return bool(value) and glob[0] in ("?", value[0]) and _fits(glob[1:], value[1:])


def _taken(match: Match, alert: Alert) -> bool:
    wanted = {
        "policy_id": match.policy, "organization": match.organization, "application": match.application,
        "team": match.team, "kind": match.kind,
    }  # fmt: skip
    return (not match.severity or alert.severity in match.severity) and all(
        not globs or any(_fits(glob, getattr(alert, name)) for glob in globs) for name, globs in wanted.items()
    )


@given(MATCHES, ALERTS)
def test_matching_is_that_of_the_reference(match: Match, alert: Alert) -> None:
    """An alert is taken where everything that is named fits, letter by letter, capitals and all."""
    assert match.takes(alert) == _taken(match, alert)


@given(st.lists(st.tuples(MATCHES, st.booleans()), max_size=5), ALERTS)
def test_the_first_route_ends_the_search(routes: list[tuple[Match, bool]], alert: Alert) -> None:
    """Routes are looked at in their order, and one that fits is the last, unless it says to proceed."""
    config = AlertsConfig(
        {}, tuple(Route(f"route {at}", ("t",), match, proceed=proceed) for at, (match, proceed) in enumerate(routes))
    )
    expected = []
    for at, (match, proceed) in enumerate(routes):
        if _taken(match, alert):
            expected.append(f"route {at}")
            if not proceed:
                break
    assert [route.name for route in config.routes_for(alert)] == expected


def test_every_field_of_an_alert_is_documented() -> None:
    """Templates may name exactly the fields of an alert."""
    assert set(FIELDS) == {one.name for one in fields(Alert)}


@given(ALERTS, st.lists(st.sampled_from(sorted(FIELDS)) | st.text(max_size=5).map(lambda text: (text,)), max_size=5))
def test_fields_are_put_in_as_text(alert: Alert, pieces: list[str | tuple[str]]) -> None:
    """What stands in an alert is put in as it is: braces and formats in it stand for nothing."""
    template = Template(tuple(Field(one) if isinstance(one, str) else one[0] for one in pieces))
    wanted = ""
    for one in pieces:
        wanted += one[0] if isinstance(one, tuple) else "" if one == "group" else str(getattr(alert, one))
    assert template.fill(alert) == wanted


def test_long_texts_are_cut() -> None:
    """A filled template has a longest length, whatever the alert holds."""
    alert = Alert("a", "firing", "event", "p/q", 1, "low", "{alert_id}" * 9_999, "v", "t", {"b": "2", "a": "1"})
    filled = Template((Field("group"), " ", Field("message"))).fill(alert)
    assert len(filled) == MAX_FILLED
    assert re.match(r"a=1, b=2 \{alert_id\}", filled)
