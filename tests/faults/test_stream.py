"""What the stream may bring: copies out of order, offsets that retention took from a consumer that had stopped."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer
from kafka.structs import TopicPartition

from tests.faults.campaign import CONTROL_TRIES, LONG, TRIES, Audit, Campaign, campaign, report

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.servers.clickhouse import ClickHouse
    from tests.servers.kafka import Kafka

pytestmark = pytest.mark.timeout(3600 if LONG else 600)
BATCH = ("--records", "50")
COPIES = "events come several times, out of order"
OVERTAKEN = "retention takes what a stopped consumer has not read"


def _copies(folder: Path, kafka: Kafka, clickhouse: ClickHouse, *options: str) -> Audit:
    events = 20_000 if LONG else 1_000
    with campaign(folder, kafka, clickhouse) as one:
        with one.traffic("--copies", "5", "--events", str(events), "--rate", "2000") as traffic:
            assert traffic.wait(300) == 0
        one.finish(*BATCH if not LONG else (), *options)
        audit = one.audit()
        one.faults.append(time.monotonic())
        report(one, audit, "stream", COPIES, "up to five each", control="without the look-up" if options else "")
    return audit


def test_copies_out_of_order_are_accepted_once(quick_kafka: Kafka, clickhouse: ClickHouse, tmp_path: Path) -> None:
    """Each event is accepted once however often it comes, and each copy is a row of status duplicate."""
    audit = _copies(tmp_path, quick_kafka, clickhouse)
    assert audit.exact, audit.found
    assert audit.found["duplicates"] > audit.events


def test_control_copies_without_the_look_up(quick_kafka: Kafka, clickhouse: ClickHouse, tmp_path: Path) -> None:
    """Negative control: without the look-up every copy is accepted."""
    assert _copies(tmp_path, quick_kafka, clickhouse, "--without", "look-up").doubled > 0


def _overtaken(folder: Path, kafka: Kafka, clickhouse: ClickHouse, tries: int, without: Sequence[str] = ()) -> Audit:
    """Stop a consumer, let the broker drop some of what it has not read, and let it go on, again and again."""
    with campaign(folder, kafka, clickhouse) as one:
        for _ in range(tries):
            with one.traffic("--events", "200", "--rate", "4000") as traffic:
                assert traffic.wait(120) == 0, traffic.said()
            one.finish(*without)
            with one.traffic("--events", "200", "--rate", "4000") as traffic:
                assert traffic.wait(120) == 0, traffic.said()
            dropped = _drop_some(one)
            one.faults.append(time.monotonic())
            one.finish(*without)
            assert dropped
        audit = one.audit()
        report(one, _explained(audit), "stream", OVERTAKEN, "", control="without gap findings" if without else "")
    return audit


def _drop_some(one: Campaign) -> int:
    """Let the broker forget some records of each partition that nobody has read; return how many."""
    reader: Any = KafkaConsumer(bootstrap_servers=one.kafka.bootstrap, group_id=one.name, enable_auto_commit=False)
    admin: Any = KafkaAdminClient(bootstrap_servers=one.kafka.bootstrap)
    try:
        places = [TopicPartition(one.name, number) for number in range(2)]
        committed = {place: reader.committed(place) or 0 for place in places}
        until = {place: committed[place] + one.chance.randint(5, 60) for place in places}
        admin.delete_records(until)
    finally:
        admin.close()
        reader.close()
    return sum(until[place] - committed[place] for place in places)


def _explained(audit: Audit) -> Audit:
    """Return the audit with what the findings name to the offset taken from what is lost: it was reported."""
    reported = int(audit.found["gap"]) - int(audit.found["gaps_recorded_all_the_same"])
    return Audit({**audit.found, "lost": max(int(audit.found["lost"]) - reported, 0)})


def test_what_retention_took_is_reported_to_the_offset(
    quick_kafka: Kafka, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    """What is gone is named by findings, exactly: no hole without one, none that covers a recorded offset."""
    audit = _overtaken(tmp_path, quick_kafka, clickhouse, TRIES)
    assert audit.found["gap"] == audit.found["lost"] > 0, audit.found
    assert _explained(audit).lost == audit.doubled == audit.wrong == 0, audit.found


def test_control_without_gap_findings(quick_kafka: Kafka, clickhouse: ClickHouse, tmp_path: Path) -> None:
    """Negative control: where a gap is skipped in silence the auditor finds holes that nothing explains."""
    without = ("--without", "gap findings")
    audit = _overtaken(tmp_path, quick_kafka, clickhouse, CONTROL_TRIES, without)
    assert audit.found["unreported_holes"] > 0
