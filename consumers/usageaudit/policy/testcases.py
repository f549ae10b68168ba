"""Reads the tests of policies: those of a policy's own file, and whole events with a verdict for each clause."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from usageaudit.events.fields import EVENT_FIELDS
from usageaudit.events.model import UsageEvent
from usageaudit.events.times import format_time
from usageaudit.events.validation import problems_in
from usageaudit.policy.fields import Fields, json_of, texts_of
from usageaudit.policy.merging import registry_entry
from usageaudit.policy.model import PolicyTest
from usageaudit.policy.report import TESTS, did_you_mean
from usageaudit.policy.shapes import CASE, EXPECTATION, NAMED, TEST, VERDICTS
from usageaudit.policy.yamltree import Mapping, Sequence

if TYPE_CHECKING:
    from usageaudit.policy.model import Policy, RegistryEntry
    from usageaudit.policy.report import Report
    from usageaudit.policy.yamltree import Node
    from usageaudit.verdicts import Verdict

DEFAULT_TIME = 1_577_836_800_000_000
"""The time of a test's event where neither the test nor a revision says one: 2020-01-01."""
_REQUIRED = {
    "operation": "chat",
    "model": {"provider": "test", "name": "test"},
    "actor": {"id": "test"},
    "application": {"name": "test"},
}
"""What stands in for the required fields that a test leaves out."""


def read_tests(nodes: tuple[Node, ...], policy: Policy, report: Report) -> tuple[PolicyTest, ...]:
    """Return the tests of a policy's own file; those with errors are reported and left out."""
    tests = (_read_test(node, policy, report) for node in nodes)
    return tuple(test for test in tests if test is not None)


def _read_test(node: Node, policy: Policy, report: Report) -> PolicyTest | None:
    fields = Fields(node, "a test", TEST, report)
    name = fields.text("name", required=True)
    expect: Verdict = fields.choice("expect", VERDICTS, "ok", required=True)
    missing = _missing(fields.node_of("missing"), report)
    exception = fields.text("exception") or None
    time = fields.time("time")
    data = read_event(fields, report)
    if data is None:
        return None
    return PolicyTest(
        name=name,
        expect=expect,
        data=data,
        time=_default_time(policy) if time is None else time,
        record_time=fields.time("record_time"),
        source=fields.text("source") or "test",
        event_id=fields.text("id") or "test",
        missing=missing,
        exception=exception,
        file=node.place.file.name,
        line=node.place.line,
        registry=_registry(fields, report),
    )


def _registry(fields: Fields, report: Report) -> RegistryEntry | None:
    node = fields.node_of("registry")
    return None if node is None else registry_entry(node, report)


def _default_time(policy: Policy) -> int:
    """Return the begin of the newest revision."""
    starts = [revision.start for revision in policy.revisions if revision.start is not None]
    return max(starts, default=DEFAULT_TIME)


def _missing(node: Node | None, report: Report) -> tuple[str, ...] | None:
    if node is None:
        return None
    if not isinstance(node, Sequence):
        report.error(node.place, "missing is a list of fields")
        return None
    names = texts_of(node.items, "missing", report)
    for name in names:
        if name.text not in NAMED and not name.text.startswith("labels["):
            hint = did_you_mean(name.text, NAMED)
            report.error(name.place, f"unknown field {name.text[:80]} in missing", hint)
    return tuple(sorted(name.text for name in names))


def read_event(fields: Fields, report: Report) -> bytes | None:
    """Return the JSON of a test's event, None where it is no valid one, which is reported."""
    node = fields.node_of("event", required=True)
    if not isinstance(node, Mapping):
        if node is not None:
            report.error(node.place, "event is a mapping: the data of a usage event")
        return None
    if not _known(node, (), report):
        return None
    data = _with_required(json_of(node, report))
    json = orjson.dumps(data)
    problems = problems_in(UsageEvent, json)
    for problem in problems:
        report.error(node.place, f"the event of the test is not valid: {problem}")
    return None if problems else json


def _with_required(data: dict[str, Any]) -> dict[str, Any]:
    for name, default in _REQUIRED.items():
        if isinstance(default, dict) and isinstance(data.get(name, {}), dict):
            data[name] = {**default, **data.get(name, {})}
        else:
            data.setdefault(name, default)
    return data


_PATHS = frozenset(field.path[:end] for field in EVENT_FIELDS for end in range(1, len(field.path) + 1))
_PARENTS = frozenset(field.path[:end] for field in EVENT_FIELDS for end in range(1, len(field.path)))


def _known(node: Mapping, prefix: tuple[str, ...], report: Report) -> bool:
    """Report the fields that the event's definition does not know: in a test they are misspelt."""
    good = True
    for key, value in node.entries:
        path = (*prefix, key.text)
        if path not in _PATHS:
            names = {one[-1] for one in _PATHS if one[:-1] == prefix}
            report.error(key.place, f"unknown field {'.'.join(path)[:80]} of an event", did_you_mean(key.text, names))
            good = False
        elif path in _PARENTS and isinstance(value, Mapping):
            good = _known(value, path, report) and good
    return good


def read_cases(node: Node, policies: dict[str, Policy], report: Report) -> dict[str, list[PolicyTest]]:
    """Return the tests, by clause, of a file of whole events; `policies` are those of the pack, by clause."""
    found: dict[str, list[PolicyTest]] = {clause: [] for clause in policies}
    if not isinstance(node, Sequence):
        report.error(node.place, "a file of tests is a list of events with the verdicts to expect")
        return found
    for one in node.items:
        fields = Fields(one, "a case", CASE, report)
        base = _case(fields, one, report)
        for expectation in fields.items("expect", required=True):
            if base is not None:
                _expect(expectation, base, found, report)
    return found


def _case(fields: Fields, node: Node, report: Report) -> PolicyTest | None:
    name = fields.text("name", required=True)
    data = read_event(fields, report)
    if data is None:
        return None
    return PolicyTest(
        name=name,
        expect="ok",
        data=data,
        time=DEFAULT_TIME,
        record_time=fields.time("record_time"),
        source=fields.text("source") or "test",
        event_id=fields.text("id") or "test",
        missing=None,
        exception=None,
        file=node.place.file.name,
        line=node.place.line,
        registry=_registry(fields, report),
    )


def _expect(node: Node, base: PolicyTest, found: dict[str, list[PolicyTest]], report: Report) -> None:
    """Add a test for each clause whose verdict at a time is stated; `others` states it for those not named."""
    fields = Fields(node, "an expectation", EXPECTATION, report)
    time = fields.time("time", required=True)
    verdicts = Fields(fields.node_of("verdicts", required=True), "verdicts", (*found, "others"), report)
    missing = Fields(fields.node_of("missing"), "missing", found, report)
    others = verdicts.choice("others", VERDICTS, "ok")
    if time is None:
        return
    test = replace(base, name=f"{base.name}, {format_time(time)}", expect=others, time=time, line=node.place.line)
    clauses = found if verdicts.node_of("others") is not None else [name for name in verdicts.names() if name in found]
    report.spend(TESTS, len(clauses), partial(getattr, node, "place"))
    for clause in clauses:
        expect = verdicts.choice(clause, VERDICTS, others)
        found[clause].append(replace(test, expect=expect, missing=_missing(missing.node_of(clause), report)))
