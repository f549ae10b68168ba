"""What operators see of a service on the real servers, and that it is true."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.integration.operated import Service, operated
from tests.strategies import MINIMAL, envelope
from usageaudit.cloudevents import STRUCTURED_HEADERS
from usageaudit.embedded_log import NewRecord
from usageaudit.publisher import RecordPublisher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.servers.clickhouse import ClickHouse
    from tests.servers.kafka import Kafka

GOOD, TWICE, BAD = 300, 20, 40


def _event(number: int) -> bytes:
    return json.dumps(envelope(MINIMAL, id=f"event-{number}")).encode()


def _publish(stream: str, values: Iterable[bytes]) -> None:
    with RecordPublisher(stream) as publisher:
        for value in values:
            publisher.put(NewRecord(None, value, STRUCTURED_HEADERS), wait=60)
        assert publisher.flush(60) == 0


@pytest.fixture
def service(kafka: Kafka, topic: str, clickhouse_database: str, tmp_path: Path) -> Service:
    """Return a consumer of an own topic of four partitions and an own database, not started."""
    return Service(tmp_path, f"{kafka.url}?topic={topic}&group=group-{topic}", clickhouse_database)


def _lag(service: Service) -> float:
    return service.total("usageaudit_lag_records")


def _recorded(service: Service) -> float:
    return service.total("usageaudit_records_total")


def test_the_metrics_are_what_the_ledger_says(service: Service, clickhouse: ClickHouse, topic: str) -> None:
    """Counts by status, batches, takeovers, the bundle and findings are those of SQL; the lag returns to zero."""
    records = [*map(_event, range(GOOD)), *map(_event, range(TWICE)), *(b"no event" for _ in range(BAD))]
    service.settings |= {"rejected_share": "0.05", "rejected_window": "86400", "log_level": "debug"}
    with operated(service):
        service.wait_ready()
        _publish(service.stream, records[:GOOD])
        service.wait(lambda: _recorded(service) == GOOD, "recording")
        _publish(service.stream, records[GOOD:])
        service.wait(lambda: _recorded(service) == len(records) and _lag(service) == 0, "recording everything")
        samples = service.samples()
        service.wait(lambda: service.total("usageaudit_findings_total", kind="rejected_share") == 1, "a finding")
        assert service.total("usageaudit_rejected_alarm") == 1
        assert service.end()[0] == 0
    database = service.store.rpartition("/")[2]
    found = dict(clickhouse.execute(f"SELECT status, count() FROM {database}.ledger GROUP BY status"))
    assert found == {"accepted": GOOD, "duplicate": TWICE, "rejected": BAD}
    by_status = {
        dict(labels)["status"]: value for (name, labels), value in samples.items() if name == "usageaudit_records_total"
    }
    assert by_status == found
    ((batches, bundles),) = clickhouse.execute(
        f"SELECT uniqExact(partition, epoch, batch), groupUniqArray(bundle) FROM {database}.ledger"
    )
    none: frozenset[tuple[str, str]] = frozenset()
    assert samples["usageaudit_batch_records_count", none] == batches
    assert samples["usageaudit_batch_records_sum", none] == len(records)
    for stage in ("look_up", "insert", "acknowledge"):
        assert samples["usageaudit_batch_duration_seconds_count", frozenset({("stage", stage)})] == batches
    [bundle] = [dict(labels)["bundle"] for name, labels in samples if name == "usageaudit_policy_bundle_info"]
    assert [bundle] == bundles
    ((epochs,),) = clickhouse.execute(f"SELECT count() FROM {database}.fence")
    assert samples["usageaudit_takeovers_total", none] == epochs == 4
    lagging = {dict(labels)["partition"] for name, labels in samples if name == "usageaudit_lag_records"}
    assert lagging == set("0123")
    findings = clickhouse.execute(f"SELECT kind, effect, severity, group_key FROM {database}.findings_log")
    [(kind, effect, severity, group_key)] = findings
    assert (kind, effect, severity) == ("rejected_share", "notice", "high")
    assert group_key.endswith(f"/{topic}")
    _check_log(service, topic, batches)


def _check_log(service: Service, topic: str, batches: int) -> None:
    """Check that the log names every batch and the first refused records, and holds nothing of what they said."""
    recorded = service.said("batch recorded")
    assert len(recorded) == batches
    names = ("topic", "partition", "first", "last", "epoch", "batch", "bundle", "accepted", "duplicates", "rejected")
    for line in recorded:
        assert line["topic"] == topic
        assert line["level"] == "debug"
        assert set(names) <= set(line)
    assert sum(line["rejected"] for line in recorded) == BAD
    refused = service.said("records refused")
    assert sum(line["rejected"] for line in refused) == BAD
    for line in refused:
        assert line["level"] == "warning"
        assert all(set(one) == {"offset", "path"} for one in line["examples"])
        assert all(line["first"] <= one["offset"] <= line["last"] for one in line["examples"])
    assert len(service.said("many records are refused; see `usageaudit rejects list`")) == 1
    assert "no event" not in (service.folder / "log").read_text(encoding="utf-8")


@pytest.fixture
def own_store(start_clickhouse: Callable[[], ClickHouse]) -> ClickHouse:
    """Return a ClickHouse of this test alone, with a database."""
    server = start_clickhouse()
    server.execute("CREATE DATABASE audit")
    return server


def test_a_store_that_hangs_or_is_gone_is_said_and_waited_for(
    kafka: Kafka, topic: str, own_store: ClickHouse, tmp_path: Path
) -> None:
    """Not ready, with the reason, alive all the time, the lag shown; ready again with no lag once the store is back."""
    url = f"{own_store.database_url('audit')}?timeout=15"
    service = Service(tmp_path, f"{kafka.url}?topic={topic}&group=group-{topic}", url, {"hung_seconds": "60"})
    away = ["the store does not answer"]
    with operated(service):
        service.wait_ready()
        service.wait(lambda: service.total("usageaudit_partitions", state="owned") == 4, "taking over")
        for number, (leave, back) in enumerate(
            [(own_store.pause, own_store.resume), (own_store.kill, own_store.start)], start=1
        ):
            leave()
            _publish(service.stream, map(_event, range(number * 10, number * 10 + 10)))
            service.wait(lambda: service.status("/readyz") == 503 and away[0] in service.reasons(), "noticing")
            service.wait(lambda: _lag(service) == 10, "showing the lag")
            oldest = service.total("usageaudit_oldest_unjudged_timestamp_seconds")
            assert 0 < time.time() - oldest < 60
            assert service.total("usageaudit_reachable", server="store") == 0
            assert service.status("/livez") == 200
            back()
            service.wait(lambda: service.status("/readyz") == 200 and _lag(service) == 0, "coming back")
            assert service.total("usageaudit_lag_seconds") == 0
        assert service.total("usageaudit_retries_total", server="store") > 0
        assert own_store.execute("SELECT count() FROM audit.usage_events") == [(20,)]
        own_store.pause()
        _publish(service.stream, [_event(99)])
        service.wait(lambda: service.status("/readyz") == 503, "noticing again")
        code, seconds = _end_watching(service)
        own_store.resume()
    assert code == 0
    assert seconds < 40


def _end_watching(service: Service) -> tuple[int, float]:
    """Send SIGTERM; return the exit code and after how many seconds it came, having asked whether it is ready."""
    began = time.monotonic()
    service.running.send_signal(signal.SIGTERM)
    while service.running.poll() is None and time.monotonic() - began < 60:
        assert service.status("/readyz") in (503, 0), "ready while it stops"
        time.sleep(0.05)
    return service.running.wait(1), time.monotonic() - began
