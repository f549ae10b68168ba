"""Every kind of problem that `verify` knows is found where it is, and none where it is not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from usageaudit.embedded_log import FILE_NAME, EmbeddedLog, NewRecord
from usageaudit.integrity import completeness, holes, verify
from usageaudit.stores.address import open_store
from usageaudit.stores.ledger import Ledger
from usageaudit.stores.migrate import migrate
from usageaudit.streams.inspection import inspect
from usageaudit.streams.port import Partition

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from usageaudit.integrity import Completeness
    from usageaudit.stores.port import Rows, Store

RECORDS = 10


class Case:
    """A stream of ten records in one partition and a ledger, both to be bent."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store
        self.log = EmbeddedLog.open(folder)
        self.log.append("usage-events", [NewRecord(None, b"x") for _ in range(RECORDS)])
        self.partition = Partition(self.log.identity, "usage-events", 0)

    def record(self, *offsets: int, stream: str = "", **columns: str) -> None:
        """Write rows that are accepted, unless `columns` say something else as SQL."""
        values = {
            "stream": f"'{stream or self.log.identity}'",
            "topic": "'usage-events'",
            "status": "'accepted'",
            "event_source": "'s'",
            "event_id": "toString(number)",
            "event_time": "toDateTime64(1, 6, 'UTC')",
            "offset": "number",
            **columns,
        }
        chosen = ", ".join(map(str, offsets))
        self.store.execute(
            f"INSERT INTO ledger ({', '.join(values)}) SELECT {', '.join(values.values())} FROM numbers(1000) "
            f"WHERE number IN ({chosen})"
        )

    def forget(self, *offsets: int) -> None:
        """Leave offsets without a record, as compaction and the markers of transactions do."""
        self.log.close()
        with closing(sqlite3.connect(self.folder / FILE_NAME)) as connection, connection:
            connection.executemany('DELETE FROM records WHERE "offset" = ?', [(one,) for one in offsets])
        self.log = EmbeddedLog.open(self.folder)

    def verify(self, wait: float = 0.0, window: int | None = None) -> Completeness:
        """Verify, without waiting."""
        looked_at = inspect(f"embedded:{self.folder}")
        try:
            return verify(self.store, looked_at, wait, window)
        finally:
            looked_at.close()

    def problems(self) -> list[tuple[str, str]]:
        """Return the kinds of problems that are found, and where."""
        return [(problem.kind, problem.where) for problem in self.verify().problems]


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    """Yield a case with an empty ledger."""
    store = open_store(f"embedded:{tmp_path}")
    migrate(store)
    made = Case(tmp_path, store)
    yield made
    made.log.close()
    store.close()


def test_complete_record_has_no_problem(case: Case) -> None:
    """Each record once and nothing else: nothing is found."""
    case.record(*range(RECORDS))
    found = case.verify()
    assert list(found.problems) == []
    (report,) = found.partitions
    assert (report.consumed, report.accepted, report.first_offset, report.last_offset) == (10, 10, 0, 9)
    assert (report.missing, report.behind, report.stream_end) == (0, 0, 10)


def test_missing_record_is_found(case: Case) -> None:
    """A row that is not there although the stream has the record."""
    case.record(*(set(range(RECORDS)) - {4, 5}))
    assert case.problems() == [("missing_records", "usage-events[0]")]
    assert case.verify().partitions[0].explained == 0


def test_hole_that_the_stream_no_longer_reaches_is_no_mismatch(case: Case) -> None:
    """A row that is not there, and can't be looked up any more: neither explained nor a problem, but said."""
    case.record(*(set(range(RECORDS)) - {2, 4, 5}))
    case.log.trim("usage-events", 0, 5)
    found = case.verify()
    assert [one.kind for one in found.problems] == ["missing_records"], "the stream still has offset 5"
    (note,) = found.notes
    assert (note.kind, note.where) == ("no_longer_known", "usage-events[0]")
    assert "2 offsets in 2 places, the first offset 2" in note.message
    assert found.partitions[0].explained == 0
    case.record(5)
    found = case.verify()
    assert (list(found.problems), [one.kind for one in found.notes]) == ([], ["no_longer_known"])


def test_holes_of_a_stream_that_is_gone_are_no_mismatch(case: Case) -> None:
    """Rows of a stream that is no more: whether their holes held records can't be told."""
    case.record(*range(RECORDS))
    case.record(0, 3, stream="before", event_id="concat('b', toString(number))")
    found = case.verify()
    assert (list(found.problems), [one.kind for one in found.notes]) == ([], ["no_longer_known"])


@pytest.mark.parametrize("most", [1, 2, 1000])
def test_missing_record_behind_many_holes_is_found(case: Case, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """However many holes without a record come first, and however many more lack one, all are looked at."""
    monkeypatch.setattr(holes, "PAGE", 2)
    monkeypatch.setattr(holes, "MOST_NAMED", most)
    case.forget(1, 3, 5)
    case.record(0, 2, 4, 7, 9)
    found = case.verify()
    missing = [one.message for one in found.problems]
    assert len(missing) == min(most + 1, 2), "offset 8 by name, or as one more"
    assert missing[0] == "1 records of offsets 5 to 6 are in the stream and not here"
    assert ("1 offsets more" in missing[1]) == (most == 1)
    assert found.partitions[0].explained == 2


def test_gap_that_was_noted_is_named(case: Case) -> None:
    """Offsets that the consumer saw dropped by the stream are said to be that."""
    case.record(0, 1, 6, 7, 8, 9)
    case.log.trim("usage-events", 0, 6)
    Ledger(case.store).add_offset_gap(case.partition, 2, 6)
    assert case.problems() == [("dropped_by_stream", "usage-events[0]")]


def test_unread_records_are_found(case: Case) -> None:
    """What the stream has behind the last row, or all of it where nothing was recorded."""
    assert case.problems() == [("not_recorded_yet", "usage-events[0]")]
    assert case.verify().partitions[0].behind == 10
    case.record(0, 1, 2)
    assert case.verify().partitions[0].behind == 7


def test_repeated_offset_is_found(case: Case) -> None:
    """Two rows of one offset."""
    case.record(*range(RECORDS))
    case.record(3, event_id="'other'")
    assert case.problems() == [("repeated_offsets", "usage-events[0]")]


def test_unknown_status_is_found(case: Case) -> None:
    """A row that is neither accepted, duplicate nor rejected."""
    case.record(*range(RECORDS - 1))
    case.record(9, status="'lost'")
    assert case.problems() == [("unknown_status", "usage-events[0]")]


def test_stream_shorter_than_the_ledger_is_found(case: Case) -> None:
    """Rows behind the end of the stream."""
    case.record(*range(RECORDS + 2))
    assert case.problems() == [("stream_ends_before_ledger", "usage-events[0]")]


def test_event_accepted_twice_is_found(case: Case) -> None:
    """Two copies of one event, and two events under one id, are told apart."""
    case.record(*range(8))
    case.record(8, event_id="'0'")
    case.record(9, event_id="'1'", event_time="toDateTime64(2, 6, 'UTC')")
    assert case.problems() == [("accepted_twice", "s 0"), ("conflicting_duplicate", "s 1")]


@pytest.mark.parametrize("most", [3, 5, 1000])
def test_events_accepted_twice_are_found_a_part_at_a_time(
    case: Case, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """However many parts the ids are compared in, each that is there twice is found once, up to a number."""
    monkeypatch.setattr(completeness, "EVENTS_AT_ONCE", 3)
    monkeypatch.setattr(completeness, "MOST_NAMED", most)
    asked: list[int] = []
    execute = case.store.execute

    def count(sql: str, parameters: Mapping[str, Any] | None = None) -> Rows:
        asked.extend([parameters["part"]] if parameters and "part" in parameters else [])
        return execute(sql, parameters)

    monkeypatch.setattr(case.store, "execute", count)
    case.record(*range(RECORDS), event_id="toString(intDiv(number, 2))")
    found = [one.where for one in case.verify().problems]
    assert found == sorted(set(found))
    assert len(found) == min(most, 5)
    assert set(found) <= {f"s {number}" for number in range(5)}
    if most > len(found):
        assert asked == [0, 1, 2, 3]


def test_lost_event_of_a_publisher_is_found(case: Case) -> None:
    """A number that a publisher gave and that never came."""
    case.record(
        *range(RECORDS), publisher_instance="'boot'", publisher_sequence="if(number < 5, number + 1, number + 2)"
    )
    assert case.problems() == [("publisher_gap", "s")]


def test_rows_of_another_stream_are_counted_apart(case: Case) -> None:
    """Rows of a stream of the same name that is no more are listed, and compared with nothing."""
    case.record(*range(RECORDS))
    case.record(0, 1, stream="before", event_id="concat('b', toString(number))")
    found = case.verify()
    assert list(found.problems) == []
    assert [(report.stream == "before", report.consumed) for report in found.partitions] == [(False, 10), (True, 2)]


@pytest.mark.parametrize("most", [1, 3, 5_000_000])
def test_offsets_are_counted_a_slice_at_a_time(case: Case, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Where there are holes and repetitions the offsets are counted in slices, however many: holes hide no copies."""
    monkeypatch.setattr(completeness, "OFFSETS_AT_ONCE", most)
    case.record(*(set(range(RECORDS)) - {4, 5}))
    case.record(3, 7, event_id="concat('copy', toString(number))")
    (report,) = case.verify().partitions
    assert (report.consumed, report.distinct_offsets, report.missing) == (RECORDS, RECORDS - 2, 2)
    assert case.problems() == [("missing_records", "usage-events[0]"), ("repeated_offsets", "usage-events[0]")]


def test_what_stays_wrong_is_a_finding_once(case: Case) -> None:
    """What no waiting can mend is appended to the findings, once; what a consumer may yet do is not."""
    case.record(*(set(range(RECORDS - 1)) - {4}))
    case.record(3, event_id="'0'", event_time="toDateTime64(2, 6, 'UTC')")
    for _ in range(2):
        kinds = [kind for kind, _ in case.problems()]
        assert kinds == ["missing_records", "repeated_offsets", "not_recorded_yet", "conflicting_duplicate"]
        rows = case.store.execute(
            "SELECT group_key, severity, event_refs FROM findings_log WHERE kind = 'integrity' ORDER BY group_key"
        ).rows
        assert [(kind, severity) for kind, severity, _ in rows] == [
            ("conflicting_duplicate", "high"),
            ("missing_records", "critical"),
            ("repeated_offsets", "critical"),
        ]
        assert [tuple(event) for event in rows[0][2]] == [("s", "0")]
    case.record(5, event_id="'0'", event_time="toDateTime64(3, 6, 'UTC')")
    case.verify()
    again = "SELECT count() FROM findings_log WHERE group_key = 'conflicting_duplicate'"
    assert case.store.execute(again).rows == [(1,)]


def test_what_grows_is_one_finding_and_each_hole_is_its_own(case: Case) -> None:
    """More copies, a record further beyond the stream's end or a hole half forgotten are no new findings; a hole is."""
    found = "SELECT group_key, count() FROM findings_log GROUP BY group_key ORDER BY group_key"
    case.record(*(set(range(RECORDS + 2)) - {2, 3, 6}))
    case.record(0, event_id="'copy'")
    case.verify()
    known = [("missing_records", 2), ("repeated_offsets", 1), ("stream_ends_before_ledger", 1)]
    assert case.store.execute(found).rows == known
    case.record(1, RECORDS + 2, event_id="concat('more', toString(number))")
    case.log.trim("usage-events", 0, 3)
    case.verify()
    assert case.store.execute(found).rows == known
    case.log.append("usage-events", [NewRecord(None, b"x") for _ in range(8)])
    case.record(RECORDS + 7, event_id="'far'")
    case.verify()
    assert case.store.execute(found).rows == [("missing_records", 3), *known[1:]]


def test_what_was_dropped_is_a_problem_while_it_is_news(case: Case) -> None:
    """A report of drops is a problem within the window, counted from when it was recorded, and a finding for ever."""
    case.record(*range(RECORDS))
    columns = "finding_id, kind, group_key, message, created"
    for name, age in (("old", 7200), ("new", 60)):
        values = f"'{name}', 'dropped_events', '{name}', 'said', now64(3) - {age}"
        case.store.execute(f"INSERT INTO findings_log ({columns}) SELECT {values}")
    assert [one.where for one in case.verify().problems] == ["new", "old"]
    assert [one.where for one in case.verify(window=3600).problems] == ["new"]
    assert list(case.verify(window=10).problems) == []
