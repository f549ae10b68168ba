"""What the ledger holds of an event is the event."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.strategies import MINIMAL, envelope, event_data
from usageaudit.cloudevents import STRUCTURED_HEADERS
from usageaudit.ledger.columns import EVENT_COLUMNS, LISTS
from usageaudit.pipeline.judging import judge_records
from usageaudit.stores.address import open_store
from usageaudit.stores.ledger import Ledger
from usageaudit.stores.migrate import migrate
from usageaudit.streams.port import Partition, Record
from usageaudit.verdicts import CLEAN, Exemption, Indeterminate, Verdicts, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.stores.port import Store

PLACE = Partition("a stream", "usage-events", 3)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield an embedded store with the ledger's tables."""
    opened = open_store(f"embedded:{tmp_path_factory.mktemp('store')}")
    migrate(opened)
    yield opened
    opened.close()


def _clean(*_: object) -> Verdicts:
    """Judge that nothing is wrong."""
    return CLEAN


def _records(events: list[dict[str, Any]]) -> list[Record]:
    wrapped = [envelope(data, id=f"e-{number}") for number, data in enumerate(events)]
    return [
        Record(number, 1_714_000_000_000, orjson.dumps(one), STRUCTURED_HEADERS) for number, one in enumerate(wrapped)
    ]


def _recorded(store: Store, judged: Any, columns: str) -> list[tuple[Any, ...]]:
    store.execute("TRUNCATE TABLE ledger")
    Ledger(store).record(judged.block, PLACE, 0, 1, bundle="b")
    return list(store.execute(f"SELECT {columns} FROM ledger ORDER BY offset").rows)


def _at(data: Any, path: tuple[str, ...]) -> Any:
    """Return what JSON has at a path, None where a parent is missing."""
    for step in path:
        data = data.get(step) if isinstance(data, dict) else None
    return data


def _expected(column: Any, data: dict[str, Any]) -> Any:
    value = _at(data, column.field.path)
    if column.member is not None:
        members = [_at(one, column.member.path) for one in value or []]
        if column.type == "Array(Bool)":
            return [member is not None for member in members]
        return [member or [] for member in members] if column.member.kind == "strings" else members
    if column.field.kind == "decimal":
        return None if value is None else Decimal(value)
    if column.field.kind in ("strings", "map"):
        return value or ([] if column.field.kind == "strings" else {})
    return value


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.lists(event_data, min_size=1, max_size=6))
def test_every_field_is_read_back_as_it_was(store: Store, events: list[dict[str, Any]]) -> None:
    """Every field of every event is in its column, and an empty list is told from a missing one."""
    judged = judge_records(_records(events), _clean)
    names = [column.name for column in EVENT_COLUMNS]
    rows = _recorded(store, judged, ", ".join([*names, "lists_present", "raw"]))
    for event, row in zip(events, rows, strict=True):
        found = dict(zip([*names, "lists_present", "raw"], row, strict=True))
        for column in EVENT_COLUMNS:
            value = found[column.name]
            assert (list(value) if isinstance(value, tuple) else value) == _expected(column, event), column.name
        present = [_at(event, field.path) is not None for field in LISTS]
        assert [bool(found["lists_present"] >> bit & 1) for bit in range(len(LISTS))] == present
        assert orjson.loads(found["raw"])["data"] == event


def test_verdicts_are_read_back_as_they_were(store: Store) -> None:
    """Every part of a verdict is in its place of the parallel arrays."""
    verdicts = Verdicts(
        (
            Violation("p/a", 1, "high", "enforce", "it happened", '{"model.name":"m"}'),
            Violation("p/b", 2, "low", "shadow", "é\0", "{}", ("x.y",)),
        ),
        (Exemption("p/c", 3, "info", "enforce", "allowed", "EX-1"),),
        (Indeterminate("p/d", 4, ("a.b", "c")),),
    )
    judged = judge_records(_records([MINIMAL]), lambda *_: verdicts)
    violated = "violated, violated_version, violated_severity, violated_stage, violated_message, violated_evidence"
    rest = "violated_missing, exempted, exempted_version, exempted_exception, indeterminate, indeterminate_missing"
    [row] = _recorded(store, judged, f"{violated}, {rest}")
    assert [list(map(_listed, value)) for value in row] == [
        ["p/a", "p/b"], [1, 2], ["high", "low"], ["enforce", "shadow"], ["it happened", "é\0"],
        ['{"model.name":"m"}', "{}"], [[], ["x.y"]], ["p/c"], [3], ["EX-1"], ["p/d"], [["a.b", "c"]],
    ]  # fmt: skip


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value


def test_copies_in_one_batch_and_known_events_are_duplicates() -> None:
    """Of several copies in a batch the first is accepted; of an event that the ledger has, none."""
    records = _records([MINIMAL] * 3)
    copies = [records[0]._replace(offset=number) for number in range(5)]
    first = judge_records(copies, _clean)
    assert (first.accepted, first.duplicates) == (1, 4)
    again = judge_records(copies, _clean, first.keys)
    assert (again.accepted, again.duplicates) == (0, 5)


def test_the_same_id_at_another_time_is_another_event() -> None:
    """A source and id that come again with another event time are accepted: a reused id must not hide a violation."""
    times = ("2024-05-02T09:30:00Z", "2024-05-02T09:30:00.000001Z")
    records = [
        Record(number, None, orjson.dumps(envelope(MINIMAL, time=time)), STRUCTURED_HEADERS)
        for number, time in enumerate(times)
    ]
    judged = judge_records(records, _clean)
    assert (judged.accepted, judged.duplicates) == (2, 0)
