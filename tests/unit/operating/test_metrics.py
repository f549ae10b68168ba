"""The metrics: one definition of each, names as Prometheus advises, few values a label, and samples for all of them."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition, parser
from prometheus_client.parser import text_string_to_metric_families

from usageaudit.operating import metrics
from usageaudit.operating.collecting import ServiceCollector, registry_of
from usageaudit.operating.health import Health
from usageaudit.pipeline.activity import Activity, Distribution, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prometheus_client.core import Metric as Family

# Their parameters have no types.
generate_openmetrics: Callable[[CollectorRegistry], bytes] = exposition.generate_latest
parse_openmetrics: Callable[[str], Iterable[Family]] = parser.text_string_to_metric_families
DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics.md"
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)


def _activity(positions: Sequence[Position] = ()) -> Activity:
    activity = Activity()
    activity.live()
    activity.positions = tuple(positions)
    return activity


def _families(activity: Activity) -> dict[str, Family]:
    collector = ServiceCollector(Health(activity, threading.Event(), 300))
    text = generate_latest(registry_of(collector)).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def _values(activity: Activity, name: str) -> dict[tuple[str, ...], float]:
    family = _families(activity)[name.removesuffix("_total")]
    return {tuple(sample.labels.values()): sample.value for sample in family.samples}


def test_names_follow_the_rules() -> None:
    """Names are unique and ours, counters end in _total, infos in _info, and what has a base unit ends in it."""
    names = [metric.name for metric in metrics.METRICS]
    assert len(set(names)) == len(names)
    for metric in metrics.METRICS:
        assert re.fullmatch(r"usageaudit_[a-z]+(_[a-z]+)*", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.name.endswith("_info") == (metric.kind == "info")
        assert ("bytes" in metric.name) == (metric.unit == "bytes")
        assert ("_seconds" in metric.name) == (metric.unit.startswith("seconds"))
        assert ("_timestamp_seconds" in metric.name) == (metric.unit == "seconds since 1970")
        assert bool(metric.buckets) == (metric.kind == "histogram")


def test_the_document_has_the_table_of_now() -> None:
    """docs/metrics.md is what `python -m usageaudit.operating.metrics` makes of it."""
    page = DOCUMENT.read_text(encoding="utf-8")
    assert metrics.table() in page
    assert metrics.with_table(page) == page


def test_labels_have_the_values_that_are_defined() -> None:
    """Every sample has the labels of its definition, each with one of the values that the definition names."""
    activity = _activity([Position("t", 3, 5, 9, 1)])
    defined = {metric.name: metric for metric in metrics.METRICS}
    seen = set()
    for family in _families(activity).values():
        metric = defined.get(family.name) or defined.get(family.name + "_total")
        if metric is None:
            assert family.name.startswith(("process_", "python_"))
            continue
        seen.add(metric.name)
        assert family.documentation == metric.meaning
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if name != "le"}
            assert set(labels) == set(metric.labels)
            assert all(not metric.labels[name] or value in metric.labels[name] for name, value in labels.items())
    assert seen >= {metrics.RECORDS.name, metrics.LAG_RECORDS.name, metrics.LAG_SECONDS.name, metrics.OLDEST.name}


@settings(deadline=None, max_examples=30)
@given(NAMES, st.integers(0, 2**40), st.integers(0, 2**40) | st.none(), st.integers(0, 2**41) | st.none())
def test_both_forms_can_be_read_and_say_the_same(topic: str, reached: int, end: int | None, since: int | None) -> None:
    """Whatever a topic is called and wherever a partition is, a strict reader sees the same in both forms."""
    activity = _activity([Position(topic, 0, reached, end, since)])
    registry = registry_of(ServiceCollector(Health(activity, threading.Event(), 300)))
    old = _names(text_string_to_metric_families(generate_latest(registry).decode()))
    assert old == _names(parse_openmetrics(generate_openmetrics(registry).decode()))


def _names(families: Iterable[Family]) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in families
        for sample in family.samples
        if sample.name.startswith("usageaudit_")
    }


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 300_000), max_size=50))
def test_a_distribution_counts_what_is_at_most_each_bound(values: list[int]) -> None:
    """The buckets are those of a histogram of Prometheus: each counts what is at most its bound."""
    activity = _activity()
    for value in values:
        activity.batch_records.add(value)
    samples = _families(activity)["usageaudit_batch_records"].samples
    for sample in samples:
        if sample.name.endswith("_bucket"):
            assert sample.value == sum(value <= float(sample.labels["le"]) for value in values)
        else:
            assert sample.value == (len(values) if sample.name.endswith("_count") else sum(values))


def test_lag_is_told_by_what_is_known() -> None:
    """Nothing waits: zero and no oldest record; something waits: its age, or no sample where nothing was read yet."""
    hour_ago = round((time.time() - 3600) * 1000)
    none = _activity([Position("t", 0, 7, 7, hour_ago), Position("t", 1, 7, 7, None)])
    assert _values(none, "usageaudit_lag_seconds") == {("0", "t"): 0.0, ("1", "t"): 0.0}
    assert _values(none, "usageaudit_lag_records") == {("0", "t"): 0.0, ("1", "t"): 0.0}
    assert _values(none, "usageaudit_oldest_unjudged_timestamp_seconds") == {}
    some = _activity([Position("t", 0, 7, 9, hour_ago), Position("t", 1, 7, 8, None), Position("t", 2, 7, None, None)])
    assert _values(some, "usageaudit_lag_seconds") == {("0", "t"): pytest.approx(3600, abs=10)}
    assert _values(some, "usageaudit_lag_records") == {("0", "t"): 2.0, ("1", "t"): 1.0}
    assert _values(some, "usageaudit_oldest_unjudged_timestamp_seconds") == {(): pytest.approx(hour_ago / 1000)}


def test_a_distribution_has_a_bucket_above_its_last_bound() -> None:
    """A value above every bound is counted, and one at a bound is in the bucket of that bound."""
    distribution = Distribution((1.0, 2.0))
    for value in (1.0, 1.5, 2.0, 99.0):
        distribution.add(value)
    assert (distribution.counts, distribution.total) == ([1, 2, 1], 103.5)
