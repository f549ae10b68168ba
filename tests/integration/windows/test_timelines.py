"""Timelines made by hand: policies that begin or change while windows are open, old and late events, odd groups."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.ledger_rows import EMBEDDED, accepted, insert, migrated_store
from tests.unit.policy.bundles import bundle_of, policy
from usageaudit.events.times import format_time
from usageaudit.history import Period, backtest
from usageaudit.scheduler.service import Scheduler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.policy import Bundle
    from usageaudit.stores.port import Store

DAY = 86_400
MARCH = 1_740_787_200
"""The beginning of March 2025 in UTC."""
WHOLE_MARCH = ("2025-03-01 00:00:00", "2025-04-01 00:00:00")
MONTH = {
    "kind": "value_sum", "field": "usage.input_tokens", "over": "calendar month", "zone": "UTC",
    "group_by": ["application.name"],
}  # fmt: skip
TABLES = ("ledger", "fence", "leases", "findings_log", "window_events", "window_progress")


@pytest.fixture(scope="module", params=[EMBEDDED])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store with its tables."""
    with migrated_store(request, tmp_path_factory) as made:
        yield made


@pytest.fixture
def store(opened: Store) -> Store:
    """Return the store without rows, with two partitions."""
    for table in TABLES:
        opened.execute(f"TRUNCATE TABLE {table}")
    opened.execute(
        "INSERT INTO fence (stream, topic, partition, epoch, owner, taken_at) "
        "SELECT 'stream-1', 'usage-events', number, 1, 'test', now64(3) FROM numbers(2)"
    )
    return opened


def _at(second: float, app: str = "desk", **more: Any) -> dict[str, Any]:
    """Return an accepted event; `recorded` is when, by default at the end of 2025."""
    time = format_time(int(second * 1e6)).replace("T", " ").rstrip("Z")
    recorded = more.pop("recorded", "2025-12-31 00:00:00")
    return accepted(f"{app[:9]}-{second}", time, {"ingest_time": recorded}, application_name=app, **more)


def _add(store: Store, *events: dict[str, Any], partition: int = 0) -> None:
    """Record events, with the next offsets of a partition."""
    asked = f"SELECT count() FROM ledger WHERE partition = {partition}"
    first = int(store.execute(asked).rows[0][0])
    insert(store, [{**one, "offset": first + at, "partition": partition} for at, one in enumerate(events)])


def _run(scheduler: Scheduler) -> None:
    scheduler.step()
    while not scheduler.caught_up():
        scheduler.step()


def _standing(store: Store) -> list[tuple[str, str, str]]:
    """Return the effects of findings, and the bounds of their windows."""
    seconds = "toString(toDateTime({0}, 'UTC'))".format
    return [
        (str(effect), str(start), str(end))
        for effect, start, end in store.execute(
            f"SELECT effect, {seconds('window_start')}, {seconds('window_end')} FROM findings ORDER BY window_end"
        ).rows
    ]


def _use(word: str) -> str:
    return f'purpose.use_case == "{word}"'


def _budget(most: int, version: int = 1) -> Bundle:
    """Return a monthly budget whose bound is in a list."""
    revisions = [{"version": version, "when": "true", "condition": "lists.most.exists(most, value > most)"}]
    return bundle_of(policy(window=MONTH, revisions=revisions), lists=f"most: [{most}]\n")


def test_a_budget_that_is_overrun_when_its_policy_is_loaded_is_found(store: Store) -> None:
    """Of the month that is open when a policy begins all counts, and is judged; months before are not."""
    _add(store, _at(MARCH - DAY, usage_input_tokens=200), _at(MARCH + DAY, usage_input_tokens=200))
    scheduler = Scheduler(store, _budget(100), lateness=0)
    assert scheduler.step() == 1
    _add(store, _at(MARCH + 2 * DAY, usage_input_tokens=1))
    _run(scheduler)
    assert _standing(store) == [("violation", *WHOLE_MARCH)]


@pytest.mark.parametrize("version", [1, 2])
def test_a_budget_that_is_lowered_is_found_in_the_open_month(store: Store, version: int) -> None:
    """A list with a lower bound, under the same version or a new one, finds what is above it already, once."""
    _add(store, _at(MARCH, usage_input_tokens=70))
    scheduler = Scheduler(store, _budget(100), lateness=0)
    _run(scheduler)
    assert _standing(store) == []
    scheduler.use(_budget(50, version))
    _add(store, _at(MARCH + DAY, usage_input_tokens=1))
    _run(scheduler)
    scheduler.use(_budget(40, version))
    _run(scheduler)
    assert _standing(store) == [("violation", *WHOLE_MARCH)]
    assert store.execute("SELECT count() FROM findings_log").rows == [(1,)]


def test_a_late_event_before_a_policy_began_does_not_clear_what_it_makes_worse(store: Store) -> None:
    """A month's finding stands where a late event moves its crossing to before the policy was loaded."""
    _add(store, _at(MARCH, usage_input_tokens=95))
    scheduler = Scheduler(store, _budget(100), lateness=0)
    _run(scheduler)
    _add(store, _at(MARCH + 2 * DAY, usage_input_tokens=10))
    _run(scheduler)
    _add(store, _at(MARCH - 1, usage_input_tokens=1), _at(MARCH + 0.5, usage_input_tokens=10))
    _run(scheduler)
    assert _standing(store) == [("violation", *WHOLE_MARCH)]


@pytest.mark.parametrize("over", ["calendar month", "20d"])
def test_what_holds_when_a_revision_begins_crosses_then(store: Store, over: str) -> None:
    """A bound lowered from a day on finds what is above it at the first event after, live and in a back-test."""
    window = {**MONTH, "over": over}
    if over != MONTH["over"]:
        del window["zone"]
    revisions = [
        {"version": 1, "when": "true", "condition": "value > 100", "to": "2025-03-10"},
        {"version": 2, "when": "true", "condition": "value > 50", "from": "2025-03-10"},
    ]
    bundle = bundle_of(policy(window=window, revisions=revisions))
    events = [_at(MARCH + day * DAY, usage_input_tokens=tokens) for day, tokens in ((1, 70), (12, 1), (13, 1), (60, 0))]
    _add(store, *events)
    _run(Scheduler(store, bundle, lateness=0, since=-1))
    ends = "2025-04-01 00:00:00" if over == MONTH["over"] else "2025-03-13 00:00:00"
    assert [(effect, end) for effect, _, end in _standing(store)] == [("violation", ends)]
    assert store.execute("SELECT policy_version FROM findings").rows == [(2,)]
    (change,) = backtest(store, bundle, None, Period(), progress=lambda *_: None).policies
    assert (change.all["unchanged"], change.all["violations_after"]) == (1, 1)


def test_clocks_that_begin_in_1970_make_nothing_up(store: Store) -> None:
    """Events of the first hour of 1970, where clocks that were never set are, are counted as those of any other."""
    group = {"over": "1h", "group_by": ["application.name"]}
    steps = {"kind": "temporal_ordered", "steps": [_use("a"), _use("b")], **group}
    values = {"kind": "value_count", "field": "model.name", **group}
    bundle = bundle_of(
        policy("true", name="ordered", window=steps),
        policy("true", name="values", window=values, condition="value >= 2"),
        policy("true", name="again", window={"kind": "first_seen", **group}),
    )
    uses = ((0, "x"), (5, "b"), (7, "c"), (MARCH, "x"))
    _add(store, *(_at(second, purpose_use_case=word) for second, word in uses))
    _run(Scheduler(store, bundle, lateness=0, since=-1))
    rows = store.execute("SELECT policy_id, toUnixTimestamp(window_end) FROM findings ORDER BY window_end").rows
    assert rows == [("test/again", 0), ("test/again", MARCH)]


def test_a_late_heartbeat_before_the_wait_that_it_decides_is_seen(store: Store) -> None:
    """A heartbeat of the stretch that a wait begins in, and older than the wait, decides it however late it comes."""
    beat = {"when": _use("beat"), "every": "10s"}
    window = {"kind": "absence", "expect": _use("b"), "over": "20s", "heartbeat": beat}
    scheduler = Scheduler(store, bundle_of(policy(_use("a"), window=window)), lateness=0, since=-1)
    uses = ((5, "a"), (12, "beat"), (60, "x"))
    _add(store, *(_at(MARCH + second, purpose_use_case=word) for second, word in uses))
    _run(scheduler)
    wait = ("2025-03-01 00:00:05", "2025-03-01 00:00:25")
    assert _standing(store) == [("notice", *wait)]
    _add(store, _at(MARCH + 3, purpose_use_case="beat"))
    _run(scheduler)
    assert _standing(store) == [("violation", *wait)]


COUNT = {"kind": "event_count", "over": "10s", "group_by": ["application.name"]}


def test_what_a_clock_that_was_ahead_recorded_hides_nothing(store: Store) -> None:
    """A consumer records one row with a clock a year ahead; what it records with a right one is found at once."""
    scheduler = Scheduler(store, bundle_of(policy("true", window=COUNT, condition="value >= 3")), lateness=0, since=-1)
    ((now,),) = store.execute("SELECT toUnixTimestamp(now())").rows
    first = int(now) - 600
    ahead = format_time((first + 365 * DAY) * 10**6)[:19].replace("T", " ")
    recorded = format_time(int(now) * 10**6)[:19].replace("T", " ")
    _add(store, _at(first + 365 * DAY, recorded=ahead), _at(first, recorded=ahead))
    _run(scheduler)
    _add(store, *(_at(first + 20 + second, recorded=recorded) for second in range(3)))
    _run(scheduler)
    assert [effect for effect, _, _ in _standing(store)] == ["violation"]


def test_a_partition_that_is_caught_up_with_does_not_keep_back_another(store: Store) -> None:
    """What one partition had while another was read piece by piece is found without anything newer."""
    bundle = bundle_of(policy("true", window=COUNT, condition="value >= 3"))
    _add(store, *(_at(MARCH + 100 + second) for second in range(3)))
    _add(store, *(_at(MARCH + 20 * number, "other") for number in range(5)), partition=1)
    _run(Scheduler(store, bundle, lateness=0, since=-1, most=4))
    assert _standing(store) == [("violation", "2025-03-01 00:01:32", "2025-03-01 00:01:42")]


def test_numbers_too_large_to_add_are_undecided(store: Store) -> None:
    """Sums do not wrap: what no sum of many could hold is not counted, and a back-test says so."""
    window = {**COUNT, "kind": "value_sum", "field": "outcome.latency_ms"}
    texts = ("value < 0.0", "value > 1e19")
    policies = [policy("true", name=f"p{at}", window=window, condition=one) for at, one in enumerate(texts)]
    bundle = bundle_of(*policies)
    values = (9e28, 9e28, 1e300, -1e300, 9e18, 9e18)
    _add(store, *(_at(MARCH + number, outcome_latency_ms=value) for number, value in enumerate(values)))
    _run(Scheduler(store, bundle, lateness=0, since=-1))
    assert store.execute("SELECT policy_id FROM findings").rows == [("test/p1",)]
    change, _ = backtest(store, bundle, None, Period(), progress=lambda *_: None).policies
    assert change.window is not None
    assert (change.window.about, change.window.counted, change.window.undecided) == (6, 2, 4)


NAMES = (
    *("", "a'b", "\\", "\\'", '"', "a\0b", "\0", "a\nb\t\r", "é\u202e😀", "x" * 10_000, '{"a":1}', "[1]"),
    *("'); DROP TABLE ledger; --", "{keys:Array(String)}", "NULL", "\\N", "\x7f\x08\x1b", "\ufffe"),
)


def test_groups_are_found_and_cleared_whatever_their_names_are(store: Store) -> None:
    """Each of a set of odd names is a group of its own, with its events, and is the one that a late event clears."""
    window = {"kind": "event_count", "over": "10s", "group_by": ["application.name", "actor.id"]}
    bundle = bundle_of(policy("true", window=window, condition="value == 2", message="{application.name}"))
    scheduler = Scheduler(store, bundle, lateness=0, since=-1)

    def each(second: int) -> list[dict[str, Any]]:
        return [_at(MARCH + second, name, actor_id=name) for name in NAMES]

    _add(store, *each(0), *each(1), _at(MARCH + DAY))
    _run(scheduler)
    found = store.execute("SELECT group_key, message, length(event_refs) FROM findings").rows
    groups = [json.loads(group) for group, _, _ in found]
    assert sorted(one["actor.id"] for one in groups) == sorted(NAMES)
    assert all(one["actor.id"] == one["application.name"] for one in groups)
    assert {events for _, _, events in found} == {2}
    _add(store, *[{**one, "event_id": f"late-{one['event_id']}"} for one in each(1)])
    _run(scheduler)
    assert {effect for effect, _, _ in _standing(store)} == {"cleared"}
