"""Views: their columns, the numbers in them against a count in Python, and that projections answer the aggregates."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tests.ledger_rows import (
    EMBEDDED,
    LATEST,
    SERVER,
    Row,
    accepted,
    duplicate,
    insert,
    migrated_store,
    plain,
    reads,
    rejected,
    verdict,
)
from usageaudit.ledger.columns import EVENT_COLUMNS, LISTS
from usageaudit.ledger.ddl import VIEWS
from usageaudit.ledger.views import plain_type
from usageaudit.verdicts import violation_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from usageaudit.ledger.view import View
    from usageaudit.stores.port import Store

POLICIES = (
    ("azure/face", 1, "critical", "enforce"),
    ("azure/chat", 2, "high", "enforce"),
    ("hygiene/time", 1, "low", "shadow"),
)
MISSING = (["actor.sector"], ["actor.sector", "purpose.use_case"], ["input.capture.device"])
FINDING = {
    "finding_id": "f" * 32,
    "kind": "windowed",
    "effect": "violation",
    "policy_id": "hygiene/burst",
    "policy_version": 3,
    "bundle": "b1",
    "severity": "medium",
    "window_start": "2026-03-02 09:00:00",
    "window_end": "2026-03-02 10:30:00",
    "group_key": "chatbot",
    "event_refs": [{"source": "svc-a", "id": "1"}],
    "message": "a burst",
    "created": "2026-03-02 10:31:00",
}
AGAIN = {**FINDING, "created": "2026-03-02 10:32:00"}
NOTICE = {**FINDING, "finding_id": "e" * 32, "effect": "notice", "policy_id": "", "kind": "offset_gap"}
SEED = 20260302
ROWS_A_BATCH = 700


def random_event(pick: random.Random, number: int) -> Row:
    """Return an accepted event of a few days with few values in each field, so that groups have several rows."""
    violated = pick.sample(POLICIES, pick.choice([0, 0, 0, 1, 2]))
    exempted = pick.sample(POLICIES, pick.choice([0, 0, 0, 1]))
    undecided = pick.sample(POLICIES, pick.choice([0, 0, 1, 2]))
    minute = pick.choice(["00:00", "30:15.000001", "59:59.999999"])
    time = f"2026-03-0{pick.randint(2, 4)} {pick.randint(0, 23):02}:{minute}"
    return accepted(
        str(number),
        time,
        application_name=pick.choice(["chatbot", "scanner"]),
        application_team=pick.choice(["support", "vision", None]),
        purpose_use_case=pick.choice(["chat", "search", None]),
        model_provider=pick.choice(["openai", "anthropic"]),
        model_name=pick.choice(["small", "large"]),
        actor_organization=pick.choice(["Acme", "City", None]),
        usage_input_tokens=pick.choice([None, 0, 7, 2**40]),
        usage_output_tokens=pick.choice([None, 3]),
        usage_cached_input_tokens=pick.choice([None, 1]),
        usage_reasoning_tokens=pick.choice([None, 2]),
        cost_amount=pick.choice([None, "0.1", "0.000000001", "12.5"]),
        cost_currency=pick.choice([None, "EUR", "USD"]),
        outcome_status=pick.choice([None, "ok", "error", "blocked"]),
        **verdict("violated", *[(*policy, f"m{number}", '{"a": 1}', []) for policy in violated]),
        **verdict("exempted", *[(*policy, "excused", "EX-1") for policy in exempted]),
        **verdict("indeterminate", *[(*policy[:2], pick.choice(MISSING)) for policy in undecided]),
    )


def other_row(pick: random.Random, number: int) -> Row:
    """Return a row that no aggregate may count: a copy, or a refused record."""
    if pick.random() < 0.5:
        return duplicate(str(number), "2026-03-02 10:00:00")
    return rejected("2026-03-02 10:00:00", "data.model.name: is required", event_source="svc-b")


@pytest.fixture(scope="module")
def events() -> list[Row]:
    """Return the accepted events that are in the ledger of every store."""
    pick = random.Random(SEED)
    return [random_event(pick, number) for number in range(3 * ROWS_A_BATCH)]


@pytest.fixture(scope="module", params=[EMBEDDED, SERVER, LATEST])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, events: list[Row]
) -> Iterator[Store]:
    """Yield a store with these events in three parts among copies and refused records, and with findings."""
    pick = random.Random(SEED)
    with migrated_store(request, tmp_path_factory) as filled:
        for start in range(0, len(events), ROWS_A_BATCH):
            others = [other_row(pick, number) for number in range(200)]
            insert(filled, pick.sample(batch := [*events[start : start + ROWS_A_BATCH], *others], len(batch)))
        insert(filled, [FINDING, NOTICE, AGAIN], "findings_log")
        yield filled


def hour(event: Row) -> str:
    """Return the start of the hour of an event."""
    return f"{event['event_time'][:13]}:00:00"


def total(values: Iterable[Any]) -> Any:
    """Return the sum of what is there, None where nothing is."""
    there = [value for value in values if value is not None]
    return sum(there) if there else None


def usage(events: Iterable[Row], start: int, keys: tuple[str, ...]) -> Counter[tuple[Any, ...]]:
    """Return the rows of a usage view: time cut to `start` characters, keys and sums."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for event in events:
        time = hour(event) if start > len("2026-03-02") else event["event_time"][:start]
        groups[time, *(event[key] for key in keys)].append(event)
    tokens = ("input", "output", "cached_input", "reasoning")
    return Counter(
        (
            *key,
            len(group),
            *(total(event[f"usage_{name}_tokens"] for event in group) for name in tokens),
            _text(total(event["cost_amount"] and Decimal(event["cost_amount"]) for event in group)),
            sum(event["outcome_status"] == "error" for event in group),
        )
        for key, group in groups.items()
    )


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else format(amount.normalize(), "f")


def unfolded(event: Row, kind: str) -> Iterator[tuple[Any, ...]]:
    """Yield policy, severity and stage of each verdict of a kind."""
    yield from zip(event[kind], event[f"{kind}_severity"], event[f"{kind}_stage"], strict=True)


USAGE_KEYS = ("application_name", "model_provider", "model_name", "outcome_status", "cost_currency")
PURPOSE_KEYS = ("application_name", "application_team", "purpose_use_case", *USAGE_KEYS[1:])


@pytest.mark.parametrize(
    ("view", "start", "keys"),
    [
        ("usage_hourly", 19, USAGE_KEYS),
        ("usage_daily", 10, USAGE_KEYS),
        ("usage_by_purpose_hourly", 19, PURPOSE_KEYS),
    ],
)
def test_usage_is_what_a_count_of_the_events_gives(
    store: Store, events: list[Row], view: str, start: int, keys: tuple[str, ...]
) -> None:
    """Events, tokens, cost by currency and failures of each group equal a count in Python; copies do not count."""
    assert Counter(plain(store.query(f"SELECT * FROM {view}"))) == usage(events, start, keys)


@pytest.mark.parametrize(("view", "cut"), [("violations_hourly", 19), ("violations_daily", 10)])
def test_violations_are_what_a_count_of_the_events_gives(store: Store, events: list[Row], view: str, cut: int) -> None:
    """Violations, exempted and undecided of each group equal a count in Python, and a finding counts once."""
    counts: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
    for event in events:
        time, application = hour(event)[:cut], event["application_name"]
        for place, kind in enumerate(("violated", "exempted")):
            for policy, severity, stage in unfolded(event, kind):
                counts[time, policy, severity, stage, application][place] += 1
        for policy in event["indeterminate"]:
            counts[time, policy, "", "", application][2] += 1
    counts["2026-03-02 10:00:00"[:cut], "hygiene/burst", "medium", "enforce", ""][0] += 1
    found = plain(store.query(f"SELECT * FROM {view}"))
    assert Counter(found) == Counter((*key, *count) for key, count in counts.items())


def test_violations_by_organization_are_what_a_count_of_the_events_gives(store: Store, events: list[Row]) -> None:
    """The same by organisation and model, NULL being an organisation of its own."""
    counts: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0])
    for event in events:
        rest = (event["application_name"], event["actor_organization"], event["model_name"])
        for place, kind in enumerate(("violated", "exempted")):
            for found in unfolded(event, kind):
                counts[hour(event), *found, *rest][place] += 1
    counts["2026-03-02 10:00:00", "hygiene/burst", "medium", "enforce", "", None, ""][0] += 1
    rows = plain(store.query("SELECT * FROM violations_by_organization_hourly"))
    assert Counter(rows) == Counter((*key, *count) for key, count in counts.items())


def test_coverage_is_what_a_count_of_the_events_gives(store: Store, events: list[Row]) -> None:
    """Events of the day and application, those decided, and the union of the missing fields, for each policy."""
    days: Counter[tuple[str, str]] = Counter((e["event_time"][:10], e["application_name"]) for e in events)
    undecided: dict[tuple[str, str, str], list[list[str]]] = defaultdict(list)
    for event in events:
        for policy, fields in zip(event["indeterminate"], event["indeterminate_missing"], strict=True):
            undecided[event["event_time"][:10], event["application_name"], policy].append(fields)
    expected = Counter(
        (*key, days[key[:2]], days[key[:2]] - len(missing), tuple(sorted(set().union(*missing))))
        for key, missing in undecided.items()
    )
    assert Counter(plain(store.query("SELECT * FROM declaration_coverage"))) == expected


def test_undecided_are_what_a_count_of_the_events_gives(store: Store, events: list[Row]) -> None:
    """Events of each hour, application, policy and set of missing fields."""
    expected: Counter[tuple[Any, ...]] = Counter(
        (hour(event), event["application_name"], policy, tuple(fields))
        for event in events
        for policy, fields in zip(event["indeterminate"], event["indeterminate_missing"], strict=True)
    )
    rows = plain(store.query("SELECT * FROM indeterminates_hourly"))
    assert {row[:4]: row[4] for row in rows} == expected


USAGE = {"usage_by_hour"}
VIOLATIONS = {"violations_by_hour", "findings_log"}
UNDECIDED = {"indeterminates_by_hour"}
SERVED = {
    "usage_hourly": USAGE,
    "usage_daily": USAGE,
    "usage_by_purpose_hourly": USAGE,
    "violations_hourly": VIOLATIONS | UNDECIDED,
    "violations_daily": VIOLATIONS | UNDECIDED,
    "violations_by_organization_hourly": VIOLATIONS,
    "indeterminates_hourly": UNDECIDED,
    "declaration_coverage": UNDECIDED,
}


def filters(view: str) -> Iterator[str]:
    """Yield the conditions under which a view is asked."""
    columns = {column.name for one in VIEWS if one.name == view for column in one.columns}
    time = "day" if "day" in columns else "hour"
    yield "1"
    yield f"{time} >= '2026-03-03' AND {time} < '2026-03-04'"
    yield f"{time} = '2026-03-03'"
    yield "application_name = 'chatbot'"
    yield f"toStartOfMonth({time}) = '2026-03-01' AND application_name LIKE 'c%'"
    for name, value in (("policy_id", "azure/face"), ("cost_currency", "USD"), ("actor_organization", "Acme")):
        if name in columns:
            yield f"{name} = '{value}' AND {time} > '2026-03-02'"


@pytest.mark.parametrize("view", SERVED)
def test_an_aggregate_is_read_from_its_projection(store: Store, view: str) -> None:
    """Whatever is filtered by, the engine reads the projection and not the rows of the ledger."""
    for condition in filters(view):
        sql = f"SELECT * FROM {view} WHERE {condition}"
        assert reads(store, sql) == SERVED[view], condition
        without = store.execute(f"{sql} SETTINGS optimize_use_projections = 0")
        assert Counter(plain(store.query(sql))) == Counter(plain(without)), condition
    months = f"SELECT toStartOfMonth({next(iter(columns_of(view)))}) AS month, count() FROM {view} GROUP BY month"
    assert reads(store, months) == SERVED[view]


def columns_of(view: str) -> list[str]:
    """Return the names of the columns of a view, in order."""
    return next([column.name for column in one.columns] for one in VIEWS if one.name == view)


def test_the_engine_would_read_the_ledger_without_the_projection(store: Store) -> None:
    """Negative control of the tests above: with projections off, EXPLAIN names the ledger."""
    sql = "SELECT * FROM usage_hourly SETTINGS optimize_use_projections = 0"
    assert reads(store, sql) == {"ledger"}


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_a_view_has_the_columns_that_are_documented(store: Store, view: View) -> None:
    """Names, order and types of a view's columns are those of its documentation."""
    described = store.execute(f"DESCRIBE {view.name} SETTINGS print_pretty_type_names = 0").rows
    found = [(name, plain_type(kind)) for name, kind, *_ in described]
    assert found == [(column.name, column.type) for column in view.columns]


def test_a_violation_has_the_id_that_python_gives_it(store: Store, events: list[Row]) -> None:
    """The id of each violation in SQL equals that of `usageaudit.verdicts`; a finding keeps its own."""
    expected = {
        (event["event_id"], policy): violation_id("svc-a", event["event_id"], policy, version)
        for event in events
        for kind in ("violated", "exempted")
        for policy, version in zip(event[kind], event[f"{kind}_version"], strict=True)
    }
    rows = plain(store.query("SELECT event_id, policy_id, violation_id FROM violations WHERE kind = 'event'"))
    assert {(event_id, policy): found for event_id, policy, found in rows} == expected
    assert plain(store.query("SELECT violation_id FROM violations WHERE kind != 'event'")) == [("f" * 32,)]


def test_violations_unfold_the_verdicts_of_the_events(store: Store, events: list[Row]) -> None:
    """Each violated and each exempted policy is one row with its own severity, stage, message and exception."""
    expected = Counter(
        (event["event_id"], "violation", *found, f"m{event['event_id']}", "")
        for event in events
        for found in unfolded(event, "violated")
    ) + Counter(
        (event["event_id"], "exempted", *found, "excused", "EX-1")
        for event in events
        for found in unfolded(event, "exempted")
    )
    sql = "SELECT event_id, verdict, policy_id, severity, stage, message, exception_id FROM violations"
    assert Counter(plain(store.query(f"{sql} WHERE event_id != ''"))) == expected


def test_violations_are_as_many_as_their_counts_say(store: Store) -> None:
    """The rows of `violations` and the sums of every aggregate agree, findings included."""
    by_verdict = "SELECT countIf(verdict = 'violation'), countIf(verdict = 'exempted') FROM violations"
    rows = plain(store.query(by_verdict))
    for view in ("violations_hourly", "violations_daily", "violations_by_organization_hourly"):
        assert plain(store.query(f"SELECT sum(violations), sum(exempted) FROM {view}")) == rows


def test_indeterminates_unfold_the_verdicts_of_the_events(store: Store, events: list[Row]) -> None:
    """Each undecided policy is one row with the fields that it lacked."""
    expected = Counter(
        (event["event_id"], policy, version, tuple(fields))
        for event in events
        for policy, version, fields in zip(
            event["indeterminate"], event["indeterminate_version"], event["indeterminate_missing"], strict=True
        )
    )
    sql = "SELECT event_id, policy_id, policy_version, missing_fields FROM indeterminates"
    assert Counter(plain(store.query(sql))) == expected


def test_what_is_appended_twice_is_read_once(store: Store) -> None:
    """A finding that was appended twice is one row, the last, which says what it is now; a bundle the first."""
    assert plain(store.query("SELECT finding_id, created FROM findings ORDER BY finding_id")) == [
        (NOTICE["finding_id"], NOTICE["created"]),
        (AGAIN["finding_id"], AGAIN["created"]),
    ]
    loads = [
        {"hash": "b1", "name": "pack", "loaded_by": "ann", "loaded_at": "2026-03-02 08:00:00"},
        {"hash": "b1", "name": "pack", "loaded_by": "bob", "loaded_at": "2026-03-02 07:00:00"},
    ]
    insert(store, loads, "bundles_log")
    insert(store, loads, "bundles_log")
    assert plain(store.query("SELECT hash, loaded_by, loaded_at FROM bundles")) == [
        ("b1", "bob", "2026-03-02 07:00:00")
    ]


def test_records_of_every_status_are_stream_records(store: Store, events: list[Row]) -> None:
    """`stream_records` has every row of the ledger, `usage_events` and `rejects` those of their status."""
    by_status = dict(plain(store.query("SELECT status, count() FROM stream_records GROUP BY status")))
    assert by_status["accepted"] == len(events)
    assert sum(by_status.values()) == len(events) + 600
    assert plain(store.query("SELECT count() FROM usage_events")) == [(by_status["accepted"],)]
    refused = plain(store.query("SELECT count(), any(error) FROM rejects"))
    assert refused == [(by_status["rejected"], "data.model.name: is required")]


def test_violations_of_a_time_are_found_by_the_key(store: Store) -> None:
    """A filter on the event's time reaches the ledger's key through the view, so the rest of history is not read."""
    sql = "SELECT * FROM violations WHERE event_time >= '2026-03-04 00:00:00'"
    plan = "\n".join(str(line) for (line,) in store.execute(f"EXPLAIN indexes = 1 {sql}").rows)
    assert "event_time in [" in plan


@pytest.fixture(scope="module", params=[EMBEDDED, SERVER])
def lists(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store with one event for each list, which has that list alone, and it empty."""
    with migrated_store(request, tmp_path_factory) as filled:
        rows = [accepted(field.name, "2026-03-02 10:00:00", lists_present=1 << bit) for bit, field in enumerate(LISTS)]
        insert(filled, rows)
        yield filled


def test_an_empty_list_is_told_from_a_missing_one(lists: Store) -> None:
    """Beside each list of the event there is a column that says whether the event had it."""
    names = [f"{field.column}_present" for field in LISTS]
    rows = plain(lists.query(f"SELECT event_id, {', '.join(names)} FROM usage_events"))
    assert {row[0]: row[1:] for row in rows} == {
        field.name: tuple(int(field is other) for other in LISTS) for field in LISTS
    }


def test_every_field_of_the_event_is_a_column_of_usage_events() -> None:
    """No field of the event is missing from the view of events."""
    assert {column.name for column in EVENT_COLUMNS} <= set(columns_of("usage_events"))
