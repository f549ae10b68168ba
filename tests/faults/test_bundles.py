"""Policies change in mid-stream while consumers are killed: every row is judged by one bundle that the store has."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.faults.campaign import (
    CONTROL_TRIES,
    LONG,
    STRIKE_SECONDS,
    TRIES,
    Audit,
    Campaign,
    campaign,
    report,
    wait_until,
)
from tests.faults.child import AT_BUNDLE
from tests.faults.nursery import SIGKILLED
from tests.unit.policy.bundles import policy, write

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.clickhouse import ClickHouse
    from tests.servers.kafka import Kafka

pytestmark = pytest.mark.timeout(3600 if LONG else 600)
BATCH = ("--records", "50")
FAULT = "kill -9 while the policies change"
POINTS = (*AT_BUNDLE, "before insert", "after insert")


def _change(folder: Path, number: int) -> None:
    """Write the next policies: each names another user's events as violations."""
    watched = policy(f'actor.id == "u-{number}"', name=f"watched-{number}", pack="faults")
    write(folder, {"bundle.yaml": "name: faults", "policies/watched.yaml": watched})


def _killed_after_change(one: Campaign, policies: Path, point: str, options: tuple[str, ...]) -> None:
    """Change the policies under a consumer again and again, and have it read them, until it is killed at a point."""
    with ExitStack() as stack:
        nth = "2" if point in AT_BUNDLE else str(one.chance.randint(1, 6))
        process = one.consumer(*BATCH, *options, "--policies", str(policies), "--at", point, "--nth", nth)
        stack.callback(process.kill)
        wait_until(
            "a partition", lambda: "taken over" in process.said() or process.exit_code is not None, STRIKE_SECONDS
        )
        while process.exit_code is None:
            _change(policies, one.chance.randrange(97))
            process.send(signal.SIGHUP)
            time.sleep(0.5)  # until they change again
        assert process.wait(STRIKE_SECONDS) == SIGKILLED, process.said()
    one.faults.append(time.monotonic())


def _run(folder: Path, kafka: Kafka, clickhouse: ClickHouse, point: str, tries: int, *options: str) -> Audit:
    with campaign(folder, kafka, clickhouse) as one:
        policies = one.folder / "policies"
        policies.mkdir()
        _change(policies, 0)
        with one.traffic("--broken", "37"):
            for _ in range(tries):
                _killed_after_change(one, policies, point, options)
        one.finish("--policies", str(policies), *options)
        audit = one.audit()
        wrong = _misjudged(one, clickhouse)
        audit = Audit({**audit.found, "exact": audit.exact and not wrong, "other_statuses": wrong})
        control = f"without {options[1]}" if options else ""
        report(one, audit, "consumer", FAULT, point, control=control)
    return audit


def _misjudged(one: Campaign, clickhouse: ClickHouse) -> int:
    """Return how many rows say otherwise than their bundle's one policy, read out of the archive that is kept."""
    watched = f"SELECT DISTINCT hash, extract(archive, 'watched-([0-9]+)') AS user FROM {one.name}.bundles_log"
    judged = "notEmpty(l.violated) != (l.actor_id = concat('u-', b.user))"
    sql = (
        f"SELECT count() FROM {one.name}.ledger AS l INNER JOIN ({watched}) AS b ON l.bundle = b.hash "
        f"WHERE l.status = 'accepted' AND {judged}"
    )
    return int(clickhouse.execute(sql)[0][0])


@pytest.mark.parametrize("point", POINTS if LONG else POINTS[1:3])
def test_policies_change_while_consumers_are_killed(
    point: str, quick_kafka: Kafka, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    """Nothing is lost or doubled, and each batch has the verdicts of one bundle, which the store keeps."""
    audit = _run(tmp_path, quick_kafka, clickhouse, point, TRIES)
    assert audit.exact, audit.found


def test_control_without_keeping_the_bundle_first(quick_kafka: Kafka, clickhouse: ClickHouse, tmp_path: Path) -> None:
    """Negative control: where bundles are not kept before their rows the auditor finds rows that nobody can explain."""
    audit = _run(tmp_path, quick_kafka, clickhouse, "before insert", CONTROL_TRIES, "--without", "bundle first")
    assert audit.found["batches_of_unkept_bundles"] > 0
