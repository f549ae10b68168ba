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
from usageaudit.pipeline.recovery import take_over

if TYPE_CHECKING:
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
"""How long a consumer that is to catch up waits for the group to give it a partition."""
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
class Setback:
    """How long to wait after failures in a row: longer after each, with jitter."""

    times: int = 0
    until: float = 0.0

    def grow(self, seconds: float | None = None) -> float:
        """Note another failure; return for how many seconds to wait, `seconds` where the wait is given."""
        pause = min(FIRST_PAUSE * 2.0**self.times, LONGEST_PAUSE) * random.uniform(0.5, 1.0)  # noqa: S311  jitter
        pause = pause if seconds is None else seconds
        self.times += 1
        self.until = time.monotonic() + pause
        return pause

    def is_over(self) -> bool:
        """Tell whether the wait after the last failure is over."""
        return time.monotonic() >= self.until


@dataclass(slots=True)
class Consumer:
    """Records every stream record exactly once, judged, until told to stop.

    A partition is started by taking it over. Whatever goes wrong with a batch that is not plainly "nothing was done",
    the partition is given up: what was not recorded is delivered again after the next takeover.
    """

    stream: Stream
    ledger: Ledger
    policies: Policies
    owner: str
    stop: Event
    counts: Counts = field(default_factory=Counts)
    _tenures: dict[Partition, Tenure] = field(default_factory=dict)
    _setbacks: dict[Partition, Setback] = field(default_factory=dict)
    _stream_setback: Setback = field(default_factory=Setback)
    _expiry_setback: Setback = field(default_factory=Setback)

    def run(self) -> Counts:
        """Consume until `stop` is set."""
        while not self.stop.is_set():
            self.step()
        return self.counts

    def run_until_caught_up(self) -> Counts:
        """Consume up to the offsets that were the end of the partitions when they were taken over.

        Ends, too, where the group leaves this consumer without any partition for a minute: others have them all.
        """
        patience = time.monotonic() + UNASSIGNED_SECONDS
        while not self.stop.is_set() and not self._caught_up():
            if self._tenures or self._assigned() != []:
                patience = time.monotonic() + UNASSIGNED_SECONDS
            elif time.monotonic() > patience:
                log.warning("no partition was assigned: other members of the group have them all")
                break
            self.step()
        return self.counts

    def step(self) -> None:
        """Take over what was assigned, then poll, judge, record and acknowledge one batch."""
        self._forget_lost()
        for partition in self._assigned() or ():
            if self._setback(partition).is_over():
                self._take_over(partition)
        self._report_expired()
        batch = self._poll()
        if batch is not None:
            self._process(batch)
        del batch
        gc.collect()  # the service turned automatic collection off

    def _assigned(self) -> list[Partition] | None:
        """Return the partitions to take over, None where the stream can't tell now."""
        try:
            return self.stream.assigned()
        except StreamUnavailable as error:
            self._wait_for_stream(error)
            return None

    def _wait_for_stream(self, error: StreamUnavailable) -> None:
        pause = self._stream_setback.grow()
        log.warning("waiting for the stream", cause=str(error), seconds=round(pause, 2))
        self._rest(pause)

    def _forget_lost(self) -> None:
        self._tenures = {at: tenure for at, tenure in self._tenures.items() if self.stream.owns(at)}
        self._setbacks = {at: setback for at, setback in self._setbacks.items() if self.stream.owns(at)}

    def _take_over(self, partition: Partition) -> None:
        self._tenures.pop(partition, None)
        try:
            self._tenures[partition] = take_over(partition, self.stream, self.ledger, self.owner)
        except (StoreUnavailable, OutcomeUnknown, StreamUnavailable) as error:
            self._give_up(partition, "could not take a partition over", str(error))

    def _report_expired(self) -> None:
        """Report exceptions that have expired, whether or not events come; the store may be away, then later."""
        if not self._expiry_setback.is_over():
            return
        try:
            self.policies.report_expired(self.ledger)
        except (StoreUnavailable, OutcomeUnknown) as error:
            pause = self._expiry_setback.grow()
            log.warning("could not report an expired exception", cause=str(error), seconds=round(pause, 2))
        else:
            self._expiry_setback = Setback()

    def _poll(self) -> Batch | None:
        try:
            batch = self.stream.poll(POLL_SECONDS)
        except RetentionOvertook as gap:
            for partition in [at for at in self._tenures if (at.topic, at.number) == (gap.topic, gap.partition)]:
                self._give_up(partition, "the stream no longer has what comes next", str(gap))
            return None
        except StreamUnavailable as error:
            self._wait_for_stream(error)
            return None
        self._stream_setback = Setback()
        return batch

    def _process(self, batch: Batch) -> None:
        """Record a batch and acknowledge it, however long the store is away, or give its partition up."""
        partition, waiting = batch.partition, Setback()
        while partition in self._tenures and not self.stop.is_set() and self.stream.owns(partition):
            try:
                self._record(batch, self._tenures[partition])
            except StoreUnavailable as error:
                pause = waiting.grow()
                log.warning("waiting for the store", cause=str(error), seconds=round(pause, 2))
                self._rest(pause)
            except OutcomeUnknown as error:
                return self._give_up(partition, "outcome of an insert unknown, reading back", str(error))
            except Fenced as error:
                return self._give_up(partition, "another consumer took the partition over", str(error), RECLAIM_SECONDS)
            else:
                return self._acknowledge(batch)
        return self._give_up(partition, "a batch was left to the next takeover", "stopped, or the partition is lost")

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
        self._setbacks.pop(batch.partition, None)
        try:
            self.stream.acknowledge(batch.partition, batch.next_offset)
        except StreamUnavailable as error:
            log.warning("could not acknowledge", partition=str(batch.partition), cause=str(error))

    def _give_up(self, partition: Partition, what: str, cause: str, seconds: float | None = None) -> None:
        """Throw away what is in memory of a partition; it is taken over again later, if it still belongs here."""
        pause = self._setback(partition).grow(seconds)
        log.warning(what, partition=str(partition), cause=cause, seconds=round(pause, 2))
        self._tenures.pop(partition, None)
        self.stream.release(partition)

    def _setback(self, partition: Partition) -> Setback:
        return self._setbacks.setdefault(partition, Setback())

    def _rest(self, seconds: float) -> None:
        """Stay in the group without taking in more, but not beyond being told to stop."""
        until = time.monotonic() + seconds
        while not self.stop.is_set() and (left := until - time.monotonic()) > 0:
            self.stream.rest(min(left, POLL_SECONDS))

    def _caught_up(self) -> bool:
        return (
            bool(self._tenures)
            and self._assigned() == []
            and all(tenure.reached >= tenure.target for tenure in self._tenures.values())
        )

    def _alarm(self, partition: Partition, judged: Judged) -> None:
        refused = len(judged.rejected)
        if judged.block.rows >= ALARMING_RECORDS and refused > ALARMING_SHARE * judged.block.rows:
            log.error(
                "most records are refused; see `usageaudit rejects list`",
                partition=str(partition),
                rejected=refused,
                records=judged.block.rows,
            )
