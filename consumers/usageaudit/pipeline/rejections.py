"""An alarm where a large share of the records is refused: a broken release of a service, usually.

Records are counted in windows of wall time, one after another. The first time that the share goes over its limit in one
it is a finding, whose id depends on topic and window: consumers of one group that see the same window report it once.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from usageaudit.stores.ledger import Finding

if TYPE_CHECKING:
    from usageaudit.streams.port import Partition

log = structlog.get_logger("usageaudit.consumer")

KIND = "rejected_share"
FEWEST_RECORDS = 100
"""A share of fewer records than this says little."""


@dataclass(frozen=True, slots=True)
class RejectionLimit:
    """Which share of the records of a window, of so many seconds, may be refused without an alarm."""

    share: float = 0.5
    window: float = 300.0


@dataclass(slots=True)
class Rejections:
    """Counts the records of the present window; `unreported` are the findings that the store does not have yet."""

    limit: RejectionLimit = field(default_factory=RejectionLimit)
    unreported: list[Finding] = field(default_factory=list)
    _began: float = 0.0
    _records: int = 0
    _rejected: int = 0
    _alarmed_at: float | None = None
    """The beginning of the window that alarmed last."""

    def add(self, partition: Partition, records: int, rejected: int, now: float | None = None) -> None:
        """Count a batch that was recorded; `now` in seconds since 1970."""
        self._turn(time.time() if now is None else now)
        self._records += records
        self._rejected += rejected
        if self._alarmed_at != self._began and self._is_over():
            self._alarm(partition)

    def share(self, now: float | None = None) -> float:
        """Return which share of the present window was refused, 0 where nothing was recorded."""
        self._turn(time.time() if now is None else now)
        return self._rejected / self._records if self._records else 0.0

    def alarmed(self, now: float | None = None) -> bool:
        """Tell whether the present window or the one before it was over the limit."""
        self._turn(time.time() if now is None else now)
        # A clock that was set back can be far behind a window that alarmed.
        return self._alarmed_at is not None and 0 <= self._began - self._alarmed_at <= self.limit.window

    def _turn(self, now: float) -> None:
        """Begin the window of now where the present one is over, or the clock was set back."""
        began = now // self.limit.window * self.limit.window
        if began != self._began:
            self._began, self._records, self._rejected = began, 0, 0

    def _is_over(self) -> bool:
        return self._records >= FEWEST_RECORDS and self._rejected > self.limit.share * self._records

    def _alarm(self, partition: Partition) -> None:
        self._alarmed_at = self._began
        self.unreported.append(self._finding(partition))
        log.error(
            "many records are refused; see `usageaudit rejects list`",
            topic=partition.topic,
            rejected=self._rejected,
            records=self._records,
            window_seconds=self.limit.window,
        )

    def _finding(self, partition: Partition) -> Finding:
        start = dt.datetime.fromtimestamp(self._began, dt.UTC)
        place = [partition.stream, partition.topic, start.isoformat()]
        return Finding(
            finding_id=hashlib.sha256("\0".join([KIND, *place]).encode()).hexdigest()[:32],
            kind=KIND,
            effect="notice",
            message=f"{partition.topic}: {self._rejected} of {self._records} records that one consumer had recorded by "
            f"then were refused, more than {self.limit.share:.0%}; a service probably publishes something else than "
            "usage events",
            window_start=start,
            window_end=start + dt.timedelta(seconds=self.limit.window),
            severity="high",
            group_key="/".join(place[:2]),
        )
