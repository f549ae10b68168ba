"""What judging an event yields, and the ids by which violations and findings are known everywhere.

`ok` and `not_applicable` are not recorded; `usageaudit policy explain` gives them.
"""

from __future__ import annotations

import hashlib
from typing import Literal, NamedTuple

Verdict = Literal["violation", "exempted", "indeterminate", "ok", "not_applicable"]
Severity = Literal["info", "low", "medium", "high", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "low", "medium", "high", "critical")
Stage = Literal["draft", "shadow", "enforce", "retired"]


class Violation(NamedTuple):
    """A policy that an event violated; `evidence` is a JSON object of the fields that the policy names.

    Here and below the fields stand in the order of the ledger's columns.
    """

    policy_id: str
    policy_version: int
    severity: Severity
    stage: Stage
    message: str
    evidence: str = "{}"
    missing_fields: tuple[str, ...] = ()


class Exemption(NamedTuple):
    """A violation under a named exception that was in force at the event's time."""

    policy_id: str
    policy_version: int
    severity: Severity
    stage: Stage
    message: str
    exception_id: str


class Indeterminate(NamedTuple):
    """A policy that could not be decided, with the fields that would have decided it, sorted."""

    policy_id: str
    policy_version: int
    missing_fields: tuple[str, ...]


class Verdicts(NamedTuple):
    """All that is recorded of judging one event by one bundle."""

    violated: tuple[Violation, ...] = ()
    exempted: tuple[Exemption, ...] = ()
    indeterminate: tuple[Indeterminate, ...] = ()


CLEAN = Verdicts()
"""The verdicts of an event that no policy has anything to say about."""


def violation_id(source: str, event_id: str, policy_id: str, policy_version: int) -> str:
    """Return the id of a violation: the first 32 hex digits of SHA-256 over its parts joined by NUL."""
    return hashlib.sha256(f"{source}\0{event_id}\0{policy_id}\0{policy_version}".encode()).hexdigest()[:32]


def finding_id(policy_id: str, policy_version: int, group_key: str, window_end: str) -> str:
    """Return the id of a finding, made as a violation's; `window_end` is RFC 3339 text."""
    return hashlib.sha256(f"{policy_id}\0{policy_version}\0{group_key}\0{window_end}".encode()).hexdigest()[:32]


def rejudged_id(policy_id: str, policy_version: int, event: tuple[str, str, str], replaced: str, bundle: str) -> str:
    """Return the id of the finding that another bundle's verdict replaces what was said of an event.

    `event` is its time as RFC 3339 text, source and id; `replaced` is the id of the rejudged finding that said so, or
    the hash of the bundle of the ledger's row. Who does the same twice, or beside each other, finds the same id.
    """
    parts = (policy_id, str(policy_version), *event, replaced, bundle)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
