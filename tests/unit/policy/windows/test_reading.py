"""Windows of policies as files have them: what is read, and what is refused with what to do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.policy.bundles import bundle_of, policy
from usageaudit.policy import InvalidBundle, compile_judge
from usageaudit.policy.windows.model import Calendar

HOUR = 3_600_000_000
COUNT = {"kind": "event_count", "over": "1h", "group_by": ["application.name"]}
BEAT = {"when": "true", "every": "10m"}
WAIT = {"kind": "absence", "over": "1h", "expect": "has(oversight.reviewer)", "heartbeat": BEAT}


def _windowed(window: dict[str, Any], condition: str | None = "value > 3", **more: Any) -> str:
    return policy(window=window, **({"condition": condition} if condition else {}), **more)


def test_a_window_is_read_as_it_is_written() -> None:
    """Every key of a window arrives in the model, and its policy is not judged on the stream."""
    window = {
        **COUNT,
        "kind": "value_sum",
        "field": "usage.input_tokens",
        "over": "calendar month",
        "zone": "Europe/Paris",
    }
    text = _windowed(window, message="{application.name} used {value} from {window.start} to {window.end}")
    bundle = bundle_of(text, policy(name="b"))
    (found,) = bundle.windowed
    assert found.window is not None
    assert found.window.kind == "value_sum"
    assert found.window.over == Calendar("month", "Europe/Paris")
    assert found.window.group_by == (("application", "name"),)
    assert found.window.field == ("usage", "input_tokens")
    assert found.revisions[0].condition is not None
    assert [one.id for one in bundle.policies] == ["test/b"]
    assert [one.id for one in bundle.all_policies] == ["test/a", "test/b"]
    compile_judge(bundle)


def test_each_kind_takes_what_it_needs() -> None:
    """A window of each kind is read without a complaint."""
    windows: list[tuple[dict[str, Any], str | None]] = [
        (COUNT, "value > 3"),
        ({**COUNT, "kind": "value_count", "field": "model.name"}, "value >= 3"),
        ({**COUNT, "kind": "value_sum", "field": "cost.amount"}, "value > 3.5"),
        ({**COUNT, "kind": "temporal_ordered", "steps": ["true", "has(oversight.reviewer)"]}, None),
        (WAIT, None),
        ({"kind": "first_seen", "group_by": ["model.name"]}, None),
        ({"kind": "first_seen", "group_by": ["model.name"], "over": "90d"}, None),
    ]
    texts = [_windowed(window, condition, name=f"p-{number}") for number, (window, condition) in enumerate(windows)]
    assert len(bundle_of(*texts).windowed) == len(windows)


def test_a_revision_may_have_a_condition_of_its_own() -> None:
    """A budget that was raised is two revisions with the same window."""
    revisions = [
        {"version": 1, "when": "true", "condition": "value > 3", "to": "2024-05-01"},
        {"version": 2, "when": "true", "from": "2024-05-01"},
    ]
    text = policy(window=COUNT, condition="value > 5", revisions=revisions)
    sources = [one.condition.source.text for one in bundle_of(text).windowed[0].revisions if one.condition]
    assert sources == ["value > 3", "value > 5"]


WRONG: list[tuple[str, str, str]] = [
    ("no kind", policy(window={"over": "1h"}, condition="value > 1"), "a window needs kind"),
    ("a misspelt kind", _windowed({**COUNT, "kind": "event_cout"}), "did you mean event_count?"),
    ("an unknown key", _windowed({**COUNT, "groupby": []}), "groupby"),
    ("no time", _windowed({"kind": "event_count"}), "a window of kind event_count needs over"),
    ("no duration", _windowed({**COUNT, "over": "soon"}), "over is a duration"),
    ("too short", _windowed({**COUNT, "over": "0s"}), "over"),
    ("too long", _windowed({**COUNT, "over": "367d"}), "over is from one second to 366 days"),
    ("another calendar", _windowed({**COUNT, "over": "calendar week"}), "over is calendar day or calendar month"),
    ("a day without a zone", _windowed({**COUNT, "over": "calendar day"}), "needs a zone"),
    ("no zone", _windowed({**COUNT, "over": "calendar day", "zone": "Paris"}), "unknown time zone Paris"),
    ("a zone of no day", _windowed({**COUNT, "zone": "UTC"}), "a sliding window has no zone"),
    ("a day of absence", _windowed({**WAIT, "over": "calendar day", "zone": "UTC"}, None), "is no calendar's"),
    ("no condition", _windowed(COUNT, None), "a window of kind event_count needs a condition"),
    ("a condition on an event", _windowed(COUNT, "usage.input_tokens > 3"), "unknown"),
    ("a condition of another type", _windowed(COUNT, "value"), "value"),
    ("a value of a sequence", _windowed(WAIT), "a window of kind absence has no value"),
    ("a condition without a window", policy(condition="value > 3"), "condition without a window"),
    ("no field", _windowed({**COUNT, "kind": "value_sum"}), "a window of kind value_sum needs field"),
    ("a field too many", _windowed({**COUNT, "field": "model.name"}), "has no field"),
    ("a sum of texts", _windowed({**COUNT, "kind": "value_sum", "field": "model.name"}), "a sum is one of numbers"),
    ("a list for a group", _windowed({**COUNT, "group_by": ["input.modalities"]}), "name a field that has one value"),
    ("an unknown field", _windowed({**COUNT, "group_by": ["application.nam"]}), "did you mean application.name?"),
    ("one step", _windowed({**COUNT, "kind": "temporal_ordered", "steps": ["true"]}, None), "2 to 10 conditions"),
    ("no heartbeat", _windowed({**WAIT, "heartbeat": None}, None), "a window of kind absence needs heartbeat"),
    ("no group", _windowed({"kind": "first_seen"}, None), "first_seen needs group_by"),
    ("evidence", _windowed(COUNT, evidence=["model.name"]), "a policy with a window has no evidence"),
    ("an event in the message", _windowed(COUNT, message="{model.name}"), "unknown field model.name in message"),
]


@pytest.mark.parametrize(("text", "said"), [one[1:] for one in WRONG], ids=[one[0] for one in WRONG])
def test_a_wrong_window_is_refused(text: str, said: str) -> None:
    """What is wrong with a window is said, with its place."""
    with pytest.raises(InvalidBundle) as refused:
        bundle_of(text)
    assert said in str(refused.value)
    assert "policies/0000.yaml:" in str(refused.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    """Several mistakes of one window are one refusal."""
    with pytest.raises(InvalidBundle) as refused:
        bundle_of(_windowed({**COUNT, "over": "soon", "group_by": ["nothing"], "field": "model.name"}))
    assert len(refused.value.diagnostics) >= 3
