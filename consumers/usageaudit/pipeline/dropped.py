"""Events that a publisher dropped and reported, as findings: the record lacks them, and only the publisher knows."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import TYPE_CHECKING

from usageaudit.errors import InvalidEvent, Problem
from usageaudit.stores.ledger import Finding

if TYPE_CHECKING:
    from usageaudit.dropped import DroppedEvents

KIND = "dropped_events"
MOST_A_BATCH = 100
"""Each costs a statement; publishers report at most one in ten seconds, so more come from somebody who means harm."""
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def rejection(report: DroppedEvents) -> InvalidEvent:
    """Return why the record of a report is rejected: it is no usage event, and its row says what it is."""
    message = f"reports {report.dropped:,} events that a publisher dropped, no usage event: see the finding {KIND}"
    return InvalidEvent([Problem("type", message)])


def dropped_finding(report: DroppedEvents) -> Finding:
    """Return the finding of a report; the same report, however often it is read, is the same finding."""
    parts = (report.source, report.instance, str(report.dropped), str(report.first), str(report.last))
    return Finding(
        finding_id=hashlib.sha256("\0".join([KIND, *parts]).encode()).hexdigest()[:32],
        kind=KIND,
        effect="notice",
        message=f"{report.source}: instance {report.instance} of its publisher dropped {report.dropped:,} events: they "
        "found neither spool nor queue with room, and are in no record",
        window_start=_EPOCH + dt.timedelta(microseconds=report.first),
        window_end=_EPOCH + dt.timedelta(microseconds=report.last),
        severity="high",
        group_key=f"{report.source}/{report.instance}",
    )
