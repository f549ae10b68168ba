"""Reads the tests of windowed policies: streams of events, each with all that must be found in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from usageaudit.policy.fields import Fields, number_of
from usageaudit.policy.merging import registry_entry
from usageaudit.policy.model import ExpectedFinding, StreamEvent, WindowTest
from usageaudit.policy.report import TESTS, did_you_mean
from usageaudit.policy.shapes import EFFECTS, FINDING, MAX_EVENTS, STREAM_EVENT, WINDOW_TEST
from usageaudit.policy.testcases import read_event
from usageaudit.policy.windows.model import MEASURED
from usageaudit.policy.yamltree import Mapping, Scalar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.policy.model import RegistryEntry
    from usageaudit.policy.report import Report
    from usageaudit.policy.windows.model import Window
    from usageaudit.policy.yamltree import Node

_SECOND = 1_000_000


def read_window_tests(nodes: tuple[Node, ...], window: Window, report: Report) -> tuple[WindowTest, ...]:
    """Return the tests of a windowed policy; those with errors are reported and left out."""
    tests = (_read_test(node, window, report) for node in nodes)
    return tuple(test for test in tests if test is not None)


def _read_test(node: Node, window: Window, report: Report) -> WindowTest | None:
    before = report.errors
    fields = Fields(node, "a test of a policy with a window", WINDOW_TEST, report)
    name = fields.text("name", required=True)
    events: list[StreamEvent] = []
    for number, one in enumerate(fields.items("events", required=True), 1):
        events += _stream_events(one, number, MAX_EVENTS - len(events), report)
    report.spend(TESTS, len(events), lambda: node.place)
    known = {event.event_id for event in events}
    expect = [_expected(one, window, known, report) for one in fields.items("expect", required=True)]
    registry = _registry(fields.node_of("registry"), report)
    if report.errors != before:
        return None
    return WindowTest(name, tuple(events), tuple(expect), registry, node.place.file.name, node.place.line)


def _stream_events(node: Node, number: int, most: int, report: Report) -> Iterator[StreamEvent]:
    """Yield an event as often as it is repeated, in equal distances."""
    fields = Fields(node, "an event of a test", STREAM_EVENT, report)
    time, data = fields.time("time", required=True), read_event(fields, report)
    name, source = fields.text("id") or str(number), fields.text("source") or "test"
    count, every = fields.integer("repeat", 1, least=1), fields.duration("every") or _SECOND
    if fields.node_of("every") is not None and fields.node_of("repeat") is None:
        report.error(node.place, "every without repeat", "repeat says how many such events there are")
    if count > most:
        report.error(node.place, f"the stream of a test has more than {MAX_EVENTS:,} events")
    elif time is not None and data is not None:
        for at in range(count):
            yield StreamEvent(data, time + at * every, source, f"{name}-{at + 1}" if at else name)


def _expected(node: Node, window: Window, known: set[str], report: Report) -> ExpectedFinding:
    fields = Fields(node, "an expected finding", FINDING, report)
    at, value = fields.scalar("at"), fields.node_of("value")
    effect: Literal["violation", "notice"] = fields.choice("effect", EFFECTS, "violation")
    if at is not None and at.text not in known:
        hint = did_you_mean(at.text, known) or "at is the id of an event of the test"
        report.error(at.place, f"no event of the test has the id {at.text[:80]}", hint)
    if value is not None and window.kind not in MEASURED:
        report.error(value.place, f"a window of kind {window.kind} has no value", "leave it out")
    if effect == "notice" and window.heartbeat is None:
        report.error(node.place, "only a policy with a heartbeat finds notices", "expect a violation")
    number = None if value is None else number_of(value, "value", report)
    return ExpectedFinding(
        group=_group(fields.node_of("group"), window, report),
        at=None if at is None else at.text,
        window_start=fields.time("window_start"),
        window_end=fields.time("window_end"),
        value=None if number is None else float(number),
        effect=effect,
    )


def _group(node: Node | None, window: Window, report: Report) -> dict[str, str]:
    """Return the values of fields of group_by, as text."""
    names = [".".join(path) for path in window.group_by]
    entries = node.entries if isinstance(node, Mapping) else ()
    if node is not None and not isinstance(node, Mapping):
        report.error(node.place, "group is a mapping of fields of group_by to values")
    found = {}
    for key, value in entries:
        if key.text not in names:
            hint = did_you_mean(key.text, names) or f"group_by names {', '.join(names) or 'no field'}"
            report.error(key.place, f"{key.text[:80]} is no field of group_by", hint)
        elif not isinstance(value, Scalar) or value.tag == "null":
            report.error(value.place, f"group.{key.text[:80]} has one value")
        else:
            found[key.text] = value.text
    return found


def _registry(node: Node | None, report: Report) -> dict[str, RegistryEntry]:
    if node is not None and not isinstance(node, Mapping):
        report.error(node.place, "registry is a mapping of applications to what is known of them")
    entries = node.entries if isinstance(node, Mapping) else ()
    return {key.text: registry_entry(value, report) for key, value in entries}
