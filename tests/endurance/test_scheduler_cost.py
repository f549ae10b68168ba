"""What a step of the scheduler reads for equal new data in a small ledger and in one a hundred times as large.

The rows are made in the store, at one rate of events, so that the large ledger has the same present and a longer past.
They are of two partitions whose offsets are far apart, so that offsets alone do not say which rows are old.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.endurance.figures import state
from tests.endurance.forms import SHARE, length
from usageaudit.policy import load_bundle
from usageaudit.scheduler.service import Scheduler
from usageaudit.stores.address import open_store
from usageaudit.stores.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers.clickhouse import ClickHouse
    from usageaudit.stores.port import Store

A_DAY = 288_000
SMALL, LARGE = (4 * A_DAY, int(348 * SHARE) * A_DAY) if SHARE else (A_DAY, 4 * A_DAY)
PART_ROWS = 4 * A_DAY if SHARE else A_DAY
BATCH = 10_000
LATE = 100
SAME = 1.2
FIRST = 1_735_689_600_000_000
"""2025-01-01 in microseconds."""
APART = 300_000
"""Microseconds between one event and the next: a hundred million take a year. Both ledgers end at a midnight."""
LATE_BY = 300_000_000

_ROWS = f"""INSERT INTO ledger (stream, topic, partition, epoch, batch, offset, status, content_mode, event_source,
    event_id, event_time, ingest_time, record_time, operation, model_provider, model_name, actor_id, application_name)
SELECT 's', 'usage-events', number % 2, 1, 1, intDiv(number, 2) + 5000000000 * (number % 2), 'accepted', 'structured',
    concat('//services/s', toString(number % 60)), lower(hex(MD5(toString(number)))),
    fromUnixTimestamp64Micro({FIRST} + number * {APART} - {{late}}, 'UTC'),
    fromUnixTimestamp64Micro({FIRST} + number * {APART}, 'UTC') AS recorded, recorded, 'chat', 'openai', 'gpt-4o',
    concat('u', toString(number % 20000)), concat('app-', toString(number % 50))
FROM numbers({{first}}, {{count}})
SETTINGS max_insert_threads = 1, max_threads = 1, max_block_size = {{count}}, min_insert_block_size_rows = {{count}},
    min_insert_block_size_bytes = 0, max_insert_block_size = {{count}}, max_partitions_per_insert_block = 10"""
_COST = """SELECT sum(read_rows), count() FROM system.query_log
WHERE type = 'QueryFinish' AND client_name LIKE '%usageaudit%' AND event_time_microseconds > {since}"""
_POLICIES = {
    "burst": "when: 'operation == \"chat\"'\nwindow: {kind: event_count, over: 10m, group_by: [application.name]}\n"
    "condition: 'value > 45'\n",
    "models": "when: 'true'\nwindow: {kind: value_count, field: actor.id, over: 10m, group_by: [application.name]}\n"
    "condition: 'value > 1000'\n",
    "day": "when: 'true'\nwindow: {kind: event_count, over: calendar day, zone: UTC, group_by: [actor.id]}\n"
    "condition: 'value > 100'\n",
    "review": "when: 'operation == \"chat\"'\nwindow: {kind: absence, expect: 'operation == \"chat\"', over: 5m, "
    "group_by: [application.name], heartbeat: {when: 'true', every: 1m}}\n",
    "sequence": "when: 'true'\nwindow: {kind: temporal_ordered, over: 10m, group_by: [application.name], "
    "steps: ['operation == \"embeddings\"', 'operation == \"chat\"']}\n",
    "new": "when: 'true'\nwindow: {kind: first_seen, over: 1h, group_by: [application.name]}\n",
}


def _fill(clickhouse: ClickHouse, first: int, end: int, late: int = 0) -> None:
    with ThreadPoolExecutor(2) as pool:
        starts = range(first, end, PART_ROWS)
        some = (_ROWS.format(first=start, count=min(PART_ROWS, end - start), late=late) for start in starts)
        list(pool.map(clickhouse.execute, some))


def _cost_of_a_step(clickhouse: ClickHouse, store: Store, folder: Path, size: int) -> tuple[int, int, float]:
    """Return the rows that a step reads, its statements and seconds; it begins with a ledger of a size."""
    for table in ("leases", "findings_log", "window_events", "window_progress"):
        store.execute(f"TRUNCATE TABLE {table}")
    scheduler = Scheduler(store, load_bundle([folder]))
    while scheduler.step() or not scheduler.caught_up():
        pass
    # How far the rows it keeps are merged is chance; they are read by whole granules.
    clickhouse.execute("OPTIMIZE TABLE window_events FINAL")
    _fill(clickhouse, size, size + BATCH - LATE)
    _fill(clickhouse, size + BATCH - LATE, size + BATCH, LATE_BY)
    ((since,),) = clickhouse.execute("SELECT toUnixTimestamp64Micro(now64(6))")
    scheduler.step()
    clickhouse.execute("SYSTEM FLUSH LOGS query_log")
    ((rows, statements),) = clickhouse.execute(_COST.format(since=f"fromUnixTimestamp64Micro({since})"))
    assert scheduler.caught_up()
    return int(rows), int(statements), scheduler.state.step_seconds


@pytest.mark.timeout(int(length(120, 3 * 3600)))
def test_a_step_reads_as_much_of_a_large_ledger_as_of_a_small_one(
    start_clickhouse: Callable[..., ClickHouse], tmp_path: Path
) -> None:
    """For equal new data, with late events in it, a step reads as many rows whatever the ledger's size."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "bundle.yaml").write_text("name: own\n")
    for name, text in _POLICIES.items():
        (tmp_path / "policies" / f"{name}.yaml").write_text(f"id: own/{name}\ntitle: one\nseverity: high\n{text}")
    clickhouse = start_clickhouse()
    store = open_store(clickhouse.url)
    migrate(store)
    clickhouse.execute("SYSTEM STOP MERGES default.ledger")
    for number in (0, 1):
        clickhouse.execute(
            "INSERT INTO fence (stream, topic, partition, epoch, owner, taken_at) "
            f"SELECT 's', 'usage-events', {number}, 1, 'test', now64(3)"
        )
    _fill(clickhouse, 0, SMALL)
    small, of_small, seconds_of_small = _cost_of_a_step(clickhouse, store, tmp_path, SMALL)
    _fill(clickhouse, SMALL + BATCH, LARGE)
    large, of_large, seconds_of_large = _cost_of_a_step(clickhouse, store, tmp_path, LARGE)
    ((all_rows,),) = clickhouse.execute("SELECT count() FROM ledger WHERE NOT ignore(epoch)")
    store.close()
    test = f"a step of the scheduler with {len(_POLICIES)} policies for {BATCH:,} new events"
    state(test, "small ledger", SMALL, "rows")
    state(test, "large ledger", int(all_rows), "rows")
    state(test, "step, small ledger", small, "rows read")
    state(test, "step, large ledger", large, "rows read", f"at most {SAME} times that of the small one")
    state(test, "statements of a step, large ledger", of_large, "")
    state(test, "step, small ledger, time", round(seconds_of_small, 2), "s")
    state(test, "step, large ledger, time", round(seconds_of_large, 2), "s")
    assert of_small == of_large
    assert small > BATCH
    assert small / SAME <= large <= SAME * small
