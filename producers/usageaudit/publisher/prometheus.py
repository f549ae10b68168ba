"""Shows Prometheus what publishers do, by the client library of the service itself: `pip install prometheus-client`.

Nothing else of the publisher imports this module.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from usageaudit.publisher.protocol import EventPublisher, PublisherStats

__all__ = ["PublisherCollector"]

OUTCOMES = ("acknowledged", "failed", "dropped", "invalid")
_EVENTS = "Events since the process started: acknowledged by the stream, refused by it for good, dropped, invalid"
_QUEUED = "Events on their way to the stream, in memory and in the spool"
_SPOOLED = "Events in the spools that this process ships from"
_BYTES = "Size of those spools on the disk"
_OLDEST = "When the oldest event in those spools was put there; no sample where they are empty"


class PublisherCollector(Collector):
    """Collects what publishers of this process did, together; a registry of prometheus-client takes it.

    `usageaudit_publisher_events_total` counts by `outcome`. The others are gauges:
    `usageaudit_publisher_queued_events`, `_spooled_events`, `_spool_bytes` and `_spool_oldest_timestamp_seconds`, in
    seconds since 1970.
    """

    def __init__(self, *publishers: EventPublisher) -> None:
        self._publishers = publishers

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        stats = [publisher.stats for publisher in self._publishers]
        events = CounterMetricFamily("usageaudit_publisher_events", _EVENTS, labels=["outcome"])
        for outcome in OUTCOMES:
            events.add_metric([outcome], sum(getattr(one, outcome) for one in stats))
        yield events
        yield GaugeMetricFamily("usageaudit_publisher_queued_events", _QUEUED, sum(one.queued for one in stats))
        yield GaugeMetricFamily("usageaudit_publisher_spooled_events", _SPOOLED, sum(one.spooled for one in stats))
        yield GaugeMetricFamily("usageaudit_publisher_spool_bytes", _BYTES, sum(one.spool_bytes for one in stats))
        yield _oldest(stats)


def _oldest(stats: list[PublisherStats]) -> Metric:
    family = GaugeMetricFamily("usageaudit_publisher_spool_oldest_timestamp_seconds", _OLDEST)
    ages = [one.oldest_spooled_seconds for one in stats if one.oldest_spooled_seconds is not None]
    if ages:
        family.add_metric([], time.time() - max(ages))
    return family
