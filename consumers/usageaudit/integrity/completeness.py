"""Compares the ledger with the stream, partition by partition, and with what publishers said they sent."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from usageaudit.stores.queries import named_queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usageaudit.stores.port import Store
    from usageaudit.streams.inspection import Bounds, Inspection

Kind = Literal[
    "repeated_offsets",
    "unknown_status",
    "missing_records",
    "dropped_by_stream",
    "not_recorded_yet",
    "stream_ends_before_ledger",
    "publisher_gap",
    "accepted_twice",
    "conflicting_duplicate",
]

_PARTITIONS = """SELECT stream, topic, partition, count(), countIf(status = 'accepted'), countIf(status = 'duplicate'),
    countIf(status = 'rejected'), min(offset), max(offset), uniqExact(offset)
FROM stream_records GROUP BY stream, topic, partition ORDER BY topic, partition, stream"""
_HOLES = """SELECT first, last FROM (
    SELECT offset + 1 AS first, leadInFrame(offset, 1, offset + 1) OVER (
        ORDER BY offset ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING) - 1 AS last
    FROM (SELECT DISTINCT offset FROM stream_records
        WHERE stream = {stream:String} AND topic = {topic:String} AND partition = {partition:UInt32})
) WHERE last >= first ORDER BY first LIMIT 1000"""
_GAPS = "SELECT DISTINCT group_key FROM findings WHERE kind = 'offset_gap'"
_TWICE = """SELECT event_source, event_id, count(), uniqExact(event_time) FROM usage_events
GROUP BY event_source, event_id HAVING count() > 1 ORDER BY event_source, event_id LIMIT 1000"""
_RETRY_SECONDS = 0.2
_LOOK_AT = 1000


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it should be: what kind, where, and what it means or what to do."""

    kind: Kind
    where: str
    message: str


@dataclass(frozen=True, slots=True)
class PartitionReport:
    """The count of one partition: consumed = accepted + duplicate + rejected, and its offsets against the stream's.

    `stream_end` is None where the stream is not there any more. `missing` counts the offsets between the first and the
    last that no row has; `explained` how many of those hold no record or were dropped by the stream.
    """

    stream: str
    topic: str
    partition: int
    consumed: int = 0
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    first_offset: int | None = None
    last_offset: int | None = None
    distinct_offsets: int = 0
    missing: int = 0
    explained: int = 0
    stream_end: int | None = None
    behind: int = 0

    @property
    def name(self) -> str:
        """The partition as messages name it."""
        return f"{self.topic}[{self.partition}]"

    @property
    def next_offset(self) -> int | None:
        """The offset after the last one recorded."""
        return None if self.last_offset is None else self.last_offset + 1


@dataclass(frozen=True, slots=True)
class Completeness:
    """What was counted and what is wrong."""

    partitions: Sequence[PartitionReport]
    problems: Sequence[Problem]


def verify(store: Store, stream: Inspection, wait: float = 0.0) -> Completeness:
    """Compare the ledger with the stream.

    A running consumer may be a moment behind: where rows are lacking at the end of a partition they are waited for, for
    so many seconds, up to the end that the stream had at the beginning. Raises StoreUnavailable, StreamUnavailable.
    """
    bounds = stream.bounds()
    until = time.monotonic() + wait
    reports = _reports(store, stream, bounds)
    while any(one.behind for one in reports) and time.monotonic() < until:
        time.sleep(_RETRY_SECONDS)
        reports = _reports(store, stream, bounds)
    reports = [_without_control_records(one, stream) for one in reports]
    gaps = [str(key) for (key,) in store.execute(_GAPS).rows]
    problems: list[Problem] = []
    explained: list[PartitionReport] = []
    for report in reports:
        held = next(
            (one for one in bounds if report.stream == stream.identity and one.number == report.partition), None
        )
        count, found = _explain_holes(report, held, gaps, store, stream)
        explained.append(replace(report, explained=count))
        problems += [*found, *_partition_problems(report)]
    return Completeness(explained, [*problems, *_publisher_gaps(store), *_twice(store)])


def _reports(store: Store, stream: Inspection, bounds: Sequence[Bounds]) -> list[PartitionReport]:
    reports = [_report(row) for row in store.execute(_PARTITIONS).rows]
    here = {one.partition: one for one in reports if (one.stream, one.topic) == (stream.identity, stream.topic)}
    elsewhere = [one for one in reports if (one.stream, one.topic) != (stream.identity, stream.topic)]
    current = [
        _against(here.get(one.number, PartitionReport(stream.identity, stream.topic, one.number)), one)
        for one in bounds
    ]
    gone = [report for number, report in here.items() if all(one.number != number for one in bounds)]
    return [*current, *gone, *elsewhere]


def _report(row: Sequence[Any]) -> PartitionReport:
    stream, topic, *numbers = row
    partition, consumed, accepted, duplicate, rejected, first, last, distinct = map(int, numbers)
    missing = last - first + 1 - distinct
    return PartitionReport(
        str(stream), str(topic), partition, consumed, accepted, duplicate, rejected, first, last, distinct, missing
    )


def _against(report: PartitionReport, bounds: Bounds) -> PartitionReport:
    """Compare with the stream: what lies behind the last row and is still there has not been recorded."""
    start = bounds.begin if report.next_offset is None else max(report.next_offset, bounds.begin)
    return replace(report, stream_end=bounds.end, behind=max(0, bounds.end - start))


def _without_control_records(report: PartitionReport, stream: Inspection) -> PartitionReport:
    """Count anew what lies behind the last row: Kafka's transactions end in offsets that hold no record."""
    if report.stream_end is None or not 0 < report.behind <= _LOOK_AT:
        return report
    there = stream.records(report.partition, report.stream_end - report.behind, report.stream_end - 1)
    return replace(report, behind=len(there))


def _partition_problems(report: PartitionReport) -> list[Problem]:
    problems = []
    if report.distinct_offsets != report.consumed:
        twice = report.consumed - report.distinct_offsets
        problems.append(
            Problem("repeated_offsets", report.name, f"{twice:,} rows repeat an offset that has one already")
        )
    if report.consumed != report.accepted + report.duplicate + report.rejected:
        problems.append(Problem("unknown_status", report.name, "rows are neither accepted, duplicate nor rejected"))
    if report.behind:
        problems.append(
            Problem(
                "not_recorded_yet",
                report.name,
                f"{report.behind:,} records of the stream are not in the record yet: is a consumer running?",
            )
        )
    if report.stream_end is not None and (report.next_offset or 0) > report.stream_end:
        problems.append(
            Problem(
                "stream_ends_before_ledger",
                report.name,
                f"the stream ends at {report.stream_end:,} and the record at {report.next_offset:,}: the stream lost "
                "records that were recorded, or is another one",
            )
        )
    return problems


def _explain_holes(
    report: PartitionReport, bounds: Bounds | None, gaps: Sequence[str], store: Store, stream: Inspection
) -> tuple[int, list[Problem]]:
    """Return how many missing offsets hold no record, and the problems of the others."""
    if not report.missing:
        return 0, []
    place = {"stream": report.stream, "topic": report.topic, "partition": report.partition}
    explained = 0
    problems: list[Problem] = []
    for first, last in store.execute(_HOLES, place).rows:
        problem = _explain(report, int(first), int(last), bounds, gaps, stream)
        if problem is None:
            explained += int(last) - int(first) + 1
        else:
            problems.append(problem)
    return explained, problems


def _explain(
    report: PartitionReport, first: int, last: int, bounds: Bounds | None, gaps: Sequence[str], stream: Inspection
) -> Problem | None:
    offsets = f"offsets {first} to {last}" if last > first else f"offset {first}"
    for gap in gaps:
        place, number, gap_first, gap_next = gap.rsplit("/", 3)
        same = (place, number) == (f"{report.stream}/{report.topic}", str(report.partition))
        if same and int(gap_first) <= first and last < int(gap_next):
            return Problem("dropped_by_stream", report.name, f"{offsets} were dropped by the stream before being read")
    if bounds is None or first < bounds.begin:
        return Problem(
            "missing_records", report.name, f"{offsets} are not recorded, and the stream no longer holds them"
        )
    there = stream.records(report.partition, first, last)
    if not there:
        return None
    return Problem(
        "missing_records", report.name, f"{len(there):,} records of {offsets} are in the stream and not here"
    )


def _publisher_gaps(store: Store) -> list[Problem]:
    query = named_queries()["publisher-gaps"]
    found = store.execute(query.sql, query.defaults)
    place = {name: index for index, name in enumerate(found.columns)}
    return [
        Problem(
            "publisher_gap",
            str(row[place["event_source"]]),
            f"instance {row[place['publisher_instance']]} numbered {row[place['last_seen']]:,} events and "
            f"{row[place['missing']]:,} of them never arrived",
        )
        for row in found.rows
    ]


def _twice(store: Store) -> list[Problem]:
    problems = []
    for source, event_id, count, times in store.execute(_TWICE).rows:
        where = f"{source} {event_id}"
        if int(times) == 1:
            problems.append(Problem("accepted_twice", where, f"{count} copies of the event were accepted"))
        else:
            message = f"{count} different events have this source and id; the publisher must not use an id again"
            problems.append(Problem("conflicting_duplicate", where, message))
    return problems
