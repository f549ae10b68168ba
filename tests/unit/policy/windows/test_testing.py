"""The tests that windowed policies bring along: how they are read, and that they run through the ledger's own SQL."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.policy.bundles import bundle_of, policy, write
from usageaudit.cli.run import run
from usageaudit.errors import ConfigurationError
from usageaudit.history.windowtests import run_window_tests
from usageaudit.policy import InvalidBundle

if TYPE_CHECKING:
    from pathlib import Path

COUNT = {"kind": "event_count", "over": "10s", "group_by": ["application.name"]}
BEAT = {"when": "true", "every": "10m"}
WAIT = {"kind": "absence", "over": "1h", "expect": "has(oversight.reviewer)", "heartbeat": BEAT}


def _at(second: int, **more: Any) -> dict[str, Any]:
    """Return an event of a test so many seconds after nine o'clock."""
    return {"time": f"2024-05-01T09:{second // 60:02}:{second % 60:02}Z", "event": {}, **more}


def _text(
    tests: list[dict[str, Any]], window: dict[str, Any] = COUNT, condition: str | None = "value >= 3", **more: Any
) -> str:
    tests = [{"name": f"t{number}", **one} for number, one in enumerate(tests)]
    more.setdefault("when", "true")
    return policy(
        more.pop("when"), window=window, tests=tests, **({"condition": condition} if condition else {}), **more
    )


def _problems(text: str, **files: str) -> list[str]:
    return [outcome.problem for outcome in run_window_tests(bundle_of(text, **files))]


def test_what_is_found_is_compared_with_what_is_expected() -> None:
    """A test passes where each expected finding is there and no other, by group, moment, bounds and value."""
    three = [_at(0, id="a", repeat=3, every="4s")]
    expected = {
        "group": {"application.name": "test"}, "at": "a-3", "window_start": "2024-05-01T08:59:58Z",
        "window_end": "2024-05-01T09:00:08Z", "value": 3, "effect": "violation",
    }  # fmt: skip
    good: list[dict[str, Any]] = [
        {"events": three, "expect": [expected]},
        {"events": three, "expect": [{}]},
        {"events": three[:0], "expect": []},
        {"events": [_at(0, repeat=3, every="5s")], "expect": []},
        {"events": [_at(0, id="same"), _at(0, id="same"), _at(1)], "expect": []},
    ]
    wrong = [
        {"events": three, "expect": [{**expected, **change}]}
        for change in (
            {"group": {"application.name": "other"}},
            {"at": "a-2"},
            {"window_start": "2024-05-01"},
            {"window_end": "2024-05-01"},
            {"value": 4},
        )
    ]
    problems = _problems(_text([*good, *wrong]))
    assert problems[: len(good)] == [""] * len(good)
    assert all("found a violation at 2024-05-01T09:00:08Z" in one for one in problems[len(good) :])


def test_a_failure_says_what_was_found() -> None:
    """What was not expected is told with its group, its value and its window."""
    (surplus, absent) = _problems(_text([{"events": [_at(0, repeat=3)], "expect": []}, {"events": [], "expect": [{}]}]))
    assert surplus == (
        "expected nothing, found a violation at 2024-05-01T09:00:02Z of application.name test with the value 3 in the "
        "window from 2024-05-01T08:59:52Z to 2024-05-01T09:00:02Z"
    )
    assert absent == "expected a violation, found nothing"


def test_events_are_read_as_events_are() -> None:
    """A test's events are those of the ledger: fields, presence, decimals, exceptions and the registry all count."""
    window = {
        "kind": "value_sum",
        "field": "cost.amount",
        "over": "calendar day",
        "zone": "UTC",
        "group_by": ["registry.team"],
    }
    events = [
        _at(0, event={"cost": {"amount": "0.1", "currency": "EUR"}, "application": {"name": "desk"}}),
        _at(1, event={"cost": {"amount": "0.2", "currency": "EUR"}, "application": {"name": "desk"}}, id="last"),
        _at(2, event={"cost": {"amount": "9", "currency": "EUR"}, "application": {"name": "exempt"}}),
        _at(3, event={"application": {"name": "desk"}}),
    ]
    excused = {
        "id": "E", "when": 'application.name == "exempt"', "approved_by": "me", "reason": "why", "expires": "2026-01-01"
    }  # fmt: skip
    expect = [{"group": {"registry.team": "t"}, "at": "last", "value": 0.3}]
    team = {"desk": {"team": "t"}, "exempt": {"team": "t"}}
    test = {"events": events, "expect": expect, "registry": team}
    assert _problems(_text([test], window, "value >= 0.3", exceptions=[excused], when="has(cost.amount)")) == [""]


def test_waits_end_after_the_last_event() -> None:
    """Time goes on after the last event: a wait in vain is found, as a notice where the heartbeat stopped, too."""
    beats = {"time": "2024-05-01T09:05:00Z", "repeat": 6, "every": "10m", "event": {}}
    opened = _at(0, id="opened", event={"output": {"type": "text"}}) | {"event": {"purpose": {"use_case": "x"}}}
    tests = [
        {"events": [opened, beats], "expect": [{"window_end": "2024-05-01T10:00:00Z"}]},
        {"events": [opened], "expect": [{"effect": "notice"}]},
    ]
    assert _problems(_text(tests, WAIT, None, when='purpose.use_case == "x"')) == ["", ""]


def test_the_revision_of_the_time_decides() -> None:
    """A finding is that of the revision in force when the window crosses."""
    revisions = [
        {"version": 1, "when": "true", "condition": "value >= 2", "to": "2024-05-01T09:01:00Z"},
        {"version": 2, "when": "true", "from": "2024-05-01T09:01:00Z"},
    ]
    events = [_at(0, repeat=2), _at(120, repeat=2)]
    text = _text([{"events": events, "expect": [{"at": "1-2"}]}], revisions=revisions)
    assert _problems(text) == [""]


WRONG = [
    ({"expect": []}, "needs events"),
    ({"events": []}, "needs expect"),
    ({"events": [_at(0)], "expect": [{"at": "b"}]}, "no event of the test has the id b"),
    ({"events": [_at(0)], "expect": [{"group": {"model.name": "m"}}]}, "model.name is no field of group_by"),
    ({"events": [_at(0)], "expect": [{"effect": "notice"}]}, "only a policy with a heartbeat finds notices"),
    ({"events": [{"event": {}}], "expect": []}, "an event of a test needs time"),
    ({"events": [_at(0, event={"model": {"nam": "m"}})], "expect": []}, "unknown field model.nam of an event"),
    ({"events": [_at(0, repeat=10_001)], "expect": []}, "more than 10,000 events"),
    ({"events": [_at(0, every="1s")], "expect": []}, "every without repeat"),
    ({"events": [_at(0)], "expect": "violation"}, "expect is a list"),
]


@pytest.mark.parametrize(("test", "said"), WRONG, ids=[said for _, said in WRONG])
def test_a_wrong_test_is_refused(test: dict[str, Any], said: str) -> None:
    """What is wrong with a test is said with its place, when the bundle is loaded."""
    with pytest.raises(InvalidBundle) as refused:
        bundle_of(_text([test]))
    assert said in str(refused.value)


def test_the_command_runs_tests_of_both_kinds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`policy test` counts and names tests of windowed policies with the others; one that fails is exit code 1."""
    text = _text([{"events": [_at(0, repeat=3)], "expect": []}, {"events": [], "expect": []}], name="w")
    other = policy(name="a", tests=[{"name": "n", "expect": "ok", "event": {}}])
    write(tmp_path, {"bundle.yaml": "name: test\n", "policies/w.yaml": text, "policies/a.yaml": other})
    assert run(["policy", "test", str(tmp_path), "--format", "csv"]) == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[1].endswith(",2,3,2,1")
    assert "test/w: t0: expected nothing, found a violation" in said.err
    assert "without a test" not in said.err


def test_without_the_engine_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the embedded engine is not installed, what to install is said; bundles without such tests need none."""
    monkeypatch.setitem(sys.modules, "usageaudit.stores.embedded", None)
    assert _problems(_text([])) == []
    with pytest.raises(
        ConfigurationError, match=r"policies with a window run in the embedded engine.*usageaudit\[embedded\]"
    ):
        _problems(_text([{"events": [], "expect": []}]))
