"""The tests that policies bring along: how they are read and run, and what a failure says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.policy.bundles import bundle_of, policy
from usageaudit.policy import InvalidBundle, bundle_from_archive
from usageaudit.policy.testing import run_tests

if TYPE_CHECKING:
    from usageaudit.policy.testing import Outcome

WHEN = 'purpose.use_case == "x"'


def _outcome(test: dict[str, Any], when: str = WHEN, files: dict[str, str] | None = None, **more: Any) -> Outcome:
    [outcome] = run_tests(bundle_of(policy(when, tests=[{"name": "t", "event": {}, **test}], **more), **(files or {})))
    return outcome


@pytest.mark.parametrize(
    ("test", "problem"),
    [
        ({"expect": "violation", "event": {"purpose": {"use_case": "x"}}}, ""),
        ({"expect": "ok", "event": {"purpose": {"use_case": "y"}}}, ""),
        ({"expect": "indeterminate", "missing": ["purpose.use_case"]}, ""),
        (
            {"expect": "ok", "event": {"purpose": {"use_case": "x"}}},
            'expected ok, found violation because of purpose.use_case == "x"',
        ),
        (
            {"expect": "ok"},
            'expected ok, found indeterminate for want of purpose.use_case because of purpose.use_case == "x"',
        ),
        (
            {"expect": "indeterminate", "missing": ["actor.sector"]},
            "expected actor.sector to be missing, found for want of purpose.use_case",
        ),
        (
            {"expect": "violation", "exception": "EX", "event": {"purpose": {"use_case": "x"}}},
            "expected exception EX, found none",
        ),
    ],
)
def test_failure_says_what_was_found_and_why(test: dict[str, Any], problem: str) -> None:
    """A test compares verdict, missing fields and exception, and a failure names the parts that decided."""
    outcome = _outcome(test)
    assert (outcome.problem, outcome.passed) == (problem, not problem)


def test_drafts_are_tested() -> None:
    """A policy can be tested before it is judged."""
    assert _outcome({"expect": "violation", "event": {"purpose": {"use_case": "x"}}}, stage="draft").passed


def test_test_says_when_it_happened() -> None:
    """A test may set times, source and id; without a time it is judged by the newest revision."""
    revisions = [
        {"version": 2, "when": 'event.source == "//s" && event.id == "i"', "from": "2024-05-01"},
        {"version": 1, "when": "has(record.time)", "to": "2024-05-01"},
    ]
    at = {"source": "//s", "id": "i"}
    assert _outcome({"expect": "violation", **at}, revisions=revisions).passed
    assert _outcome({"expect": "ok", **at, "time": "2024-04-30"}, revisions=revisions).passed
    early = {"expect": "violation", "time": "2024-04-30T23:59:59Z", "record_time": "2024-05-02"}
    assert _outcome(early, revisions=revisions).passed


def test_test_says_what_the_registry_says_of_its_application() -> None:
    """A test's entry takes the place of the bundle's, and is empty where it says nothing of a field."""
    registered = {"registry": "test: {sector: x}\n"}
    when = 'registry.sector == "x"'
    assert _outcome({"expect": "violation"}, when, files=registered).passed
    assert _outcome({"expect": "ok", "registry": {"sector": "y"}}, when, files=registered).passed
    unknown = {"expect": "indeterminate", "missing": ["registry.sector"], "registry": {"owner": "o"}}
    assert _outcome(unknown, when, files=registered).passed
    named = {"expect": "violation", "event": {"application": {"name": "a"}}, "registry": {"sector": "x"}}
    assert _outcome(named, when).passed


def test_entry_of_a_test_is_checked() -> None:
    """A key that the registry does not have is an error at its place."""
    with pytest.raises(InvalidBundle, match="did you mean sector"):
        _outcome({"expect": "ok", "registry": {"sectr": "x"}})


def test_exempted_is_an_expectation() -> None:
    """A test of an exception names the exception that must apply."""
    exception = {"id": "EX", "when": "has(purpose)", "approved_by": "a", "reason": "b", "expires": "2030-01-01"}
    event = {"purpose": {"use_case": "x"}}
    assert _outcome({"expect": "exempted", "exception": "EX", "event": event}, exceptions=[exception]).passed


CASES = """
- name: case
  event: {purpose: {use_case: x}}
  expect:
    - time: 2024-05-01
      verdicts: {a: violation, others: ok}
    - time: 2024-05-02
      verdicts: {b: indeterminate}
      missing: {b: [actor.sector]}
"""


def _with_cases(cases: str) -> list[Outcome]:
    import json

    files = {
        "bundle.yaml": "name: test",
        "policies/a.yaml": policy(WHEN),
        "policies/b.yaml": policy('purpose.use_case == "x" && actor.sector == "y"', name="b"),
        "policies/c.yaml": policy('purpose.use_case == "y"', name="c"),
        "tests/cases.yaml": cases,
    }
    part = {"name": "test", "uses": [], "files": files}
    content = json.dumps({"format": 1, "sources": ["test"], "parts": [part]})
    return list(run_tests(bundle_from_archive(content.encode())))


def test_whole_events_are_tested_against_several_clauses() -> None:
    """A case states the verdicts of named clauses at some times, and of all others at once."""
    found = {(outcome.policy_id, outcome.test.name, outcome.passed) for outcome in _with_cases(CASES)}
    first, second = "case, 2024-05-01T00:00:00Z", "case, 2024-05-02T00:00:00Z"
    assert found == {
        ("test/a", first, True), ("test/b", first, False), ("test/c", first, True), ("test/b", second, True),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ("a: b", "is a list of events"),
        ("- {name: x, event: {}, expect: [{time: 2024-05-01, verdicts: {d: ok}}]}", "unknown key d in verdicts"),
        ("- {name: x, event: {}, expect: [{verdicts: {a: ok}}]}", "an expectation needs time"),
        ("- {name: x, event: {}, expect: [{time: 2024-05-01, verdicts: {a: fine}}]}", "a is one of violation"),
        ("- {name: x, event: {modl: 1}, expect: []}", "did you mean model?"),
        ("- {name: x, event: {}}", "a case needs expect"),
    ],
)
def test_wrong_case_is_refused(cases: str, message: str) -> None:
    """A mistake in a file of cases is an error of the bundle, with its place."""
    with pytest.raises(InvalidBundle) as refused:
        _with_cases(cases)
    assert message in str(refused.value)
    assert "test/tests/cases.yaml:1:" in str(refused.value)
