"""`policy check` says which exceptions have expired, and which soon will."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.unit.policy.bundles import bundle_of, policy, write
from usageaudit.policy.expiry import expiry_warnings

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
EXCEPTION = {"id": "EX-1", "when": "true", "approved_by": "C. Officer", "reason": "test"}


@pytest.mark.parametrize(
    ("expires", "word"),
    [
        (NOW - timedelta(days=1000), "expired at 2023-09-05T12:00:00Z"),
        (NOW, "expired at 2026-06-01T12:00:00Z"),
        (NOW + timedelta(microseconds=1), "expires at 2026-06-01T12:00:00.000001Z"),
        (NOW + timedelta(days=30), "expires at 2026-07-01T12:00:00Z"),
        (NOW + timedelta(days=30, microseconds=1), None),
    ],
)
@pytest.mark.parametrize("stage", ["enforce", "shadow", "draft", "retired"])
def test_an_exception_is_warned_of_from_thirty_days_before_its_end(
    expires: datetime, word: str | None, stage: str
) -> None:
    """At the moment of expiry it has expired; what is not judged needs no exception."""
    exception = {**EXCEPTION, "expires": expires.isoformat()}
    found = [one.message for one in expiry_warnings(bundle_of(policy(exceptions=[exception], stage=stage)), NOW)]
    judged = word is not None and stage in ("enforce", "shadow")
    assert found == ([f"exception EX-1 of test/a {word}"] if judged else [])


def test_check_warns_with_the_place(command: Callable[..., tuple[int, str, str]]) -> None:
    """The warning leads to file and line of the exception, in a policy and in an override; the exit code is 0."""
    own = "exceptions:\n  - " + json.dumps({**EXCEPTION, "expires": "2020-01-01"}) + "\n"
    soon = (datetime.now(UTC) + timedelta(days=3)).date().isoformat()
    override = {"exceptions": [{**EXCEPTION, "expires": soon}]}
    write(
        Path("b"),
        {
            "bundle.yaml": "name: b\nuses: [hygiene]",
            "policies/a.yaml": policy(pack="b") + own,
            "overrides.yaml": "\nhygiene/use-case-missing: " + json.dumps(override),
        },
    )
    code, _, errors = command("check", "b")
    assert (code, errors.count("warning: exception EX-1")) == (0, 2)
    assert "b/policies/a.yaml:6:1: warning: exception EX-1 of b/a expired at 2020-01-02T00:00:00Z" in errors
    assert "b/overrides.yaml:2:1: warning: exception EX-1 of hygiene/use-case-missing expires at" in errors
    assert "C. Officer approved it" in errors
