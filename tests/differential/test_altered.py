"""The suite notices every operator that is altered, in either back end, for each of its three values.

Conditions are drawn for an operator until the alteration is noticed, at most so many of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.differential.altering import RIGHT_ANSWER, alterations, altered, in_sql
from tests.differential.batches import Batch
from tests.differential.sides import python_side
from tests.ledger_rows import EMBEDDED
from usageaudit.policy.language import OPERATORS, Condition, Operator

if TYPE_CHECKING:
    from tests.differential.sides import Truth
    from usageaudit.stores.port import Store

pytestmark = pytest.mark.parametrize("store", [EMBEDDED], indirect=True)

EVENTS, ROUNDS = 250, 40
Altered = tuple[Operator, str]


class Suite:
    """Batches on the same events, with a condition for each operator that is looked into."""

    def __init__(self, store: Store) -> None:
        self._batch = Batch.of(2024, store, EVENTS)

    def unnoticed(self, open_: list[Altered], *, sql: bool, rounds: int = ROUNDS) -> list[str]:
        """Return which alterations of a back end the other one does not notice, as text."""
        for number in range(rounds):
            rows = list(dict.fromkeys(row for row, _ in open_))
            self._batch.seed = number
            conditions = dict(zip(rows, self._batch.draw(rows), strict=True))
            wrong = [replace(conditions[row], root=altered(conditions[row].root, row, name)) for row, name in open_]
            pairs = self._sql(open_, conditions, wrong) if sql else self._python(open_, conditions, wrong)
            open_ = [one for one, (right, answers) in zip(open_, pairs, strict=True) if right == answers]
            if not open_:
                break
        return [f"{row.signature}, wrong for {name}" for row, name in open_]

    def _sql(
        self, open_: list[Altered], conditions: dict[Operator, Condition], wrong: list[Condition]
    ) -> list[tuple[list[Truth], list[Truth]]]:
        right = {row: self._batch.python(condition) for row, condition in conditions.items()}
        return list(zip((right[row] for row, _ in open_), self._batch.sql.ask(wrong), strict=True))

    def _python(
        self, open_: list[Altered], conditions: dict[Operator, Condition], wrong: list[Condition]
    ) -> list[tuple[list[Truth], list[Truth]]]:
        right = dict(zip(conditions, self._batch.sql.ask(list(conditions.values())), strict=True))
        return [(right[row], self._answers(condition)) for (row, _), condition in zip(open_, wrong, strict=True)]

    def _answers(self, condition: Condition) -> list[Truth]:
        """Return the values by Python, and none where value and truths contradict each other."""
        evaluate = python_side(condition)
        try:
            return [evaluate(values) for values in self._batch.values]
        except AssertionError:
            return []


@pytest.mark.parametrize("sql", [False, True], ids=["python", "sql"])
def test_every_altered_operator_is_noticed(store: Store, *, sql: bool) -> None:
    """An operator that gives a wrong answer where it is true, false or unknown makes the back ends disagree."""
    every = [(row, name) for row in OPERATORS for name in alterations(row) if in_sql(name) or not sql]
    assert {name for _, name in every} >= {"true", "false", "unknown", "known"}
    assert Suite(store).unnoticed(every, sql=sql) == []


@pytest.mark.parametrize("sql", [False, True], ids=["python", "sql"])
def test_what_is_not_altered_is_not_noticed(store: Store, *, sql: bool) -> None:
    """The same conditions, with the same operator put around, which here alters nothing, agree."""
    every = [(row, RIGHT_ANSWER) for row in OPERATORS]
    assert len(Suite(store).unnoticed(every, sql=sql, rounds=3)) == len(every)
