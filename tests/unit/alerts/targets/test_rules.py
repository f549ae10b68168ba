"""The rules of the publishers themselves: what they let pass, and that they refuse what breaks them."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.alerts.targets import rules
from tests.unit.alerts.targets.alerts import SAMPLE, TEXT, any_notification, notification
from usageaudit.alerts.model import Notification
from usageaudit.alerts.targets import alertmanager, pagerduty, slack, teams

# The texts are large on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

NOW = datetime(2026, 3, 1, 10, tzinfo=UTC)
KEY = "R" * 32


def _alertmanager(one: Notification, text: str = "") -> Any:
    return alertmanager.render(one, NOW, text)


def _pagerduty(one: Notification, text: str = "") -> Any:
    return pagerduty.render(one, KEY, text)


FORMS: dict[str, tuple[Callable[[Notification, str], Any], Callable[[bytes], list[str]]]] = {
    "alertmanager": (_alertmanager, rules.broken_by_alertmanager),
    "pagerduty": (_pagerduty, rules.broken_by_pagerduty),
    "slack": (slack.render, rules.broken_by_slack),
    "teams": (teams.render, rules.broken_by_teams),
}


@pytest.mark.parametrize("form", FORMS)
@given(one=any_notification(), text=TEXT)
def test_whatever_an_alert_says_the_message_keeps_the_rules(form: str, one: Notification, text: str) -> None:
    """Any text in an alert or of a template gives a message that its receiver takes, without markup of its own."""
    render, broken = FORMS[form]
    assert broken(orjson.dumps(render(one, text))) == []


@pytest.mark.parametrize("form", FORMS)
def test_a_message_has_what_people_need(form: str) -> None:
    """Everything that is known of an alert is in the message, and the command that looks it up."""
    shown = json.dumps(FORMS[form][0](notification(), ""), ensure_ascii=False)
    expected = [
        *(SAMPLE.message, SAMPLE.policy_id, "high", "12", "gate-camera", "security", "city", "gpt-vision"),
        *(SAMPLE.violation_id, SAMPLE.alert_id, "service/gate", "e-1", "identification", "usageaudit query"),
        *("2026-03-01T09:30", "application.name=gate-camera", "signature=s"),
    ]
    assert [one for one in expected if one not in shown] == []


@pytest.mark.parametrize("form", FORMS)
def test_the_text_of_a_template_stands_for_the_message(form: str) -> None:
    """A template's text replaces the message and nothing else."""
    shown = json.dumps(FORMS[form][0](notification(), "Stop at once"))
    assert "Stop at once" in shown
    assert SAMPLE.message not in shown
    assert SAMPLE.violation_id in shown


@pytest.mark.parametrize("url", ["javascript:alert(1)", "https://a|b", "https://a>b", "https://a b", "", "x" * 5_000])
@pytest.mark.parametrize("form", FORMS)
def test_only_a_link_of_the_web_is_one(form: str, url: str) -> None:
    """What is no plain URL of http or https is left out."""
    assert "signature" not in (shown := json.dumps(FORMS[form][0](notification(acknowledge_url=url), "")))
    assert not url or url not in shown


def _text_of(node: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        node = node[step]
    return node


BREACHES: list[tuple[str, tuple[Any, ...], Any]] = [
    ("alertmanager", (0, "labels"), {"not-a-name": "x"}),
    ("alertmanager", (0, "labels"), {}),
    ("alertmanager", (0, "endsAt"), "2020-01-01T00:00:00Z"),
    ("alertmanager", (0, "startsAt"), "yesterday"),
    ("pagerduty", ("payload", "summary"), "x" * 1025),
    ("pagerduty", ("payload", "severity"), "high"),
    ("pagerduty", ("dedup_key",), "x" * 256),
    ("pagerduty", ("payload", "custom_details"), {"a": "x" * 600_000}),
    ("slack", ("blocks", 0, "text", "text"), "x" * 151),
    ("slack", ("blocks", 1, "text", "text"), "x" * 3001),
    ("slack", ("blocks", 1, "text", "text"), "<!channel>"),
    ("slack", ("blocks", 1, "text", "type"), "mrkdwn"),
    ("slack", ("blocks",), [{"type": "divider"}] * 51),
    ("slack", ("blocks",), [{"type": "section"}]),
    ("slack", ("blocks", 1, "text", "verbatim"), True),
    ("teams", ("attachments", 0, "content", "version"), "0.5"),
    ("teams", ("attachments", 0, "content", "body", 0, "inlines", 0, "text"), "x" * 30_000),
    ("teams", ("attachments", 0, "content", "body", 0, "type"), "TextBlock"),
]


@pytest.mark.parametrize(("form", "path", "value"), BREACHES)
def test_the_rules_refuse_what_breaks_them(form: str, path: tuple[Any, ...], value: Any) -> None:
    """A message that is changed to break a rule is found out, so that passing says something."""
    render, broken = FORMS[form]
    message = render(notification(), "")
    _text_of(message, path[:-1])[path[-1]] = value
    assert broken(orjson.dumps(message))


def test_alertmanager_knows_the_end_of_an_alert_by_its_labels() -> None:
    """Labels stay the same from the first notification to the last, whatever is counted or said meanwhile."""
    first, last = (_alertmanager(one)[0] for one in (notification(), notification("resolved", count=99, message="x")))
    assert first["labels"] == last["labels"]
    assert first["endsAt"] > "2026-03-01T10:00:00.000Z" == last["endsAt"]


def test_alerts_of_one_policy_are_not_one_for_alertmanager() -> None:
    """Two alerts with equal fields but their id have different labels."""
    one, other = (_alertmanager(notification(alert_id=alert))[0]["labels"] for alert in ("a", "b"))
    assert one != other


@given(st.text())
def test_an_alert_that_began_at_no_time_or_in_the_future_still_ends_later(first: str) -> None:
    """Alertmanager refuses an end before the beginning, so a wrong or future time gives none."""
    for one in (notification("resolved", first_time="2099-01-01T00:00:00Z"), notification(first_time=first)):
        assert rules.broken_by_alertmanager(orjson.dumps(_alertmanager(one))) == []


def test_pagerduty_resolves_what_was_triggered() -> None:
    """All notifications of an alert have its id as their key, and the last of them resolves it."""
    sent = [_pagerduty(notification(occasion)) for occasion in ("opened", "escalated", "resolved")]
    assert [one["event_action"] for one in sent] == ["trigger", "trigger", "resolve"]
    assert {one["dedup_key"] for one in sent} == {SAMPLE.alert_id}


def test_a_test_looks_nothing_up() -> None:
    """A test has no violation that a command could show."""
    assert "usageaudit query" not in json.dumps(slack.render(notification("test")))


@given(TEXT)
def test_no_id_but_ours_comes_into_a_command(violation_id: str) -> None:
    """A command that is pasted into a shell holds nothing from outside."""
    assert "usageaudit query" not in json.dumps(slack.render(notification(violation_id=f"'{violation_id}")))
