"""The benchmark's paths do the same work: whatever they cost is only comparable while their ledgers agree."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.benchmarks import history, report
from tests.benchmarks.compare import differences
from tests.benchmarks.events import usage_events
from tests.benchmarks.paths import NAMES, Bench, Name, bench
from tests.benchmarks.policies import policies, python_functions, write_bundle
from tests.benchmarks.stages import measure
from tests.servers.clickhouse import ClickHouse
from tests.servers.kafka import Kafka
from usageaudit.cloudevents import decode
from usageaudit.policy import compile_judge, load_bundle

EVENTS = 400


@pytest.fixture(scope="module")
def running(kafka: Kafka, clickhouse_latest: ClickHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Yield the benchmark on real servers, with its fifty policies."""
    bundle = write_bundle(tmp_path_factory.mktemp("benchmark") / "bundle", policies())
    with bench(kafka, clickhouse_latest, bundle) as found:
        yield found


@pytest.fixture(scope="module")
def ledgers(running: Bench) -> Iterator[dict[Name, str]]:
    """Yield the databases that the three paths wrote from one topic."""
    topic = running.publish(EVENTS)
    written: dict[Name, str] = {name: running.run(name, topic)[1] for name in NAMES}
    yield written
    for database in written.values():
        running.drop(database)


@pytest.mark.parametrize("peer", NAMES[1:])
def test_a_peer_records_what_we_record(running: Bench, ledgers: dict[Name, str], peer: Name) -> None:
    """Every compared column, the violated policies among them, is the same in our ledger and in the peer's."""
    rows = running.client.execute(f"SELECT countIf(status = 'accepted') FROM {ledgers['ours']}.ledger")
    assert (rows, differences(running.client, ledgers["ours"], ledgers[peer])) == ([(EVENTS,)], [])


def test_a_changed_row_and_a_lost_row_are_differences(running: Bench, ledgers: dict[Name, str]) -> None:
    """A row that lacks a violation is found in that column alone; one that is gone is found in every column."""
    changed, lost = "idiomatic_changed", "idiomatic_lost"
    for database, wanted in ((changed, "1"), (lost, "event_id != (SELECT min(event_id) FROM {0})")):
        table = f"{ledgers['idiomatic']}.ledger"
        running.client.execute(f"CREATE DATABASE {database}")
        running.client.execute(f"CREATE TABLE {database}.ledger AS {table}")
        running.client.execute(f"INSERT INTO {database}.ledger SELECT * FROM {table} WHERE {wanted.format(table)}")
    try:
        running.client.execute(
            f"ALTER TABLE {changed}.ledger UPDATE violated = ['bench/none'] WHERE event_id = (SELECT min(event_id) "
            f"FROM {changed}.ledger) SETTINGS mutations_sync = 1"
        )
        found = differences(running.client, ledgers["ours"], changed)
        assert [(column.column, column.rows) for column in found] == [("violated", 1)]
        assert {column.rows for column in differences(running.client, ledgers["ours"], lost, ("violated", "raw"))} == {
            1
        }
    finally:
        running.drop(changed)
        running.drop(lost)


def test_events_are_valid_and_the_same_each_time() -> None:
    """The generator draws the same events for the same number, each one valid and of known fields only."""
    first, second = list(usage_events(EVENTS)), list(usage_events(EVENTS))
    decoded = [decode(event.value) for event in first]
    assert first == second
    assert {event.unknown_fields for event in decoded} == {0}
    assert len({(event.source, event.id) for event in decoded}) == EVENTS


def test_the_functions_find_the_violations_that_the_bundle_finds(tmp_path: Path) -> None:
    """Of policies in our language and of the same as plain functions, the same are violated by every event."""
    judge = compile_judge(load_bundle([write_bundle(tmp_path / "bundle", policies(200))]))
    functions = python_functions(policies(200))
    ours, theirs = [], []
    for event in usage_events(5_000):
        decoded = decode(event.value)
        body = orjson.loads(event.value)
        ours.append({found.policy_id for found in judge(decoded.data, decoded.time, None).violated})
        theirs.append({policy for policy, violates in functions if violates(body["data"], int(body["time"][11:13]))})
    assert ours == theirs
    assert len(set(itertools.chain.from_iterable(ours))) > 40


def test_stages_are_measured_for_every_number_of_policies() -> None:
    """The stages of the path take some time each, for each bundle that is asked for."""
    found = measure((10, 50), events=400)
    assert [one.policies for one in found] == [10, 50]
    assert all(min(one.decode, one.judge, one.row, one.encode) > 0 for one in found)


def test_history_is_measured_on_what_was_recorded(tmp_path: Path) -> None:
    """The record has as many events as asked for, the revised policies change something, and each step takes time."""
    found = history.measure(tmp_path, events=3_000, repeat=1)
    assert found.events == 3_000
    assert all(one.seconds > 0 for one in (found.scan, found.against, found.recorded, found.affected))
    assert "NOT met" not in report.history_targets(found).splitlines()[1]
    old, new = history.bundles(tmp_path)
    changed = [one.id for one in new.policies if len(one.revisions) > 1]
    assert len(changed) == len(history.REVISED)
    assert len(old.policies) == len(new.policies) == 50
    assert history.scan_sql(old).count(",") > 15
