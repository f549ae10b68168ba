"""Windowed policies through explain and diff: whether an event counts, and which part of a window changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.strategies import MINIMAL, envelope
from tests.unit.policy.bundles import bundle_of, policy, write
from usageaudit.cli.run import run
from usageaudit.policy.diff import differences

if TYPE_CHECKING:
    from pathlib import Path

COUNT = {"kind": "event_count", "over": "1h", "group_by": ["actor.organization"]}


def _text(condition: str = "value > 3", **window: Any) -> str:
    return policy("has(usage.input_tokens)", window={**COUNT, **window}, condition=condition)


@pytest.mark.parametrize(
    ("data", "said", "missing"),
    [
        ({"usage": {"input_tokens": 1}, "actor": {"id": "a", "organization": "o"}}, "counts", []),
        ({"actor": {"id": "a", "organization": "o"}}, "does not count", []),
        ({"usage": {"input_tokens": 1}}, "left open", ["actor.organization"]),
    ],
)
def test_explain_says_whether_an_event_counts(
    data: dict[str, Any], said: str, missing: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a windowed policy no verdict is told, but whether the event counts, and for want of which fields not."""
    write(tmp_path, {"bundle.yaml": "name: test\n", "policies/a.yaml": _text(), "policies/b.yaml": policy(name="b")})
    event = envelope({**MINIMAL, **data}, time="2026-05-01T12:00:00Z")
    (tmp_path / "events.ndjson").write_text(json.dumps(event) + "\n")
    assert run(["policy", "explain", str(tmp_path / "events.ndjson"), "--policies", str(tmp_path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [one["policy_id"] for one in printed["policies"]] == ["test/b"]
    (one,) = printed["windowed"]
    assert (one["policy_id"], one["counts"], one["missing_fields"]) == ("test/a", said, missing)


def test_a_window_that_means_something_else_is_a_difference() -> None:
    """Each part of a window, the condition on its value and the list that it names are named where they change."""
    changes = {
        _text(over="2h"): ["window.over"],
        _text(group_by=["model.name"]): ["window.group_by"],
        _text("value > 4"): ["revisions.1.condition"],
        _text("value>3"): [],
    }
    for text, parts in changes.items():
        assert [one.part for one in differences(bundle_of(_text()), bundle_of(text))] == parts
    listed = _text("lists.most.exists(most, value > most)")
    three, four = (bundle_of(listed, lists=f"most: [{most}]\n") for most in (3, 4))
    assert [(one.part, one.old, one.new) for one in differences(three, four)] == [("lists.most", [3], [4])]
