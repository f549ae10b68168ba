"""Turns what a service did and sees into samples, when Prometheus asks: the main loop has no part in it."""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import dataclass
from importlib.metadata import version
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

from usageaudit.operating import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client.core import Metric as Family

    from usageaudit.operating.health import Health
    from usageaudit.operating.metrics import Metric
    from usageaudit.operating.watching import Watch
    from usageaudit.pipeline.activity import Distribution, Position
    from usageaudit.pipeline.policies import Policies
    from usageaudit.scheduler.service import SchedulerState

    Values = Iterable[tuple[tuple[str, ...], float]]
    """Values with those of their labels."""


class Dispatching(Protocol):
    """The numbers of a dispatcher of alerts, of which this room knows nothing else."""

    @property
    @abstractmethod
    def leading(self) -> bool:
        """Whether it holds the lease."""

    @property
    @abstractmethod
    def backlog(self) -> int:
        """Records that it has not looked at."""

    @property
    @abstractmethod
    def waiting(self) -> int:
        """Deliveries that wait for their turn."""

    @property
    @abstractmethod
    def retrying(self) -> int:
        """Deliveries that failed and are tried again."""

    @property
    @abstractmethod
    def dead(self) -> int:
        """Deliveries that were given up."""

    @property
    @abstractmethod
    def open_breakers(self) -> int:
        """Targets that are left alone for a while."""

    @property
    @abstractmethod
    def oldest(self) -> float:
        """Age of the oldest delivery on its way, in seconds."""


@dataclass(slots=True, eq=False)  # the registry keeps collectors by identity
class ServiceCollector(Collector):
    """The metrics of a service; those that need the policies or the watch come once it has started."""

    health: Health
    policies: Policies | None = None
    watch: Watch | None = None
    scheduler: SchedulerState | None = None
    dispatcher: Callable[[], Dispatching | None] = lambda: None

    def collect(self) -> Iterator[Family]:
        """Yield every metric that `metrics` defines and that there is a value for."""
        yield _family(metrics.BUILD, [((version("usageaudit"),), 1)])
        yield _family(metrics.READY, [((), not self.health.reasons(self.watch))])
        yield from self._of_loop()
        yield from self._of_partitions()
        if self.policies is not None:
            yield from _of_policies(self.policies)
        if self.scheduler is not None:
            yield from _of_scheduler(self.scheduler)
        if (dispatcher := self.dispatcher()) is not None:
            yield from _of_dispatcher(dispatcher)
        if self.watch is not None:
            yield from _of_watch(self.watch)

    def _of_loop(self) -> Iterator[Family]:
        activity = self.health.activity
        counts = activity.counts
        statuses = zip(metrics.STATUSES, (counts.accepted, counts.duplicates, counts.rejected), strict=True)
        yield _family(metrics.RECORDS, _by_label(dict(statuses)))
        yield _histogram(metrics.BATCH_RECORDS, {(): activity.batch_records})
        yield _histogram(metrics.BATCH_SECONDS, {(stage,): one for stage, one in activity.stages.items()})
        yield _family(metrics.TAKEOVERS, [((), activity.takeovers)])
        yield _family(metrics.GIVEN_UP, _by_label(activity.given_up))
        yield _family(metrics.RETRIES, _by_label(activity.retries))
        yield _family(metrics.FINDINGS, _by_label(activity.findings))
        yield _family(metrics.REJECTED_RATIO, [((), activity.rejected_share)])
        yield _family(metrics.REJECTED_ALARM, [((), activity.alarmed)])
        servers = {"stream": activity.connected}
        if self.watch is not None:
            servers["store"] = self.watch.reachable()
        yield _family(metrics.REACHABLE, _by_label(servers))
        silent = self.health.silent()
        yield _family(metrics.LOOP, [((), time.time() - silent)] if silent is not None else [])

    def _of_partitions(self) -> Iterator[Family]:
        activity, now = self.health.activity, time.time()
        positions = activity.positions
        yield _family(metrics.PARTITIONS, _by_label({"owned": activity.owned, "waiting": activity.waiting}))
        lags = [(_labels(one), one.lag) for one in positions]
        yield _family(metrics.LAG_RECORDS, [(labels, lag) for labels, lag in lags if lag is not None])
        waits = [(_labels(one), _waiting_since(one, now)) for one in positions]
        known = [(labels, since) for labels, since in waits if since is not None]
        yield _family(metrics.LAG_SECONDS, [(labels, max(now - since, 0.0)) for labels, since in known])
        oldest = min((since for _, since in known), default=now)
        yield _family(metrics.OLDEST, [((), oldest)] if oldest < now else [])


def registry_of(collector: Collector) -> CollectorRegistry:
    """Return a registry of a collector and of the usual metrics of a process of Python."""
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def _of_policies(policies: Policies) -> Iterator[Family]:
    yield _family(metrics.BUNDLE, [((policies.bundle_hash,), 1)])
    yield _family(metrics.RELOADS, _by_label(policies.reloads))
    yield _family(metrics.EXPIRED, [((), policies.expired())])


def _of_scheduler(state: SchedulerState) -> Iterator[Family]:
    yield _family(metrics.SCHEDULER_LEADS, [((), state.leads)])
    yield _family(metrics.WINDOWED, [((), state.rules)])
    yield _family(metrics.WINDOW_FINDINGS, [((), state.findings)])
    if state.leads:  # the others do not know
        yield _family(
            metrics.WINDOW_RULES, _by_label({"stepping": state.rules - state.failing, "refused": state.failing})
        )
        yield _family(metrics.WINDOW_LAG, [((), state.lag_seconds)])
        yield _family(metrics.WINDOW_STEP, [((), state.step_seconds)])


def _of_dispatcher(state: Dispatching) -> Iterator[Family]:
    yield _family(metrics.ALERTS_LEAD, [((), state.leading)])
    yield _family(metrics.ALERT_DEAD, [((), state.dead)])
    if state.leading:
        yield _family(metrics.ALERT_BACKLOG, [((), state.backlog)])
        yield _family(metrics.ALERT_DELIVERIES, _by_label({"waiting": state.waiting, "retrying": state.retrying}))
        yield _family(metrics.ALERT_OLDEST, [((), state.oldest)])
        yield _family(metrics.ALERT_BREAKERS, [((), state.open_breakers)])


def _of_watch(watch: Watch) -> Iterator[Family]:
    seen = watch.seen
    yield _family(metrics.DISK_FREE, [((name,), disk.free) for name, disk in seen.disks.items()])
    yield _family(metrics.DISK_SIZE, [((name,), disk.size) for name, disk in seen.disks.items()])
    if watch.spool is None:
        return
    states = dict.fromkeys(metrics.SPOOL_STATES, 0)
    for spool in seen.spools:
        states["damaged" if spool.problem else "owned" if spool.owner_alive else "orphaned"] += 1
    yield _family(metrics.SPOOLS, _by_label(states))
    yield _family(metrics.SPOOL_EVENTS, [((), sum(spool.events for spool in seen.spools))])
    yield _family(metrics.SPOOL_REFUSED, [((), sum(spool.refused for spool in seen.spools))])
    yield _family(metrics.SPOOL_BYTES, [((), sum(spool.bytes for spool in seen.spools))])
    times = [spool.oldest / 1000 for spool in seen.spools if spool.oldest is not None]
    yield _family(metrics.SPOOL_OLDEST, [((), min(times))] if times else [])


def _waiting_since(position: Position, now: float) -> float | None:
    """Return since when a partition waits, in seconds since 1970: now where it does not, None where it is not known."""
    if position.lag == 0:
        return now
    return None if position.since is None else position.since / 1000


def _labels(position: Position) -> tuple[str, str]:
    return position.topic, str(position.number)


def _by_label(values: Mapping[Any, float]) -> Values:
    return [((str(label),), value) for label, value in values.items()]


def _family(metric: Metric, values: Values) -> Family:
    labels = tuple(metric.labels)
    if metric.kind == "info":
        info = InfoMetricFamily(metric.name.removesuffix("_info"), metric.meaning)
        for given, _ in values:
            info.add_metric([], dict(zip(labels, given, strict=True)))
        return info
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.meaning, labels=labels)
    for given, value in values:
        family.add_metric(given, float(value))
    return family


def _histogram(metric: Metric, distributions: Mapping[tuple[str, ...], Distribution]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.meaning, labels=tuple(metric.labels))
    for given, distribution in distributions.items():
        bounds = [*(str(float(bound)) for bound in distribution.bounds), "+Inf"]
        cumulated = accumulate(tuple(distribution.counts))
        family.add_metric(given, list(zip(bounds, cumulated, strict=True)), distribution.total)
    return family
