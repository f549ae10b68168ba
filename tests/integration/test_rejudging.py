"""`verify` judges rows again: it finds every verdict that is not what the bundle says, and none that is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.ledger_rows import EMBEDDED, SERVER, migrated_store, plain
from tests.rejudging import forget, record, structured
from tests.strategies import MINIMAL, envelope
from tests.unit.policy.bundles import bundle_of, policy
from usageaudit.errors import QueryRefused
from usageaudit.integrity import check_verdicts, rejudging, sampling, verdicts, window
from usageaudit.policy import compile_judge
from usageaudit.policy.loading import hash_of
from usageaudit.streams.port import Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usageaudit.integrity import Rejudged
    from usageaudit.policy import Bundle
    from usageaudit.stores.port import Store

DAY = 86_400
EXCEPTION = {"id": "EX-1", "approved_by": "a", "reason": "b", "when": 'application.environment == "red-team"'}
HOUSE = (
    policy('purpose.use_case == "x"', name="enforced", severity="critical"),
    policy(
        "usage.input_tokens > 100", name="excused", stage="shadow", exceptions=[{**EXCEPTION, "expires": "2030-01-01"}]
    ),
    policy('actor.sector == "s" && actor.type == "t"', name="open"),
    policy('input.data_classification == "f"', name="ignored", on_unknown="ignore"),
    policy('conversation_id == "c"', name="strict", on_unknown="violate"),
    policy('capture == "none"', name="drafted", stage="draft"),
    policy(
        name="revised",
        revisions=[
            {"version": 1, "when": "has(cost.amount)", "to": "2024-05-02T00:00:00Z"},
            {"version": 2, "when": "cost.amount > 1.5", "from": "2024-05-02T00:00:00Z"},
        ],
        applies="has(cost)",
    ),
    policy(
        'registry.sector == "police" && !("y" in registry.approved_use_cases)',
        name="registered",
        applies="has(registry)",
    ),
)
REGISTRY = json.dumps({"a": {"sector": "police", "approved_use_cases": ["x"]}, "b": {"sector": "shop"}})
KNOWN = {
    "actor": {"id": "u", "sector": "s", "type": "u"},
    "conversation_id": "d",
    "purpose": {"use_case": "y"},
    "usage": {"input_tokens": 7},
}
EVENTS: dict[str, dict[str, Any]] = {
    "clean": {**KNOWN},
    "violated": {**KNOWN, "purpose": {"use_case": "x"}},
    "both": {**KNOWN, "purpose": {"use_case": "x"}, "usage": {"input_tokens": 101}},
    "exempted": {**KNOWN, "usage": {"input_tokens": 101}, "application": {"name": "b", "environment": "red-team"}},
    "open": {**KNOWN, "actor": {"id": "u"}},
    "strict": {**KNOWN, "conversation_id": None},
    "revised": {**KNOWN, "cost": {"amount": "1.6"}},
    "registered": {**KNOWN, "application": {"name": "a"}},
}
VERDICTS = {
    "clean": ([], [], []),
    "violated": (["test/enforced"], [], []),
    "both": (["test/enforced", "test/excused"], [], []),
    "exempted": ([], ["test/excused"], []),
    "open": ([], [], ["test/open"]),
    "strict": (["test/strict"], [], []),
    "revised": (["test/revised"], [], []),
    "registered": (["test/registered"], [], []),
}


@pytest.fixture(scope="module", params=[EMBEDDED, SERVER])
def migrated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store with its tables, on the oldest engine and the newest."""
    with migrated_store(request, tmp_path_factory) as made:
        yield made


@pytest.fixture
def store(migrated: Store) -> Store:
    """Return the store, emptied."""
    forget(migrated)
    return migrated


@pytest.fixture(scope="module")
def house() -> Bundle:
    """Return a bundle that has all that policies may have."""
    return bundle_of(*HOUSE, registry=REGISTRY)


def _records(events: Mapping[str, dict[str, Any]], shift: int = 0) -> list[Record]:
    return [
        structured(shift + number, {**MINIMAL, **data}, 1_714_642_200_000, id=name)
        for number, (name, data) in enumerate(events.items())
    ]


def _alter(store: Store, event_id: str, **columns: str) -> None:
    changes = ", ".join(f"{name} = {value}" for name, value in columns.items())
    store.execute(f"ALTER TABLE ledger UPDATE {changes} WHERE event_id = '{event_id}' SETTINGS mutations_sync = 2")


def _findings(store: Store) -> list[tuple[Any, ...]]:
    columns = "finding_id, kind, effect, severity, policy_id, policy_version, bundle, message, event_refs"
    return plain(store.execute(f"SELECT {columns} FROM findings ORDER BY finding_id"))


def _said(found: Rejudged) -> list[tuple[str, str]]:
    return [(one.kind, one.where) for one in found.problems]


def test_right_verdicts_are_no_problem(store: Store, house: Bundle) -> None:
    """Rows that say what their bundle says, by every kind of verdict: nothing is found, and all were looked at."""
    record(store, house, _records(EVENTS))
    there = "SELECT event_id, arraySort(violated), exempted, indeterminate FROM ledger"
    assert {row[0]: tuple(map(list, row[1:])) for row in store.execute(there).rows} == VERDICTS
    found = check_verdicts(store, DAY)
    assert (found.problems, found.notes) == ([], [])
    assert (found.rows, found.sampled) == (len(EVENTS), len(EVENTS))
    assert _findings(store) == []


VIOLATED = tuple(
    f"violated{part}" for part in ("", "_version", "_severity", "_stage", "_message", "_evidence", "_missing")
)
UNDECIDED = ("indeterminate", "indeterminate_version", "indeterminate_missing")
ALTERED: dict[str, tuple[str, dict[str, str], str]] = {
    "a violation is gone": ("violated", dict.fromkeys(VIOLATED, "[]"), "test/enforced version 1"),
    "one of two is gone": ("both", {name: f"arraySlice({name}, 1, 1)" for name in VIOLATED}, "test/excused version 1"),
    "another policy": ("violated", {"violated": "['test/other']"}, "test/other version 1"),
    "a draft": ("violated", {"violated": "['test/drafted']"}, "test/drafted version 1"),
    "a version": ("violated", {"violated_version": "[7]"}, "test/enforced version 7"),
    "another version of the policy": ("revised", {"violated_version": "[1]"}, "test/revised version 1"),
    "a severity": ("violated", {"violated_severity": "['low']"}, "test/enforced version 1"),
    "a stage": ("violated", {"violated_stage": "['shadow']"}, "test/enforced version 1"),
    "missing fields of a violation": ("strict", {"violated_missing": "[['model.name']]"}, "test/strict version 1"),
    "an exempted version": ("exempted", {"exempted_version": "[2]"}, "test/excused version 2"),
    "an unknown exception": ("exempted", {"exempted_exception": "['EX-2']"}, "test/excused version 1"),
    "an exempted severity": ("exempted", {"exempted_severity": "['info']"}, "test/excused version 1"),
    "an undecided version": ("open", {"indeterminate_version": "[9]"}, "test/open version 9"),
    "an undecided one is gone": ("open", dict.fromkeys(UNDECIDED, "[]"), "test/open version 1"),
    "an undecided one more": (
        "clean",
        {
            "indeterminate": "['test/open']",
            "indeterminate_version": "[1]",
            "indeterminate_missing": "[['actor.sector']]",
        },
        "test/open version 1",
    ),
    "an ignored one": (
        "clean",
        {"indeterminate": "['test/ignored']", "indeterminate_version": "[1]", "indeterminate_missing": "[['x']]"},
        "test/ignored version 1",
    ),
    "missing fields": ("open", {"indeterminate_missing": "[['model.name']]"}, "test/open version 1"),
    "what the event said": ("violated", {"purpose_use_case": "'y'"}, "test/enforced version 1"),
    "what the record held": (
        "violated",
        {"raw": "replaceAll(raw, 'use_case\": \"x', 'use_case\": \"y')"},
        "test/enforced version 1",
    ),
    "what it cost": ("revised", {"cost_amount": "1.4"}, "test/revised version 2"),
}


@pytest.mark.parametrize("what", ALTERED)
def test_altered_row_is_found(store: Store, house: Bundle, what: str) -> None:
    """Whatever is altered of a row's verdicts, or of what they follow from, its policy and its event are named."""
    event_id, columns, where = ALTERED[what]
    record(store, house, _records(EVENTS))
    _alter(store, event_id, **columns)
    problems = check_verdicts(store, DAY).problems
    assert problems
    assert {one.kind for one in problems} == {"verdicts_differ"}
    assert where in {one.where for one in problems}
    assert all(one.message.endswith(f"such as //tests {event_id}") for one in problems), problems


def test_row_that_contradicts_itself_is_found(store: Store, house: Bundle) -> None:
    """A policy with two verdicts, and columns that do not fit together, are found and stop nothing else."""
    record(store, house, _records(EVENTS))
    _alter(store, "violated", indeterminate="violated", indeterminate_version="[1]", indeterminate_missing="[[]]")
    _alter(store, "both", violated_version="[1]")
    _alter(store, "open", indeterminate_version="[1, 1]")
    messages = " | ".join(one.message for one in check_verdicts(store, DAY).problems)
    assert "a policy has more than one verdict; such as //tests violated" in messages
    assert "have different lengths; such as //tests both, //tests open" in messages


def test_difference_becomes_one_finding(store: Store, house: Bundle) -> None:
    """What differs is appended to the findings once, however often it is found, and names bundle and event."""
    record(store, house, _records(EVENTS))
    _alter(store, "violated", violated_severity="['low']")
    first = check_verdicts(store, DAY)
    kept = _findings(store)
    assert [row[1:7] for row in kept] == [("integrity", "notice", "critical", "test/enforced", 1, house.hash)] * len(
        kept
    )
    assert {row[-1] for row in kept} == {(("//tests", "violated"),)}
    assert len(kept) == len(first.problems)
    assert check_verdicts(store, DAY).problems == first.problems
    assert check_verdicts(store, None).problems == first.problems
    assert _findings(store) == kept
    assert store.execute("SELECT count() FROM violations WHERE kind = 'integrity'").rows == [(0,)]


def test_store_that_can_not_be_written_is_no_hindrance(store: Store, house: Bundle) -> None:
    """Where findings can't be kept, what differs is found all the same, and it is said that it was not kept."""
    record(store, house, _records(EVENTS))
    _alter(store, "violated", violated_severity="['low']")
    found = check_verdicts(cast("Store", _ReadOnly(store)), DAY)
    assert {one.kind for one in found.problems} == {"verdicts_differ"}
    assert [one.kind for one in found.notes] == ["findings_not_kept"]
    assert _findings(store) == []


class _ReadOnly:
    """A store that refuses to write, as the process does that holds an embedded store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def execute(self, sql: str, *arguments: Any, **more: Any) -> Any:
        """Run a read."""
        if sql.startswith("INSERT"):
            raise QueryRefused("only reading is allowed here")
        return self._store.execute(sql, *arguments, **more)


def test_bundle_that_is_not_there_is_a_problem(store: Store, house: Bundle) -> None:
    """Rows that name a bundle which the store does not have, or none, are counted, and the others compared."""
    other = bundle_of(policy('purpose.use_case == "x"', name="only"))
    record(store, other, _records({"other": KNOWN}, 100))
    store.execute("TRUNCATE TABLE bundles_log")
    record(store, house, _records(EVENTS))
    found = check_verdicts(store, DAY)
    assert _said(found) == [("bundle_unknown", f"bundle {other.hash[:12]}")]
    assert found.rows == len(EVENTS)
    assert len(_findings(store)) == 1


@pytest.mark.parametrize(
    ("archive", "problem", "note"),
    [
        ("replaceAll(archive, 'use_case == ', 'use_case != ')", "bundle_altered", None),
        ("substring(archive, 1, 100)", "bundle_altered", None),
        ("'[]'", "bundle_altered", None),
        ("replaceOne(archive, '\"format\":1', '\"format\":2')", None, "bundle_unreadable"),
    ],
)
def test_bundle_that_is_not_as_it_was_is_not_judged_by(
    store: Store, house: Bundle, archive: str, problem: str | None, note: str | None
) -> None:
    """An archive that was changed or damaged is a problem; one of another version's format is only said."""
    record(store, house, _records(EVENTS))
    store.execute(f"ALTER TABLE bundles_log UPDATE archive = {archive} WHERE 1 SETTINGS mutations_sync = 2")
    found = check_verdicts(store, DAY)
    assert [one.kind for one in found.problems] == ([problem] if problem else [])
    assert [one.kind for one in found.notes] == ([note] if note else [])
    assert found.rows == 0


def test_bundle_that_no_longer_loads_is_said(store: Store) -> None:
    """A bundle that is as it was, in a language that is read no more, is named with what is wrong; it is no problem."""
    bundle = bundle_of(policy('purpose.use_case == "x"'))
    [part] = bundle.parts
    old = replace(part, files={**part.files, "policies/0000.yaml": policy('old.field == "x"')})
    older = replace(bundle, hash=hash_of([old]), parts=(old,))
    record(store, older, _records(EVENTS), compile_judge(bundle))
    found = check_verdicts(store, DAY)
    assert found.problems == []
    (note,) = found.notes
    assert (note.kind, note.where) == ("bundle_unreadable", f"bundle {older.hash[:12]}")
    assert "8 rows were not judged again" in note.message
    assert "unknown field old.field" in note.message


def _age(store: Store, hours: int) -> None:
    """Have all rows recorded so many hours earlier."""
    moved = f"SELECT * REPLACE (ingest_time - INTERVAL {hours} HOUR AS ingest_time) FROM ledger"
    store.execute(f"CREATE TABLE older ENGINE = Memory AS {moved}")
    store.execute("TRUNCATE TABLE ledger")
    store.execute("INSERT INTO ledger SELECT * FROM older")
    store.execute("DROP TABLE older")


def test_only_the_window_is_judged_again(store: Store, house: Bundle) -> None:
    """Rows that were recorded before the window are left alone, unless all are asked for."""
    record(store, house, _records(EVENTS))
    _alter(store, "violated", violated_severity="['low']")
    _age(store, 25)
    record(store, house, _records({"later": KNOWN}, 100))
    assert check_verdicts(store, DAY).problems == []
    assert check_verdicts(store, DAY).rows == 1
    assert check_verdicts(store, 2 * DAY).rows == len(EVENTS) + 1
    assert check_verdicts(store, 2 * DAY).problems == check_verdicts(store, None).problems != []
    assert check_verdicts(store, 10**12).rows == len(EVENTS) + 1


def test_slices_and_groups_change_nothing(store: Store, house: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few rows and policies one statement is about, the same is found, and progress is told to its end."""
    for number in range(3):
        record(store, house, _records({f"{name}-{number}": data for name, data in EVENTS.items()}, 100 * number))
        _age(store, 3)
    for event_id in ("violated-0", "violated-1", "open-2"):
        _alter(store, event_id, **dict.fromkeys((*VIOLATED, *UNDECIDED), "[]"))
    whole = check_verdicts(store, None)
    monkeypatch.setattr(window, "MOST_ROWS", 1)
    monkeypatch.setattr(rejudging, "_LONGEST", 1)
    told: list[tuple[int, int]] = []
    apart = check_verdicts(store, None, lambda done, rows: told.append((done, rows)))
    assert {(one.where, one.message) for one in apart.problems} == {(one.where, one.message) for one in whole.problems}
    assert len(whole.problems) == 4, "two policies, each by SQL and from the bytes"
    assert told == [(8, 24), (16, 24), (24, 24)]
    assert apart.rows == whole.rows == 24


def test_differences_beyond_a_number_are_counted(store: Store, house: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """More kinds of differences than are named are counted, and no more are kept."""
    record(store, house, _records(EVENTS))
    for event_id in ("violated", "open", "strict", "revised"):
        _alter(store, event_id, **dict.fromkeys((*VIOLATED, *UNDECIDED), "[]"))
    monkeypatch.setattr(verdicts, "MOST_NAMED", 3)
    found = check_verdicts(store, DAY)
    assert len(found.problems) == 4
    assert found.problems[-1].message.startswith("5 verdicts more differ")
    assert len(_findings(store)) == 3


def test_statement_that_the_store_refuses_is_named(
    store: Store, house: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a policy's SQL is refused its policies are named, and the others are judged."""
    record(store, house, _records(EVENTS))
    monkeypatch.setattr(rejudging, "_LONGEST", 1)
    refused = rejudging._bits

    def broken(place: int, judgement: Any) -> str:
        return "nonsense" if judgement.policy.id == "test/open" else refused(place, judgement)

    monkeypatch.setattr(rejudging, "_bits", broken)
    _alter(store, "violated", violated_severity="['low']")
    found = check_verdicts(store, DAY)
    assert {one.kind for one in found.problems} == {"not_rejudged", "verdicts_differ"}
    (problem,) = (one for one in found.problems if one.kind == "not_rejudged")
    assert problem.message.startswith("test/open could not be judged again")


def test_events_in_binary_mode_are_read_from_their_bytes(store: Store, house: Bundle) -> None:
    """Of a record in binary mode the row has the data alone, and its verdicts come out the same."""
    attributes = envelope({}, id="binary")
    names = ("specversion", "id", "source", "type", "time")
    headers = [(f"ce_{name}", str(attributes[name]).encode()) for name in names]
    value = json.dumps({**MINIMAL, **EVENTS["open"]}).encode()
    record(store, house, [Record(0, None, value, [*headers, ("content-type", b"application/json")])])
    assert store.execute("SELECT content_mode, length(indeterminate) FROM ledger").rows == [("binary", 1)]
    found = check_verdicts(store, DAY)
    assert (found.problems, found.sampled) == ([], 1)


def test_rows_without_bytes_are_judged_in_sql_alone(store: Store, house: Bundle) -> None:
    """Rows whose bytes were erased are compared all the same, and left out of the sample."""
    record(store, house, _records(EVENTS))
    _alter(store, "violated", raw="''", violated_severity="['low']")
    found = check_verdicts(store, DAY)
    assert found.sampled == len(EVENTS) - 1
    assert "test/enforced version 1" in {one.where for one in found.problems}


def test_sample_is_of_every_size(store: Store, house: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample has no more rows than it may, each once, whatever lies at the places where it is taken."""
    many = {f"e{number}": KNOWN for number in range(50)}
    record(store, house, _records(many))
    assert check_verdicts(store, DAY).sampled == 50, "all of what is little"
    monkeypatch.setattr(sampling, "AT_EACH", 2)
    assert 10 <= check_verdicts(store, DAY).sampled <= 20


@pytest.mark.parametrize(("policies", "applications"), [(1000, 70), (10, 10_000)])
def test_large_bundle(store: Store, policies: int, applications: int) -> None:
    """A bundle of a thousand policies, or of ten thousand applications, is judged again, and an altered row found."""
    texts = [
        policy(f'purpose.use_case == "u{number}" && registry.sector == "s{number % 7}"', name=f"p{number}")
        for number in range(policies)
    ]
    registry = json.dumps({f"a{number}": {"sector": f"s{number % 7}"} for number in range(applications)})
    bundle = bundle_of(*texts, registry=registry)
    last = applications - applications % 7 - 7
    events = {
        f"e{number}": {"purpose": {"use_case": f"u{number}"}, "application": {"name": f"a{last + number % 7}"}}
        for number in range(0, policies, policies // 10)
    }
    record(store, bundle, _records(events))
    assert store.execute("SELECT sum(length(violated)) FROM ledger").rows == [(10,)]
    changed = [*events][-1]
    _alter(store, changed, **dict.fromkeys(VIOLATED, "[]"))
    assert {one.where for one in check_verdicts(store, DAY).problems} == {f"test/p{changed[1:]} version 1"}
