"""The SQL of the dashboards, on both versions of the engine, over rows that were worked out by hand."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from tests.deploy.panels import CLICKHOUSE, expanded, panels
from tests.ledger_rows import EMBEDDED, LATEST, SERVER, insert, migrated_store, plain
from tests.ledger_world import ART5, BURST, FACE, GAP, HINT, WORLD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.stores.port import Store

PANELS = {str(panel): panel for panel in panels() if panel.language == CLICKHOUSE}
SPRING = (dt.datetime(2026, 3, 2, 9, 5, tzinfo=dt.UTC), dt.datetime(2026, 5, 1, tzinfo=dt.UTC))
"""Begins within the hour of the first event."""
BEFORE = (dt.datetime(2025, 1, 1, tzinfo=dt.UTC), dt.datetime(2025, 2, 1, tzinfo=dt.UTC))
AZURE, VISION = "azure.ai.openai", "gpt-4o-vision"
APRIL_1, APRIL_2, APRIL_3 = "2026-04-01 00:00:00", "2026-04-02 12:00:00", "2026-04-03 08:00:00"

ANSWERS: dict[str, list[tuple[Any, ...]]] = {
    "usage: Uses": [(9,)],
    "usage: Tokens in": [(400,)],
    "usage: Tokens out": [(70,)],
    "usage: Applications": [(3,)],
    "usage: Failed calls": [(1 / 9,)],
    "usage: Last event": [("2026-04-04 00:00:00",)],
    "usage: Cost by team": [("vision", "EUR", "2", 2), ("support", "USD", "0.31", 3)],
    "violations: Violations": [(3,)],
    "violations: Exempted": [(1,)],
    "violations: Not decidable": [(3,)],
    "violations: Share of events with a violation": [(2 / 9,)],
    "violations: By severity": [("critical", 2, 1), ("medium", 1, 0)],
    "violations: What policies in their trial stage would find": [(HINT, "scanner", 1)],
    "violations: Facts that are missing": [
        ("actor.sector", ART5, "scanner", 1),
        ("actor.sector", FACE, "scanner", 1),
        ("input.capture.device", FACE, "scanner", 1),
        ("purpose.use_case", ART5, "scanner", 1),
    ],
    "operations: Rejected by reason": [
        ("data.model.name", "data.model.name: is required", 2, APRIL_2.replace("12:", "11:")),
        ("", "not JSON", 1, APRIL_3.replace("08:", "10:")),
    ],
    "operations: Partitions in the ledger": [
        ("stream-1", "usage-events", 0, 13, 9, 1, 3, 12, 0),
        ("stream-1", "usage-events", 1, 3, 0, 3, 0, 2, 1),
    ],
}


@pytest.fixture(scope="module", params=[EMBEDDED, SERVER, LATEST])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store with the rows of two months."""
    with migrated_store(request, tmp_path_factory) as store:
        insert(store, WORLD)
        insert(store, [BURST, GAP], "findings_log")
        yield store


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_is_answered(world: Store, name: str) -> None:
    """Each panel's SQL runs within the limits of a reader, finds something in two months, and counts nothing before."""
    (sql,) = PANELS[name].questions
    rows = plain(world.query(expanded(sql, *SPRING)))
    assert rows
    empty = plain(world.query(expanded(sql, *BEFORE)))
    assert not [row for row in empty if any(isinstance(value, int) and value > 0 for value in row)]


@pytest.mark.parametrize("name", ANSWERS)
def test_a_panel_shows_what_is_so(world: Store, name: str) -> None:
    """What a panel shows is what the rows say; rows that tie may come in any order."""
    (sql,) = PANELS[name].questions
    found = plain(world.query(expanded(sql, *SPRING)))
    assert sorted(map(repr, found)) == sorted(map(repr, ANSWERS[name]))


@pytest.mark.parametrize("name", [name for name, panel in PANELS.items() if panel.kind == "timeseries"])
def test_a_curve_adds_up(world: Store, name: str) -> None:
    """A curve has a time first, one name a series, a number last, and rises by time."""
    (sql,) = PANELS[name].questions
    answer = world.query(expanded(sql, *SPRING))
    assert answer.columns[0] == "time"
    assert len(answer.columns) == 3
    assert answer.types[0].startswith("DateTime")
    times = [row[0] for row in answer.rows]
    assert times == sorted(times)


def test_uses_by_hour_add_up_to_all_uses(world: Store) -> None:
    """The bars of a panel add up to the number of another."""
    (bars,) = PANELS["usage: Uses by application"].questions
    assert sum(row[2] for row in world.query(expanded(bars, *SPRING)).rows) == 9
