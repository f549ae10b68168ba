"""What the reads of a batch and of a takeover cost in a small ledger and in one many times as large.

The rows are made in the store, at one rate of events, so that the large ledger has the same present and a longer past;
raw bytes are left empty. The cost is the rows that the store says it read, in `system.query_log`, not a time.
"""

from __future__ import annotations

import hashlib
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import pytest

from tests.endurance.figures import state
from tests.endurance.forms import SHARE, length
from usageaudit.stores.address import open_store
from usageaudit.stores.ledger import Ledger
from usageaudit.stores.migrate import migrate
from usageaudit.streams.port import Partition

T = TypeVar("T")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.servers.clickhouse import ClickHouse
    from usageaudit.stores.ledger import EventKey

SMALL, LARGE = (1_000_000, int(length(0, 100_000_000))) if SHARE else (200_000, 1_000_000)
SMALL_PARTS = 10
PART_ROWS = 1_000_000 if SHARE else 100_000
BATCH = 10_000
SAME = 2.0
"""How many times as many rows the large ledger may read: a batch may lie across one more boundary of granules."""
PARTITION = Partition("endurance", "usage-events", 0)
FIRST = 1_735_689_600_000_000
"""2025-01-01 in microseconds."""
APART = 300_000
"""Microseconds between one event and the next: a hundred million take a year."""

_TIME = f"fromUnixTimestamp64Micro({FIRST} + number * {APART}, 'UTC')"
_ROWS = f"""INSERT INTO ledger (stream, topic, partition, epoch, batch, offset, status, content_mode, event_source,
    event_id, event_time, ingest_time, record_time, operation, model_provider, model_name, actor_id, application_name)
SELECT '{PARTITION.stream}', '{PARTITION.topic}', 0, 1, 1, number, 'accepted', 'structured',
    concat('//services/s', toString(number % 60)), lower(hex(MD5(toString(number)))), {_TIME},
    {_TIME}, {_TIME}, 'chat', 'openai', 'gpt-4o', concat('u', toString(number % 20000)), 'claims-triage'
FROM numbers({{first}}, {{count}})
SETTINGS max_insert_threads = 1, max_threads = 1, max_block_size = {{count}}, min_insert_block_size_rows = {{count}},
    min_insert_block_size_bytes = 0, max_insert_block_size = {{count}}, max_partitions_per_insert_block = 2"""
_COST = """SELECT sum(read_rows), sum(query_duration_ms) FROM system.query_log
WHERE type = 'QueryFinish' AND event_time_microseconds > {since} AND has(tables, 'default.ledger')"""


def _key(number: int, event_id: str | None = None) -> EventKey:
    """Return the key of the event of this number, or of another one at its time."""
    known = hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()
    return FIRST + number * APART, f"//services/s{number % 60}", event_id or known


def _fill(clickhouse: ClickHouse, first: int, end: int, part_rows: int) -> None:
    """Add rows, two parts at a time."""
    with ThreadPoolExecutor(2) as pool:
        starts = range(first, end, part_rows)
        statements = (_ROWS.format(first=start, count=min(part_rows, end - start)) for start in starts)
        list(pool.map(clickhouse.execute, statements))


class Costs:
    """Rows read and milliseconds of what the ledger asks, by name."""

    def __init__(self, clickhouse: ClickHouse, ledger: Ledger, size: int) -> None:
        self._clickhouse, self._ledger = clickhouse, ledger
        self.rows: dict[str, int] = {}
        self.millis: dict[str, int] = {}
        batch, middle = range(BATCH), SMALL // 2
        draw = random.Random(5)
        scattered = [draw.randrange(size) for _ in batch]
        self._look_up("look-up of a live batch", [_key(size + n) for n in batch], found=0)
        self._look_up("look-up of a batch that is late", [_key(size - 20_000 + n, f"late-{n}") for n in batch], found=0)
        self._look_up("look-up of a batch sent again", [_key(size - 20_000 + n) for n in batch], found=BATCH)
        self._look_up("look-up of an old batch sent again", [_key(middle + n) for n in batch], found=BATCH)
        self._look_up("look-up of events from all of history", map(_key, scattered), found=len(set(scattered)))
        near = self._measure(
            "end of a partition, near the acknowledged offset", lambda: ledger.end(PARTITION, size - BATCH)
        )
        assert near == size
        present = self._measure("offsets present since then", lambda: ledger.present(PARTITION, size - BATCH))
        assert len(present) == BATCH
        assert self._measure("end of a partition, without a hint", lambda: ledger.end(PARTITION)) == size

    def _look_up(self, name: str, keys: Iterable[EventKey], found: int) -> None:
        asked = list(keys)
        assert len(self._measure(name, lambda: self._ledger.accepted(asked))) == found

    def _measure(self, name: str, ask: Callable[[], T]) -> T:
        ((since,),) = self._clickhouse.execute("SELECT toUnixTimestamp64Micro(now64(6))")
        answer = ask()
        self._clickhouse.execute("SYSTEM FLUSH LOGS query_log")
        ((self.rows[name], self.millis[name]),) = self._clickhouse.execute(
            _COST.format(since=f"fromUnixTimestamp64Micro({since})")
        )
        return answer


SCANS = {"look-up of events from all of history", "end of a partition, without a hint"}
"""What has to read more of a larger ledger: the negative control."""


@pytest.mark.timeout(int(length(300, 3 * 3600)))
def test_reads_of_a_batch_and_a_takeover_cost_the_same_in_a_large_ledger(
    start_clickhouse: Callable[..., ClickHouse],
) -> None:
    """Look-up and recovery read as much of a ledger that is many times as large; what scans it shows as that."""
    clickhouse = start_clickhouse()
    store = open_store(clickhouse.url)
    migrate(store)
    clickhouse.execute("SYSTEM STOP MERGES")
    _fill(clickhouse, 0, SMALL, SMALL // SMALL_PARTS)
    small = Costs(clickhouse, Ledger(store), SMALL)
    _fill(clickhouse, SMALL, LARGE, PART_ROWS)
    large = Costs(clickhouse, Ledger(store), LARGE)
    store.close()
    test = f"reads of {BATCH:,} events in a large ledger"
    state(test, "small ledger", SMALL, "rows")
    state(test, "large ledger", LARGE, "rows")
    for name in small.rows:
        bound = "" if name in SCANS else f"at most {SAME} times that of the small one"
        state(test, f"{name}, small ledger", small.rows[name], "rows read")
        state(test, f"{name}, large ledger", large.rows[name], "rows read", bound)
        state(test, f"{name}, large ledger, time", large.millis[name], "ms")
    for name in small.rows.keys() - SCANS:
        assert large.rows[name] <= SAME * small.rows[name], name
    for name in SCANS:
        assert large.rows[name] > SAME * small.rows[name], name
