"""Looks at the offsets between recorded ones that no row has: which of them hold a record that is lacking."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from usageaudit.integrity.report import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from usageaudit.integrity.report import PartitionReport
    from usageaudit.stores.port import Store
    from usageaudit.streams.inspection import Bounds, Inspection

PAGE = 10_000
"""How many holes one query returns."""
MOST_NAMED = 1000
"""How many holes of one partition are named in problems; those beyond are counted."""
_HOLES = """SELECT first, last FROM (
    SELECT offset + 1 AS first, leadInFrame(offset, 1, offset + 1) OVER (
        ORDER BY offset ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING) - 1 AS last
    FROM (SELECT DISTINCT offset FROM stream_records
        WHERE stream = {stream:String} AND topic = {topic:String} AND partition = {partition:UInt32}
            AND offset >= {from:UInt64})
) WHERE last >= first ORDER BY first LIMIT {page:UInt32}"""
_GAPS = "SELECT DISTINCT group_key FROM findings WHERE kind = 'offset_gap'"


@dataclass(slots=True)
class Explained:
    """What became of a partition's holes.

    `explained` counts the offsets that hold no record; `notes` are what can't be told any more.
    """

    explained: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)


def dropped_ranges(store: Store) -> list[str]:
    """Return the ranges that the stream dropped before they were read, as the consumer noted them."""
    return [str(key) for (key,) in store.execute(_GAPS).rows]


def explain_holes(
    report: PartitionReport, bounds: Bounds | None, dropped: Sequence[str], store: Store, stream: Inspection
) -> Explained:
    """Look at every hole of a partition, however many; `bounds` is None where its stream is not there any more."""
    found = Explained()
    if not report.missing:
        return found
    ranges = _of_partition(report, dropped)
    begin = None if bounds is None else bounds.begin
    unnamed = 0
    gone: list[tuple[int, int]] = []
    for first, last in _holes(report, store):
        if any(low <= first and last < high for low, high in ranges):
            text = f"{_offsets(first, last)} were dropped by the stream before being read"
            problem: Problem | None = Problem("dropped_by_stream", report.name, text)
        else:
            if begin is None or first < begin:
                gone.append((first, last if begin is None else min(last, begin - 1)))
            start = last + 1 if begin is None else min(max(first, begin), last + 1)
            problem = _lacking(report, start, last, stream) if start <= last else None
            # The hole and not what the stream still has of it, which is less with every day.
            problem = replace(problem, offsets=f"{first}-{last}") if problem else None
            found.explained += 0 if problem else last + 1 - start
        if problem is not None and len(found.problems) < MOST_NAMED:
            found.problems.append(problem)
        elif problem is not None:
            unnamed += last + 1 - first
    if unnamed:
        text = f"{unnamed:,} offsets more are not recorded; these are the first {MOST_NAMED:,} places"
        found.problems.append(Problem("missing_records", report.name, text, offsets="more"))
    found.notes += _no_longer_known(report, gone)
    return found


def _of_partition(report: PartitionReport, dropped: Sequence[str]) -> list[tuple[int, int]]:
    """Return the noted ranges [first, next) of one partition."""
    keys = (key.rsplit("/", 3) for key in dropped)
    wanted = [f"{report.stream}/{report.topic}", str(report.partition)]
    return [(int(first), int(after)) for *place, first, after in keys if place == wanted]


def _holes(report: PartitionReport, store: Store) -> Iterator[tuple[int, int]]:
    """Yield the first and the last offset of every hole, a page at a time."""
    place = {"stream": report.stream, "topic": report.topic, "partition": report.partition, "page": PAGE}
    start = report.first_offset or 0
    while rows := store.execute(_HOLES, {**place, "from": start}).rows:
        for first, last in rows:
            yield int(first), int(last)
        start = int(rows[-1][1]) + 1


def _lacking(report: PartitionReport, first: int, last: int, stream: Inspection) -> Problem | None:
    there = stream.records(report.partition, first, last)
    if not there:
        return None
    text = f"{len(there):,} records of {_offsets(first, last)} are in the stream and not here"
    return Problem("missing_records", report.name, text)


def _no_longer_known(report: PartitionReport, gone: Sequence[tuple[int, int]]) -> list[Problem]:
    if not gone:
        return []
    count = sum(last + 1 - first for first, last in gone)
    text = (
        f"{count:,} offsets in {len(gone):,} places, the first {_offsets(*gone[0])}, have no row, and the stream no "
        "longer reaches back to them: whether they held records can no longer be told"
    )
    return [Problem("no_longer_known", report.name, text)]


def _offsets(first: int, last: int) -> str:
    return f"offsets {first} to {last}" if last > first else f"offset {first}"
