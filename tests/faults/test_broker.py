"""kill -9 of the broker at its writes, while publishers send and a consumer commits, and at random."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.conftest import running, skip
from tests.faults import nursery, shim
from tests.faults.campaign import CONTROL_TRIES, LONG, TRIES, Audit, Campaign, campaign, report, wait_until
from tests.faults.servers import STARTS_SECONDS, ShimmedKafka, is_gone, start_again_once_dead
from tests.faults.shim import Call, Moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.servers.clickhouse import ClickHouse

pytestmark = pytest.mark.timeout(3600 if LONG else 600)
PUBLISHING = "tests.faults.publishing"
FAULT = "kill -9"
RECORDS, OFFSETS = "/{topic}-", "/__consumer_offsets-"
POINTS = {
    "before records are appended": (RECORDS, Moment.BEFORE),
    "half-way through appending records": (RECORDS, Moment.HALFWAY),
    "after records are appended, unacknowledged": (RECORDS, Moment.AFTER),
    "before committed offsets are written": (OFFSETS, Moment.BEFORE),
    "after committed offsets are written": (OFFSETS, Moment.AFTER),
}
AT_RANDOM = "at random"
APPENDED = "after records are appended, unacknowledged"
"""Who sends again what was appended, and does not say that it is the same, doubles it."""
UNAPPENDED = ("before records are appended", "half-way through appending records", AT_RANDOM)
UNCOMMITTED = "before committed offsets are written"
CONSUMER = ("--records", "50")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShimmedKafka]:
    """Yield a broker that can be killed at a system call."""
    if reason := shim.lacking():
        skip(reason)
    with running(ShimmedKafka(tmp_path_factory.mktemp("shimmed-kafka"))) as server:
        yield server


def _kill_at(one: Campaign, broker: ShimmedKafka, point: str, tries: int) -> None:
    """Kill the broker at a point of its writes again and again, once it is taking part again."""
    for number in range(tries):
        if point == AT_RANDOM:
            time.sleep(one.chance.uniform(0.05, 1.0))  # how long the broker lives
            broker.kill()
            broker.start(STARTS_SECONDS)
        else:
            path, moment = POINTS[point]
            broker.shim.arm(Call.WRITE, path.format(topic=one.name), 1 + number % 5, moment)
            start_again_once_dead(broker, broker.shim)
        one.faults.append(time.monotonic())
        _wait_for_more(one)


def _wait_for_more(one: Campaign) -> None:
    """Wait until something was recorded since the last fault."""
    wait_until("a batch after the fault", lambda: one.last_recorded() > one.faults[-1], 240)


def _run(
    folder: Path,
    broker: ShimmedKafka,
    clickhouse: ClickHouse,
    points: Sequence[str],
    tries: int,
    publishing: Sequence[str] = (),
    consuming: Sequence[str] = (),
    control: str = "",
) -> Audit:
    with campaign(folder, broker, clickhouse) as one, ExitStack() as stack:
        consumer = one.consumer(*CONSUMER, *consuming)
        stack.callback(consumer.kill)
        services = [_service(one, stack, number, publishing) for number in range(2)]
        wait_until("the first batch", lambda: one.last_recorded() > 0, 120)
        for point in points:
            _kill_at(one, broker, point, tries)
        for service in services:
            assert service.end(120) == 0, service.said()
        assert consumer.end(120) == 0, consumer.said()
        _drain(one)
        one.finish(*consuming)
        audit = one.audit()
        report(one, audit, "broker", FAULT, points[0] if len(points) == 1 else "all points", control=control)
    return audit


def _service(one: Campaign, stack: ExitStack, number: int, options: Sequence[str]) -> nursery.Process:
    place = f"{one.kafka.url}?topic={one.name}", str(one.folder / "spool"), str(one.journals / f"{number}.journal")
    process = nursery.Process(one.folder, PUBLISHING, *place, "--pause", "0.05", *options)
    stack.callback(process.kill)
    return process


def _drain(one: Campaign) -> None:
    place = f"{one.kafka.url}?topic={one.name}", str(one.folder / "spool"), str(one.journals / "drain.journal")
    with nursery.running(one.folder, PUBLISHING, *place, "--drain") as process:
        assert process.wait(120) == 0, process.said()


@pytest.mark.parametrize(
    "points",
    [(point,) for point in (*POINTS, AT_RANDOM)] if LONG else [(UNAPPENDED[0], UNCOMMITTED)],
    ids=lambda points: points[0] if len(points) == 1 else "two points",
)
def test_a_broker_killed_at_a_point_again_and_again(
    points: Sequence[str], broker: ShimmedKafka, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    """Wherever in its writes the broker is killed, each event that a publisher kept is recorded exactly once."""
    audit = _run(tmp_path, broker, clickhouse, points, TRIES)
    assert audit.exact, audit.found
    assert audit.events > 0


@pytest.mark.parametrize("point", UNAPPENDED if LONG else UNAPPENDED[:1])
def test_control_without_acknowledgements(
    point: str, broker: ShimmedKafka, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    """Negative control: a publisher that does not wait for the broker to acknowledge loses what it had sent."""
    without, said = ("--without", "acknowledgement"), "without acknowledgements"
    assert _run(tmp_path, broker, clickhouse, [point], CONTROL_TRIES, without, control=said).lost > 0


@pytest.mark.skipif(not LONG, reason="a control of the long form: make faults")
def test_control_without_idempotence(broker: ShimmedKafka, clickhouse: ClickHouse, tmp_path: Path) -> None:
    """Negative control: a producer that is not idempotent doubles records, and nothing but the look-up would notice."""
    publishing, consuming = ("--without", "idempotence"), ("--without", "look-up")
    said = "without idempotence and look-up"
    assert _run(tmp_path, broker, clickhouse, [APPENDED], CONTROL_TRIES, publishing, consuming, said).doubled > 0


@pytest.mark.skipif(not LONG, reason="a control of the long form: make faults")
@pytest.mark.parametrize("point", [UNCOMMITTED])
def test_control_without_reading_back(point: str, broker: ShimmedKafka, clickhouse: ClickHouse, tmp_path: Path) -> None:
    """Negative control: where a commit died with the broker, who does not read back records the batch again."""
    with campaign(tmp_path, broker, clickhouse) as one, ExitStack() as stack:
        _service(one, stack, 0, ())
        for _ in range(CONTROL_TRIES):
            consumer = one.consumer(*CONSUMER, "--without", "reading back")
            stack.callback(consumer.kill)
            _lose_a_commit(one, broker, consumer, point)
        one.finish("--without", "reading back")
        audit = one.audit()
        report(one, audit, "broker", FAULT, point, control="without reading back")
    assert audit.doubled > 0


def _lose_a_commit(one: Campaign, broker: ShimmedKafka, consumer: nursery.Process, point: str) -> None:
    """Kill the broker when the consumer has recorded a batch and commits it, and the consumer with it."""
    path, moment = POINTS[point]
    wait_until("a batch of this consumer", lambda: "recorded: " in consumer.said(), 120)
    broker.shim.arm(Call.WRITE, path, 1, moment)
    wait_until("the broker to be killed", lambda: is_gone(broker), 120)
    consumer.kill()
    one.faults.append(time.monotonic())
    start_again_once_dead(broker, broker.shim)
