"""Findings of kind `integrity`: what `verify` found wrong, kept where the store may be written.

Each has an id that depends on what is wrong and nothing else, so that verifying again finds the same one. A difference
of verdicts is one finding a day of recording.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import TYPE_CHECKING

from usageaudit.errors import QueryError
from usageaudit.stores.ledger import Finding, Ledger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from usageaudit.integrity.rejudging import Difference
    from usageaudit.integrity.report import Kind, Problem
    from usageaudit.stores.port import Store
    from usageaudit.verdicts import Severity

_THERE = "SELECT DISTINCT finding_id FROM findings_log WHERE finding_id IN {ids:Array(String)}"


SEVERITIES: Mapping[Kind, Severity] = {
    "repeated_offsets": "critical",
    "unknown_status": "critical",
    "missing_records": "critical",
    "stream_ends_before_ledger": "critical",
    "conflicting_duplicate": "high",
    "accepted_twice": "medium",
}
"""The problems of completeness that become findings: those that no waiting can mend, by how grave they are.

Of the others a consumer, or a publisher that ships its spool, may yet make good what is lacking; offsets that the
stream dropped have a finding from the consumer.
"""


def keep_problems(store: Store, problems: Iterable[Problem]) -> str | None:
    """Append a finding for each problem that is to stay and has none; return why the store refuses, or None."""
    now = dt.datetime.now(dt.UTC)
    lasting = [(one, SEVERITIES[one.kind]) for one in problems if one.kind in SEVERITIES]
    return _keep(store, [_lasting(one, severity, now) for one, severity in lasting])


def keep_differences(store: Store, differences: Iterable[Difference]) -> str | None:
    """Append a finding for each difference of verdicts that has none; return why the store refuses, or None."""
    return _keep(store, [_finding(one) for one in differences])


def _keep(store: Store, findings: Sequence[Finding]) -> str | None:
    ledger = Ledger(store)
    if not findings:
        return None
    try:
        there = {str(found) for (found,) in store.execute(_THERE, {"ids": [one.finding_id for one in findings]}).rows}
        ledger.add_findings([one for one in findings if one.finding_id not in there])
    except QueryError as error:
        return str(error)
    return None


def _lasting(one: Problem, severity: str, now: dt.datetime) -> Finding:
    # It is the same problem however many copies or offsets there are by now, which the message says.
    place = [one.kind, *one.event] if one.event else [one.kind, one.stream, one.where, one.offsets]
    return Finding(
        finding_id=hashlib.sha256("\0".join(["integrity", *place]).encode()).hexdigest()[:32],
        kind="integrity",
        effect="notice",
        message=f"{one.kind}: {one.where}: {one.message}",
        window_start=now,
        window_end=now,
        severity=severity,
        group_key=one.kind,
        event_refs=[one.event] if one.event else (),
    )


def _finding(one: Difference) -> Finding:
    day = dt.datetime.fromtimestamp(one.day, dt.UTC)
    place = [one.bundle, one.policy_id, str(one.policy_version), one.what, str(one.day)]
    return Finding(
        finding_id=hashlib.sha256("\0".join(["integrity", *place]).encode()).hexdigest()[:32],
        kind="integrity",
        effect="notice",
        message=f"{one.rows:,} rows: {one.what}",
        window_start=day,
        window_end=day + dt.timedelta(days=1),
        severity="critical",
        policy_id=one.policy_id,
        policy_version=one.policy_version,
        bundle=one.bundle,
        group_key=one.what,
        event_refs=one.events,
    )
