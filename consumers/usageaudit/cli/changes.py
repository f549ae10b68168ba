"""Prints what a change of policies does to the record: a report to read on a terminal, rows for programs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from usageaudit.cli.output import Format, print_rows, print_text, say, table_lines
from usageaudit.cli.text import printable
from usageaudit.events.times import format_time
from usageaudit.history import FIGURES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from usageaudit.history import Change, Example, PolicyChange, Tally

_NAMES = tuple(figure.name for figure in FIGURES)
_HEAD = ("policy_id", "title", "severity", "stage", "versions")
_EXAMPLE = (
    "verdict_before",
    "verdict_after",
    "event_source",
    "event_id",
    "event_time",
    "organization",
    "application",
    "model",
)
_WHY = ("missing_fields", "deciding")
_COVERAGE = ("about", "counted", "undecided", "notices")
_MOST_VALUES = 8
_EVENT = "event"
UNKNOWN = "(not declared)"


def print_change(change: Change, by: str | None, format: Format | None) -> None:  # noqa: A002
    """Print a change; `by` says what a row is, None for everything: text on a terminal, an object a policy else."""
    for warning in _mostly_unknown(change):
        say(printable(warning))
    chosen = format or (Format.table if sys.stdout.isatty() else Format.ndjson)
    if by is None and format is None and chosen is Format.table:
        print_text("\n".join(_report(change)))
        return
    say(printable(_summary(change)))
    if by is None and chosen in (Format.json, Format.ndjson):
        columns = (*_HEAD, *_NAMES, "unsaid", *(f"{one}s" for one in change.dimensions), "examples", "coverage")
        print_rows(columns, _nested(change), chosen)
    elif by in (None, "policy"):
        print_rows((*_HEAD, *_NAMES), ((*_head(one), *_figures(one.all)) for one in change.policies), chosen)
    elif by == _EVENT:
        print_rows(("policy_id", *_EXAMPLE, *_WHY), _events(change), chosen)
    else:
        print_rows(("policy_id", by, *_NAMES), _values(change, by), chosen)


def _mostly_unknown(change: Change) -> Iterator[str]:
    """Yield a warning of each windowed policy that can't count most of what it is about."""
    for one in change.policies:
        if one.window is not None and one.window.undecided * 2 > one.window.about:
            fields = ", ".join(f"{name} ({events:,})" for name, events in one.unsaid.items())
            of = f"{one.window.undecided:,} of {one.window.about:,} events that it is about"
            yield f"{one.policy_id}: {of} can't be counted, so many did not say: {fields or 'nothing of it'}"


def _summary(change: Change) -> str:
    if change.start is None or change.end is None:
        return "no events were recorded in that time"
    days = f"{format_time(change.start)[:10]} to {format_time(change.end - 1)[:10]}"
    return f"{change.events:,} events from {days}; before: {change.before}; after: {change.after}"


def _head(one: PolicyChange) -> tuple[Any, ...]:
    return (one.policy_id, one.title, one.severity, one.stage, one.versions)


def _figures(tally: Tally) -> tuple[int, ...]:
    return tuple(tally.figures().values())


def _nested(change: Change) -> Iterator[tuple[Any, ...]]:
    for one in change.policies:
        parts = (
            [{dimension: value, **tally.figures()} for value, tally in _changed(one, dimension)]
            for dimension in change.dimensions
        )
        yield (
            *_head(one),
            *_figures(one.all),
            one.unsaid,
            *parts,
            [dict(_example(example)) for example in one.examples],
            None if one.window is None else {name: getattr(one.window, name) for name in _COVERAGE},
        )


def _changed(one: PolicyChange, dimension: str) -> list[tuple[str | None, Tally]]:
    """Return the values for which something changes, by how much; months as they follow each other."""
    some = [(value, tally) for value, tally in one.parts[dimension].items() if tally.changed]
    if dimension == "month":
        return sorted(some, key=lambda item: item[0] or "")
    return sorted(some, key=lambda item: (-item[1]["added"] - item[1]["removed"], -item[1].changed, item[0] or ""))


def _example(example: Example) -> Iterator[tuple[str, Any]]:
    values = (example.before, example.after, example.source, example.event_id, format_time(example.time))
    yield from zip(_EXAMPLE, (*values, example.organization, example.application, example.model), strict=True)
    yield from zip(_WHY, (example.missing_fields, example.deciding), strict=True)


def _events(change: Change) -> Iterator[tuple[Any, ...]]:
    for one in change.policies:
        for example in one.examples:
            yield (one.policy_id, *(value for _, value in _example(example)))


def _values(change: Change, dimension: str) -> Iterator[tuple[Any, ...]]:
    for one in change.policies:
        for value, tally in sorted(one.parts[dimension].items(), key=lambda item: item[0] or ""):
            yield (one.policy_id, value, *_figures(tally))


# --- The report for people.

_COLUMNS = (
    ("violations_before", "before"),
    ("added", "added"),
    ("removed", "removed"),
    ("violations_after", "after"),
    ("indeterminate_after", "undecided"),
    ("now_indeterminate", "newly"),
    ("no_longer_indeterminate", "no longer"),
)
"""Figures and their short headings, which fit beside a name in 80 columns; the undecided are those after."""
_MORE = (("now_exempted", "now exempted"), ("no_longer_exempted", "not exempted"), ("ignored", "ignored"))


def _columns(tallies: Sequence[Tally]) -> list[tuple[str, str]]:
    """Return the figures to show: those that are always of interest, and others that are not all 0."""
    return [*_COLUMNS, *((name, title) for name, title in _MORE if any(tally[name] for tally in tallies))]


def _report(change: Change) -> Iterator[str]:
    yield f"before: {printable(change.before)}"
    yield f"after:  {printable(change.after)}"
    if change.start is None or change.end is None:
        yield "no events were recorded in that time"
        return
    yield _period(change)
    if not change.policies:
        yield "no policy is judged differently by the two"
        return
    yield ""
    yield from _table("policy", [(one.policy_id, one.all) for one in change.policies])
    changed = [one for one in change.policies if one.all.changed]
    for one in changed:
        yield ""
        yield from _of_policy(one, change.dimensions)
    if not changed:
        yield ""
        yield "nothing changes: every event keeps its verdicts"


def _period(change: Change) -> str:
    start, end = format_time(change.start or 0), format_time((change.end or 1) - 1)
    count = len(change.policies)
    return f"{change.events:,} events from {start[:10]} to {end[:10]}, {count:,} polic{'y' if count == 1 else 'ies'}"


def _table(name: str, rows: Sequence[tuple[str | None, Tally]]) -> Iterator[str]:
    columns = _columns([tally for _, tally in rows])
    cells = [(UNKNOWN if value is None else value, *(tally[figure] for figure, _ in columns)) for value, tally in rows]
    yield from table_lines((name, *(title for _, title in columns)), cells)


def _of_policy(one: PolicyChange, dimensions: Iterable[str]) -> Iterator[str]:
    version = f"version {', '.join(map(str, one.versions))}" if one.versions else "not in force after"
    yield printable(f"{one.policy_id}: {one.title} ({version}, {one.stage}, {one.severity})")
    for dimension in dimensions:
        rows = _changed(one, dimension)
        yield ""
        yield from _table(dimension, rows[:_MOST_VALUES])
        if len(rows) > _MOST_VALUES:
            yield f"… and {len(rows) - _MOST_VALUES:,} more, with --by {dimension}"
    if one.unsaid:
        yield ""
        fields = [f"{name} ({events:,})" for name, events in one.unsaid.items()]
        more = f" and {len(fields) - _MOST_VALUES} more" if len(fields) > _MOST_VALUES else ""
        listed = ", ".join(fields[:_MOST_VALUES])
        yield f"of the {one.all['now_indeterminate']:,} newly undecided, so many did not say: {listed}{more}"
    if one.examples:
        yield ""
        yield from _examples(one)


def _examples(one: PolicyChange) -> Iterator[str]:
    for example in one.examples:
        who = f"{example.source} {example.event_id}"
        yield printable(f"{example.before} → {example.after}: {format_time(example.time)} {who}")
        why = f"did not say {', '.join(example.missing_fields)}" if example.missing_fields else ""
        if not why and example.deciding:
            why = f"decided by {'; '.join(' '.join(text.split()) for text in example.deciding)}"
        if why:
            yield printable(f"    {why}")
