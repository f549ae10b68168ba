"""Google's CEL says of a condition what Python says, where CEL can say it; see `tests.differential.oracle`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.conftest import skip
from tests.differential.occurrences import Sample, samples
from tests.differential.sides import occurrence, python_side, values_of
from tests.differential.worlds import World, rows_applied, world
from usageaudit.policy.language import OPERATORS

if TYPE_CHECKING:
    from types import ModuleType

    from usageaudit.policy.schema import Occurrence

CASES = int(os.environ.get("USAGEAUDIT_TEST_DIFFERENTIAL_CASES", "20000"))
EVENTS = 200
BATCHES = -(-CASES // (EVENTS * 30))
"""Of a batch's conditions, one for each operator, somewhat more than thirty can be said in CEL."""
ZONED = 4_102_444_800_000_000
"""2100-01-01T00:00:00Z, from when on the time of a zone is unknown here."""


UNSAID = {
    "has(map) -> bool",
    "timestamp(string) -> timestamp",
    "duration(string) -> duration",
    *(f"double {symbol} double -> double" for symbol in "+-*/"),
}
"""The operators that CEL can't say, each for some operand at least; see the module of the oracle."""


@pytest.fixture(scope="module")
def oracle() -> ModuleType:
    """Return the module of the oracle, or skip the test where CEL has no wheel for the machine."""
    if importlib.util.find_spec("cel_expr_python") is None:
        skip("cel-expr-python is not installed, or has no wheel for this machine")
    return importlib.import_module("tests.differential.oracle")


def _world(rnd: random.Random) -> World:
    whole = world(rnd)
    return replace(whole, vocabulary=replace(whole.vocabulary, lets={}))


def _events(rnd: random.Random, around: World) -> list[Occurrence]:
    """Return events at times for which the time of a zone is known, without a NUL in them."""
    events = [occurrence(_within(sample), around.registry) for sample in samples(rnd, EVENTS)]
    return [event for event in events if "\0" not in str(event) and "\\x00" not in str(event)]


def _within(sample: Sample) -> Sample:
    record_time = None if sample.record_time is None else sample.record_time % (ZONED // 1000)
    return replace(sample, time=sample.time % ZONED, record_time=record_time)


@settings(max_examples=BATCHES, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(seed=st.integers(0, 2**32))
def test_python_agrees_with_cel(oracle: ModuleType, seed: int) -> None:
    """Whatever the conditions and the events, what is true or false in CEL is so here, and its errors are unknown."""
    rnd = random.Random(seed)
    around = _world(rnd)
    events = _events(rnd, around)
    values = [values_of(event) for event in events]
    cel = oracle.Cel(around.vocabulary.lists)
    activations = [cel.activation(event) for event in events]
    said = 0
    for condition in around.conditions(around.bundle(around.random_conditions(rnd, values[:8]))):
        if not oracle.sayable(condition):
            continue
        evaluate, text = python_side(condition), condition.source.text
        ours, theirs = [evaluate(one) for one in values], cel.truths(text, activations)
        at = next((at for at, truth in enumerate(ours) if truth is not theirs[at]), None)
        assert at is None, f"{text}: here {ours[at]}, in CEL {theirs[at]}, for {events[at]}"
        said += 1
    assert said > 10


def test_nearly_all_operators_can_be_said_in_cel(oracle: ModuleType) -> None:
    """Among random conditions that CEL can say are all operators, but for those that are left out by name."""
    rnd = random.Random(1)
    around = _world(rnd)
    values = [values_of(event) for event in _events(rnd, around)[:8]]
    texts = [text for _ in range(20) for text in around.random_conditions(rnd, values)]
    said = filter(oracle.sayable, around.conditions(around.bundle(texts)))
    assert {row.signature for row in set(OPERATORS) - rows_applied(list(said))} == UNSAID
