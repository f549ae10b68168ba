"""Events judged into a ledger as the consumer judges them, to be judged again by `verify`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.strategies import envelope
from usageaudit.pipeline.judging import judge_records
from usageaudit.policy import compile_judge
from usageaudit.stores.ledger import Ledger
from usageaudit.streams.port import Partition, Record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from usageaudit.pipeline.judging import Judge
    from usageaudit.policy import Bundle
    from usageaudit.stores.port import Store

PARTITION = Partition("a stream", "usage-events", 0)
TABLES = ("ledger", "bundles_log", "findings_log")


def forget(store: Store) -> None:
    """Empty the tables that the functions below fill."""
    for table in TABLES:
        store.execute(f"TRUNCATE TABLE {table}")


def record(store: Store, bundle: Bundle, records: Iterable[Record], judge: Judge | None = None) -> None:
    """Record stream records, judged by a bundle, which is kept, too; `judge` judges in its place."""
    ledger = Ledger(store)
    ledger.keep_bundle(bundle, "tests")
    epoch = ledger.fence(PARTITION, "tests")
    judged = judge_records(list(records), judge or compile_judge(bundle))
    ledger.record(judged.block, PARTITION, epoch, 1, bundle=bundle.hash)


def structured(offset: int, data: dict[str, Any], timestamp: int | None = None, **attributes: str) -> Record:
    """Return the record of an event in structured mode, `timestamp` in milliseconds."""
    value = json.dumps(envelope(data, **attributes)).encode()
    return Record(offset, timestamp, value, [("content-type", b"application/cloudevents+json")])
