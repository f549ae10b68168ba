"""The consumer's story: poll a batch, judge it, record it, acknowledge it; take partitions over as they come.

What may be thrown away at any moment is everything between `poll` and `record`: until the ledger has the batch,
nothing outside this process knows of it. After `record` the batch is safe, acknowledged or not, because recovery asks
the ledger and not the stream what has been done.
"""

from __future__ import annotations

import gc
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from usageaudit.errors import Fenced, OutcomeUnknown, RetentionOvertook, StoreUnavailable, StreamUnavailable
from usageaudit.pipeline.judging import judge_records
from usageaudit.pipeline.recovery import report_gap, take_over

if TYPE_CHECKING:
    from collections.abc import Iterator
    from threading import Event

    from usageaudit.pipeline.judging import Judged
    from usageaudit.pipeline.policies import Policies
    from usageaudit.pipeline.recovery import Tenure
    from usageaudit.stores.ledger import Ledger
    from usageaudit.streams.port import Batch, Partition, Stream

log = structlog.get_logger("usageaudit.consumer")

POLL_SECONDS = 0.5
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 15.0
RECLAIM_SECONDS = 60.0
"""How long a fenced consumer leaves a partition alone before it claims back what the group still gives to it."""
UNASSIGNED_SECONDS = 60.0
ALARMING_SHARE, ALARMING_RECORDS = 0.5, 100
"""More than this share refused of a batch of so many records is worth an alarm: a broken producer, usually."""


@dataclass(slots=True)
class Counts:
    """What a consumer did since it started: records by status, and batches."""

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    batches: int = 0

    @property
    def consumed(self) -> int:
        """Records of any status."""
        return self.accepted + self.duplicates + self.rejected

    def add(self, judged: Judged) -> None:
        """Count a recorded batch."""
        self.accepted += judged.accepted
        self.duplicates += judged.duplicates
        self.rejected += len(judged.rejected)
        self.batches += 1


@dataclass(slots=True)
class Consumer:
    """Records every stream record exactly once, judged, until told to stop."""

    stream: Stream
    ledger: Ledger
    policies: Policies
    owner: str
    stop: Event
    counts: Counts = field(default_factory=Counts)
    _tenures: dict[Partition, Tenure] = field(default_factory=dict)
    _reclaim_at: dict[Partition, float] = field(default_factory=dict)

    def run(self) -> Counts:
        """Consume until `stop` is set."""
        while not self.stop.is_set():
            self.step()
        return self.counts

    def run_until_caught_up(self) -> Counts:
        """Consume up to the offsets that were the end of the partitions when they were taken over.

        Ends, too, where the group gives this consumer no partition for a minute: other members have them all.
        """
        patience = time.monotonic() + UNASSIGNED_SECONDS
        while not self.stop.is_set() and not self._caught_up():
            if not self._tenures and time.monotonic() > patience:
                log.warning("no partition was assigned: other members of the group have them all")
                break
            self.step()
        return self.counts

    def step(self) -> None:
        """Take over what was assigned, then poll, judge, record and acknowledge one batch."""
        for partition in self.stream.assigned():
            if self._reclaim_at.get(partition, 0.0) <= time.monotonic():
                self._recover(partition)
        batch = self._poll()
        if batch is not None and batch.partition in self._tenures:
            self._process(batch)
        del batch
        gc.collect()  # the service turned automatic collection off

    def _poll(self) -> Batch | None:
        try:
            return self.stream.poll(POLL_SECONDS)
        except RetentionOvertook as gap:
            self._skip_gap(gap)
        except StreamUnavailable as error:
            log.warning("waiting for the stream", cause=str(error))
            self.stop.wait(FIRST_PAUSE)
        return None

    def _skip_gap(self, gap: RetentionOvertook) -> None:
        for partition in [p for p in self._tenures if (p.topic, p.number) == (gap.topic, gap.partition)]:
            report_gap(partition, gap.first, gap.last, self.ledger)
            self.stream.start(partition, gap.last)

    def _process(self, batch: Batch) -> None:
        """Record a batch and acknowledge it, however long the store is away, or leave it to recovery."""
        partition = batch.partition
        for pause in self._while_owned(partition):
            try:
                self._record(batch, self._tenures[partition])
            except StoreUnavailable as error:
                log.warning("waiting for the store", cause=str(error), seconds=round(pause, 2))
                continue
            except OutcomeUnknown as error:
                log.warning("outcome of an insert unknown, reading back", partition=str(partition), cause=str(error))
                return self._recover(partition)
            except Fenced:
                return self._let_go(partition)
            return self._acknowledge(batch)
        return None

    def _record(self, batch: Batch, tenure: Tenure) -> None:
        """Judge what the ledger does not have yet and write it as one block."""
        records = tenure.missing(batch.records)
        if not records:
            return
        policies = self.policies.current(self.ledger)
        judged = judge_records(records, policies.judge)
        if already := self.ledger.accepted(judged.keys):
            judged = judge_records(records, policies.judge, already)
        if judged.rejected:
            self.ledger.keep_rejected(batch.partition, judged.rejected)
        tenure.number += 1
        self.ledger.record(judged.block, batch.partition, tenure.epoch, tenure.number, bundle=policies.bundle.hash)
        self.counts.add(judged)
        self._alarm(batch.partition, judged)

    def _acknowledge(self, batch: Batch) -> None:
        """Commit the batch; where that fails nothing is lost, since recovery reads the ledger."""
        self._tenures[batch.partition].reached = batch.next_offset
        try:
            self.stream.acknowledge(batch.partition, batch.next_offset)
        except StreamUnavailable as error:
            log.warning("could not acknowledge", partition=str(batch.partition), cause=str(error))

    def _recover(self, partition: Partition) -> None:
        """Take a partition over, however long the store is away, unless it goes to somebody else meanwhile."""
        self._tenures.pop(partition, None)
        self._reclaim_at.pop(partition, None)
        for pause in self._while_owned(partition):
            try:
                self._tenures[partition] = take_over(partition, self.stream, self.ledger, self.owner)
            except (StoreUnavailable, OutcomeUnknown, StreamUnavailable) as error:
                log.warning("waiting to take over", partition=str(partition), cause=str(error), seconds=round(pause, 2))
            else:
                return

    def _let_go(self, partition: Partition) -> None:
        """Another owner fenced this one: leave the partition to it, and look again later."""
        log.warning("fenced: another consumer took the partition over", partition=str(partition))
        self._tenures.pop(partition, None)
        self._reclaim_at[partition] = time.monotonic() + RECLAIM_SECONDS
        self.stream.release(partition)

    def _while_owned(self, partition: Partition) -> Iterator[float]:
        """Yield the pause that follows a failure, again and again while the partition is ours and nobody says stop."""
        pause = FIRST_PAUSE
        while not self.stop.is_set() and self.stream.owns(partition):
            yield pause
            until = time.monotonic() + pause * random.uniform(0.5, 1.0)  # noqa: S311  jitter
            while not self.stop.is_set() and (left := until - time.monotonic()) > 0:
                self.stream.rest(min(left, POLL_SECONDS))
            pause = min(2 * pause, LONGEST_PAUSE)

    def _caught_up(self) -> bool:
        tenures = [tenure for partition, tenure in self._tenures.items() if self.stream.owns(partition)]
        return bool(tenures) and not self.stream.assigned() and all(t.reached >= t.target for t in tenures)

    def _alarm(self, partition: Partition, judged: Judged) -> None:
        refused = len(judged.rejected)
        if judged.block.rows >= ALARMING_RECORDS and refused > ALARMING_SHARE * judged.block.rows:
            log.error(
                "most records are refused; see `usageaudit rejects list`",
                partition=str(partition),
                rejected=refused,
                records=judged.block.rows,
            )
