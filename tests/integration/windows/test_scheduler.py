"""The scheduler as a process among others: one leads, and whatever kills it or puts it to sleep harms no finding.

USAGEAUDIT_TEST_SCHEDULER_KILLS is how many steps are to be killed, at statements chosen by chance: a few end before.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.windows.nursery import nursery
from tests.integration.windows.reference import findings
from tests.integration.windows.test_windows import BASE, arriving, draw, row, streams
from tests.ledger_rows import EMBEDDED, SERVER, insert, migrated_store
from usageaudit.policy import load_bundle
from usageaudit.scheduler.lease import Lease
from usageaudit.scheduler.running import run_scheduler
from usageaudit.scheduler.service import Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.windows.reference import Event, Found
    from usageaudit.stores.port import Store

KILLS = int(os.environ.get("USAGEAUDIT_TEST_SCHEDULER_KILLS") or 6)
TABLES = ("ledger", "fence", "leases", "findings_log", "window_events", "window_progress")
KINDS = ("event_count", "value_sum", "temporal_ordered", "absence", "first_seen", "value_sum by day")
"""What policies are in force while the scheduler is killed."""
BEGINNINGS = (0, 82_770, 2 * 86_400 + 79_170)
"""Seconds after BASE at which a minute of events begins: the last two have a midnight of Paris within them."""
THREE = "when: 'true'\nwindow: {kind: event_count, over: 10s, group_by: [application.name]}\ncondition: 'value == 3'\n"


@pytest.fixture(scope="module", params=[EMBEDDED, SERVER])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store with its tables."""
    with migrated_store(request, tmp_path_factory) as made:
        yield made


@pytest.fixture(scope="module", params=[SERVER])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store with its tables that several processes may use."""
    with migrated_store(request, tmp_path_factory) as made:
        yield made


def _emptied(store: Store) -> Store:
    for table in TABLES:
        store.execute(f"TRUNCATE TABLE {table}")
    store.execute(
        "INSERT INTO fence (stream, topic, partition, epoch, owner, taken_at) "
        "SELECT 'stream-1', 'usage-events', 0, 1, 'test', now64(3)"
    )
    return store


@pytest.fixture
def store(opened: Store) -> Store:
    """Return a store without rows."""
    return _emptied(opened)


@pytest.fixture
def server(shared: Store) -> Store:
    """Return a server without rows."""
    return _emptied(shared)


def _folder(path: Path, text: str = THREE) -> Path:
    (path / "policies").mkdir(parents=True)
    (path / "bundle.yaml").write_text("name: own\n")
    (path / "policies" / "one.yaml").write_text(f"id: own/one\ntitle: one\nseverity: high\n{text}")
    return path


def _url(store: Store) -> str:
    ((database,),) = store.execute("SELECT currentDatabase()").rows
    return f"clickhouse://default@{str(store).rpartition('@')[2].partition('/')[0]}/{database}"


def _event(t: int, number: int, app: str = "app-0") -> Event:
    return {
        "app": app, "t": BASE + t, "source": "svc-a", "id": f"e{number}", "operation": "chat", "model": "a",
        "tokens": 1, "use_case": None, "status": "accepted",
    }  # fmt: skip


def _add(store: Store, events: list[Event], first: int = 0) -> None:
    insert(store, [row(one, first + number) for number, one in enumerate(events)])


def _standing(store: Store) -> list[tuple[str, int, int]]:
    rows = store.execute(
        "SELECT JSONExtractString(group_key, 'application.name'), toUnixTimestamp(window_start), "
        "toUnixTimestamp(window_end) FROM findings WHERE effect = 'violation' AND group_key NOT LIKE '%\"last\"%'"
    ).rows
    return sorted((str(app), int(start), int(end)) for app, start, end in rows)


def _drawn(events: list[Event], chance: random.Random) -> tuple[dict[str, str], dict[str, list[Found]]]:
    """Return a policy of each kind as YAML, and what each finds in the events, by its id: not nothing."""
    texts: dict[str, str] = {}
    wanted: dict[str, list[Found]] = {}
    for number, kind in enumerate(KINDS):
        name = f"own/{number}"
        while not wanted.get(name):
            text, spec = draw(kind, chance)
            texts[name], wanted[name] = text.replace("own/one", name), findings(spec, events)
    return texts, wanted


def _standing_by_policy(store: Store) -> dict[str, list[Found]]:
    found: dict[str, list[Found]] = {}
    for name, *rest in store.execute(
        "SELECT policy_id, JSONExtractString(group_key, 'application.name') AS app, toUnixTimestamp(window_start), "
        "toUnixTimestamp(window_end) FROM findings WHERE effect = 'violation' AND app != 'last'"
    ).rows:
        found.setdefault(str(name), []).append((str(rest[0]), int(rest[1]), int(rest[2])))
    return {name: sorted(some) for name, some in found.items()}


def _until(what: str, condition: Callable[[], bool], seconds: float = 30) -> float:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, what
        time.sleep(0.02)
    return time.monotonic() - begun


def _leader(store: Store) -> tuple[int, str]:
    ((epoch, holder),) = store.execute("SELECT max(epoch), argMax(holder, epoch) FROM leases").rows
    return int(epoch), str(holder)


def test_of_two_schedulers_one_works_until_it_gives_the_lease_back(store: Store, tmp_path: Path) -> None:
    """While one holds the lease the other takes no step; it takes one as soon as the lease is given back."""
    bundle = load_bundle([_folder(tmp_path)])
    first, second = Scheduler(store, bundle, since=-1), Scheduler(store.another(), bundle, since=-1)
    assert first.step() is not None
    assert second.step() is None
    assert first.step() is not None
    first.give_back()
    assert second.step() is not None
    assert first.step() is None
    second.store.close()


def test_a_clock_that_was_set_back_does_not_make_a_lease_last_for_longer(store: Store) -> None:
    """A lease of a dead holder that ends in an hour, by a clock that is behind now, is free; one of seconds is not."""
    held = "INSERT INTO leases SELECT '{name}', 1, 'dead', now64(3, 'UTC') + toIntervalSecond({seconds})"
    store.execute(held.format(name="hour", seconds=3_600))
    store.execute(held.format(name="seconds", seconds=10))
    assert Lease(store, "hour").hold()
    assert not Lease(store, "seconds").hold()


def test_a_killed_leader_is_followed_within_its_lease(server: Store, tmp_path: Path) -> None:
    """Two services run; the one that leads is killed: the other finds what comes afterwards, in the time of a lease."""
    url, seconds = _url(server), 1.0
    _add(server, [_event(0, 0)])
    with nursery(url, _folder(tmp_path)) as processes:
        leader = processes.tell(f"serve {seconds}")
        _until("a leader", lambda: _leader(server)[0] > 0)
        processes.tell(f"serve {seconds}")
        _until("progress", lambda: bool(server.execute("SELECT count() FROM window_progress").rows[0][0]))
        led = _leader(server)
        os.kill(leader, signal.SIGKILL)
        _add(server, [_event(20 + number, 1 + number) for number in range(4)], 1)
        took = _until("another leader's finding", lambda: len(_standing(server)) == 1)
        assert _leader(server)[0] > led[0]
        assert took < seconds + 10, "the rest is what a busy machine takes"
    assert _standing(server) == [("app-0", BASE + 12, BASE + 22)]


@pytest.mark.parametrize("unfenced", ["", "unfenced"], ids=["fenced", "control"])
def test_a_leader_that_slept_writes_nothing_that_harms(server: Store, tmp_path: Path, unfenced: str) -> None:
    """A leader sleeps before it writes a finding that a late event takes back meanwhile: it stays taken back."""
    folder = _folder(tmp_path)
    _add(server, [_event(0, 0), _event(1, 1), _event(2, 2), _event(60, 3)])
    with nursery(_url(server), folder) as processes:
        sleeper = processes.tell(f"sleep findings_log {unfenced}")
        state = Path(f"/proc/{sleeper}/stat")
        _until("sleep", lambda: state.read_text().rsplit(")", 1)[1].split()[0] == "T")
        # Five at the moment of the third event: the value leaps over the three that it was.
        _add(server, [_event(2, 4), _event(2, 5)], 4)
        follower = Scheduler(server, load_bundle([folder]), lateness=3_000_000, since=-1)
        _until("the lease is over", lambda: follower.step() is not None)
        assert follower.caught_up()
        assert _standing(server) == []
        os.kill(sleeper, signal.SIGCONT)
        _until("the end of the sleeper", lambda: state.read_text().rsplit(")", 1)[1].split()[0] == "Z")
    assert bool(_standing(server)) == bool(unfenced)


@pytest.mark.timeout(3600 if KILLS > 20 else 120)
def test_killed_at_any_statement_it_finds_what_the_reference_finds(server: Store, tmp_path: Path) -> None:
    """Whatever statements the scheduler is killed at, policies of each kind find what the reference finds."""
    chance = random.Random(KILLS)
    events = [
        {**one, "t": one["t"] + chance.choice(BEGINNINGS)} for one in streams(30 if KILLS > 20 else 10, 1, chance)
    ]
    texts, wanted = _drawn(events, chance)
    folder = _folder(tmp_path)
    (folder / "policies" / "one.yaml").unlink()
    for name, text in texts.items():
        (folder / "policies" / f"{name[-1]}.yaml").write_text(text)
    arrivals = arriving(events, 1, chance)
    last: Event = {**_event(399 * 86_400, 0, "last"), "id": "last"}
    at, died, most = 0, 0, 80
    with nursery(_url(server), folder) as processes:
        for number in range(KILLS):
            until = len(arrivals) * (number + 1) // KILLS
            if until > at:
                _add(server, arrivals[at:until], at)
                at = until
            died += (
                processes.tell(f"step {chance.randrange(1, most)} {chance.choice(('before', 'after'))}")
                == -signal.SIGKILL
            )
        _add(server, [last], at)
        assert processes.tell("finish") == 0
    print(f"{died} of {KILLS} killed; findings: { {name: len(found) for name, found in wanted.items()} }")
    assert died >= KILLS // 3
    assert _standing_by_policy(server) == wanted


def test_twenty_thousand_groups_that_cross_at_once_are_found_each(store: Store, tmp_path: Path) -> None:
    """Groups with long names that cross in one step are found one by one, by statements that the store takes."""
    store.execute(
        "INSERT INTO ledger (stream, topic, partition, offset, status, event_source, event_id, event_time, "
        "ingest_time, record_time, application_name) SELECT 'stream-1', 'usage-events', 0, number, 'accepted', 's', "
        "toString(number), fromUnixTimestamp(1711670400), now64(3), now64(3), "
        "concat('it\\'s \\\\', repeat('x', 100), toString(number)) FROM numbers(20000)"
    )
    policy = "when: 'true'\nwindow: {kind: event_count, over: 10s, group_by: [application.name]}\n"
    scheduler = Scheduler(store, load_bundle([_folder(tmp_path, f"{policy}condition: 'value > 0'\n")]), 0, since=-1)
    assert scheduler.step() == 20_000
    ((rows, named),) = store.execute("SELECT count(), sum(length(event_refs)) FROM findings").rows
    assert (rows, named) == (20_000, 20_000)


def test_a_policy_whose_sql_is_long_is_taken(store: Store, tmp_path: Path) -> None:
    """Conditions whose SQL is together longer than the 256 KiB that the store takes by default are run."""
    words = ", ".join(f'"{number:032}"' for number in range(1_500))
    steps = ", ".join(f"'!(model.name in [\"{number}\", {words}])'" for number in range(8))
    _add(store, [_event(number, number) for number in range(8)])
    text = f"when: 'true'\nwindow: {{kind: temporal_ordered, over: 20s, steps: [{steps}]}}\n"
    scheduler = Scheduler(store, load_bundle([_folder(tmp_path, text)]), 0, since=-1)
    assert scheduler.step() == 1
    assert not scheduler.state.failing


def test_another_bundle_goes_on_where_rules_are_the_same(store: Store, tmp_path: Path) -> None:
    """What a rule had counted before the bundle was exchanged for one with the same rule counts afterwards."""
    scheduler = Scheduler(store, load_bundle([_folder(tmp_path / "one")]), 0, since=-1)
    _add(store, [_event(0, 0), _event(1, 1)])
    scheduler.step()
    folder = _folder(tmp_path / "two")
    (folder / "policies" / "two.yaml").write_text(f"id: own/two\ntitle: two\nseverity: low\n{THREE}")
    scheduler.use(load_bundle([folder]))
    _add(store, [_event(2, 2)], 2)
    scheduler.step()
    policies = store.execute("SELECT DISTINCT policy_id FROM findings ORDER BY policy_id").rows
    assert ("own/one",) in policies


def test_rows_that_no_window_needs_are_removed(store: Store, tmp_path: Path) -> None:
    """Rows older than the window and the bound on lateness go; a late event finds what they were in the ledger."""
    scheduler = Scheduler(store, load_bundle([_folder(tmp_path)]), 0, since=-1)
    old = [_event(number, number, f"app-{number % 9000}") for number in range(2)]
    _add(store, [*old, _event(20 * 86_400, 99_999)])
    while not scheduler.caught_up():
        scheduler.step()
    assert clean_all(scheduler, store) == 2
    assert store.execute("SELECT count() FROM window_events").rows[0][0] == 1
    _add(store, [_event(1, 7, "app-1"), _event(1, 8, "app-1")], 3)
    while not scheduler.caught_up():
        scheduler.step()
    assert _standing(store) == [("app-1", BASE - 9, BASE + 1)]


def clean_all(scheduler: Scheduler, store: Store) -> int:
    """Remove what isn't needed, however little it is, and wait until it is gone."""
    from usageaudit.scheduler import cleaning
    from usageaudit.scheduler.progress import read_progress
    from usageaudit.scheduler.rules import rules_of

    rules = {rule.id: rule for rule in rules_of(scheduler.bundle)}
    progress = read_progress(store, list(rules))
    removed = cleaning.clean(store, {name: (rules[name], one) for name, one in progress.items()}, worth=1)
    _until("rows are gone", lambda: int(store.execute("SELECT count() FROM window_events").rows[0][0]) < 3)
    return removed


def test_a_service_waits_for_a_store_that_is_away(server: Store, tmp_path: Path) -> None:
    """A store without an answer is told of in the state, and left alone for longer and longer until told to stop."""
    from usageaudit.scheduler.service import SchedulerState
    from usageaudit.stores.address import open_store

    state = SchedulerState()

    class Stop:
        """An event that is set after the third wait."""

        waits: list[float] = []  # noqa: RUF012

        def is_set(self) -> bool:
            return len(self.waits) == 3

        def wait(self, seconds: float) -> bool:
            self.waits.append(seconds)
            return self.is_set()

    away = open_store("clickhouse://default@127.0.0.1:1/default")
    bundle = load_bundle([_folder(tmp_path)])
    run_scheduler(away, lambda: bundle, Stop(), state)  # type: ignore[arg-type]
    assert not state.reachable
    assert not state.leads
    assert Stop.waits[2] > Stop.waits[0] >= 1.0


def test_without_windowed_policies_nobody_leads(store: Store, tmp_path: Path) -> None:
    """Once the last windowed policy is taken out of force the service says so, and lets the lease go."""
    from usageaudit.scheduler.service import SchedulerState

    state, seen = SchedulerState(), list[tuple[bool, int]]()
    some = load_bundle([_folder(tmp_path / "some")])
    none = load_bundle([_folder(tmp_path / "none", "when: 'false'\n")])

    class Stop:
        """An event that is set after the third wait."""

        def is_set(self) -> bool:
            return len(seen) == 3

        def wait(self, _: float) -> bool:
            seen.append((state.leads, state.rules))
            return self.is_set()

    own = store.another()
    run_scheduler(own, lambda: none if len(seen) == 1 else some, Stop(), state)  # type: ignore[arg-type]
    own.close()
    assert seen == [(True, 1), (False, 0), (True, 1)]
