"""The auditor sees what is wrong with a ledger, and shares no code with what it audits."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.ledger_blocks import SOURCE, ledger_block
from usageaudit.stores.address import open_store
from usageaudit.stores.ledger import Ledger
from usageaudit.stores.migrate import migrate
from usageaudit.streams.port import Partition

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.servers.clickhouse import ClickHouse
    from usageaudit.stores.port import Store

AUDITOR = Path(__file__).with_name("auditor.py")
PLACE = Partition("a-stream", "usage-events", 0)
BUNDLE = "b" * 64
EVENTS = range(10)


def test_the_auditor_imports_nothing_but_the_standard_library() -> None:
    """No import of the auditor leads to the product, to the tests, or to a package that either could share."""
    tree = ast.parse(AUDITOR.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
    assert not {"importlib", "runpy", "subprocess", "ctypes"} & names
    assert {"exec", "eval", "__import__"}.isdisjoint(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))


def test_the_auditor_can_not_reach_the_product() -> None:
    """Started as campaigns start it, Python finds no module of the product and none of the tests."""
    tried = "import importlib.util as u; print(u.find_spec('usageaudit'), u.find_spec('tests'))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", tried], capture_output=True, text=True, check=True)
    assert done.stdout == "None None\n"


def _audit(folder: Path, clickhouse: ClickHouse, database: str, acknowledged: Sequence[str]) -> tuple[int, Any]:
    """Write a journal, let the auditor compare, and return its exit code and what it found."""
    (folder / "one.journal").write_text("".join(acknowledged), encoding="utf-8")
    url = f"http://127.0.0.1:{clickhouse.http_port}"
    name = database.rpartition("/")[2]
    command = [sys.executable, "-I", "-S", str(AUDITOR), str(folder), url, name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def _lines(numbers: Sequence[int]) -> list[str]:
    return [f"event\t{SOURCE}\tevent-{number}\t{number}\n" for number in numbers]


@pytest.fixture
def store(clickhouse_database: str) -> Iterator[Store]:
    """Yield a store with a bundle and ten accepted events."""
    opened = open_store(clickhouse_database)
    migrate(opened)
    opened.execute(f"INSERT INTO bundles_log (hash) VALUES ('{BUNDLE}')")
    Ledger(opened).record(ledger_block(EVENTS), PLACE, 0, 1, bundle=BUNDLE)
    yield opened
    opened.close()


def test_an_exact_ledger_is_exact(
    store: Store, clickhouse: ClickHouse, clickhouse_database: str, tmp_path: Path
) -> None:
    """Everything acknowledged and accepted once: exit code 0; what was accepted beyond that is no fault."""
    code, found = _audit(tmp_path, clickhouse, clickhouse_database, [*_lines(EVENTS[:-1]), "event\tunfinished"])
    assert (code, found["exact"], found["acknowledged"], found["unacknowledged"]) == (0, True, 9, 1)


def test_what_is_lost_and_doubled_is_counted(
    store: Store, clickhouse: ClickHouse, clickhouse_database: str, tmp_path: Path
) -> None:
    """Events that were acknowledged and are not there, rows that are there again, and holes between offsets."""
    Ledger(store).record(ledger_block([*range(3), 12]), PLACE, 0, 2, bundle=BUNDLE)  # 10 and 11 are missing
    journal = [*_lines(range(12)), *_lines([5]), f"broken\t{SOURCE}\tx\t1\n"]
    code, found = _audit(tmp_path, clickhouse, clickhouse_database, journal)
    counted = {name: found[name] for name in ("lost", "doubled", "offsets_doubled", "unreported_holes", "copies_lost")}
    assert code == 1
    assert counted == {"lost": 2, "doubled": 3, "offsets_doubled": 3, "unreported_holes": 2, "copies_lost": 1}
    assert found["broken_lost"] == 1
    assert found["aggregates_differ"] == 0


def test_reported_gaps_are_no_holes(
    store: Store, clickhouse: ClickHouse, clickhouse_database: str, tmp_path: Path
) -> None:
    """A hole that a finding names to the offset is explained; a finding about what is recorded is not true."""
    ledger = Ledger(store)
    ledger.record(ledger_block([15]), PLACE, 0, 2, bundle=BUNDLE)
    ledger.add_offset_gap(PLACE, 10, 15)
    assert _audit(tmp_path, clickhouse, clickhouse_database, _lines(EVENTS))[0] == 0
    ledger.add_offset_gap(PLACE, 9, 10)
    code, found = _audit(tmp_path, clickhouse, clickhouse_database, _lines(EVENTS))
    assert (code, found["gaps_recorded_all_the_same"]) == (1, 1)


def test_bundles_that_the_store_lacks_are_counted(
    store: Store, clickhouse: ClickHouse, clickhouse_database: str, tmp_path: Path
) -> None:
    """A batch whose bundle is not in the store is wrong, whatever its rows say."""
    Ledger(store).record(ledger_block([10]), PLACE, 0, 2, bundle="unheard-of")
    code, found = _audit(tmp_path, clickhouse, clickhouse_database, _lines(EVENTS))
    assert (code, found["batches_of_unkept_bundles"]) == (1, 1)


def test_no_answer_is_no_verdict(clickhouse: ClickHouse, clickhouse_database: str, tmp_path: Path) -> None:
    """Where the store has no ledger the exit code is 2 and nothing is called exact."""
    code, said = _audit(tmp_path, clickhouse, clickhouse_database, [])
    assert code == 2
    assert "ledger" in said


def test_the_projection_is_what_is_audited(store: Store, clickhouse: ClickHouse, clickhouse_database: str) -> None:
    """The query that the auditor compares with the rows is answered by a projection, not by the rows themselves."""
    tree = ast.parse(AUDITOR.read_text(encoding="utf-8"))
    values = {
        str(node.targets[0].id): ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "PROJECTED"
    }
    url = f"http://127.0.0.1:{clickhouse.http_port}/?database={clickhouse_database.rpartition('/')[2]}"
    body = f"EXPLAIN {values['PROJECTED']}".encode()
    with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=60) as answer:
        assert b"usage_by_hour" in answer.read()
