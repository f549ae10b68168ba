"""Taking a partition over: fence whoever wrote it before, then ask the ledger what is still missing.

The same story is told on start, on assignment and after a write whose outcome is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usageaudit.stores.ledger import Ledger, Offsets
    from usageaudit.streams.port import Partition, Record, Stream

log = structlog.get_logger("usageaudit.consumer")


@dataclass(slots=True)
class Tenure:
    """One owner's time with a partition.

    `epoch` is its number, `present` the offsets that were recorded before it, `target` the end of the partition when
    it began, `reached` how far it has come, `number` that of its last batch.
    """

    epoch: int
    present: Offsets
    target: int
    reached: int
    number: int = 0

    def missing(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return the records that the ledger does not have."""
        if not self.present or not records or records[0].offset > self.present.last:
            return records
        return [record for record in records if record.offset not in self.present]


def take_over(partition: Partition, stream: Stream, ledger: Ledger, owner: str) -> Tenure:
    """Fence the old owner, read back what it recorded, and let the stream deliver from the first missing record."""
    epoch = ledger.fence(partition, owner)
    start = _resume_at(partition, stream, ledger)
    tenure = Tenure(epoch, ledger.present(partition, start), target=stream.end(partition), reached=start)
    stream.start(partition, start)
    log.info("partition taken over", partition=str(partition), epoch=epoch, offset=start, present=len(tenure.present))
    return tenure


def _resume_at(partition: Partition, stream: Stream, ledger: Ledger) -> int:
    """Return the committed offset, or an earlier one where the ledger does not reach it, but none that is gone."""
    beginning, committed, recorded = stream.beginning(partition), stream.committed(partition), ledger.end(partition)
    start = beginning if committed is None else committed
    if committed is not None and (recorded is None or recorded < committed):
        start = beginning if recorded is None else recorded
        log.warning(
            "the ledger ends before the committed offset: reading on from the ledger's end",
            partition=str(partition),
            committed=committed,
            ledger_end=recorded,
        )
    if start < beginning:
        report_gap(partition, start, beginning, ledger)
    return max(start, beginning)


def report_gap(partition: Partition, first: int, last: int, ledger: Ledger) -> None:
    """Record that the stream dropped [first, last) before it was read: a finding, never a silent skip."""
    log.error(
        "records were dropped by the stream before they were read; keep them longer than the consumer may stop",
        partition=str(partition),
        first=first,
        last=last,
    )
    ledger.add_offset_gap(partition, first, last)
