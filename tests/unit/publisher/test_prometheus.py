"""What Prometheus is shown of publishers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.leftovers import leftovers_collected
from tests.strategies import MINIMAL
from usageaudit.publisher import Publisher
from usageaudit.publisher.prometheus import PublisherCollector

if TYPE_CHECKING:
    from pathlib import Path


def test_the_metrics_of_publishers(tmp_path: Path, url: str) -> None:
    """A scrape says of all publishers together what their stats say, in base units."""
    registry = CollectorRegistry()
    with leftovers_collected():
        spooling = Publisher("kafka://127.0.0.1:1", source="/s", spool=tmp_path / "spool")
        with Publisher(url, source="/s") as direct:
            registry.register(PublisherCollector(direct, spooling))
            assert "usageaudit_publisher_spool_oldest_timestamp_seconds" not in _scraped(registry)
            direct.emit({})
            direct.emit(MINIMAL, durable=True)
            for _ in range(3):
                spooling.emit(MINIMAL, durable=True)
            found = _scraped(registry)
        spooling.close(0)
    assert found["usageaudit_publisher_events_total acknowledged"] == 1
    assert found["usageaudit_publisher_events_total invalid"] == 1
    assert found["usageaudit_publisher_events_total dropped"] == found["usageaudit_publisher_events_total failed"] == 0
    assert found["usageaudit_publisher_queued_events"] == found["usageaudit_publisher_spooled_events"] == 3
    assert found["usageaudit_publisher_spool_bytes"] > 1_000
    assert 0 <= time.time() - found["usageaudit_publisher_spool_oldest_timestamp_seconds"] < 60


def _scraped(registry: CollectorRegistry) -> dict[str, float]:
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }
