"""Runs the tests of windowed policies: their events as rows of a ledger, and on it the SQL of back-test and scheduler.

stream of a test ─▶ records ─▶ ledger of an engine in this process, in a folder of its own ─▶ crossings ─▶ compared
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from usageaudit.cloudevents import STRUCTURED_HEADERS, encode_structured
from usageaudit.errors import ConfigurationError
from usageaudit.events.times import format_time
from usageaudit.pipeline.judging import judge_records
from usageaudit.policy.model import STAGES
from usageaudit.policy.testing import as_written
from usageaudit.scheduler.recording import Crossing, Recorder, number
from usageaudit.scheduler.rules import rules_of
from usageaudit.stores.address import open_store
from usageaudit.stores.ledger import Ledger
from usageaudit.stores.migrate import migrate
from usageaudit.streams.port import Partition, Record
from usageaudit.verdicts import CLEAN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from usageaudit.policy.model import Bundle, ExpectedFinding, Policy, WindowTest
    from usageaudit.stores.port import Store

_PARTITION = Partition("tests", "tests", 0)
_EPOCH = 1


@dataclass(frozen=True, slots=True)
class WindowOutcome:
    """How a test went; `problem` is empty where it passed."""

    policy_id: str
    test: WindowTest
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether the policy found what the test expects, and nothing else."""
        return not self.problem


@dataclass(frozen=True, slots=True)
class _Found:
    crossing: Crossing
    group: dict[str, str]
    effect: str

    def __str__(self) -> str:
        one, group = self.crossing, ", ".join(f"{name} {value}" for name, value in self.group.items())
        return (
            f"a {self.effect} at {format_time(one.at)}{f' of {group}' if group else ''} with the value "
            f"{number(one.value)} in the window from {format_time(one.begins)} to {format_time(one.ends)}"
        )


def run_window_tests(bundle: Bundle) -> Iterator[WindowOutcome]:
    """Run the tests of every windowed policy of a bundle, those in stage draft and retired too.

    What a bundle uses is tested as it was written, by its own lists and registry and without overrides. Time goes on
    after the last event of a test, so that every wait ends. Raises ConfigurationError where the embedded engine is not
    installed, StoreUnavailable where this process has another embedded store open.
    """
    if not any(policy.window_tests for policy in bundle.windowed):
        return
    written = {part.name: as_written(bundle, part) for part in bundle.parts}
    with _engine() as store:
        for policy in bundle.windowed:
            home = written[policy.id.partition("/")[0]]
            for test in policy.window_tests:
                yield WindowOutcome(policy.id, test, _problem(store, home.policy(policy.id) or policy, test, home))


@contextmanager
def _engine() -> Iterator[Store]:
    """Give a store with empty tables, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="usageaudit-tests-") as folder:
        try:
            store = open_store(f"embedded:{Path(folder) / 'store'}")
        except ConfigurationError as error:
            raise ConfigurationError(f"tests of policies with a window run in the embedded engine: {error}") from error
        try:
            migrate(store)
            Ledger(store).fence(_PARTITION, "tests")
            yield store
        finally:
            store.close()


def _problem(store: Store, policy: Policy, test: WindowTest, home: Bundle) -> str:
    """Return what is not as a test expects it."""
    store.execute("TRUNCATE TABLE ledger")
    refused = _record(store, test)
    if refused:
        return f"the ledger refuses an event of the test: {refused}"
    bundle = replace(home, windowed=(policy,), registry={**home.registry, **test.registry})
    return _unexpected(_findings(store, bundle, test), test)


def _record(store: Store, test: WindowTest) -> str:
    """Record the events as a consumer does; return why one was refused."""
    records = [
        Record(
            offset,
            None,
            encode_structured(event_id=one.event_id, source=one.source, time=one.time, data=one.data),
            STRUCTURED_HEADERS,
        )
        for offset, one in enumerate(test.events)
    ]
    if not records:
        return ""
    judged = judge_records(records, lambda *_: CLEAN)
    if judged.examples:
        return str(judged.examples[0])
    Ledger(store).record(judged.block, _PARTITION, _EPOCH, 0, bundle="")
    return ""


def _findings(store: Store, bundle: Bundle, test: WindowTest) -> list[_Found]:
    found: list[_Found] = []
    if not test.events:
        return found
    first, last = min(one.time for one in test.events), max(one.time for one in test.events)
    for rule in rules_of(bundle, STAGES):
        rows = store.execute(rule.crossings(rule.matching.rows("1"), first, last + rule.window.length)).rows
        crossed = [
            Crossing(tuple(map(str, key)), int(at), int(begins), int(ends), value)
            for key, at, begins, ends, value in rows
        ]
        names = [".".join(path) for path in rule.window.group_by]
        effects = Recorder(store, rule).effects(crossed)
        found += [_Found(one, dict(zip(names, one.key, strict=True)), effects[one]) for one in crossed]
    return sorted(found, key=lambda one: (one.crossing.at, one.crossing.key))


def _unexpected(found: Sequence[_Found], test: WindowTest) -> str:
    """Return what was expected and not found, or found and not expected; each finding is one of them."""
    times = {event.event_id: event.time for event in test.events}
    left = list(found)
    # Those that state most first, so that one that states little does not take what only another fits.
    for expected in sorted(test.expect, key=_stated, reverse=True):
        fitting = next((one for one in left if _fits(one, expected, times)), None)
        if fitting is None:
            there = "; ".join(map(str, found)) or "nothing"
            return f"expected {_described(expected)}, found {there}"
        left.remove(fitting)
    if not left:
        return ""
    return f"expected {'nothing more' if test.expect else 'nothing'}, found {'; '.join(map(str, left))}"


def _stated(expected: ExpectedFinding) -> int:
    others = (expected.at, expected.window_start, expected.window_end, expected.value)
    return len(expected.group) + sum(one is not None for one in others)


def _fits(found: _Found, expected: ExpectedFinding, times: dict[str, int]) -> bool:
    one = found.crossing
    return (
        found.effect == expected.effect
        and all(found.group.get(name) == value for name, value in expected.group.items())
        and (expected.at is None or times[expected.at] == one.at)
        and (expected.window_start is None or expected.window_start == one.begins)
        and (expected.window_end is None or expected.window_end == one.ends)
        and (expected.value is None or expected.value == float(one.value))
    )


def _described(expected: ExpectedFinding) -> str:
    bounds = {"from": expected.window_start, "to": expected.window_end}
    parts = [f"at {expected.at}"] if expected.at is not None else []
    parts += [f"of {', '.join(f'{name} {value}' for name, value in expected.group.items())}"] if expected.group else []
    parts += [f"with the value {expected.value:g}"] if expected.value is not None else []
    parts += [f"in a window {name} {format_time(time)}" for name, time in bounds.items() if time is not None]
    return " ".join([f"a {expected.effect}", *parts])
