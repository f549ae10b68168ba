"""Windowed policies against a slow and plain reference: live, in increments of random size, and as one back-test.

USAGEAUDIT_TEST_WINDOW_STREAMS is the number of random streams of each kind, a stream being the events of one group.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.windows.reference import Spec, findings
from tests.ledger_rows import EMBEDDED, SERVER, accepted, insert, migrated_store
from usageaudit.policy import load_bundle
from usageaudit.scheduler.recording import Crossing, Recorder
from usageaudit.scheduler.rules import rules_of
from usageaudit.scheduler.service import Scheduler

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.windows.reference import Event, Found
    from usageaudit.policy.model import Bundle
    from usageaudit.stores.port import Store

STREAMS = int(os.environ.get("USAGEAUDIT_TEST_WINDOW_STREAMS") or 150)
TOGETHER = 50 if STREAMS <= 1_000 else 1_000
"""How many streams are in the ledger at once."""
BASE = 1_711_700_000 - 1_711_700_000 % 86_400
"""A midnight, two days before the clocks of Europe went forward in 2024."""
OPERATORS = {">": lambda a, b: a > b, ">=": lambda a, b: a >= b, "==": lambda a, b: a == b, "<": lambda a, b: a < b}
KINDS = (
    *("event_count", "value_count", "value_sum", "temporal_ordered", "absence", "first_seen", "first_seen again"),
    *("event_count by day", "value_sum by day", "value_count by month", "value_sum by month"),
)


def _counted(store: str, kind: str) -> bool:
    """Tell whether a kind is tried on a store: in the short form days are on the one, and months on the other."""
    return STREAMS > 1_000 or " by " not in kind or (" by day" in kind) == (store == "embedded")


CASES = [
    pytest.param(one.values[0], kind, id=f"{one.id}-{kind}", marks=one.marks)
    for one in (EMBEDDED, SERVER)
    for kind in KINDS
    if _counted(str(one.values[0]), kind)
]


@pytest.fixture(scope="module")
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store with its tables."""
    with migrated_store(request, tmp_path_factory) as made:
        yield made


@pytest.fixture
def store(opened: Store) -> Store:
    """Return the store without rows."""
    for table in ("ledger", "fence", "leases", "findings_log", "window_events", "window_progress"):
        opened.execute(f"TRUNCATE TABLE {table}")
    return opened


def _chat(event: Event) -> bool:
    return bool(event["operation"] == "chat")


def _is(word: str) -> Any:
    return lambda event: event["use_case"] == word


def draw(kind: str, chance: random.Random) -> tuple[str, Spec]:
    """Return a policy of a kind as YAML and in Python."""
    name, _, unit = kind.partition(" by ")
    name, _, again = name.partition(" ")
    length, bound = chance.randrange(2, 20), chance.randrange(1, 6)
    operator = chance.choice(list(OPERATORS))
    over = f"{length}s"
    window: dict[str, Any] = {"length": length}
    if unit:
        over = f"calendar {unit}, zone: Europe/Paris"
        window = {"unit": unit, "zone": "Europe/Paris"}
    head = "id: own/one\ntitle: one\nseverity: high\n"
    group, chat = "group_by: [application.name]", "when: 'operation == \"chat\"'\n"
    condition = f"condition: 'value {operator} {bound}'\n"

    def holds(value: int) -> bool:
        return bool(OPERATORS[operator](value, bound))

    match name:
        case "event_count":
            text = f"when: 'operation == \"chat\"'\nwindow: {{kind: event_count, over: {over}, {group}}}\n{condition}"
            return head + text, Spec(name, _chat, holds=holds, **window)
        case "value_count":
            text = f"{chat}window: {{kind: value_count, field: model.name, over: {over}, {group}}}\n"
            return head + text + condition, Spec(
                name, _chat, value=lambda some: len({one["model"] for one in some}), holds=holds, **window
            )
        case "value_sum":
            text = f"when: 'true'\nwindow: {{kind: value_sum, field: usage.input_tokens, over: {over}, {group}}}\n"
            return head + text + condition, Spec(
                name,
                lambda one: one["tokens"] is not None,
                value=lambda some: sum(one["tokens"] for one in some),
                holds=holds,
                **window,
            )
        case "temporal_ordered":
            words = [chance.choice("abc") for _ in range(chance.randrange(2, 5))]
            steps = ", ".join(f"'purpose.use_case == \"{word}\"'" for word in words)
            text = f"{chat}window: {{kind: temporal_ordered, steps: [{steps}], over: {over}, {group}}}\n"
            return head + text, Spec(name, _chat, steps=[_is(word) for word in words], **window)
        case "absence":
            every = chance.randrange(1, length + 1)
            text = (
                "when: 'purpose.use_case == \"a\"'\nwindow: {kind: absence, expect: 'purpose.use_case == \"b\"', "
                f"over: {over}, {group}, heartbeat: {{when: 'true', every: {every}s}}}}\n"
            )
            return head + text, Spec(name, _is("a"), expect=_is("b"), every=every, **window)
        case _:
            over_ = f"over: {over}, " if again else ""
            window = window if again else {}
            text = f"when: 'operation == \"chat\"'\nwindow: {{kind: first_seen, {over_}{group}}}\n"
            return head + text, Spec(name, _chat, **window)


def streams(count: int, spread: int, chance: random.Random) -> list[Event]:
    """Return the events of some streams, without times of arrival: ties, gaps, unknown fields and copies."""
    return [
        {
            "app": f"app-{stream}",
            "t": BASE + chance.randrange(60) * spread,
            "source": chance.choice(("svc-a", "svc-b")),
            "id": f"{stream}-{chance.randrange(1000)}-{number}",
            "operation": chance.choice(("chat", "chat", "embeddings")),
            "model": chance.choice("abcd"),
            "tokens": chance.choice((0, 1, 2, 3, None)),
            "use_case": chance.choice(("a", "b", "c", None)),
        }
        for stream in range(count)
        for number in range(chance.randrange(25))
    ]


def arriving(events: list[Event], spread: int, chance: random.Random) -> list[Event]:
    """Return events, and copies of some of them, in the order in which they arrive: some of them late."""
    copies = [{**one, "status": "duplicate"} for one in events if chance.random() < 0.1]
    some = [{"status": "accepted", **one} for one in (*events, *copies)]
    late = (0, 0, 0, 1, 5, 30, 200)
    return sorted(some, key=lambda one: int(one["t"]) + chance.choice(late) * spread)


def row(event: Event, offset: int) -> dict[str, Any]:
    """Return an event as a row of the ledger."""
    tokens = {} if event["tokens"] is None else {"usage_input_tokens": event["tokens"]}
    return accepted(
        event["id"], _text(event["t"]), tokens, event_source=event["source"], application_name=event["app"],
        operation=event["operation"], model_name=event["model"], purpose_use_case=event["use_case"], offset=offset,
        status=event["status"], ingest_time=_text(BASE + 400 * 86_400), partition=0,
    )  # fmt: skip


def _text(t: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M:%S")


@pytest.mark.parametrize(("opened", "kind"), CASES, indirect=["opened"])
def test_live_and_in_a_back_test_a_policy_finds_what_the_reference_finds(
    kind: str, store: Store, tmp_path: Path
) -> None:
    """Whatever events, their order of arrival and the steps are, the findings are those of the reference."""
    chance = random.Random(f"{kind}{STREAMS}")
    wanted_in_all = 0
    for start in range(0, STREAMS, TOGETHER):
        text, spec = draw(kind, chance)
        spread = {"day": 5_000, "month": 90_000}.get(spec.unit, 1)
        bundle = _bundle(tmp_path / str(start), text)
        events = streams(min(TOGETHER, STREAMS - start), spread, chance)
        wanted = findings(spec, events)
        wanted_in_all += len(wanted)
        for table in ("ledger", "fence", "leases", "findings_log", "window_events", "window_progress"):
            store.execute(f"TRUNCATE TABLE {table}")
        _live(store, bundle, arriving(events, spread, chance), spread, chance)
        assert _standing(store) == wanted, text
        assert _back_test(store, bundle) == wanted, text
    assert wanted_in_all > 0


def _bundle(folder: Path, text: str) -> Bundle:
    (folder / "policies").mkdir(parents=True)
    (folder / "bundle.yaml").write_text("name: own\n")
    (folder / "policies" / "one.yaml").write_text(text)
    return load_bundle([folder])


def _live(store: Store, bundle: Bundle, arrivals: list[Event], spread: int, chance: random.Random) -> None:
    """Record events in increments of random size, with a step of the scheduler after each."""
    store.execute(
        "INSERT INTO fence (stream, topic, partition, epoch, owner, taken_at) "
        "SELECT 'stream-1', 'usage-events', 0, 1, 'test', now64(3)"
    )
    lateness = chance.choice((0, 3, 40)) * spread * 1_000_000
    scheduler = Scheduler(store, bundle, lateness=lateness, since=-1, most=chance.choice((7_000, 700, 70_000)))
    at = 0
    while at < len(arrivals):
        size = chance.randrange(1, max(len(arrivals) // 4, 2))
        insert(store, [row(one, at + number) for number, one in enumerate(arrivals[at : at + size])])
        at += size
        scheduler.step()
    last = {"id": "last", "app": "last", "t": BASE + 399 * 86_400, "source": "svc-a", "operation": "end", "model": "a"}
    insert(store, [row({**last, "tokens": None, "use_case": None, "status": "accepted"}, at)])
    while not scheduler.caught_up():
        scheduler.step()


def _standing(store: Store) -> list[Found]:
    rows = store.execute(
        "SELECT JSONExtractString(group_key, 'application.name'), toUnixTimestamp(window_start), "
        "toUnixTimestamp(window_end) FROM findings WHERE effect = 'violation' AND group_key NOT LIKE '%\"last\"%'"
    ).rows
    return sorted((str(app), int(start), int(end)) for app, start, end in rows)


def _back_test(store: Store, bundle: Bundle) -> list[Found]:
    (rule,) = rules_of(bundle)
    counted = rule.matching.rows("application_name != 'last'")
    sql = rule.crossings(counted, BASE * 1_000_000, (BASE + 399 * 86_400) * 1_000_000)
    effects = Recorder(store, rule).effects([Crossing(tuple(key), *rest) for key, *rest in store.execute(sql).rows])
    return sorted(
        (one.key[0], one.begins // 10**6, one.ends // 10**6) for one, said in effects.items() if said == "violation"
    )
