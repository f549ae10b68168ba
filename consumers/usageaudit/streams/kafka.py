"""The stream on Kafka: a member of a consumer group that hands out batches of one partition.

Batches grow with the load. A partition that is caught up is delivered as soon as its first record has waited as long
as the limits allow; one that lags behind is filled up first, since its next records are there to be fetched. While more
than one batch's bytes wait for delivery only the fullest partition is fetched, so memory stays within about two batches
and, with many partitions, batches are still large.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from usageaudit.errors import RetentionOvertook, StreamUnavailable
from usageaudit.streams.buffers import Buffer
from usageaudit.streams.kafka_client import (
    MOST_RECORDS,
    RETRY_SECONDS,
    GroupConsumer,
    NotCommitted,
    OutOfRange,
)
from usageaudit.streams.port import Batch, BatchLimits, Partition

if TYPE_CHECKING:
    from usageaudit.stream_url import KafkaStreamAddress

log = structlog.get_logger("usageaudit.stream")

COMMIT_SECONDS = 10.0
LATER_COMMIT_SECONDS, LATER_COMMIT_EVERY = 0.3, 1.0
"""How long and how often a commit is tried that the group did not take, or no broker."""
FILLING_TIMES = 5
"""How many times longer than the limits' seconds a partition that lags behind may take to fill a batch."""
AWAY_SECONDS = 30.0
"""How long no broker may be connected, or the topic not be there, before it is said, and said again."""
ENDS_SECONDS, ENDS_EVERY = 0.5, 5.0
"""How long and how often the brokers are asked for the ends of partitions that are not fetched, and so say none."""


@dataclass(slots=True)
class _Held:
    """A partition that belongs to this member; without a buffer it has not been started.

    `gap` are the offsets [first, last) that were gone when they were to be fetched, `end` is what the brokers said when
    they were asked while nothing was fetched.
    """

    buffer: Buffer | None = None
    flowing: bool = False
    gap: tuple[int, int] | None = None
    to_commit: int | None = None
    end: int | None = None


@dataclass(slots=True)
class KafkaStream:
    """Reads one topic as a member of a consumer group; see the port for what each call promises.

    Opening raises StreamUnavailable within 15 seconds where no broker answers or the topic does not exist.
    """

    address: KafkaStreamAddress
    limits: BatchLimits = field(default_factory=BatchLimits)
    group: str | None = None
    _member: GroupConsumer = field(init=False)
    _identity: str = field(init=False)
    _held: dict[int, _Held] = field(default_factory=dict)
    _record_bytes: float = 2_048.0
    _filling_since: float | None = None
    _commit_after: float = 0.0
    # Whether one more answer about the old topic may be on its way.
    _recreated: bool = False
    _seen_broker: float = field(default_factory=time.monotonic)
    _seen_topic: float = field(default_factory=time.monotonic)
    _ends_after: float = field(default_factory=lambda: time.monotonic() + ENDS_EVERY)

    def __post_init__(self) -> None:
        self._member = GroupConsumer(self.address, self.group or self.address.group, self.limits)
        self._identity = self._member.identity()

    def poll(self, seconds: float) -> Batch | None:
        """Return the next complete batch, waiting at most so long.

        While the group is rebalanced none is: the client sends no heartbeats then, so the loop must not go away to
        work before this member has joined again.
        """
        until = time.monotonic() + seconds
        wait = 0.0
        while True:
            came = self._fetch(wait)
            now = time.monotonic()
            stable = self._member.stable()
            if stable and (number := self._next_due(now)) is not None:
                return self._deliver(number)
            if came or now >= until:
                return None
            wait = (min(until, self._next_moment(now)) if stable else until) - now

    def assigned(self) -> list[Partition]:
        """Return the partitions of this member that have not been started."""
        return [self._partition(number) for number, held in sorted(self._held.items()) if held.buffer is None]

    def owns(self, partition: Partition) -> bool:
        """Tell whether the partition belongs to this member, started or not, as far as the group has told it."""
        return self._find(partition) is not None and not self._member.membership_lost()

    def committed(self, partition: Partition) -> int | None:
        """Return the group's committed offset; a topic that was recreated has none."""
        return self._member.committed(partition.number) if partition.stream == self._identity else None

    def beginning(self, partition: Partition) -> int:
        """Return the first offset that is there."""
        return self._member.beginning(partition.number)

    def end(self, partition: Partition) -> int:
        """Return the offset of the next record; records of open transactions are not there yet."""
        return self._member.end(partition.number)

    def highwater(self, partition: Partition) -> int | None:
        """Return the later of what the last fetch said and what was asked for while there were no fetches."""
        if (held := self._find(partition)) is None:
            return None
        said = [end for end in (self._member.highwater(partition.number), held.end) if end is not None]
        return max(said, default=None)

    def connected(self) -> bool:
        """Tell whether there is a connection to any broker."""
        return self._member.connected()

    def start(self, partition: Partition, offset: int) -> None:
        """Deliver the partition from an offset on; does nothing where it is lost."""
        if (held := self._find(partition)) is not None:
            self._stop_flow(partition.number, held)
            self._member.seek(partition.number, offset)
            held.buffer, held.gap = Buffer(covered=offset, position=offset), None

    def release(self, partition: Partition) -> None:
        """Stop delivering the partition; it is listed as assigned again."""
        if (held := self._find(partition)) is not None:
            self._stop_flow(partition.number, held)
            held.buffer = held.gap = held.to_commit = None

    def acknowledge(self, partition: Partition, next_offset: int) -> None:
        """Commit an offset; what the group does not take while it is rebalanced is committed afterwards."""
        held = self._find(partition)
        if held is None or held.buffer is None:
            return
        held.to_commit = next_offset
        self._commit(COMMIT_SECONDS)

    def rest(self, seconds: float) -> None:
        """Stay in the group without fetching."""
        until = time.monotonic() + seconds
        for number, held in self._held.items():
            self._stop_flow(number, held)
        while (left := until - time.monotonic()) > 0:
            try:
                self._member.poll(left, MOST_RECORDS)
            except (OutOfRange, StreamUnavailable):
                time.sleep(min(left, RETRY_SECONDS))  # `poll` meets it again, and tells
            finally:
                self._take_changes()
            self._ask_ends(time.monotonic())

    def close(self) -> None:
        """Commit what is still to be committed, if that works at once, and leave the group."""
        try:
            self._commit(LATER_COMMIT_SECONDS)
        except StreamUnavailable as error:
            log.warning("closing without the last commit, which recovery makes up for", cause=str(error))
        self._held.clear()
        self._member.close()

    def _partition(self, number: int) -> Partition:
        return Partition(self._identity, self.address.topic, number)

    def _find(self, partition: Partition) -> _Held | None:
        if partition.stream != self._identity or partition.topic != self.address.topic:
            return None
        return self._held.get(partition.number)

    def _fetch(self, seconds: float) -> bool:
        """Keep up the membership and take in what is there, for at most so long; tell whether partitions came."""
        self._commit_later()
        self._regulate()
        fetched = {}
        came = False
        try:
            fetched = self._member.poll(seconds, self._most_records())
        except OutOfRange as out:
            self._note_gap(out)
        except StreamUnavailable:
            # Where the topic was recreated the position of the old one looks as if records had been lost.
            self._member.refresh()
            if self._member.identity() == self._identity and not self._recreated:
                raise
            self._recreated = False
        finally:
            came = self._take_changes()
        now = time.monotonic()
        for number, records in fetched.items():
            held = self._held.get(number)
            if held is not None and held.buffer is not None:
                before = held.buffer.bytes
                held.buffer.add(records, now)
                self._record_bytes = max((held.buffer.bytes - before) / len(records), 1.0)
        if not fetched:
            self._note_progress(now)
        self._watch_brokers(now)
        self._ask_ends(now)
        return came

    def _regulate(self) -> None:
        """Let those partitions flow that have room; where much is waiting, only the fullest, so that it gets full."""
        room = {
            number: held.buffer
            for number, held in self._held.items()
            if held.buffer is not None and held.gap is None and not held.buffer.full(self.limits)
        }
        if room and sum(held.buffer.memory for held in self._held.values() if held.buffer) >= self.limits.bytes:
            fullest = max(room, key=lambda number: room[number].memory)
            room = {fullest: room[fullest]}
        for number, held in self._held.items():
            if number not in room:
                self._stop_flow(number, held)
            elif not held.flowing:
                self._member.resume([number])
                held.flowing = True

    def _stop_flow(self, number: int, held: _Held) -> None:
        if held.flowing:
            self._member.pause([number])
            held.flowing = False

    def _most_records(self) -> int:
        """Return how many records to unpack at once: about an eighth of a batch's bytes."""
        return min(max(int(self.limits.bytes / 8 / self._record_bytes), 1), MOST_RECORDS)

    def _take_changes(self) -> bool:
        """Follow what the group decided; tell whether partitions came.

        New ones are paused and wait for `start`, lost ones are forgotten.
        """
        came: set[int] = set()
        for kind, numbers in self._member.changes():
            for number in numbers:
                self._held.pop(number, None)
                came.discard(number)
            if kind == "assigned":
                came.update(numbers)
                self._held.update({number: _Held() for number in numbers})
            log.info("the group moved partitions", change=kind, topic=self.address.topic, partitions=list(numbers))
        for number in came:
            self._member.seek(number, 0)  # any position will do while it is paused; without one, polling raises
        if (identity := self._member.identity()) != self._identity:
            self._start_anew(identity)
        return bool(came)

    def _start_anew(self, identity: str) -> None:
        """Take every partition as newly assigned: a topic of the same name is another stream."""
        log.warning("the topic was deleted and created again", topic=self.address.topic, before=self._identity)
        self._identity = identity
        self._recreated = True
        for number, held in self._held.items():
            self._stop_flow(number, held)
            self._held[number] = _Held()
            self._member.seek(number, 0)  # the old topic's position would look as if records had been lost

    def _note_gap(self, out: OutOfRange) -> None:
        """Remember that records are gone, to be told after those that were fetched before them."""
        beginning = self._member.beginning(out.number)
        held = self._held.get(out.number)
        if out.offset < beginning:
            if held is not None:
                held.gap = out.offset, beginning
            return
        self._member.refresh()
        if self._member.identity() == self._identity:
            raise StreamUnavailable(
                f"{self._partition(out.number)} at {self.address} ends before offset {out.offset}, which was read "
                "already: the brokers lost records; offsets are used a second time, so read on from a new topic"
            )

    def _note_progress(self, now: float) -> None:
        """Note where fetching went on over control records alone, so that all of a partition can be acknowledged."""
        for number, held in self._held.items():
            if held.buffer is not None and held.flowing:
                held.buffer.advance(self._member.position(number), now)

    def _next_due(self, now: float) -> int | None:
        """Return the partition that was served longest ago, of those that have a complete batch.

        Raises RetentionOvertook for a partition of which everything before the gap was delivered.
        """
        if self._filling_since is None:
            self._filling_since = now
        due: dict[int, float] = {}
        for number, held in self._held.items():
            if held.buffer is None:
                continue
            if not held.buffer.pending and held.gap is not None:
                raise RetentionOvertook(self.address.topic, number, *held.gap)
            if held.buffer.pending and self._is_due(number, held, held.buffer, now):
                due[number] = held.buffer.served
        return min(due, key=lambda number: due[number], default=None)

    def _is_due(self, number: int, held: _Held, buffer: Buffer, now: float) -> bool:
        if buffer.full(self.limits) or held.gap is not None:
            return True
        if now < buffer.since + self.limits.seconds:
            return False
        return now >= self._filled_until() or self._member.caught_up(number)

    def _filled_until(self) -> float:
        return (self._filling_since or 0.0) + FILLING_TIMES * self.limits.seconds

    def _next_moment(self, now: float) -> float:
        """Return when the next batch becomes due, if nothing more is fetched."""
        waiting = [held.buffer.since for held in self._held.values() if held.buffer is not None and held.buffer.pending]
        if not waiting:
            return float("inf")
        moment = min(waiting) + self.limits.seconds
        return moment if moment > now else max(self._filled_until(), now)

    def _deliver(self, number: int) -> Batch | None:
        held = self._held[number]
        if held.buffer is None:
            return None
        now = time.monotonic()
        held.buffer.advance(self._member.position(number), now)
        records, next_offset = held.buffer.cut(self.limits, now)
        self._filling_since = None
        return Batch(self._partition(number), records, next_offset)

    def _commit(self, seconds: float) -> None:
        """Commit what has been acknowledged; keep for later what the group does not take now."""
        offsets = {number: held.to_commit for number, held in self._held.items() if held.to_commit is not None}
        if not offsets:
            return
        self._commit_after = time.monotonic() + LATER_COMMIT_EVERY
        try:
            self._member.commit(offsets, seconds)
        except NotCommitted:
            log.debug("the group takes no commits while it is rebalanced", offsets=offsets)
            return
        for number, offset in offsets.items():
            if self._held[number].to_commit == offset:
                self._held[number].to_commit = None

    def _commit_later(self) -> None:
        if time.monotonic() >= self._commit_after and self._member.stable() and self._member.connected():
            try:
                self._commit(LATER_COMMIT_SECONDS)
            except StreamUnavailable as error:
                log.debug("commit failed, trying again", cause=str(error))

    def _ask_ends(self, now: float) -> None:
        """Ask now and then for the ends of partitions that are held back, so that it is known how far behind they are.

        It has a time limit well below the session's: heartbeats are not sent while it is waited for.
        """
        still = [number for number, held in self._held.items() if not held.flowing]
        if now < self._ends_after or not still or not self._member.connected():
            return
        self._ends_after = now + ENDS_EVERY
        for number, end in self._member.ends(still, ENDS_SECONDS).items():
            self._held[number].end = end

    def _watch_brokers(self, now: float) -> None:
        if self._member.connected():
            self._seen_broker = now
            self._watch_topic(now)
        elif now - self._seen_broker >= AWAY_SECONDS:
            self._seen_broker = now
            cause = self._member.why_away()
            log.warning("no broker is connected, still trying", stream=str(self.address), cause=cause)

    def _watch_topic(self, now: float) -> None:
        if self._member.has_topic():
            self._seen_topic = now
        elif now - self._seen_topic >= AWAY_SECONDS:
            self._seen_topic = now
            log.warning(
                "the topic is gone, or this login may see it no longer; waiting for it to come back",
                stream=str(self.address),
                topic=self.address.topic,
            )
