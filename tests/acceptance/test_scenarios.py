"""The scenarios of the code of conduct's change: every clause gives its verdict, on both pairs, by every way to ask."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.strategies import envelope

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.conftest import Pair

TIMES = {"before": "2024-04-17T09:30:00Z", "after": "2024-05-17T09:30:00Z"}
RECORDED = ("violation", "indeterminate")


@pytest.fixture(scope="module")
def scenarios(test_data: Path) -> dict[str, Any]:
    """Return the scenarios with the verdicts that they must get."""
    loaded: dict[str, Any] = json.loads((test_data / "scenarios.json").read_text())
    return loaded


def _events(scenarios: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (one["id"], when): envelope(one["data"], id=f"{one['id']}-{when}", source="//scenarios", time=time)
        for one in scenarios["scenarios"]
        for when, time in TIMES.items()
    }


def _expected(scenarios: dict[str, Any]) -> dict[tuple[str, str], str]:
    """Return the verdict for each event and policy."""
    return {
        (f"{one['id']}-{when}", f"{scenarios['pack']}/{clause}"): verdict
        for one in scenarios["scenarios"]
        for when in TIMES
        for clause, verdict in one["expect"][when]["clauses"].items()
    }


def _expected_missing(scenarios: dict[str, Any]) -> dict[tuple[str, str], list[str]]:
    """Return the missing fields of every undecided event and policy: those named for after, where it is undecided."""
    named: dict[tuple[str, str], list[str]] = {}
    for one in scenarios["scenarios"]:
        for text in one["missing_after"]:
            clause, fields = text.split(": ")
            named[one["id"], f"{scenarios['pack']}/{clause}"] = sorted(fields.split(", "))
    undecided = [key for key, verdict in _expected(scenarios).items() if verdict == "indeterminate"]
    return {(event, policy): named[event.rsplit("-", 1)[0], policy] for event, policy in undecided}


def _explained(output: str) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (event["event_id"], policy["policy_id"]): policy
        for event in map(json.loads, output.splitlines())
        for policy in event["policies"]
    }


def test_every_clause_gives_its_verdict(pair: Pair, scenarios: dict[str, Any]) -> None:
    """Published, consumed and queried, every event violates, or can't be decided by, exactly the clauses it should."""
    events = _events(scenarios)
    lines = "".join(json.dumps(event) + "\n" for event in events.values())
    expected, missing = _expected(scenarios), _expected_missing(scenarios)
    pair.run("publish", "-", text=lines)
    pair.consume()

    violations = pair.query("SELECT event_id, policy_id FROM violations WHERE verdict = 'violation'")
    assert {(row["event_id"], row["policy_id"]) for row in violations} == {
        key for key, verdict in expected.items() if verdict == "violation"
    }
    undecided = pair.query("SELECT event_id, policy_id, missing_fields FROM indeterminates")
    assert {(row["event_id"], row["policy_id"]): row["missing_fields"] for row in undecided} == missing

    explained = _explained(pair.run("policy", "explain", "-", "--format=ndjson", text=lines))
    assert {key: policy["verdict"] for key, policy in explained.items()} == expected
    assert {key: policy["missing_fields"] for key, policy in explained.items() if key in missing} == missing

    for event in list(events.values())[::7]:
        recorded = _explained(pair.run("policy", "explain", "--event", event["source"], event["id"], "--format=ndjson"))
        assert recorded == {key: policy for key, policy in explained.items() if key[0] == event["id"]}


def test_recorded_events_explain_as_they_were_judged(pair: Pair, scenarios: dict[str, Any]) -> None:
    """A violation's row carries what a reviewer needs: version, severity, stage, message and the bundle that judged."""
    events = _events(scenarios)
    pair.run("publish", "-", text=json.dumps(events["S-03", "after"]) + "\n")
    pair.consume()
    [row] = pair.query("SELECT * FROM violations")
    assert row["policy_version"] == 2 or row["policy_version"] == 1
    assert row["stage"] == "enforce"
    assert "police-fr" in row["message"]
    assert [bundle["hash"] for bundle in pair.query("SELECT hash FROM bundles")] == [row["bundle"]]
