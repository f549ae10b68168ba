"""Many violations at once: few alerts, bounded memory, and looks whose cost does not follow the size of the ledger."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.ledger_rows import SERVER, migrated_store
from usageaudit.alerts.config.settings import AlertsConfig, Match, Route
from usageaudit.alerts.dispatcher import Dispatcher
from usageaudit.alerts.targets.port import Answer
from usageaudit.policy import load_bundle
from usageaudit.stores.fencing import fence_of
from usageaudit.streams.port import Partition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.alerts.model import Notification
    from usageaudit.policy.model import Bundle
    from usageaudit.stores.port import Store

VIOLATIONS = 100_000
APPLICATIONS = 50
MEMORY_MIB = 150
"""What the dispatcher may need more while it decides about them; it was 40 when this was written."""
ROWS = """INSERT INTO ledger (ingest_time, stream, topic, partition, offset, status, event_source, event_id, event_time,
    operation, application_name, model_name, violated, violated_version, violated_severity, violated_stage,
    violated_message, violated_evidence, violated_missing)
SELECT toDateTime64('2026-03-02 09:00:00', 3, 'UTC') + toIntervalMillisecond(number * {gap:UInt32}) AS moment,
    'stream-1', 'usage-events', 0, number + {first:UInt64}, 'accepted', 'svc-a', toString(number + {first:UInt64}),
    moment, 'chat', concat('app-', toString(number % 50)), 'gpt-4o',
    if({bad:UInt8}, ['own/one'], []), if({bad:UInt8}, [1], []), if({bad:UInt8}, ['high'], []),
    if({bad:UInt8}, ['enforce'], []), if({bad:UInt8}, ['m'], []), if({bad:UInt8}, ['{}'], []),
    if({bad:UInt8}, CAST([[]], 'Array(Array(String))'), [])
FROM numbers({rows:UInt64})"""


class Receiver:
    """A target that counts."""

    def __init__(self) -> None:
        self.alerts: list[str] = []

    def deliver(self, notification: Notification) -> Answer:
        """Count a notification."""
        self.alerts.append(notification.alert.alert_id)
        return Answer(200, "ok")

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture(params=[SERVER])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store with its tables, where a partition was taken over."""
    with migrated_store(request, tmp_path_factory) as made:
        fence_of(made).raise_epoch(Partition("stream-1", "usage-events", 0), "somebody")
        yield made


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a bundle whose policy gathers by application for an hour."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "policies").mkdir()
    (folder / "bundle.yaml").write_text("name: own\n", encoding="utf-8")
    (folder / "policies" / "one.yaml").write_text(
        "id: own/one\ntitle: one\nseverity: high\nwhen: 'operation == \"chat\"'\nmessage: m\n"
        "alert: {dedup_by: [application.name], for: 1h}\n",
        encoding="utf-8",
    )
    return load_bundle([folder])


def memory_mib() -> float:
    """Return the most memory that this process has had."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def made(store: Store, bundle: Bundle, receiver: Receiver) -> Dispatcher:
    """Return a dispatcher that tells one target of everything."""
    return Dispatcher(store, AlertsConfig({}, (Route("all", ("hook",), Match()),)), bundle, {"hook": receiver})


def test_a_hundred_thousand_violations_are_few_alerts(store: Store, bundle: Bundle) -> None:
    """Those of a minute become one alert for each application, every one is decided about, and memory is bounded."""
    receiver = Receiver()
    dispatcher = made(store, bundle, receiver)
    dispatcher.step()
    store.execute(ROWS, {"gap": 0, "first": 0, "rows": VIOLATIONS, "bad": 1})
    before, start, done, steps = memory_mib(), time.monotonic(), 0, 0
    while done < VIOLATIONS or dispatcher.state().waiting:
        done += dispatcher.step() or 0
        steps += 1
        assert steps < 10_000
    seconds = time.monotonic() - start
    ((decided, alerts),) = store.execute(
        "SELECT uniqExact(violation_id), uniqExact(alert_id) FROM alert_decisions"
    ).rows
    dispatcher.close()
    print(f"{VIOLATIONS} violations in {seconds:.1f} s, {steps} steps, {memory_mib() - before:.0f} MiB more")
    assert (int(decided), int(alerts), len(receiver.alerts)) == (VIOLATIONS, APPLICATIONS, APPLICATIONS)
    assert memory_mib() - before < MEMORY_MIB


def test_a_look_costs_what_is_new(store: Store, bundle: Bundle) -> None:
    """With a thousand new records a step reads as many rows of a small ledger as of a large one, nearly."""
    found: list[int] = []
    for first, rows in ((0, 100_000), (101_000, 900_000)):
        store.execute(ROWS, {"gap": 50, "first": first, "rows": rows, "bad": 0})
        store.execute("TRUNCATE TABLE alert_progress")
        dispatcher = made(store, bundle, Receiver())
        dispatcher.step()
        ((seen,),) = store.execute("SELECT max(`offset`) + 1 FROM ledger").rows
        later = ROWS.replace("2026-03-02 09:00:00", "2026-03-09 09:00:00")
        store.execute(later, {"gap": 1, "first": int(seen), "rows": 1_000, "bad": 1})
        store.execute("SYSTEM FLUSH LOGS")
        mark = store.execute("SELECT max(event_time_microseconds) FROM system.query_log").rows[0][0]
        dispatcher.step()
        store.execute("SYSTEM FLUSH LOGS")
        ((read,),) = store.execute(
            "SELECT sum(read_rows) FROM system.query_log WHERE type = 'QueryFinish' AND event_time_microseconds > "
            "{mark:DateTime64(6, 'UTC')} AND current_database = currentDatabase() AND query LIKE '%FROM ledger %'",
            {"mark": mark},
        ).rows
        dispatcher.close()
        found.append(int(read))
    print(f"rows of the ledger read in a step: {found}")
    assert found[1] < 1.2 * found[0] + 20_000
