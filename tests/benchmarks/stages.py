"""Where the time of our path goes: decode, judge, row and encode, in microseconds an event, by number of policies."""

from __future__ import annotations

import gc
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.events import usage_events
from tests.benchmarks.policies import policies, write_bundle
from usageaudit.cloudevents import STRUCTURED_HEADERS, decode
from usageaudit.ledger.columns import ROW_COLUMNS
from usageaudit.pipeline.judging import CHUNK
from usageaudit.pipeline.rows import compile_row, verdict_values
from usageaudit.policy import compile_judge, load_bundle
from usageaudit.stores.native import NativeBlock
from usageaudit.streams.port import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from usageaudit.pipeline.judging import Judge

SIZES = (10, 50, 200, 1_000)
EVENTS = 10_000
ROUNDS = 7


@dataclass(frozen=True, slots=True)
class Stages:
    """Microseconds of processor time an event, by stage, and the share of events with a verdict to record."""

    policies: int
    compile_seconds: float
    decode: float
    judge: float
    row: float
    encode: float
    violated: float
    indeterminate: float


def measure(sizes: Sequence[int] = SIZES, events: int = EVENTS) -> list[Stages]:
    """Measure each number of policies over the same events, each chunk at its best, without garbage collection."""
    records = [
        Record(offset, offset, event.value, STRUCTURED_HEADERS) for offset, event in enumerate(usage_events(events))
    ]
    with tempfile.TemporaryDirectory() as folder:
        bundles = [write_bundle(Path(folder) / str(size), policies(size)) for size in sizes]
        return [_measure_one(size, bundle, records) for size, bundle in zip(sizes, bundles, strict=True)]


def _measure_one(size: int, bundle: Path, records: Sequence[Record]) -> Stages:
    began = time.process_time()
    judge = compile_judge(load_bundle([bundle]))
    compiled = time.process_time() - began
    gc.collect()
    gc.disable()
    try:
        rounds = [_round(records, judge) for _ in range(ROUNDS)]
    finally:
        gc.enable()
    # What other processes take away differs from chunk to chunk, so each is taken from the round that suited it best.
    chunks = [[min(times) for times in zip(*spent, strict=True)] for spent in zip(*rounds, strict=True)]
    best = [sum(times) * 1e6 / len(records) for times in zip(*chunks, strict=True)]
    verdicts = [_judged(decode(record.value, record.headers), record, judge) for record in records]
    violated = sum(bool(found.violated) for found in verdicts) / len(records)
    undecided = sum(bool(found.indeterminate) for found in verdicts) / len(records)
    return Stages(size, compiled, best[0], best[1], best[2], best[3], violated, undecided)


def _round(records: Sequence[Record], judge: Judge) -> list[tuple[float, float, float, float]]:
    """Return the seconds of each stage for every chunk, in chunks as the consumer works."""
    block = NativeBlock([(column.name, column.type) for column in ROW_COLUMNS])
    row = compile_row()
    clock: Callable[[], float] = time.process_time
    spent = []
    for start in range(0, len(records), CHUNK):
        chunk = records[start : start + CHUNK]
        t0 = clock()
        events = [decode(record.value, record.headers) for record in chunk]
        t1 = clock()
        verdicts = [_judged(event, record, judge) for event, record in zip(events, chunk, strict=True)]
        t2 = clock()
        rows = [
            row(record, event, verdict_values(found))
            for record, event, found in zip(chunk, events, verdicts, strict=True)
        ]
        t3 = clock()
        block.add_rows(rows)
        del events, verdicts, rows
        spent.append((t1 - t0, t2 - t1, t3 - t2, clock() - t3))
    return spent


def _judged(event: Any, record: Record, judge: Judge) -> Any:
    moment = None if record.timestamp is None else record.timestamp * 1000
    return judge(event.data, event.time, moment, event.source, event.id)
