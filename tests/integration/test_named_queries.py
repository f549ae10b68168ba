"""Named queries: each against rows that were worked out by hand, on both engines."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.ledger_rows import EMBEDDED, SERVER, accepted, insert, migrated_store, plain, reads
from tests.ledger_world import APPROVALS, ART5, BUNDLE, BURST, FACE, GAP, HINT, WORLD
from usageaudit.events.fields import EVENT_FIELDS
from usageaudit.stores.queries import named_queries
from usageaudit.verdicts import violation_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.stores.port import Store

AZURE = "azure.ai.openai"
IN_MARCH = {"since": "2026-03-01", "until": "2026-04-01"}
ANSWERS: list[tuple[str, dict[str, str], list[tuple[Any, ...]]]] = [
    (
        "usage-by-application",
        {},
        [
            ("scanner", "vision", "image_analysis", AZURE, "gpt-4o-vision", 4, None, None),
            ("chatbot", "support", "chat", AZURE, "gpt-4o", 3, 400, 70),
            ("research", None, None, "anthropic", "claude", 1, None, None),
            ("scanner", "vision", None, AZURE, "gpt-4o-vision", 1, None, None),
        ],
    ),
    ("usage-by-application", IN_MARCH, [("chatbot", "support", "chat", AZURE, "gpt-4o", 3, 400, 70)]),
    ("cost-by-team", {}, [("2026-03-01", "support", "USD", "0.31", 3), ("2026-04-01", "vision", "EUR", "2", 2)]),
    (
        "tokens-by-day",
        {},
        [
            ("2026-03-02", AZURE, "gpt-4o", 2, 400, 70),
            ("2026-03-09", AZURE, "gpt-4o", 1, None, None),
            ("2026-04-01", AZURE, "gpt-4o-vision", 2, None, None),
            ("2026-04-02", AZURE, "gpt-4o-vision", 1, None, None),
            ("2026-04-03", AZURE, "gpt-4o-vision", 2, None, None),
            ("2026-04-04", "anthropic", "claude", 1, None, None),
        ],
    ),
    ("tokens-by-day", {"since": "2026-04-04"}, [("2026-04-04", "anthropic", "claude", 1, None, None)]),
    (
        "violations-by-policy",
        {},
        [
            ("2026-03-02", "hygiene/burst", "medium", "enforce", None, 1, 0),
            ("2026-03-30", FACE, "critical", "enforce", "City Police", 2, 1),
            ("2026-03-30", HINT, "low", "shadow", "City Police", 1, 0),
        ],
    ),
    (
        "latest-violations",
        {"rows": "2"},
        [
            (
                *("2026-04-02 12:00:00", "critical", FACE, "scanner", "City Police", "gpt-4o-vision"),
                *("a face again", "svc-b", "e6", violation_id("svc-b", "e6", FACE, 1)),
            ),
            (
                *("2026-04-01 00:00:00", "critical", FACE, "scanner", "City Police", "gpt-4o-vision"),
                *("a face", "svc-b", "e4", violation_id("svc-b", "e4", FACE, 1)),
            ),
        ],
    ),
    (
        "latest-violations",
        IN_MARCH,
        [("2026-03-02 10:30:00", "medium", "hygiene/burst", "", None, "", "many calls", "", "", "b" * 32)],
    ),
    (
        "declaration-coverage",
        {},
        [
            ("scanner", FACE, 5, 3, 0.6, ("actor.sector", "input.capture.device")),
            ("scanner", ART5, 5, 4, 0.8, ("actor.sector", "purpose.use_case")),
        ],
    ),
    (
        "undeclared-fields",
        {},
        [
            ("scanner", "actor.sector", 2, (FACE, ART5)),
            ("scanner", "input.capture.device", 1, (FACE,)),
            ("scanner", "purpose.use_case", 1, (ART5,)),
        ],
    ),
    ("failed-calls", {}, [("chatbot", "gpt-4o", "rate_limit", 1, 3, 0.3333, "2026-03-09 10:00:00")]),
    ("latency-by-model", {}, [(AZURE, "gpt-4o", 2, 100.0, 300.0, 300.0, 300.0)]),
    (
        "top-actors",
        {"rows": "2"},
        [
            ("u3", ("City Police",), 5, None, None, ("scanner",), ("gpt-4o-vision",), 3),
            ("u1", ("Acme",), 3, 400, 70, ("chatbot", "research"), ("claude", "gpt-4o"), 0),
        ],
    ),
    (
        "history-of-actor",
        {"actor": "u2"},
        [("2026-03-09 10:00:00", "svc-a", "e3", "chatbot", None, "chat", "gpt-4o", "chat", "error", (), (), ())],
    ),
    (
        "history-of-application",
        {"application": "scanner"},
        [
            ("2026-04-01", 2, None, None, 0, 1, 1, 0),
            ("2026-04-02", 1, None, None, 0, 2, 0, 0),
            ("2026-04-03", 2, None, None, 0, 0, 0, 3),
        ],
    ),
    (
        "history-of-application",
        {"application": "chatbot"},
        [("2026-03-02", 2, 400, 70, 0, 0, 0, 0), ("2026-03-09", 1, None, None, 1, 0, 0, 0)],
    ),
    (
        "history-of-conversation",
        {"conversation": "c1"},
        [
            (
                *("2026-03-02 09:10:00", "svc-a", "e1", "chatbot", "u1", None, "chat", "gpt-4o"),
                *(("search",), 100, 20, "ok", (), ()),
            ),
            (
                *("2026-03-02 09:50:00", "svc-a", "e2", "chatbot", "u1", None, "chat", "gpt-4o"),
                *((), 300, 50, "ok", (), ()),
            ),
        ],
    ),
    (
        "first-uses-of-models",
        {},
        [
            ("anthropic", "claude", "2026-04-04 00:00:00", "2026-04-04 00:00:00", 1, 1, "research"),
            (AZURE, "gpt-4o-vision", "2026-04-01 00:00:00", "2026-04-03 09:00:00", 5, 1, "scanner"),
            (AZURE, "gpt-4o", "2026-03-02 09:00:00", "2026-03-09 10:00:00", 3, 1, "chatbot"),
        ],
    ),
    (
        "new-applications",
        {"since": "2026-04-01"},
        [
            ("research", "2026-04-04 00:00:00", "2026-04-04 00:00:00", 1, ("claude",)),
            ("scanner", "2026-04-01 00:00:00", "2026-04-03 09:00:00", 5, ("gpt-4o-vision",)),
        ],
    ),
    ("duplicates-by-source", {}, [("svc-a", 4, 4, 0.5)]),
    (
        "rejects-by-reason",
        {},
        [
            (
                *("usage-events", "data.model.name", "data.model.name: is required", 2),
                *("2026-04-02 10:00:00", "2026-04-02 11:00:00", 0, 11),
            ),
            ("usage-events", "", "not JSON", 1, "2026-04-03 10:00:00", "2026-04-03 10:00:00", 0, 12),
        ],
    ),
    ("publisher-gaps", {}, [("svc-a", "p1", 5, 3, 2, ((3, 4),), "2026-03-09 10:00:00")]),
    ("publisher-gaps", {"since": "2026-03-10"}, []),
    (
        "completeness",
        {},
        [
            ("stream-1", "usage-events", 0, 0, 12, 13, 9, 1, 3, 0, 0),
            ("stream-1", "usage-events", 1, 0, 2, 3, 0, 3, 0, 1, 1),
        ],
    ),
    (
        "affected-by-policy",
        {"policy": FACE, "date": "2026-04-02"},
        [("City Police", "scanner", "gpt-4o-vision", 1, 1, 1, 0)],
    ),
    (
        "exemptions-in-use",
        {},
        [("EX-17", FACE, 1, "2026-04-01 23:59:59.999999", "2026-04-01 23:59:59.999999", ("scanner",))],
    ),
    (
        "human-oversight",
        {},
        [
            ("scanner", "image_analysis", 4, 0, 0, 4, 0.0),
            ("research", None, 1, 0, 0, 1, 0.0),
            ("scanner", None, 1, 0, 0, 1, 0.0),
            ("chatbot", "chat", 3, 1, 1, 1, 0.3333),
        ],
    ),
    (
        "guardrail-actions",
        {},
        [
            ("scanner", "pii", "block", "email", 1),
            ("scanner", "pii", "block", "name", 1),
            ("scanner", "toxicity", "pass", "", 1),
        ],
    ),
    (
        "sectors-and-jurisdictions",
        {},
        [
            (AZURE, "gpt-4o-vision", "law_enforcement", "US-CA", None, None, 4, 1),
            (AZURE, "gpt-4o", None, None, None, None, 3, 1),
            ("anthropic", "claude", None, None, None, None, 1, 1),
            (AZURE, "gpt-4o-vision", None, "US-CA", None, None, 1, 1),
        ],
    ),
    (
        "shadow-violations",
        {},
        [(HINT, "low", "scanner", "City Police", 1, 0, "2026-04-02 12:00:00", "2026-04-02 12:00:00")],
    ),
    ("cost-of-failed-calls", {}, [("chatbot", "gpt-4o", "USD", 1, "0.01", "0.31", 0.0323)]),
    ("cache-share", {}, [("chatbot", AZURE, "gpt-4o", 400, 40, 0.1)]),
    (
        "models-that-answered",
        {},
        [("anthropic", "claude", "claude-2", 1, "2026-04-04 00:00:00", "2026-04-04 00:00:00")],
    ),
    (
        "capture-by-source",
        {},
        [
            ("svc-a", "full", 3, "2026-03-02 09:10:00", "2026-03-09 10:00:00"),
            ("svc-a", "imported", 1, "2026-04-04 00:00:00", "2026-04-04 00:00:00"),
            ("svc-b", "sampled", 1, "2026-04-01 00:00:00", "2026-04-01 00:00:00"),
            ("svc-b", None, 4, "2026-04-01 23:59:59.999999", "2026-04-03 09:00:00"),
        ],
    ),
    (
        "event-delay",
        {},
        [("svc-a", 4, 0.0, 0.0, 2.0, 2.0, 0), ("svc-b", 5, -3600.0, 0.0, 1.001, 1.001, 1)],
    ),
    (
        "conflicting-ids",
        {},
        [("svc-a", "e1", 2, ("2026-03-02 09:10:00", "2026-04-04 00:00:00"), ("chatbot", "research"))],
    ),
    (
        "bundles-in-force",
        {},
        [
            ("b1", "pack", "abc", "ann", "2026-03-02 09:10:00", "2026-03-09 10:00:00", 3),
            ("b2", "", "", "", "2026-04-01 00:00:00", "2026-04-04 00:00:00", 6),
        ],
    ),
    (
        "approvals-of-policy",
        {"policy": FACE},
        [
            (1, "ann", "2026-02-01 00:00:00", "first reading", 1, "b1", "pack", 3),
            (1, "ann", "2026-02-01 00:00:00", "first reading", 0, "b3", "", 0),
            (2, "bob", "2026-03-31 12:00:00", "as changed", 1, "b3", "", 0),
        ],
    ),
    ("approvals-of-policy", {"policy": HINT}, []),
    (
        "latest-findings",
        {},
        [
            (
                *("2026-03-03 00:00:00", "offset_gap", "notice", "medium", ""),
                *("2026-03-02 09:30:00", "2026-03-02 10:30:00", "chatbot", "many calls", "a" * 32),
            ),
            (
                *("2026-03-02 10:31:00", "windowed", "violation", "medium", "hygiene/burst"),
                *("2026-03-02 09:30:00", "2026-03-02 10:30:00", "chatbot", "many calls", "b" * 32),
            ),
        ],
    ),
    (
        "unknown-fields",
        {},
        [
            ("mood", 2, ("svc-a", "svc-b"), "2026-04-04 00:00:00"),
            ("model.colour", 1, ("svc-a",), "2026-04-04 00:00:00"),
            ("outcome.guardrails.weight", 1, ("svc-a",), "2026-04-04 00:00:00"),
        ],
    ),
]
EXAMPLES = {"actor": "u1", "application": "chatbot", "conversation": "c1", "policy": FACE, "date": "2026-04-01"}

USAGE, VIOLATIONS, UNDECIDED = "usage_by_hour", "violations_by_hour", "indeterminates_by_hour"
SERVED = {
    "usage-by-application": {USAGE},
    "cost-by-team": {USAGE},
    "tokens-by-day": {USAGE},
    "violations-by-policy": {VIOLATIONS, "findings_log"},
    "declaration-coverage": {UNDECIDED, USAGE},
    "undeclared-fields": {UNDECIDED},
    "history-of-application": {USAGE, VIOLATIONS, UNDECIDED, "findings_log"},
    "first-uses-of-models": {USAGE},
    "new-applications": {USAGE},
    "affected-by-policy": {VIOLATIONS, "findings_log"},
    "shadow-violations": {VIOLATIONS, "findings_log"},
    "cost-of-failed-calls": {USAGE},
    "cache-share": {USAGE},
}
"""What the queries read that a projection serves."""


@pytest.fixture(scope="module", params=[EMBEDDED, SERVER])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store with the events above."""
    with migrated_store(request, tmp_path_factory) as filled:
        insert(filled, WORLD)
        insert(filled, [BURST, GAP, BURST], "findings_log")
        insert(filled, [BUNDLE], "bundles_log")
        insert(filled, [*APPROVALS, APPROVALS[0]], "policy_approvals_log")
        yield filled


@pytest.fixture(scope="module", params=[EMBEDDED, SERVER])
def empty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store without events."""
    with migrated_store(request, tmp_path_factory) as new:
        yield new


@pytest.mark.parametrize(("name", "given", "expected"), ANSWERS, ids=[name for name, *_ in ANSWERS])
def test_a_query_answers_what_was_worked_out(
    store: Store, name: str, given: dict[str, str], expected: list[tuple[Any, ...]]
) -> None:
    """On a ledger that is small enough to count by hand each query gives exactly those rows, in their order."""
    query = named_queries()[name]
    assert plain(store.query(query.sql, {**query.defaults, **given})) == expected


@pytest.mark.parametrize("name", SERVED)
def test_a_query_is_read_from_projections(store: Store, name: str) -> None:
    """A query that projections can answer does not read the ledger's rows, with its parameters bound."""
    query = named_queries()[name]
    examples = {one.name: EXAMPLES[one.name] for one in query.parameters if one.default is None}
    for since in ("1970-01-01", "2026-03-05"):
        given = {**query.defaults, **examples, **({"since": since} if "since" in query.defaults else {})}
        assert reads(store, query.sql, given) == SERVED[name]


@pytest.mark.parametrize("name", named_queries())
def test_a_query_answers_on_an_empty_ledger(empty: Store, name: str) -> None:
    """Before the first event every query gives no rows instead of an error."""
    query = named_queries()[name]
    examples = {one.name: EXAMPLES[one.name] for one in query.parameters if one.default is None}
    assert plain(empty.query(query.sql, {**query.defaults, **examples})) == []


def test_every_query_has_an_answer_worked_out() -> None:
    """No shipped query goes without a test of its numbers."""
    assert {name for name, *_ in ANSWERS} == set(named_queries())


def test_the_known_fields_are_those_of_the_definition() -> None:
    """The list in `unknown-fields` names every field of the event and every parent of one, and nothing else."""
    known = {".".join(field.path[:depth]) for field in EVENT_FIELDS for depth in range(1, len(field.path) + 1)}
    known |= {f"{field.name}.{member.name}" for field in EVENT_FIELDS for member in field.members}
    listed = named_queries()["unknown-fields"].sql.partition("[")[2].partition("]")[0]
    assert {name.strip().strip("'") for name in listed.split(",")} == known


PAGE = Path(__file__).parents[2] / "docs" / "analytics.md"


@pytest.mark.parametrize("sql", re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
def test_the_examples_of_the_documentation_run(store: Store, sql: str) -> None:
    """Every SQL example on the page for analysts is accepted and only reads."""
    assert store.query(sql).columns


def numbers(pick: random.Random) -> list[int]:
    """Return the numbers of a publisher's events: some are missing, and some are there twice."""
    last = pick.randint(1, 40)
    return [number for number in range(1, last + 1) for _ in range(pick.choice([0, 1, 1, 1, 1, 2]))]


def missing_ranges(sequence: list[int]) -> tuple[tuple[int, int], ...]:
    """Return the runs of numbers from 1 on that are not there."""
    missing = [number for number in range(1, max(sequence)) if number not in sequence]
    firsts = [number for number in missing if number - 1 not in missing]
    return tuple((first, next(n for n in range(first, max(sequence)) if n + 1 not in missing)) for first in firsts)


def test_gaps_are_the_numbers_that_are_not_there(empty: Store) -> None:
    """For any publishers, complete or not, the ranges are exactly the missing numbers below the highest."""
    pick = random.Random(7)
    publishers = {f"p{index}": found for index in range(60) if (found := numbers(pick))}
    publishers |= {"complete": [1, 2, 3], "first missing": [2], "one doubled, one missing": [1, 2, 2, 4]}
    events = [
        accepted(f"{instance}/{place}", "2026-03-02 10:00:00", publisher_instance=instance, publisher_sequence=number)
        for instance, sequence in publishers.items()
        for place, number in enumerate(sequence)
    ]
    insert(empty, events)
    query = named_queries()["publisher-gaps"]
    rows = empty.query(query.sql, query.defaults)
    empty.execute("TRUNCATE TABLE ledger")
    ranges = {instance: ranges for _, instance, _, _, _, ranges, _ in plain(rows)}
    expected = {instance: missing_ranges(sequence) for instance, sequence in publishers.items()}
    assert ranges == {instance: runs for instance, runs in expected.items() if runs}
