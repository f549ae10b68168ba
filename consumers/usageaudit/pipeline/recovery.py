"""Taking a partition over: fence whoever wrote it before, then ask the ledger what is still missing.

The same story is told on start, on assignment and after a write whose outcome is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from usageaudit.pipeline.fields import of_partition

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from usageaudit.stores.ledger import Ledger, Offsets
    from usageaudit.streams.port import Batch, Partition, Record, Stream

log = structlog.get_logger("usageaudit.consumer")


@dataclass(slots=True)
class Tenure:
    """One owner's time with a partition.

    `epoch` is its number, `present` the offsets that were recorded before it, `target` the end of the partition when
    it began, `reached` how far it has come, `gaps` how many it found, `number` that of its last batch, `recorded` the
    time of the last record of that, in milliseconds since 1970.
    """

    epoch: int
    present: Offsets
    target: int
    reached: int
    gaps: int = 0
    number: int = 0
    recorded: int | None = None

    def advance(self, batch: Batch) -> None:
        """Note that a batch is in the ledger."""
        self.reached = batch.next_offset
        if batch.records:
            self.recorded = batch.records[-1].timestamp

    def missing(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return the records that the ledger does not have."""
        if not self.present or not records or records[0].offset > self.present.last:
            return records
        return [record for record in records if record.offset not in self.present]


def take_over(partition: Partition, stream: Stream, ledger: Ledger, owner: str) -> Tenure:
    """Fence the old owner, read back what it recorded, and let the stream deliver from the first missing record."""
    epoch = ledger.fence(partition, owner)
    beginning, committed = stream.beginning(partition), stream.committed(partition)
    recorded = ledger.end(partition, near=None if committed is None else committed - 1)
    wanted = _wanted(partition, beginning, committed, recorded)
    present = ledger.present(partition, min(wanted, beginning))
    gaps = _report_gaps(partition, present.gaps(wanted, beginning), committed or 0, ledger)
    # Who never acknowledged may have holes in what the ledger has, so all that is there is read again.
    start = beginning if committed is None else max(wanted, beginning)
    tenure = Tenure(epoch, present, target=stream.end(partition), reached=start, gaps=gaps)
    stream.start(partition, start)
    log.info(
        "partition taken over",
        **of_partition(partition),
        epoch=epoch,
        first=start,
        end=tenure.target,
        present=len(present),
    )
    return tenure


def _wanted(partition: Partition, beginning: int, committed: int | None, recorded: int | None) -> int:
    """Return the first offset that may be missing: the committed one, or the ledger's end where that comes first."""
    if committed is None:
        return beginning if recorded is None else recorded
    if recorded is not None and recorded >= committed:
        return committed
    log.warning(
        "the ledger ends before the committed offset: reading on from the ledger's end",
        **of_partition(partition),
        committed=committed,
        ledger_end=recorded,
    )
    return beginning if recorded is None else recorded


def _report_gaps(partition: Partition, gaps: Iterable[tuple[int, int]], committed: int, ledger: Ledger) -> int:
    """Record which offsets are gone from the stream and were never recorded: findings, never a silent skip.

    Returns how many findings that were.
    """
    found = 0
    for first, end in gaps:
        between = min(max(first, committed), end)
        for low, high, acknowledged in ((first, between, True), (between, end, False)):
            if low < high:
                log.error(
                    "records are gone from the stream; keep them longer than the consumer may stop",
                    **of_partition(partition),
                    first=low,
                    last=high - 1,
                    acknowledged=acknowledged,
                )
                ledger.add_offset_gap(partition, low, high, acknowledged=acknowledged)
                found += 1
    return found
