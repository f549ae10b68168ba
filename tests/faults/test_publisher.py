"""kill -9 of publishers around queue, spool, acknowledgement and deletion, and in the writes of their spools."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.conftest import skip
from tests.faults import shim
from tests.faults.campaign import CONTROL_TRIES, LONG, STRIKE_SECONDS, TRIES, Audit, Campaign, campaign, report
from tests.faults.nursery import ROOT, SIGKILLED, Process
from tests.faults.publishing import POINTS
from tests.faults.shim import Call, Moment, Shim

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.servers.clickhouse import ClickHouse
    from tests.servers.kafka import Kafka

pytestmark = pytest.mark.timeout(3600 if LONG else 600)
PUBLISHING = "tests.faults.publishing"
FAULT = "kill -9"
SENT = ("after the acknowledgement", "before deletion from the spool")
"""Who dies here leaves in the spool what the broker has: it is sent again."""
UNSENT = ("after queue", "before sending")
"""Where an event that was queued, and no more, is lost with its process."""
IN_A_WRITE = {
    "before a write of the spool": Moment.BEFORE,
    "half-way through a write of the spool": Moment.HALFWAY,
    "after a write of the spool": Moment.AFTER,
}


def _killed_at(one: Campaign, point: str, nth: int, without: Sequence[str]) -> None:
    """Run a service until it has killed itself at a point."""
    process = Process(one.folder, PUBLISHING, *_arguments(one), "--at", point, "--nth", str(nth), *without)
    try:
        assert process.wait(STRIKE_SECONDS) == SIGKILLED, process.said()
    finally:
        process.kill()
    one.faults.append(time.monotonic())


def _killed_in_a_write(one: Campaign, point: str, nth: int) -> None:
    """Run a service, in an interpreter with the shim, until it is killed in its n-th write below the spool's folder."""
    told = Shim(one.folder)
    told.arm(Call.WRITE, "/spool/", nth, IN_A_WRITE[point])
    environment = {**os.environ, **told.environment, "PYTHONPATH": str(ROOT)}
    with (one.folder / "shimmed.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", PUBLISHING, *_arguments(one)], env=environment, stdout=log, stderr=log, cwd=ROOT
        )
        try:
            assert process.wait(STRIKE_SECONDS) == SIGKILLED
        finally:
            process.kill()
            process.wait()
    one.faults.append(time.monotonic())


def _arguments(one: Campaign) -> Sequence[str]:
    journal = one.journals / f"{time.monotonic_ns()}.journal"
    return f"{one.kafka.url}?topic={one.name}", str(one.folder / "spool"), str(journal)


def _drain(one: Campaign) -> None:
    process = Process(one.folder, PUBLISHING, *_arguments(one), "--drain")
    try:
        assert process.wait(120) == 0, process.said()
    finally:
        process.kill()


def _run(
    folder: Path,
    kafka: Kafka,
    clickhouse: ClickHouse,
    points: Sequence[str],
    tries: int,
    without: Sequence[str] = (),
    consumer: Sequence[str] = (),
    control: str = "",
) -> Audit:
    with campaign(folder, kafka, clickhouse) as one:
        for point in [point for point in points for _ in range(tries)]:
            if point in IN_A_WRITE:
                _killed_in_a_write(one, point, one.chance.randint(1, 300))
            else:
                _killed_at(one, point, one.chance.randint(1, 40), without)
        _drain(one)
        one.finish(*consumer)
        audit = one.audit()
        point = points[0] if len(points) == 1 else "all points"
        report(one, audit, "publisher", FAULT, point, control=control)
    return audit


def _each(points: Sequence[str]) -> Sequence[Sequence[str]]:
    return [(point,) for point in points] if LONG else [points]


@pytest.mark.parametrize("points", _each(POINTS), ids=lambda points: points[0] if len(points) == 1 else "all points")
def test_a_publisher_killed_at_a_point_again_and_again(
    points: Sequence[str], quick_kafka: Kafka, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    """Wherever a publisher is killed, each event whose durable emit returned is in the ledger exactly once."""
    audit = _run(tmp_path, quick_kafka, clickhouse, points, TRIES)
    assert audit.exact, audit.found
    assert audit.events > 0


@pytest.mark.parametrize("points", _each([*IN_A_WRITE]), ids=lambda points: points[0] if len(points) == 1 else "writes")
def test_a_publisher_killed_in_a_write_of_its_spool(
    points: Sequence[str], quick_kafka: Kafka, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    """A spool whose owner was killed in the middle of a write has every event whose durable emit had returned."""
    if reason := shim.lacking():
        skip(reason)
    audit = _run(tmp_path, quick_kafka, clickhouse, points, TRIES)
    assert audit.exact, audit.found


@pytest.mark.parametrize("points", _each(UNSENT), ids=lambda points: points[0])
def test_control_without_a_spool(
    points: Sequence[str], quick_kafka: Kafka, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    """Negative control: events that are taken for safe because they are queued are lost with their process."""
    without, said = ("--without", "spool", "--pause", "0.002"), "without the spool"
    assert _run(tmp_path, quick_kafka, clickhouse, points, CONTROL_TRIES, without, control=said).lost > 0


@pytest.mark.parametrize("points", _each(SENT), ids=lambda points: points[0])
def test_control_without_the_look_up(
    points: Sequence[str], quick_kafka: Kafka, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    """Negative control: what a spool sends again is accepted twice by a consumer that looks nothing up."""
    consumer, said = ("--without", "look-up"), "without the look-up"
    audit = _run(tmp_path, quick_kafka, clickhouse, points, CONTROL_TRIES, (), consumer, said)
    assert audit.doubled > 0
