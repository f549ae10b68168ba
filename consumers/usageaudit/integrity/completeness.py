"""Compares the ledger with the stream, partition by partition, and with what publishers said they sent."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from usageaudit.errors import QueryError
from usageaudit.integrity.alarms import keep_problems
from usageaudit.integrity.dropped import dropped_by_publishers
from usageaudit.integrity.holes import dropped_ranges, explain_holes
from usageaudit.integrity.report import Completeness, PartitionReport, Problem
from usageaudit.stores.port import Replicated
from usageaudit.stores.queries import named_queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usageaudit.stores.port import Store
    from usageaudit.streams.inspection import Bounds, Inspection

# Sums of hashes take no memory, and are those of the whole range just where each of its offsets is there once.
_PARTITIONS = """SELECT stream, topic, partition, count(), countIf(status = 'accepted'), countIf(status = 'duplicate'),
    countIf(status = 'rejected'), min(offset) AS first, max(offset), sum(sipHash64(offset))
FROM stream_records GROUP BY stream, topic, partition ORDER BY topic, partition, stream"""
# The same of one partition, without what came after its last row: all before that had been recorded then.
_PARTITION = """SELECT stream, topic, partition, count(), countIf(status = 'accepted'), countIf(status = 'duplicate'),
    countIf(status = 'rejected'), min(offset) AS first, max(offset), sum(sipHash64(offset))
FROM stream_records
WHERE stream = {stream:String} AND topic = {topic:String} AND partition = {partition:UInt32} AND offset <= {last:UInt64}
GROUP BY stream, topic, partition"""
_WHOLE = "SELECT sum(sipHash64(number + {first:UInt64})) FROM numbers({count:UInt64})"
_DISTINCT = """SELECT uniqExact(offset) FROM stream_records
WHERE stream = {stream:String} AND topic = {topic:String} AND partition = {partition:UInt32}
    AND offset >= {from:UInt64} AND offset < {until:UInt64}"""
OFFSETS_AT_ONCE = 5_000_000
"""How many offsets of a partition with holes or repetitions are counted by one query, in less than 400 MB."""
EVENTS_AT_ONCE = 5_000_000
"""How many ids are compared with one another by one query, which takes less than 400 MB."""
MOST_NAMED = 1000
_TWICE = """WITH cityHash64(event_source, event_id) AS hash
SELECT event_source, event_id, count(), uniqExact(event_time) FROM usage_events
WHERE hash IN (
    SELECT cityHash64(event_source, event_id) AS hash FROM usage_events WHERE hash % {parts:UInt32} = {part:UInt32}
    GROUP BY hash HAVING count() > 1 ORDER BY hash LIMIT {most:UInt32})
GROUP BY event_source, event_id HAVING count() > 1 ORDER BY event_source, event_id LIMIT {most:UInt32}"""
_RETRY_SECONDS = 0.2
_LOOK_AT = 1000


def verify(store: Store, stream: Inspection, wait: float = 0.0, window: int | None = None) -> Completeness:
    """Compare the ledger with the stream.

    A running consumer may be a moment behind: where rows are lacking at the end of a partition they are waited for, for
    so many seconds, up to the end that the stream had at the beginning. What no waiting can mend is appended to the
    findings, too, where the store may be written. What publishers report to have dropped is a problem where the report
    was recorded in the last `window` seconds, or ever. Raises StoreUnavailable, StreamUnavailable.
    """
    bounds = stream.bounds()
    until = time.monotonic() + wait
    reports = _reports(store, stream, bounds)
    while any(one.behind for one in reports) and time.monotonic() < until:
        time.sleep(_RETRY_SECONDS)
        reports = _reports(store, stream, bounds)
    reports = [_without_control_records(one, stream) for one in reports]
    dropped = dropped_ranges(store)
    problems: list[Problem] = []
    notes: list[Problem] = []
    explained: list[PartitionReport] = []
    for report in reports:
        held = next(
            (one for one in bounds if report.stream == stream.identity and one.number == report.partition), None
        )
        holes = explain_holes(report, held, dropped, store, stream)
        explained.append(replace(report, explained=holes.explained))
        found = (*holes.problems, *_partition_problems(report))
        problems += [replace(one, stream=report.stream) for one in found]
        notes += holes.notes
    accepted = sum(one.accepted for one in reports)
    problems += [*_publisher_gaps(store), *_twice(store, accepted)]
    reported = dropped_by_publishers(store, window)  # findings already
    if refused := keep_problems(store, problems):
        notes.append(Problem("findings_not_kept", "findings", f"what is wrong was not added to them: {refused}"))
    return Completeness(explained, [*problems, *reported], notes)


def _reports(store: Store, stream: Inspection, bounds: Sequence[Bounds]) -> list[PartitionReport]:
    _catch_up(store)
    reports = [_report(store, row) for row in store.execute(_PARTITIONS).rows]
    here = {one.partition: one for one in reports if (one.stream, one.topic) == (stream.identity, stream.topic)}
    elsewhere = [one for one in reports if (one.stream, one.topic) != (stream.identity, stream.topic)]
    current = [
        _against(here.get(one.number, PartitionReport(stream.identity, stream.topic, one.number)), one)
        for one in bounds
    ]
    gone = [report for number, report in here.items() if all(one.number != number for one in bounds)]
    return [*current, *gone, *elsewhere]


def _catch_up(store: Store) -> None:
    """Have a replica catch up before it is counted: what it has not fetched yet is not missing.

    Who may only read sees what it has.
    """
    if isinstance(store, Replicated):
        with suppress(QueryError):
            store.catch_up("findings_log")
            store.catch_up()


def _report(store: Store, row: Sequence[Any]) -> PartitionReport:
    """Count a partition; on replicas, whose rows come in any order, again where there are holes or repetitions."""
    report = _counted(store, row)
    if isinstance(store, Replicated) and (report.missing or report.distinct_offsets != report.consumed):
        _catch_up(store)
        place = {"stream": report.stream, "topic": report.topic, "partition": report.partition}
        report = _counted(store, store.execute(_PARTITION, {**place, "last": report.last_offset}).rows[0])
    return report


def _counted(store: Store, row: Sequence[Any]) -> PartitionReport:
    stream, topic, *numbers = row
    partition, consumed, accepted, duplicate, rejected, first, last, hashes = map(int, numbers)
    counted = PartitionReport(str(stream), str(topic), partition, consumed, accepted, duplicate, rejected, first, last)
    distinct = _distinct(store, counted, first, last, hashes)
    return replace(counted, distinct_offsets=distinct, missing=last - first + 1 - distinct)


def _distinct(store: Store, report: PartitionReport, first: int, last: int, hashes: int) -> int:
    """Return how many different offsets a partition has, counting them only where there are holes or repetitions."""
    if report.consumed == last - first + 1:
        ((whole,),) = store.execute(_WHOLE, {"first": first, "count": report.consumed}).rows
        if int(whole) == hashes:
            return report.consumed
    place = {"stream": report.stream, "topic": report.topic, "partition": report.partition}
    starts = range(first, last + 1, OFFSETS_AT_ONCE)
    slices = [{"from": start, "until": min(start + OFFSETS_AT_ONCE, last + 1)} for start in starts]
    return sum(int(store.execute(_DISTINCT, {**place, **one}).rows[0][0]) for one in slices)


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


def _twice(store: Store, accepted: int) -> list[Problem]:
    """Look for ids that were accepted more than once, in parts: one query over all of them would need their size."""
    problems: list[Problem] = []
    parts = accepted // EVENTS_AT_ONCE + 1
    for part in range(parts):
        if (most := MOST_NAMED - len(problems)) > 0:
            found = store.execute(_TWICE, {"parts": parts, "part": part, "most": most}).rows
            problems += [_accepted_twice(*row) for row in found]
    return sorted(problems, key=lambda one: one.where)


def _accepted_twice(source: str, event_id: str, count: int, times: int) -> Problem:
    where = f"{source} {event_id}"
    if int(times) == 1:
        return Problem("accepted_twice", where, f"{count} copies of the event were accepted", event=(source, event_id))
    message = f"{count} different events have this source and id; the publisher must not use an id again"
    return Problem("conflicting_duplicate", where, message, event=(source, event_id))
