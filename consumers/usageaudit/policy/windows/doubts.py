"""Doubts about the window of a policy that has no errors: what it can never find, always finds, or can't know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.policy.language import Origin, check, parse
from usageaudit.policy.language.possible import satisfiable
from usageaudit.policy.schema import SCHEMA
from usageaudit.policy.windows.model import LATENESS
from usageaudit.policy.windows.reading import value_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.policy.language import Condition, Path
    from usageaudit.policy.language.demands import Effort
    from usageaudit.policy.model import Policy
    from usageaudit.policy.windows.model import Window

Doubt = tuple[str, str]
"""What is doubtful, and what to do."""


def window_doubts(policy: Policy, window: Window, *, registered: bool, effort: Effort) -> Iterator[Doubt]:
    """Yield what is doubtful about the window of a policy; `registered` is whether the bundle has a registry."""
    if window.kind in ("event_count", "value_count"):
        for revision in policy.revisions:
            if revision.condition is not None:
                yield from _of_value(window, revision.condition, effort)
    yield from _never_given(policy, window, registered=registered, effort=effort)
    if window.kind == "value_count" and window.field in window.group_by:
        yield (
            _name(window.field) + " is what events are grouped by, so it has one value in each window",
            "count another",
        )
    yield from _never_apart(policy, window)
    if (expect := window.expect) is not None and all(one.when.root == expect.root for one in policy.revisions):
        yield "expect is what when is, so each event ends the wait that it opens", "expect another event"
    beat = window.heartbeat
    if beat is not None and beat.every < LATENESS:
        seconds = LATENESS // 1_000_000
        yield f"the heartbeat is shorter than the {seconds} seconds that late events are waited for", "let it be longer"
    if window.kind == "first_seen" and window.over is None and (many := [one for one in window.group_by if _many(one)]):
        said = f"each {_name(many[0])} is kept for ever, as first_seen has no over"
        yield said, "over: 90d keeps what ninety days need, and finds again what was away for longer"


def window_test_doubts(policy: Policy) -> Iterator[Doubt]:
    """Yield what the tests of a windowed policy do not show, and what to do."""
    if not policy.window_tests:
        yield "the policy has no test", "add tests: streams of events with what must be found in them"
        return
    if not any(test.expect for test in policy.window_tests):
        yield "no test shows a finding", "add a test that expects one"
    if all(test.expect for test in policy.window_tests):
        yield "no test shows a stream without a finding", "add a test that expects []"


def _of_value(window: Window, condition: Condition, effort: Effort) -> Iterator[Doubt]:
    """Yield whether a condition on a count, which is one at least wherever it is looked at, is decided by that."""
    least = check(parse("value >= 1", origin=Origin("")), value_schema(window.kind), lists={}, lets={})
    text = " ".join(condition.source.text.split())
    both = condition.possible.true and condition.possible.false
    if both and not satisfiable([(condition.root, False), (least.root, False)], effort):
        yield f"{text} is never true, as the value is 1 at least where an event counts", "give a higher bound"
    elif both and not satisfiable([(condition.root, True), (least.root, False)], effort):
        yield f"{text} is true from the first event on", "first_seen finds first events; or give a higher bound"


def _never_apart(policy: Policy, window: Window) -> Iterator[Doubt]:
    """Yield the fields that alerts are to be told apart by, and that a finding of a window does not have."""
    for path in policy.alert.dedup_by if policy.alert is not None else ():
        if path not in window.group_by:
            yield f"alert.dedup_by has {_name(path)}, which no finding of the window has", "add it to group_by"


def _never_given(policy: Policy, window: Window, *, registered: bool, effort: Effort) -> Iterator[Doubt]:
    """Yield the fields that an event must have to count, and that none has."""
    for path in dict.fromkeys((*window.group_by, *((window.field,) if window.field else ()))):
        if path[0] == "registry" and not registered:
            yield f"{_name(path)} is unknown for every event, as the bundle has no registry", "so no event counts"
        elif not SCHEMA.leaves[path].required and all(
            one.when.possible.true and not satisfiable([(one.when.root, False), (_has(path).root, False)], effort)
            for one in policy.revisions
        ):
            yield f"{_name(path)} is never given where when is true", "so no event counts: name another field"


def _has(path: Path) -> Condition:
    return check(parse(f"has({_name(path)})", origin=Origin("")), SCHEMA, lists={}, lets={})


def _many(path: Path) -> bool:
    """Tell whether a field has ever more values: ids of people, conversations, responses."""
    return path[-1] == "id" or path[-1].endswith("_id")


def _name(path: Path | None) -> str:
    return ".".join(path or ())
