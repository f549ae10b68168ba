"""The consumer's story: poll a batch, judge it, record it, acknowledge it; take partitions over as they come.

What may be thrown away at any moment is everything between `poll` and `record`: until the ledger has the batch,
nothing outside this process knows of it. After `record` the batch is safe, acknowledged or not, because recovery asks
the ledger and not the stream what has been done.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import structlog

from usageaudit.errors import Fenced, OutcomeUnknown, RetentionOvertook, StoreUnavailable, StreamUnavailable
from usageaudit.pipeline.activity import Activity, Counts, Position
from usageaudit.pipeline.dropped import dropped_finding
from usageaudit.pipeline.fields import of_batch, of_partition
from usageaudit.pipeline.judging import judge_records
from usageaudit.pipeline.recovery import take_over
from usageaudit.pipeline.rejections import Rejections
from usageaudit.pipeline.setback import Setback

if TYPE_CHECKING:
    from threading import Event

    from usageaudit.pipeline.activity import Reason
    from usageaudit.pipeline.judging import Judged
    from usageaudit.pipeline.policies import InForce, Policies
    from usageaudit.pipeline.recovery import Tenure
    from usageaudit.stores.ledger import Ledger
    from usageaudit.streams.port import Batch, Partition, Stream

log = structlog.get_logger("usageaudit.consumer")

POLL_SECONDS = 0.5
RECLAIM_SECONDS = 60.0
"""How long a fenced consumer leaves a partition alone before it claims back what the group still gives to it."""
UNASSIGNED_SECONDS = 60.0
"""How long a consumer that is to catch up waits for the group to give it a partition."""
SUMMARY_SECONDS = 60.0
"""How often the log says what was done since it last said so."""


class Whereabouts(NamedTuple):
    """The first offset of a partition that is not recorded, and since when it waits; see Position."""

    reached: int
    since: int | None


@dataclass(slots=True)
class _Summary:
    """What had been done when the log last said so, and when that was."""

    counts: Counts = field(default_factory=Counts)
    at: float = field(default_factory=time.monotonic)


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
    activity: Activity = field(default_factory=Activity)
    rejections: Rejections = field(default_factory=Rejections)
    _in_hand: Batch | None = None
    _summary: _Summary = field(default_factory=_Summary)
    _tenures: dict[Partition, Tenure] = field(default_factory=dict)
    _left: dict[Partition, Whereabouts] = field(default_factory=dict)
    _setbacks: dict[Partition, Setback] = field(default_factory=dict)
    _stream_setback: Setback = field(default_factory=Setback)
    _findings_setback: Setback = field(default_factory=Setback)

    def run(self) -> Counts:
        """Consume until `stop` is set."""
        while not self.stop.is_set():
            self.step()
        return self._finish()

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
        return self._finish()

    def step(self) -> None:
        """Take over what was assigned, then poll, judge, record and acknowledge one batch."""
        self.activity.live()
        self._forget_lost()
        self._take_over_assigned()
        self._report_findings()
        self._in_hand = self._poll()
        self._note()
        if self._in_hand is not None:
            self._process(self._in_hand)
        self._in_hand = None
        self._note()
        self._summarize()
        gc.collect()  # the service turned automatic collection off

    def _assigned(self) -> list[Partition] | None:
        """Return the partitions to take over, None where the stream can't tell now."""
        try:
            assigned = self.stream.assigned()
        except StreamUnavailable as error:
            self._wait_for_stream(error)
            return None
        self.activity.waiting = len(assigned)
        return assigned

    def _wait_for_stream(self, error: StreamUnavailable) -> None:
        self.activity.retries["stream"] += 1
        pause = self._stream_setback.grow()
        log.warning("waiting for the stream", cause=str(error), seconds=round(pause, 2))
        self._rest(pause)

    def _finish(self) -> Counts:
        """Report what the last batch found, and return what was done."""
        if self.rejections.unreported:
            self._findings_setback = Setback()
            self._report_findings()
        return self.activity.counts

    def _take_over_assigned(self) -> None:
        """Take over what was assigned, one after another; where one fails, the rest after staying in the group."""
        for partition in self._assigned() or ():
            if self.stop.is_set():
                return
            if self._setback(partition).is_over() and not self._take_over(partition):
                return

    def _forget_lost(self) -> None:
        self._tenures = {at: tenure for at, tenure in self._tenures.items() if self.stream.owns(at)}
        self._setbacks = {at: setback for at, setback in self._setbacks.items() if self.stream.owns(at)}
        self._left = {at: left for at, left in self._left.items() if self.stream.owns(at)}

    def _take_over(self, partition: Partition) -> bool:
        """Tell whether it worked; where it did not, it is tried again later."""
        self._tenures.pop(partition, None)
        self.activity.live()
        try:
            tenure = take_over(partition, self.stream, self.ledger, self.owner)
        except (StoreUnavailable, OutcomeUnknown, StreamUnavailable) as error:
            self.activity.retries["stream" if isinstance(error, StreamUnavailable) else "store"] += 1
            self._give_up(partition, "takeover_failed", "could not take a partition over", str(error))
            return False
        self._left.pop(partition, None)
        self._tenures[partition] = tenure
        self.activity.takeovers += 1
        self.activity.waiting -= 1
        self.activity.findings["offset_gap"] += tenure.gaps
        return True

    def _report_findings(self) -> None:
        """Report what belongs to no batch, whether or not events come; the store may be away, then later."""
        if not self._findings_setback.is_over():
            return
        try:
            self.policies.report_expired(self.ledger)
            while self.rejections.unreported:
                self.ledger.add_finding(self.rejections.unreported[-1])
                self.rejections.unreported.pop()
                self.activity.findings["rejected_share"] += 1
        except (StoreUnavailable, OutcomeUnknown) as error:
            self.activity.retries["store"] += 1
            pause = self._findings_setback.grow()
            log.warning("could not report a finding", cause=str(error), seconds=round(pause, 2))
        else:
            self._findings_setback = Setback()

    def _poll(self) -> Batch | None:
        began = time.perf_counter()
        try:
            batch = self.stream.poll(POLL_SECONDS)
        except RetentionOvertook as gap:
            for partition in [at for at in self._tenures if (at.topic, at.number) == (gap.topic, gap.partition)]:
                self._give_up(partition, "retention", "the stream no longer has what comes next", str(gap))
            return None
        except StreamUnavailable as error:
            self._wait_for_stream(error)
            return None
        self._stream_setback = Setback()
        if batch is not None:
            self.activity.stages["poll"].add(time.perf_counter() - began)
        return batch

    def _process(self, batch: Batch) -> None:
        """Record a batch and acknowledge it, however long the store is away, or give its partition up."""
        partition, waiting = batch.partition, Setback()
        while partition in self._tenures and not self.stop.is_set() and self.stream.owns(partition):
            try:
                self._record(batch, self._tenures[partition])
            except StoreUnavailable as error:
                pause = waiting.grow()
                self.activity.retries["store"] += 1
                log.warning("waiting for the store", **of_batch(batch), cause=str(error), seconds=round(pause, 2))
                self._rest(pause)
            except OutcomeUnknown as error:
                what = "outcome of an insert unknown, reading back"
                return self._give_up(partition, "outcome_unknown", what, str(error))
            except Fenced as error:
                what = "another consumer took the partition over"
                return self._give_up(partition, "fenced", what, str(error), RECLAIM_SECONDS)
            else:
                return self._acknowledge(batch)
        cause = "stopped, or the partition is lost"
        return self._give_up(partition, "left", "a batch was left to the next takeover", cause)

    def _record(self, batch: Batch, tenure: Tenure) -> None:
        """Judge what the ledger does not have yet and write it as one block."""
        records = tenure.missing(batch.records)
        if not records:
            return
        activity = self.activity
        policies = self.policies.current(self.ledger)
        with activity.timing("judge"):
            judged = judge_records(records, policies.judge)
        with activity.timing("look_up"):
            already = self.ledger.accepted(judged.keys)
        if already:
            with activity.timing("judge"):
                judged = judge_records(records, policies.judge, already)
        tenure.number += 1
        with activity.timing("insert"):
            if judged.rejected:
                self.ledger.keep_rejected(batch.partition, judged.rejected)
            for report in judged.dropped:
                self.ledger.add_finding(dropped_finding(report))
            self.ledger.record(judged.block, batch.partition, tenure.epoch, tenure.number, bundle=policies.bundle.hash)
        self._recorded(replace(batch, records=list(records)), judged, tenure, policies)

    def _recorded(self, batch: Batch, judged: Judged, tenure: Tenure, policies: InForce) -> None:
        """Count a batch, and say what became of it."""
        rejected = len(judged.rejected)
        self.activity.count(judged.accepted, judged.duplicates, rejected)
        self.activity.findings["dropped_events"] += len(judged.dropped)
        self.rejections.add(batch.partition, judged.block.rows, rejected)
        place = {**of_batch(batch), "epoch": tenure.epoch, "batch": tenure.number, "bundle": policies.bundle.hash}
        statuses = {"accepted": judged.accepted, "duplicates": judged.duplicates, "rejected": rejected}
        log.debug("batch recorded", **place, **statuses)
        if rejected:
            log.warning("records refused", **place, rejected=rejected, examples=judged.examples)

    def _acknowledge(self, batch: Batch) -> None:
        """Commit the batch; where that fails nothing is lost, since recovery reads the ledger."""
        self._tenures[batch.partition].advance(batch)
        self._setbacks.pop(batch.partition, None)
        try:
            with self.activity.timing("acknowledge"):
                self.stream.acknowledge(batch.partition, batch.next_offset)
        except StreamUnavailable as error:
            self.activity.retries["stream"] += 1
            log.warning("could not acknowledge", **of_batch(batch), cause=str(error))

    def _give_up(
        self, partition: Partition, reason: Reason, what: str, cause: str, seconds: float | None = None
    ) -> None:
        """Throw away what is in memory of a partition; it is taken over again later, if it still belongs here."""
        pause = self._setback(partition).grow(seconds)
        self.activity.given_up[reason] += 1
        tenure = self._tenures.pop(partition, None)
        place = of_partition(partition) if tenure is None else {**of_partition(partition), "epoch": tenure.epoch}
        batch = self._batch_of(partition)
        if batch is not None:
            place |= of_batch(batch)
        log.warning(what, **place, cause=cause, seconds=round(pause, 2))
        self._remember(partition, tenure)
        self.stream.release(partition)

    def _remember(self, partition: Partition, tenure: Tenure | None) -> None:
        """Remember where a partition is until it is taken over again; of one that never was, ask the stream."""
        if tenure is not None:
            self._left[partition] = self._whereabouts(partition, tenure)
        elif partition not in self._left:
            try:
                committed = self.stream.committed(partition)
                reached = self.stream.beginning(partition) if committed is None else committed
            except StreamUnavailable:
                return
            self._left[partition] = Whereabouts(reached, None)

    def _setback(self, partition: Partition) -> Setback:
        return self._setbacks.setdefault(partition, Setback())

    def _rest(self, seconds: float) -> None:
        """Stay in the group without taking in more, but not beyond being told to stop."""
        until = time.monotonic() + seconds
        while not self.stop.is_set() and (left := until - time.monotonic()) > 0:
            self.activity.live()
            self.stream.rest(min(left, POLL_SECONDS))
            self._note()

    def _caught_up(self) -> bool:
        return (
            bool(self._tenures)
            and self._assigned() == []
            and all(tenure.reached >= tenure.target for tenure in self._tenures.values())
        )

    def _note(self) -> None:
        """Let readers see where the partitions are, and how much is refused."""
        owned = {at: self._whereabouts(at, tenure) for at, tenure in self._tenures.items()}
        known = {**self._left, **owned}
        self.activity.positions = tuple(
            Position(at.topic, at.number, one.reached, self._end_of(at), one.since) for at, one in known.items()
        )
        self.activity.owned = len(owned)
        self.activity.connected = self.stream.connected()
        self.activity.rejected_share = self.rejections.share()
        self.activity.alarmed = self.rejections.alarmed()
        self.activity.findings["exception_expired"] = self.policies.reported
        self.activity.findings["exception_expiring"] = self.policies.announced

    def _whereabouts(self, partition: Partition, tenure: Tenure) -> Whereabouts:
        batch = self._batch_of(partition)
        since = batch.records[0].timestamp if batch is not None and batch.records else tenure.recorded
        return Whereabouts(tenure.reached, since)

    def _batch_of(self, partition: Partition) -> Batch | None:
        """Return the batch in hand, if it is of this partition."""
        return self._in_hand if self._in_hand is not None and self._in_hand.partition == partition else None

    def _end_of(self, partition: Partition) -> int | None:
        try:
            return self.stream.highwater(partition)
        except StreamUnavailable:
            return None

    def _summarize(self) -> None:
        """Say now and then what was done since."""
        seconds = time.monotonic() - self._summary.at
        if seconds < SUMMARY_SECONDS:
            return
        counts = self.activity.counts
        done = counts.minus(self._summary.counts)
        self._summary = _Summary(replace(counts))
        lags = [position.lag or 0 for position in self.activity.positions]
        log.info(
            "summary",
            seconds=round(seconds),
            accepted=done.accepted,
            duplicates=done.duplicates,
            rejected=done.rejected,
            batches=done.batches,
            records_per_second=round(done.consumed / seconds, 1),
            partitions=len(lags),
            lag=sum(lags),
        )
