"""What a consumer did and how it is: plain values that its loop writes, once a batch, and that any thread may read.

A reader may see one value of a batch and not yet the other, but never half of one: numbers and tuples are replaced
whole, and the keys of the mappings are there from the start.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Stage = Literal["poll", "judge", "look_up", "insert", "acknowledge"]
    Reason = Literal["fenced", "outcome_unknown", "retention", "takeover_failed", "left"]
    Server = Literal["store", "stream"]
    FindingKind = Literal["offset_gap", "exception_expiring", "exception_expired", "rejected_share", "dropped_events"]

STAGES: tuple[Stage, ...] = ("poll", "judge", "look_up", "insert", "acknowledge")
REASONS: tuple[Reason, ...] = ("fenced", "outcome_unknown", "retention", "takeover_failed", "left")
SERVERS: tuple[Server, ...] = ("store", "stream")
FINDING_KINDS: tuple[FindingKind, ...] = (
    *("offset_gap", "exception_expiring", "exception_expired", "rejected_share", "dropped_events"),
)
RECORD_BOUNDS = (1, 10, 100, 1_000, 5_000, 10_000, 20_000, 50_000, 200_000)
SECOND_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


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

    def minus(self, before: Counts) -> Counts:
        """Return what came since."""
        return Counts(
            self.accepted - before.accepted,
            self.duplicates - before.duplicates,
            self.rejected - before.rejected,
            self.batches - before.batches,
        )


@dataclass(slots=True)
class Distribution:
    """How many values were at most each bound and above the one before it, those above the last, and their sum."""

    bounds: Sequence[float]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Position(NamedTuple):
    """Where a partition is: the first offset not recorded, its end as last heard, and since when it waits.

    `since` is the time of the oldest record that is not recorded, or of the last one recorded where that one was not
    read yet; in milliseconds since 1970, None where none was read.
    """

    topic: str
    number: int
    reached: int
    end: int | None
    since: int | None

    @property
    def lag(self) -> int | None:
        """Offsets that are not recorded, None where the end was not heard yet."""
        return None if self.end is None else max(self.end - self.reached, 0)


@dataclass(slots=True)
class Activity:
    """What one consumer did since it started, and its state; `beat` is when it last gave a sign of life.

    `beat` is None before the first step of the loop, and monotonic. `owned` is how many partitions it has taken over,
    `waiting` how many more the group gives to it, `connected` whether the stream is there.
    """

    counts: Counts = field(default_factory=Counts)
    batch_records: Distribution = field(default_factory=lambda: Distribution(RECORD_BOUNDS))
    stages: dict[Stage, Distribution] = field(
        default_factory=lambda: {stage: Distribution(SECOND_BOUNDS) for stage in STAGES}
    )
    given_up: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    retries: dict[Server, int] = field(default_factory=lambda: dict.fromkeys(SERVERS, 0))
    findings: dict[FindingKind, int] = field(default_factory=lambda: dict.fromkeys(FINDING_KINDS, 0))
    takeovers: int = 0
    positions: tuple[Position, ...] = ()
    owned: int = 0
    waiting: int = 0
    connected: bool = False
    rejected_share: float = 0.0
    alarmed: bool = False
    beat: float | None = None

    def live(self) -> None:
        """Give a sign of life."""
        self.beat = time.monotonic()

    @contextmanager
    def timing(self, stage: Stage) -> Iterator[None]:
        """Measure a stage of a batch that succeeds."""
        self.live()
        began = time.perf_counter()
        yield
        self.stages[stage].add(time.perf_counter() - began)

    def count(self, accepted: int, duplicates: int, rejected: int) -> None:
        """Count a recorded batch."""
        counts = self.counts
        counts.accepted += accepted
        counts.duplicates += duplicates
        counts.rejected += rejected
        counts.batches += 1
        self.batch_records.add(accepted + duplicates + rejected)
