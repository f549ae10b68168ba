"""Findings of kind `integrity`: what `verify` found wrong with recorded verdicts, kept where the store may be written.

One finding is about one kind of difference on one day of recording, so that verifying again finds the same one.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import TYPE_CHECKING

from usageaudit.errors import QueryError
from usageaudit.stores.ledger import Finding, Ledger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from usageaudit.integrity.rejudging import Difference
    from usageaudit.stores.port import Store


def keep_findings(store: Store, differences: Iterable[Difference]) -> str | None:
    """Append a finding for each difference that has none; return why the store refuses, None where it does not."""
    ledger = Ledger(store)
    try:
        for one in differences:
            ledger.add_finding(_finding(one))
    except QueryError as error:
        return str(error)
    return None


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
