"""From stream records to a block of ledger rows: decode, judge, build the row, in chunks that stay in the cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from usageaudit.cloudevents import decode
from usageaudit.dropped import read_dropped
from usageaudit.errors import InvalidEvent
from usageaudit.ledger.columns import BATCH_COLUMNS, COLUMNS
from usageaudit.pipeline.dropped import MOST_A_BATCH, rejection
from usageaudit.pipeline.rows import compile_row, duplicate_row, rejected_row, verdict_values
from usageaudit.stores.native import NativeBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence, Set

    from usageaudit.dropped import DroppedEvents
    from usageaudit.pipeline.rows import Row
    from usageaudit.stores.ledger import EventKey, RejectedRecord
    from usageaudit.streams.port import Record
    from usageaudit.verdicts import Verdicts

    Judge = Callable[[Any, int, int | None, str, str], Verdicts]
    """Judges an event's data at its time and its record's time, both in microseconds, with its source and id."""

MOST_EXAMPLES = 5
CHUNK = 200
"""Events that are alive at once: few enough to stay in the processor's cache."""

_COLUMNS = [(column.name, column.type) for column in COLUMNS]
_CONSTANT = [column.name for column in BATCH_COLUMNS]
_build_row = compile_row()


@dataclass(slots=True)
class Judged:
    """A batch as rows: the encoded block, the keys of its events, and how many records became what.

    `examples` are the first few rejected records for the log: offset, and the path of the first error. `dropped` are
    reports of publishers, whose records are among the rejected ones.
    """

    block: NativeBlock
    keys: set[EventKey] = field(default_factory=set)
    rejected: list[RejectedRecord] = field(default_factory=list)
    examples: list[dict[str, object]] = field(default_factory=list)
    dropped: list[DroppedEvents] = field(default_factory=list)
    accepted: int = 0
    duplicates: int = 0


def judge_records(records: Sequence[Record], judge: Judge, known: Collection[EventKey] = ()) -> Judged:
    """Return the rows of records; events in `known` are in the ledger already, so their copies become duplicates."""
    judged = Judged(NativeBlock(_COLUMNS, _CONSTANT))
    taken = frozenset(known)
    for start in range(0, len(records), CHUNK):
        judged.block.add_rows([_row(record, judge, judged, taken) for record in records[start : start + CHUNK]])
    return judged


def _row(record: Record, judge: Judge, judged: Judged, known: Set[EventKey]) -> Row:
    try:
        event = decode(record.value, record.headers)
    except InvalidEvent as error:
        return _rejected(record, error, judged)
    key = (event.time, event.source, event.id)
    if key in judged.keys or key in known:
        judged.duplicates += 1
        return duplicate_row(record, event)
    judged.keys.add(key)
    judged.accepted += 1
    moment = None if record.timestamp is None else record.timestamp * 1000
    return _build_row(record, event, verdict_values(judge(event.data, event.time, moment, event.source, event.id)))


def _rejected(record: Record, error: InvalidEvent, judged: Judged) -> Row:
    judged.rejected.append(_kept(record))
    if len(judged.examples) < MOST_EXAMPLES:
        judged.examples.append({"offset": record.offset, "path": error.problems[0].path})
    if (report := read_dropped(record.value)) is None:
        return rejected_row(record, error)
    if len(judged.dropped) < MOST_A_BATCH:
        judged.dropped.append(report)
    return rejected_row(record, rejection(report))


def _kept(record: Record) -> RejectedRecord:
    """Return what is kept of a rejected record; a header without a value says nothing."""
    headers = [(name, value) for name, value in record.headers if value is not None]
    return record.offset, record.value or b"", [name for name, _ in headers], [value for _, value in headers]
