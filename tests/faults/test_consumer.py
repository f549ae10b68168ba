"""kill -9 of the consumer at every point of its protocol while events come in, again and again, and one audit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.campaign import CONTROL_TRIES, LONG, TRIES, Audit, Campaign, campaign, report
from tests.faults.child import AT_REJECTED, RECOVERING, WORKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.servers.clickhouse import ClickHouse
    from tests.servers.kafka import Kafka

pytestmark = pytest.mark.timeout(3600 if LONG else 600)
BATCH = ("--records", "50")
FAULT = "kill -9"
LEAVES_ROWS = "before acknowledge"
"""Who dies here has recorded a batch that the group does not know of: what comes next has something to recover."""
BEFORE_RECORDED = (*WORKING[:4], *AT_REJECTED)
"""Where the control that commits first has committed what is not recorded."""
AFTER_RECORDED = (*RECOVERING, "before the answer to an insert", "after insert", LEAVES_ROWS)
"""Where the control that does not read back has recorded what it will get again."""


LONG_POINTS = (*RECOVERING, *WORKING, *AT_REJECTED)


def _each(points: Sequence[str]) -> Sequence[Sequence[str]]:
    """Return what the campaigns strike: the long form has one for each point, the short one has one for all."""
    return [(point,) for point in points] if LONG else [points]


def _control(points: Sequence[str], short: str) -> Sequence[Sequence[str]]:
    """Return what a control strikes: the long form each point, the short one the one that is named."""
    return [(point,) for point in (points if LONG else (short,))]


def _named(points: Sequence[str]) -> str:
    return points[0] if len(points) == 1 else "all points"


def _strike(one: Campaign, points: Sequence[str], tries: int, *options: str) -> int:
    """Kill at points in turn, so many times; return how many other kills were needed to have something to recover."""
    also = 0
    for point in [point for point in points for _ in range(tries)]:
        if point in RECOVERING:
            one.killed_at(LEAVES_ROWS, one.chance.randint(1, 3), *BATCH, *options)
            also += 1
        one.killed_at(point, one.chance.randint(1, 2), *BATCH, *options)
    return also


def _run(
    folder: Path, kafka: Kafka, clickhouse: ClickHouse, points: Sequence[str], tries: int, without: str = ""
) -> Audit:
    options = ("--without", without) if without else ()
    with campaign(folder, kafka, clickhouse) as one:
        with one.traffic("--broken", "37", "--copies", "2"):
            also = _strike(one, points, tries, *options)
        one.finish(*options)
        audit = one.audit()
        report(
            one, audit, "consumer", FAULT, _named(points), control=f"without {without}" if without else "", also=also
        )
    return audit


@pytest.mark.parametrize("points", _each(LONG_POINTS), ids=_named)
def test_consumers_killed_at_a_point_again_and_again(
    points: Sequence[str], quick_kafka: Kafka, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    """Wherever consumers are killed while events come in, the ledger has each acknowledged one exactly once."""
    audit = _run(tmp_path, quick_kafka, clickhouse, points, TRIES)
    assert audit.exact, audit.found
    assert audit.events > 0


def test_consumers_killed_twice_in_recovery(quick_kafka: Kafka, clickhouse: ClickHouse, tmp_path: Path) -> None:
    """Who is killed while it recovers from one that was killed in recovery leaves the ledger exact, too."""
    with campaign(tmp_path, quick_kafka, clickhouse) as one:
        with one.traffic("--broken", "37", "--copies", "2"):
            for _ in range(TRIES):
                one.killed_at(LEAVES_ROWS, one.chance.randint(1, 3), *BATCH)
                one.killed_at(one.chance.choice(RECOVERING), 1, *BATCH)
                one.killed_at(one.chance.choice(RECOVERING), one.chance.randint(1, 2), *BATCH)
        one.finish()
        audit = one.audit()
        report(one, audit, "consumer", FAULT, "twice in recovery", also=TRIES)
    assert audit.exact, audit.found


@pytest.mark.parametrize("points", _control(AFTER_RECORDED, LEAVES_ROWS), ids=_named)
def test_control_without_reading_back(
    points: Sequence[str], quick_kafka: Kafka, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    """Negative control: a consumer that trusts the committed offset records batches twice."""
    assert _run(tmp_path, quick_kafka, clickhouse, points, CONTROL_TRIES, "reading back").doubled > 0


@pytest.mark.parametrize("points", _control(BEFORE_RECORDED, "before insert"), ids=_named)
def test_control_without_recording_first(
    points: Sequence[str], quick_kafka: Kafka, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    """Negative control: a consumer that commits before it records loses what it held when it was killed."""
    assert _run(tmp_path, quick_kafka, clickhouse, points, CONTROL_TRIES, "recording first").lost > 0
