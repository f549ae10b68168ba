"""Doubts about windows: what can never be found, is always found, or can't be known."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.policy.bundles import bundle_of, policy
from usageaudit.policy.windows.model import LATENESS
from usageaudit.scheduler.service import LATENESS as WAITED

COUNT = {"kind": "event_count", "over": "10s", "group_by": ["application.name"]}
SUM = {**COUNT, "kind": "value_sum", "field": "usage.input_tokens"}
WAIT = {
    "kind": "absence", "over": "1h", "expect": "has(oversight.reviewer)", "heartbeat": {"when": "true", "every": "10m"}
}  # fmt: skip
EVENT = {"time": "2024-05-01", "event": {}}
TESTS = [{"name": "n", "events": [EVENT], "expect": []}, {"name": "f", "events": [EVENT], "expect": [{}]}]
REGISTRY = "bot: {team: t}\n"
DOUBTFUL: list[tuple[dict[str, Any], str]] = [
    ({"condition": "value > 0"}, "value > 0 is true from the first event on"),
    ({"condition": "value < 1"}, "value < 1 is never true, as the value is 1 at least"),
    (
        {"window": SUM, "when": "!has(usage.input_tokens)"},
        "usage.input_tokens is never given where when is true",
    ),
    ({"window": {**COUNT, "group_by": ["registry.team"]}}, "registry.team is unknown for every event"),
    (
        {"window": {**COUNT, "kind": "value_count", "field": "application.name"}},
        "application.name is what events are grouped by",
    ),
    (
        {"window": {**WAIT, "heartbeat": {"when": "true", "every": "9s"}}, "when": "has(usage)", "condition": None},
        "the heartbeat is shorter than the 10 seconds",
    ),
    ({"window": {"kind": "first_seen", "group_by": ["actor.id"]}, "condition": None}, "each actor.id is kept for ever"),
    (
        {"window": {**WAIT, "expect": "usage.images > 1"}, "when": "usage.images > 1", "condition": None},
        "expect is what when is",
    ),
    ({"alert": {"dedup_by": ["actor.id"], "for": "1h"}}, "alert.dedup_by has actor.id, which no finding"),
    ({"tests": []}, "the policy has no test"),
    ({"tests": TESTS[:1]}, "no test shows a finding"),
    ({"tests": TESTS[1:]}, "no test shows a stream without a finding"),
]
CERTAIN: list[dict[str, Any]] = [
    {},
    {"condition": "value > 1"},
    {"window": SUM, "condition": "value > 0"},
    {"window": SUM, "when": "has(usage.input_tokens)"},
    {"window": WAIT, "when": "has(usage)", "condition": None},
    {"window": {**WAIT, "expect": "usage.input_tokens > 1"}, "when": "has(usage)", "condition": None},
    {"alert": {"dedup_by": ["application.name"], "for": "1h"}},
    {"window": {"kind": "first_seen", "group_by": ["actor.id"], "over": "90d"}, "condition": None},
    {"window": {"kind": "first_seen", "group_by": ["model.name"]}, "condition": None},
    {"condition": "lists.most.exists(most, value > most)", "lists": "most: [5]\n"},
]


def _warnings(changes: dict[str, Any]) -> list[str]:
    keys = {"when": "true", "window": COUNT, "condition": "value > 3", "tests": TESTS, **changes}
    files = {"lists": lists} if (lists := keys.pop("lists", None)) else {}
    text = policy(keys.pop("when"), **{name: value for name, value in keys.items() if value is not None})
    return [one.message for one in bundle_of(text, **files).warnings]


@pytest.mark.parametrize(("changes", "said"), DOUBTFUL, ids=[said for _, said in DOUBTFUL])
def test_what_is_doubtful_is_said(changes: dict[str, Any], said: str) -> None:
    """A doubtful window is one warning, which says what the matter is."""
    (warning,) = _warnings(changes)
    assert said in warning


@pytest.mark.parametrize("changes", CERTAIN, ids=str)
def test_what_is_certain_raises_no_doubt(changes: dict[str, Any]) -> None:
    """A window that can find something, and need not, has no warning; `true` says that every event counts."""
    assert _warnings(changes) == []


def test_a_registry_gives_what_it_says() -> None:
    """With a registry, its fields may group events."""
    text = policy("true", window={**COUNT, "group_by": ["registry.team"]}, condition="value > 3", tests=TESTS)
    assert bundle_of(text, registry=REGISTRY).warnings == ()


def test_lateness_is_that_of_the_scheduler() -> None:
    """What heartbeats are compared with is for how long the scheduler waits by default."""
    assert LATENESS == WAITED
