"""Back-tests of windowed policies: what they would have found, against the plain reference and the live scheduler."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.windows.reference import findings
from tests.integration.windows.test_windows import KINDS, draw, row, streams
from tests.ledger_rows import EMBEDDED, SERVER, accepted, insert, migrated_store
from tests.unit.policy.bundles import bundle_of, policy
from usageaudit.cli.changes import print_change
from usageaudit.cli.output import Format
from usageaudit.history import Period, backtest
from usageaudit.scheduler.service import Scheduler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.history import Change
    from usageaudit.policy import Bundle
    from usageaudit.stores.port import Store

ALL = Period()
TABLES = ("ledger", "fence", "leases", "findings_log", "window_events", "window_progress")
SUM = {
    "kind": "value_sum", "field": "usage.input_tokens", "over": "calendar month", "zone": "UTC",
    "group_by": ["application.name"],
}  # fmt: skip


@pytest.fixture(scope="module", params=[EMBEDDED, SERVER])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store with its tables."""
    with migrated_store(request, tmp_path_factory) as made:
        yield made


@pytest.fixture
def store(opened: Store) -> Store:
    """Return the store without rows."""
    for table in TABLES:
        opened.execute(f"TRUNCATE TABLE {table}")
    return opened


def _told(_done: int, _total: int) -> None:
    """Tell nobody."""


def _tested(store: Store, new: Bundle, old: Bundle | None = None, period: Period = ALL, **more: Any) -> Change:
    return backtest(store, new, old, period, progress=_told, **more)


def _figures(change: Change) -> dict[str, int]:
    (one,) = change.policies
    return {name: number for name, number in one.all.figures().items() if number}


def _use(number: int, day: int, tokens: int | None, app: str = "desk", **more: Any) -> dict[str, Any]:
    values = {} if tokens is None else {"usage_input_tokens": tokens}
    return accepted(f"e{number}", f"2024-03-{day:02} 12:00:00", values, application_name=app, **more)


def _budget(most: int = 100, **more: Any) -> Bundle:
    return bundle_of(policy("operation == 'chat'".replace("'", '"'), window=SUM, condition=f"value > {most}", **more))


@pytest.mark.parametrize("kind", KINDS)
def test_a_back_test_finds_what_the_reference_finds(kind: str, store: Store) -> None:
    """Of random streams, each group and window that the reference finds is one added violation, and nothing else."""
    chance = random.Random(f"history {kind}")
    wanted_in_all = 0
    for _ in range(2):
        for table in TABLES:
            store.execute(f"TRUNCATE TABLE {table}")
        text, spec = draw(kind, chance)
        spread = {"day": 5_000, "month": 90_000}.get(spec.unit, 1)
        events = streams(12, spread, chance)
        rows = [row({**event, "status": "accepted"}, number) for number, event in enumerate(events)]
        insert(store, rows)
        last = max(event["t"] for event in events)
        wanted = [one for one in findings(spec, events) if spec.unit or one[2] <= last]
        wanted_in_all += len(wanted)
        change = _tested(store, bundle_of(text.replace("own/one", "test/one")))
        (one,) = change.policies
        assert one.all["added"] == one.all["violations_after"] == len(wanted), text
        apps = {name: tally["added"] for name, tally in one.parts["application"].items()}
        assert apps == {name: sum(found[0] == name for found in wanted) for name in {found[0] for found in wanted}}
    assert wanted_in_all > 0


def test_what_was_found_live_is_unchanged(store: Store) -> None:
    """What the scheduler recorded is before: the same policy adds nothing, another bound adds and removes."""
    store.execute(
        "INSERT INTO fence (stream, topic, partition, epoch, owner, taken_at) "
        "SELECT 'stream-1', 'usage-events', 0, 1, 'test', now64(3)"
    )
    insert(store, [_use(1, 1, 60), _use(2, 2, 60), _use(3, 3, 30, "lab"), _use(4, 30, 0)])
    scheduler = Scheduler(store, _budget(), lateness=0, since=-1)
    while not scheduler.caught_up():
        scheduler.step()
    assert _figures(_tested(store, _budget())) == {"violations_before": 1, "violations_after": 1, "unchanged": 1}
    assert _figures(_tested(store, _budget(20))) == {
        "violations_before": 1, "violations_after": 2, "added": 1, "unchanged": 1
    }  # fmt: skip
    assert _figures(_tested(store, _budget(500))) == {"violations_before": 1, "removed": 1}
    assert store.execute("SELECT count() FROM findings_log").rows == [(1,)]


def test_two_bundles_are_compared_on_the_same_events(store: Store) -> None:
    """With another bundle as the old one its findings are before, with values, windows and an event as examples."""
    insert(store, [_use(1, 1, 60), _use(2, 2, 60), _use(3, 3, 30, "lab"), _use(4, 30, 0)])
    change = _tested(store, _budget(20), _budget())
    assert _figures(change) == {"violations_before": 1, "violations_after": 2, "added": 1, "unchanged": 1}
    (one,) = change.policies
    (example,) = one.examples
    assert (example.application, example.event_id) == ("lab", "e3")
    assert example.deciding == (
        "application.name lab, value 30 in the window from 2024-03-01T00:00:00Z to 2024-04-01T00:00:00Z",
    )
    assert {name: tally["violations_after"] for name, tally in one.parts["month"].items()} == {"2024-03": 2}


def test_each_revision_judges_its_time(store: Store) -> None:
    """What crosses in the time of a revision is judged by it; `as_of` takes one revision for all times."""
    insert(store, [_use(1, 1, 60), _use(2, 20, 60, "lab")])
    revisions = [
        {"version": 1, "when": "true", "condition": "value > 50", "to": "2024-03-10"},
        {"version": 2, "when": "true", "condition": "value > 100", "from": "2024-03-10"},
    ]
    bundle = bundle_of(policy(window=SUM, revisions=revisions))
    assert _figures(_tested(store, bundle)) == {"violations_after": 1, "added": 1}
    assert _figures(_tested(store, bundle, as_of=1_704_067_200_000_000)) == {"violations_after": 2, "added": 2}


def test_only_what_crosses_in_the_period_is_told(store: Store) -> None:
    """A finding of before or after the period is none of it; `only` leaves other policies out."""
    window = {"kind": "event_count", "over": "1h", "group_by": ["application.name"]}
    bundle = bundle_of(policy("true", window=window, condition="value >= 1"), policy(name="b"))
    insert(store, [_use(1, 1, 60), _use(2, 10, 60), _use(3, 20, 60)])
    tenth = 1_710_028_800_000_000
    period = Period(tenth, tenth + 86_400_000_000)
    assert _figures(_tested(store, bundle, None, period, only=["test/a"])) == {"violations_after": 1, "added": 1}
    assert _tested(store, bundle, only=["test/b"]).policies[0].policy_id == "test/b"


def test_a_policy_over_a_mostly_unknown_field_says_so(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Events that can't be counted are undecided, with the fields that they did not say; most of them is a warning."""
    insert(store, [_use(1, 1, 60), _use(2, 2, None), _use(3, 3, None), _use(4, 4, None, operation="embeddings")])
    change = _tested(store, _budget())
    (one,) = change.policies
    assert one.window is not None
    assert (one.window.about, one.window.counted, one.window.undecided) == (3, 1, 2)
    assert one.unsaid == {"usage.input_tokens": 2}
    assert one.all["now_indeterminate"] == 2
    print_change(change, None, Format.json)
    said = capsys.readouterr()
    assert (
        "test/a: 2 of 3 events that it is about can't be counted, so many did not say: usage.input_tokens (2)"
        in said.err
    )
    (printed,) = json.loads(said.out)
    assert printed["coverage"] == {"about": 3, "counted": 1, "undecided": 2, "notices": 0}
    insert(store, [_use(number, 5, 1) for number in range(5, 9)])
    print_change(_tested(store, _budget()), None, Format.json)
    assert "can't be counted" not in capsys.readouterr().err
