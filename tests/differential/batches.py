"""A batch of cases: random events and conditions, put to every side, and the first disagreement told in short."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.differential.occurrences import samples
from tests.differential.reducing import Case, reduced
from tests.differential.sides import SqlSide, judge_side, occurrence, python_side, values_of
from tests.differential.worlds import World, world
from usageaudit.policy.language import OPERATORS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.differential.occurrences import Sample
    from tests.differential.sides import Truth
    from usageaudit.policy.language import Condition, Operator
    from usageaudit.policy.python import Values
    from usageaudit.policy.schema import Occurrence
    from usageaudit.stores.port import Store


@dataclass(slots=True)
class Batch:
    """Events in the ledger of a store, and conditions on them."""

    seed: int
    world: World
    samples: list[Sample]
    events: list[Occurrence]
    values: list[Values]
    sql: SqlSide
    conditions: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, seed: int, store: Store, events: int) -> Batch:
        """Return a batch without conditions, its events in the ledger."""
        rnd = random.Random(seed)
        around = world(rnd)
        drawn = samples(rnd, events)
        occurrences = [occurrence(sample, around.registry) for sample in drawn]
        sql = SqlSide(store, around.registry)
        sql.keep_columns_apart(apart=rnd.random() < 0.5)
        sql.fill(drawn)
        return cls(seed, around, drawn, occurrences, [values_of(event) for event in occurrences], sql)

    def draw(self, rows: Iterable[Operator] = OPERATORS) -> list[Condition]:
        """Draw conditions, one for each of some operators, and return them as a bundle has them."""
        rnd = random.Random(self.seed + 1)
        self.conditions = self.world.random_conditions(rnd, rnd.sample(self.values, 8), rows)
        return self.world.conditions(self.world.bundle(self.conditions))

    def python(self, condition: Condition) -> list[Truth]:
        """Return the values of a condition for the events, by Python."""
        evaluate = python_side(condition)
        return [evaluate(values) for values in self.values]

    def judged(self) -> list[list[Truth]]:
        """Return for each condition what the stream's judge says of the events."""
        found = judge_side(self.world.bundle(self.conditions), self.events)
        return [[event.get(number, False) for event in found] for number in range(len(self.conditions))]

    def check(self) -> list[list[Truth]]:
        """Return the values of the conditions, by condition and event; raises AssertionError where sides disagree."""
        conditions = self.world.conditions(self.world.bundle(self.conditions))
        truths = [self.python(condition) for condition in conditions]
        for name, answers in (("the judge", self.judged()), ("SQL", self.sql.ask(conditions))):
            for text, ours, theirs in zip(self.conditions, truths, answers, strict=True):
                if ours != theirs:
                    at = next(at for at, truth in enumerate(ours) if truth != theirs[at])
                    raise AssertionError(self.report(name, Case(text, self.samples[at])))
        return truths

    def check_filter(self, condition: Condition, truths: list[Truth]) -> None:
        """Raise AssertionError where a condition picks other rows than those that it is true for."""
        expected = tuple([at for at, truth in enumerate(truths) if truth is wanted] for wanted in (True, False))
        found = self.sql.filtered(condition)
        assert found == expected, f"seed {self.seed}: rows {expected} are true and false, but WHERE picks {found}"

    def report(self, name: str, case: Case) -> str:
        """Return the smallest case like this one on which Python and another side disagree, with both values."""
        small = reduced(case, lambda one: len(set(self.answers(one, name))) > 1)
        ours, theirs = self.answers(small, name)
        if ours == theirs:
            small, theirs = case, "something else, but only beside other events"
        event = json.dumps(small.sample.data, ensure_ascii=False)
        times = f"event.time {small.sample.time} us, record.time {small.sample.record_time} ms"
        entry = self.world.registry.get(small.sample.data["application"]["name"])
        return (
            f"Python says {ours}, {name} says {theirs}, seed {self.seed}, of the condition\n    {small.condition}\n"
            f"for the event\n    {event}\n    {times}, source {small.sample.source!r}, id {small.sample.event_id!r}\n"
            f"    {entry}\nIt was first seen in\n    {case.condition}"
        )

    def answers(self, case: Case, name: str) -> tuple[Truth, Truth]:
        """Return what Python and another side say of one case, which takes the place of the events in the ledger."""
        bundle = self.world.bundle([case.condition])
        event = occurrence(case.sample, self.world.registry)
        (condition,) = self.world.conditions(bundle)
        ours = python_side(condition)(values_of(event))
        if name == "the judge":
            return ours, judge_side(bundle, [event])[0].get(0, False)
        self.sql.fill([case.sample])
        return ours, self.sql.ask([condition])[0][0]
