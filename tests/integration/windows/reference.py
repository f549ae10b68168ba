"""What windowed policies find, computed slowly and plainly: every moment looks at every event of its group.

Written apart from the product, from the words of docs/windows.md alone; it imports nothing of usageaudit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

Event = dict[str, Any]
Test = Callable[[Event], bool]
Found = tuple[str, int, int]
"""Group, and the bounds of the window, in seconds."""


@dataclass(frozen=True)
class Spec:
    """A windowed policy in Python: `length` in seconds, or days or months of a zone."""

    kind: str
    when: Test
    length: int = 0
    unit: str = ""
    zone: str = "UTC"
    value: Callable[[Sequence[Event]], int] = len
    holds: Callable[[int], bool] = bool
    steps: Sequence[Test] = ()
    expect: Test | None = None
    every: int = 0


def findings(spec: Spec, events: Iterable[Event]) -> list[Found]:
    """Return what a policy finds in events, sorted."""
    groups: defaultdict[str, list[Event]] = defaultdict(list)
    for event in events:
        groups[event["app"]].append(event)
    found = sorted((app, *bounds) for app, some in groups.items() for bounds in _of_group(spec, some))
    if not spec.every:
        return found
    beats = {event["t"] // spec.every for some in groups.values() for event in some}
    return [one for one in found if all(beat in beats for beat in _beats(spec.every, *one[1:]))]


def _beats(every: int, first: int, last: int) -> Iterable[int]:
    """Return the numbers of the stretches of time that ended from one time to another."""
    return [beat for beat in range(first // every, last // every) if (beat + 1) * every > first]


def _of_group(spec: Spec, events: list[Event]) -> Iterable[tuple[int, int]]:
    counted = [event for event in events if spec.when(event)]
    if spec.kind == "first_seen":
        return _first_seen(spec, counted)
    if spec.kind == "absence":
        return _absences(spec, counted, events)
    if spec.unit:
        return _in_periods(spec, counted)
    if spec.kind == "temporal_ordered":
        return _crossings(spec, counted, lambda inside: _in_order(spec.steps, inside))
    return _crossings(spec, counted, lambda inside: spec.holds(spec.value(inside)))


def _moments(events: Iterable[Event]) -> list[int]:
    return sorted({event["t"] for event in events})


def _crossings(spec: Spec, events: list[Event], holds: Callable[[list[Event]], bool]) -> Iterable[tuple[int, int]]:
    """Yield the windows (t - T, t] that hold where the moment before, if less than T back, did not."""
    # An event that is no step is no moment of a sequence.
    of_sequence = [event for event in events if not spec.steps or any(step(event) for step in spec.steps)]
    before: tuple[int, bool] | None = None
    for t in _moments(of_sequence):
        now = holds([event for event in events if t - spec.length < event["t"] <= t])
        held = before is not None and before[1] and before[0] > t - spec.length
        if now and not held:
            yield t - spec.length, t
        before = (t, now)


def _in_order(steps: Sequence[Test], events: list[Event]) -> bool:
    """Tell whether events that follow each other, by time, source and id, fit the steps one after another."""
    left = list(steps)
    for event in sorted(events, key=lambda one: (one["t"], one["source"], one["id"])):
        if left and left[0](event):
            left.pop(0)
    return not left


def _in_periods(spec: Spec, events: list[Event]) -> Iterable[tuple[int, int]]:
    """Yield the days or months in which the value held at some moment, counted from their beginning."""
    periods: defaultdict[tuple[int, ...], list[Event]] = defaultdict(list)
    for event in events:
        periods[_period(spec, event["t"])].append(event)
    for some in periods.values():
        if any(spec.holds(spec.value([one for one in some if one["t"] <= t])) for t in _moments(some)):
            yield _bounds(spec, some[0]["t"])


def _period(spec: Spec, t: int) -> tuple[int, ...]:
    local = datetime.fromtimestamp(t, UTC).astimezone(ZoneInfo(spec.zone))
    return (local.year, local.month, local.day)[: 3 if spec.unit == "day" else 2]


def _bounds(spec: Spec, t: int) -> tuple[int, int]:
    """Return the first second of a time's period and of the next, found by going through the hours."""
    first = last = t - t % 900
    while _period(spec, first - 900) == _period(spec, t):
        first -= 900
    while _period(spec, last) == _period(spec, t):
        last += 900
    return first, last


def _first_seen(spec: Spec, events: list[Event]) -> Iterable[tuple[int, int]]:
    times = _moments(events)
    for t in times:
        if not any(one < t and (not spec.length or one > t - spec.length) for one in times):
            yield t - spec.length, t


def _absences(spec: Spec, opening: list[Event], events: list[Event]) -> Iterable[tuple[int, int]]:
    assert spec.expect is not None
    answers = [event["t"] for event in events if spec.expect(event)]
    before: tuple[int, bool] | None = None
    for t in _moments(opening):
        now = not any(t <= answer <= t + spec.length for answer in answers)
        held = before is not None and before[1] and before[0] > t - spec.length
        if now and not held:
            yield t, t + spec.length
        before = (t, now)


def rfc3339(t: float) -> str:
    """Return seconds since 1970 as text."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=t)).isoformat().replace("+00:00", "Z")
