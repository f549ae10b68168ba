"""Consumers whose clock is wrong, or jumps, while they are killed: nothing of what is exact depends on the time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.conftest import skip
from tests.faults import shim
from tests.faults.campaign import (
    CONSUMER,
    CONTROL_TRIES,
    LONG,
    STRIKE_SECONDS,
    TRIES,
    Audit,
    Campaign,
    campaign,
    report,
)
from tests.faults.nursery import ROOT, SIGKILLED
from tests.faults.shim import Shim

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.servers.clickhouse import ClickHouse
    from tests.servers.kafka import Kafka

pytestmark = pytest.mark.timeout(3600 if LONG else 600)
HOUR = 3600.0
SLOW = (-HOUR,)
OFFSETS = (HOUR, -HOUR, 24 * HOUR, -40 * 24 * HOUR)
"""An hour off, either way; a day ahead; and in the month before last, which is another partition of the table."""
FAULT = "the clock is wrong, and goes backwards from one to the next"
POINT = "before acknowledge"


def _killed_with_clock(one: Campaign, told: Shim, offset: float, options: Sequence[str]) -> None:
    """Run a consumer in an interpreter whose clock is off, until it has killed itself."""
    told.set_clock(offset)
    fault = ("--at", POINT, "--nth", str(one.chance.randint(1, 3)), "--records", "50", *options)
    log = one.folder / f"clock-{time.monotonic_ns()}.log"
    one.logs.append(log)
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", CONSUMER, one.stream, one.store, *fault],
            env={**os.environ, **told.environment}, cwd=ROOT, stdout=out, stderr=out,
        )  # fmt: skip
        try:
            assert process.wait(STRIKE_SECONDS) == SIGKILLED, log.read_text()
        finally:
            process.kill()
            process.wait()
    one.faults.append(time.monotonic())


def _run(
    folder: Path, kafka: Kafka, clickhouse: ClickHouse, tries: int, offsets: Sequence[float], *options: str
) -> Audit:
    if reason := shim.lacking():
        skip(reason)
    with campaign(folder, kafka, clickhouse) as one:
        told = Shim(one.folder)
        with one.traffic("--broken", "37"):
            for number in range(tries):
                _killed_with_clock(one, told, offsets[number % len(offsets)], options)
        one.finish(*options)
        audit = one.audit()
        ((months,),) = clickhouse.execute(f"SELECT uniqExact(toYYYYMM(ingest_time)) FROM {one.name}.ledger")
        assert months > 1 or offsets == SLOW, "the clocks were not wrong"
        control = f"without {options[1]}" if options else ""
        report(one, audit, "consumer", FAULT, POINT, control=control)
    return audit


def test_the_ledger_is_exact_whatever_the_clock_says(
    quick_kafka: Kafka, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    """Consumers with clocks hours and weeks apart, killed one after the other, record each event exactly once."""
    audit = _run(tmp_path, quick_kafka, clickhouse, max(TRIES, len(OFFSETS)), OFFSETS)
    assert audit.exact, audit.found


def test_control_recovery_by_the_clock(quick_kafka: Kafka, clickhouse: ClickHouse, tmp_path: Path) -> None:
    """Negative control: who reads back only what was recorded lately, by the clock, doubles when the clock is wrong."""
    audit = _run(tmp_path, quick_kafka, clickhouse, CONTROL_TRIES, SLOW, "--without", "clock-free recovery")
    assert audit.doubled > 0
