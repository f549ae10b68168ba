"""Looking rules up: it finds the same as asking one by one, and its work grows far slower than the bundle."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.benchmarks.events import usage_events
from tests.benchmarks.policies import policies, write_bundle
from usageaudit.cloudevents import decode
from usageaudit.policy import compile_judge, load_bundle
from usageaudit.policy.language import Pattern
from usageaudit.policy.lookups import MAX_REMEMBERED, MAX_TEXT, Patterns

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

PATTERNS = ["", "a", "^a.*b$", "(?i)É", "[^a]", "a.b", r"\d+", "^$", "x{500}", r"(\w{3}-){50}", "a|b"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PATTERNS), max_size=30), st.text(st.sampled_from("ab\né1-x"), max_size=10))
def test_many_patterns_at_once_find_what_each_finds(patterns: list[str], text: str) -> None:
    """A text leads to the entries of exactly the patterns that are found in it, also when asked again."""
    found = Patterns([(pattern, number) for number, pattern in enumerate(patterns)])
    expected = [number for number, pattern in enumerate(patterns) if Pattern(pattern).found(text)]
    for _ in range(2):
        numbers, tests = found[text] or ((), ())
        assert (sorted(numbers), tests) == (expected, ())


def test_patterns_too_large_for_one_set_are_still_found() -> None:
    """RE2 answers "no match" for a set that outgrows its memory, so large patterns are spread over several sets."""
    large = [rf"^(\pL{{{count}}})$" for count in range(20, 60)]
    found = Patterns([(pattern, number) for number, pattern in enumerate(large)])
    assert found["é" * 37] == ((17,), ())


def test_what_is_remembered_is_bounded() -> None:
    """Neither many texts nor a long one fill the memory; a text that is no Unicode is unknown."""
    found = Patterns([("a", 0)])
    for number in range(MAX_REMEMBERED + 10):
        assert found[f"b{number}"] == ((), ())
    assert len(found) <= MAX_REMEMBERED
    assert found["a" * (MAX_TEXT + 1)] == ((0,), ())
    assert max(map(len, found)) <= MAX_TEXT
    assert found["\ud800"] is None


def _lines_run(judge: Any, events: list[Any]) -> int:
    """Return how many lines of generated code run for events."""
    count = 0

    def trace(frame: FrameType, what: str, _: object) -> Any:
        nonlocal count
        if frame.f_code.co_filename != "<policy>":
            return None
        count += what == "line"
        return trace

    sys.settrace(trace)
    try:
        for event in events:
            judge(event.data, event.time)
    finally:
        sys.settrace(None)
    return count


@pytest.mark.timeout(120)
def test_work_grows_far_slower_than_the_bundle(tmp_path: Path) -> None:
    """Judging by twenty times as many policies runs not even three times as many lines for events that break none.

    Lines are counted and not time, so that the test says the same on every machine.
    """
    judges = [
        compile_judge(load_bundle([write_bundle(tmp_path / str(count), policies(count))])) for count in (50, 1_000)
    ]
    events = [decode(event.value) for event in usage_events(300)]
    clean = [event for event in events if not any(judge(event.data, event.time).violated for judge in judges)]
    clean = [event for event in clean if not any(judge(event.data, event.time).indeterminate for judge in judges)]
    assert len(clean) > 50
    few, many = (_lines_run(judge, clean) for judge in judges)
    assert many < 3 * few
