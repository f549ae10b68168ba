"""The broker away for minutes under a publisher that goes on emitting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.endurance import books
from tests.endurance.emitting import emitting
from tests.endurance.figures import state
from tests.endurance.forms import SHARE, length
from tests.endurance.memory import MIB, forget_peak, peak, resident

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers.kafka import Kafka

PARTITIONS = 4
RATE = 1_000.0
WARM = int(length(2_000, 20_000))
AWAY_SECONDS = length(5, 600)
EVENTS = int(RATE * AWAY_SECONDS)
P99_MS = 1.0 if SHARE else 50.0
"""Of a few seconds on a busy machine little can be required."""
GROWTH = 64


@pytest.mark.timeout(int(300 + 3 * AWAY_SECONDS))
def test_a_publisher_outlasts_a_broker_that_is_away(start_kafka: Callable[..., Kafka], tmp_path: Path) -> None:
    """While the broker is away emit stays quick and memory small; when it is back every event arrives."""
    kafka, topic = start_kafka({"log.retention.ms": "-1"}), "broker-away"
    kafka.create_topic(topic, PARTITIONS)
    with emitting(f"{kafka.url}?topic={topic}", tmp_path / "spool", RATE, WARM, EVENTS) as emitter:
        emitter.expect("warm")
        pid = emitter.process.pid
        before = resident(pid)
        forget_peak(pid)
        kafka.kill()
        emitter.go_on()
        emitter.expect("emitted")
        growth = peak(pid) - before
        kafka.start()
        emitter.go_on()
        measured = emitter.result()
    shipping = measured["peak"] - before
    copies = books.copies(kafka, topic, PARTITIONS)
    lost = {f"e-{number}" for number in range(WARM + EVENTS)} - copies.keys()
    test = "broker away"
    state(test, "time away", AWAY_SECONDS, "s")
    state(test, "rate", RATE, "events/s")
    state(test, "emit, median", round(measured["p50"] * 1000, 3), "ms")
    state(test, "emit, 99th percentile", round(measured["p99"] * 1000, 3), "ms", f"under {P99_MS:g}")
    state(test, "emit, 99.9th percentile", round(measured["p999"] * 1000, 3), "ms")
    state(test, "emit, longest", round(measured["longest"] * 1000, 1), "ms")
    state(test, "growth of the publisher's memory while it was away", round(growth / MIB, 1), "MiB", f"under {GROWTH}")
    state(test, "the same until all was shipped", round(shipping / MIB, 1), "MiB", f"under {GROWTH}")
    state(test, "events in the spool when the broker came back", measured["spooled"])
    state(test, "size of the spool", round(measured["spool_bytes"] / MIB), "MiB")
    state(test, "size of the spool by event", round(measured["spool_bytes"] / measured["spooled"]), "bytes")
    state(test, "all shipped after the broker was back", round(measured["flush_seconds"], 1), "s")
    state(test, "events lost", len(lost), bound="0")
    state(test, "copies on the stream beyond the first", copies.total() - len(copies), bound="the ledger takes one")
    assert lost == set()
    assert {measured[name] for name in ("left", "dropped", "failed", "invalid")} == {0}
    assert max(growth, shipping) < GROWTH * MIB
    assert measured["p99"] * 1000 < P99_MS


def test_without_a_spool_events_are_dropped() -> None:
    """Negative control: a publisher without a spool drops, and counts, what its queue has no room for."""
    with emitting("kafka://127.0.0.1:1", None, rate=1e6, warm=10_000, events=500, flush=0.1) as emitter:
        emitter.expect("warm")
        emitter.go_on()
        emitter.expect("emitted")
        emitter.go_on()
        assert emitter.result()["dropped"] == 500
