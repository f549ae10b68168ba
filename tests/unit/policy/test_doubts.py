"""Warnings about a whole bundle: what can never apply, is never used, or that no test shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.policy.bundles import bundle_of, policy
from usageaudit.policy import load_bundle

if TYPE_CHECKING:
    from usageaudit.policy.language import Diagnostic

USE = 'purpose.use_case == "x"'
TESTS = [
    {"name": "one", "expect": "violation", "event": {"purpose": {"use_case": "x"}}},
    {"name": "other", "expect": "ok", "event": {"purpose": {"use_case": "y"}}},
]


def _warnings(when: str = USE, *, files: dict[str, str] | None = None, **more: Any) -> list[str]:
    found = _diagnostics(when, files=files, **more)
    assert all(one.severity == "warning" and one.line >= 1 for one in found)
    return [f"{one.message}; {one.hint}".rstrip("; ") for one in found]


def _diagnostics(when: str, *, files: dict[str, str] | None = None, **more: Any) -> tuple[Diagnostic, ...]:
    return bundle_of(policy(when, **{"tests": TESTS, **more}), **(files or {})).warnings


def _exception(name: str, when: str, expires: str = "2030-01-01") -> dict[str, str]:
    return {"id": name, "when": when, "approved_by": "a", "reason": "b", "expires": expires}


def _two(first_to: str, second_from: str) -> list[dict[str, Any]]:
    return [
        {"version": 1, "when": USE, "from": "2024-01-01", "to": first_to},
        {"version": 2, "when": USE, "from": second_from},
    ]


FIRST, SECOND, WHY = "2024-05-01T00:00:00Z", "2024-06-01T00:00:00Z", "the bundle has no registry"
EX = "exception B never applies; "
ENV = 'application.environment == "red-team"'
CASES: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    ({"tests": []}, ["the policy has no test; add tests: events with the verdicts that they must get"]),
    ({"tests": TESTS[:1]}, ["no test shows an event that is ok; add a test that expects ok"]),
    ({"tests": TESTS[1:]}, ["no test shows a violation; add a test that expects one"]),
    ({"tests": [], "stage": "retired"}, []),
    # What can't be ok, or a violation, need not be shown.
    ({"when": "true", "tests": TESTS[:1]}, ["this is always true; write a condition"]),
    ({"let": {"police": USE, "other": USE}, "when": "police"}, ["no condition names other; remove it from let"]),
    ({"let": {"police": USE, "other": "police"}, "when": "other"}, []),
    ({"let": {"police": USE}, "exceptions": [_exception("A", f"police && {ENV}")]}, []),
    ({"revisions": _two("2024-05-01", "2024-05-01")}, []),
    (
        {"revisions": _two("2024-05-01", "2024-06-01")},
        [f"no revision is in force from {FIRST} until {SECOND}; let version 1 end where version 2 begins"],
    ),
    (
        {"when": f'{USE} && registry.sector == "x"'},
        [f"registry.sector is unknown for every event, as {WHY}; describe the applications in registry.yaml"],
    ),
    ({"when": f'{USE} && registry.sector == "x"', "files": {"registry": "app: {sector: x}"}}, []),
    ({"when": f'{USE} && registry.sector == "x"', "applies": "has(registry.sector)"}, []),
    ({"applies": 'purpose.use_case == "y"'}, ["this is never true where applies is; the two contradict each other"]),
    ({"applies": "has(purpose.use_case)"}, []),
    ({"files": {"lists": "a: [x]\nb: [y]"}, "when": "purpose.use_case in lists.a"}, ["no condition names lists.b"]),
    ({"files": {"lists": "a: [x]"}, "let": {"in_a": "purpose.use_case in lists.a"}, "when": "in_a"}, []),
    ({"files": {"lists": "a: []"}, "when": "purpose.use_case in lists.a", "tests": TESTS[:1]}, []),
    ({"exceptions": [_exception("A", ENV), _exception("B", "has(input)")]}, []),
    ({"exceptions": [_exception("A", ENV, "2029-01-01"), _exception("B", ENV)]}, []),
    (
        {"exceptions": [_exception("A", ENV), _exception("B", ENV)]},
        [EX + "A, which stands before it, holds for the same events"],
    ),
    (
        {"exceptions": [_exception("A", "true"), _exception("B", ENV)]},
        ["this is always true; write a condition", EX + "A, which stands before it, holds for the same events"],
    ),
    (
        {"exceptions": [_exception("A", "true", "2029-01-01"), _exception("B", ENV)]},
        ["this is always true; write a condition"],
    ),
    (
        {"exceptions": [_exception("B", ENV, "2023-12-31")], "revisions": _two("2024-05-01", "2024-05-01")},
        [EX + "it expires before the first revision begins"],
    ),
    ({"exceptions": [_exception("B", ENV, "2024-01-01")], "revisions": _two("2024-05-01", "2024-05-01")}, []),
    (
        {"exceptions": [_exception("B", 'purpose.use_case == "y"')]},
        [EX + "it contradicts the conditions that it is an exception to"],
    ),
    ({"exceptions": [_exception("B", "!has(purpose.use_case)")], "on_unknown": "violate"}, []),
]


@pytest.mark.parametrize(("change", "warnings"), CASES, ids=[str(n) for n in range(len(CASES))])
def test_a_doubtful_policy_is_warned_of(change: dict[str, Any], warnings: list[str]) -> None:
    """Each doubt is told once, with what to do, and a policy without one brings no warning."""
    assert _warnings(**change) == warnings


def test_doubts_come_with_the_spot() -> None:
    """A warning points at what it is about: the id of the policy, the name of the list, the condition."""
    found = _diagnostics(USE, files={"lists": "spare: [x]"}, tests=[], let={"other": "has(input)"})
    spots = {one.message.split()[-1]: one.source_line[one.column - 1 :][: one.width] for one in found}
    assert spots == {"lists.spare": "spare", "test": '"test/a"', "other": "has(input)"}


def test_shipped_packs_leave_no_doubt() -> None:
    """The packs that are shipped bring no warning, alone and together."""
    packs = ["azure-openai-code-of-conduct", "hygiene", "eu-ai-act-article-5"]
    for sources in (*([pack] for pack in packs), packs):
        assert [one.render() for one in load_bundle(sources).warnings] == []
