"""A window in words, for people who have to know what a policy of many events looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.policy.windows.model import Calendar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.policy.language import Condition
    from usageaudit.policy.windows.model import Window


def in_words(window: Window) -> str:
    """Return what a window looks at, over which time and for whom, as a sentence."""
    groups = ", ".join(f"`{'.'.join(path)}`" for path in window.group_by)
    of = f"for each {groups}" if groups else "for all together"
    field = f"`{'.'.join(window.field or ())}`"
    match window.kind:
        case "event_count":
            return f"how many events count {_within(window)}, {of}."
        case "value_count":
            return f"how many different values of {field} they have {_within(window)}, {of}."
        case "value_sum":
            return f"what their {field} adds up to {_within(window)}, {of}."
        case "temporal_ordered":
            return f"whether events fit {len(window.steps)} steps one after another {_within(window)}, {of}."
        case "absence":
            return f"whether what is expected follows within {span_in_words(window.length)}, {of}."
        case "first_seen":
            again = f", or again after {span_in_words(window.length)} without" if window.over is not None else ""
            return f"the first event{again}, {of}."


def conditions_of(window: Window) -> Iterator[tuple[str, Condition]]:
    """Yield the conditions on events that a window has of its own, each with what it is for."""
    for number, step in enumerate(window.steps, 1):
        yield f"Step {number}", step
    if window.expect is not None:
        yield "Expected is an event where", window.expect
    if window.heartbeat is not None:
        every = span_in_words(window.heartbeat.every)
        yield f"Decided only while each {every} has an event, of any group, where", window.heartbeat.when


def span_in_words(micros: int) -> str:
    """Return a length of time in the largest unit that it is a number of."""
    seconds = micros // 1_000_000
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds // length} {unit}" + ("s" if seconds > length else "")
    return f"{seconds} seconds"


def _within(window: Window) -> str:
    if isinstance(window.over, Calendar):
        return f"since the beginning of the {window.over.unit} in {window.over.zone}"
    return f"within {span_in_words(window.length)}"
