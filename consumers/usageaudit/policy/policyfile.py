"""Reads one policy: the YAML of `policies/**/*.yaml`, checked in every part, down to the conditions in its texts."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from usageaudit.policy.fields import Fields, text_of
from usageaudit.policy.language import InvalidCondition, Kind, Origin, check, lists_read, parse
from usageaudit.policy.message import PLACEHOLDER, Message
from usageaudit.policy.model import (
    ON_UNKNOWN,
    STAGES,
    Alert,
    Basis,
    Policy,
    PolicyException,
    Revision,
)
from usageaudit.policy.report import OPERANDS
from usageaudit.policy.schema import SCHEMA
from usageaudit.policy.shapes import ALERT, BASIS, EXCEPTION, NAME, POLICY, REVISION, WORD
from usageaudit.policy.testcases import read_tests
from usageaudit.policy.windows.model import MEASURED
from usageaudit.policy.windows.reading import message_schema, read_window, value_schema
from usageaudit.policy.windows.testcases import read_window_tests
from usageaudit.policy.yamltree import Mapping, Scalar, Sequence
from usageaudit.verdicts import SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from collections.abc import Mapping as AnyMapping

    from usageaudit.policy.language import Condition, Diagnostic, Path, Schema
    from usageaudit.policy.model import ListValues
    from usageaudit.policy.report import Report
    from usageaudit.policy.windows.model import Window
    from usageaudit.policy.yamltree import Node, Place

MAX_NAME = 100


_LONG = 1_000
"""Lists with more entries than this count as operands, one for each hundred entries."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the conditions of a bundle may name besides the event, and where problems go."""

    lists: AnyMapping[str, ListValues]
    report: Report

    def condition(
        self,
        node: Scalar | None,
        lets: AnyMapping[str, Condition],
        later: Collection[str] = (),
        schema: Schema = SCHEMA,
        *,
        every: bool = False,
    ) -> Condition | None:
        """Return a condition, None where it is absent or has errors, which are reported.

        Those of `later` that are not in `lets` are sub-conditions that come too late to be named. `schema` is what it
        may name: by default, the event. With `every` no doubt is raised of `true`: it means every event.
        """
        if node is None:
            return None
        try:
            expr = parse(node.text, origin=node.origin())
            condition = check(expr, schema, lists=self.lists, lets=lets)
        except InvalidCondition as fault:
            found = (one for one in fault.diagnostics if not (self.report.incomplete and _of_list(one)))
            self.report.add(*(_of_let(one, lets, later) for one in found))
            return None
        self.report.spend(OPERANDS, condition.size + self._entries(condition), partial(getattr, node, "place"))
        if not (every and condition.source.text.strip() == "true"):
            self.report.add(*condition.warnings)
        return condition

    def _entries(self, condition: Condition) -> int:
        if all(len(values) <= _LONG for values in self.lists.values()):
            return 0
        return sum(len(self.lists[name]) // 100 for name in lists_read(condition))


def _of_list(diagnostic: Diagnostic) -> bool:
    return diagnostic.message.startswith("unknown list")


def _of_let(diagnostic: Diagnostic, lets: Collection[str], later: Collection[str]) -> Diagnostic:
    """Return an error as it is, or, of a sub-condition that comes later, with the reason why it is not known yet."""
    name = diagnostic.message.removeprefix("unknown field ")
    if name == diagnostic.message or name not in later or name in lets:
        return diagnostic
    return replace(diagnostic, message=f"{name} is not defined yet", hint="a sub-condition names only those before it")


def read_policy(node: Node, pack: str, context: Context) -> Policy | None:
    """Return the policy of a file, None where it has errors, which are reported."""
    report = context.report
    fields = Fields(node, "a policy", POLICY, report)
    policy_id = _policy_id(fields, pack)
    title = fields.text("title", required=True)
    lets = _lets(fields, context)
    applies_node = fields.scalar("applies")
    applies = context.condition(applies_node, lets)
    window = _window(fields, lets, context)
    revisions = _revisions(fields, lets, context, window)
    named = SCHEMA if window is None else message_schema(window)
    message = read_message(fields.scalar("message"), report, named) or Message((title or policy_id,))
    policy = Policy(
        id=policy_id,
        title=title,
        description=fields.text("description"),
        basis=tuple(_basis(one, report) for one in fields.items("basis")),
        severity=fields.choice("severity", SEVERITIES, "medium", required=True),
        stage=fields.choice("stage", STAGES, "enforce"),
        applies=applies,
        lets=lets,
        revisions=revisions,
        on_unknown=fields.choice("on_unknown", ON_UNKNOWN, "record"),
        message=message,
        evidence=paths_of(fields.texts("evidence"), "evidence", report),
        exceptions=read_exceptions(fields.items("exceptions"), lets, context),
        alert=read_alert(fields.node_of("alert"), report),
        tests=(),
        file=node.place.file.name,
        window=window,
    )
    tests = fields.items("tests")
    if fields.node_of("window") is None:
        policy = replace(policy, tests=read_tests(tests, policy, report))
    elif window is not None:
        policy = replace(policy, window_tests=read_window_tests(tests, window, report))
    complete = policy_id and revisions and (applies is None) == (applies_node is None)
    return policy if complete and (window is None) == (fields.node_of("window") is None) else None


_OF_ONE_EVENT = {
    "on_unknown": "what it leaves open is shown as coverage",
    "evidence": "its evidence are the events in the window",
}
"""What a policy with a window does not have, and why."""


def _window(fields: Fields, lets: AnyMapping[str, Condition], context: Context) -> Window | None:
    """Return the window of a policy, None where it has none or one with errors, which are reported."""
    node, condition = fields.node_of("window"), fields.node_of("condition")
    if node is None:
        if condition is not None:
            context.report.error(condition.place, "condition without a window", "an event is judged by when")
        return None
    for name, why in _OF_ONE_EVENT.items():
        if (found := fields.node_of(name)) is not None:
            context.report.error(found.place, f"a policy with a window has no {name}", why)
    return read_window(node, lets, context)


def _policy_id(fields: Fields, pack: str) -> str:
    node = fields.scalar("id", required=True)
    if node is None:
        return ""
    head, slash, clause = node.text.partition("/")
    if (head == pack or not NAME.fullmatch(pack)) and NAME.fullmatch(clause) and len(clause) <= MAX_NAME:
        return node.text
    if not slash or head == pack:
        hint = f"lower case letters, digits and hyphens, such as {pack}/{_slug(clause or head)}"
    else:
        hint = f"the part before the slash is the bundle's name: {pack}/{clause[:MAX_NAME]}"
    fields.report.error(node.place, f"{node.text[:MAX_NAME]} is no id of a policy of this bundle", hint)
    return ""


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text[:MAX_NAME].lower()).strip("-") or "clause"


def _basis(node: Node, report: Report) -> Basis:
    fields = Fields(node, "a basis", BASIS, report)
    fields.time("as_of")
    return Basis(fields.text("document", required=True), fields.text("clause"), fields.text("as_of"))


def _lets(fields: Fields, context: Context) -> dict[str, Condition]:
    """Return the named sub-conditions in order; each may name those before it."""
    lets: dict[str, Condition] = {}
    node = fields.node_of("let")
    if node is not None and not isinstance(node, Mapping):
        context.report.error(node.place, "let is a mapping of names to conditions")
    entries = node.entries if isinstance(node, Mapping) else ()
    names = frozenset(key.text for key, _ in entries)
    for key, value in entries:
        if not WORD.fullmatch(key.text) or SCHEMA.is_object((key.text,)) or (key.text,) in SCHEMA.leaves:
            taken = "is a name of the event" if WORD.fullmatch(key.text) else "is no name"
            context.report.error(key.place, f"{key.text[:60]} {taken}", "take another word for the sub-condition")
        condition = None
        if text_of(value, f"let.{key.text[:60]}", context.report) is not None and isinstance(value, Scalar):
            condition = context.condition(value, lets, names)
        # One with errors is known to those that name it, or each of them would have an error for that, too.
        lets[key.text] = condition or _stand_in()
    return lets


def _stand_in() -> Condition:
    return check(parse("true", origin=Origin("")), SCHEMA, lists={}, lets={})


def _revisions(
    fields: Fields, lets: AnyMapping[str, Condition], context: Context, window: Window | None
) -> tuple[Revision, ...]:
    """Return the revisions; a `when` of the policy itself is short for one revision of version 1 that always holds."""
    report = context.report
    common = _on_value(fields, context, window)
    if common is None and fields.node_of("condition") is not None:
        # One with errors is no reason to ask each revision for its own.
        common = _stand_in()
    short = fields.scalar("when")
    nodes = fields.items("revisions")
    if fields.node_of("when") is None and fields.node_of("revisions") is None and isinstance(fields.node, Mapping):
        report.error(fields.node.place, "a policy needs when, or revisions")
    if short is not None:
        if nodes:
            report.error(short.place, "when beside revisions", "put the condition into a revision")
        when = context.condition(short, lets, every=window is not None)
        _check_measured(fields, window, common, report)
        return () if when is None else (Revision(1, None, None, when, common),)
    if not nodes and isinstance(empty := fields.node_of("revisions"), Sequence):
        report.error(empty.place, "a policy needs at least one revision", "- {version: 1, when: ...}")
    found = [_revision(node, lets, context, window, common, alone=len(nodes) == 1) for node in nodes]
    known = [one for one in found if one is not None]
    _check_versions(known, report)
    _check_disjoint([one for one in known if one.ranged], report)
    return tuple(one.revision for one in known) if len(known) == len(nodes) else ()


class _Read(NamedTuple):
    """A revision as it was read, and whether its version and its range are the author's or stand in for errors."""

    revision: Revision
    place: Place
    numbered: bool
    ranged: bool


def _on_value(fields: Fields, context: Context, window: Window | None) -> Condition | None:
    """Return the condition on the value of a window, None where there is none or it has errors."""
    node = fields.scalar("condition")
    if node is None or window is None:
        return None
    if window.kind not in MEASURED:
        context.report.error(node.place, f"a window of kind {window.kind} has no value", "leave the condition out")
        return None
    return context.condition(node, {}, schema=value_schema(window.kind))


def _check_measured(fields: Fields, window: Window | None, condition: Condition | None, report: Report) -> None:
    """Report a window that measures and has no condition on its value."""
    absent = condition is None and fields.node_of("condition") is None
    if window is not None and window.kind in MEASURED and absent and fields.node is not None:
        report.error(fields.node.place, f"a window of kind {window.kind} needs a condition", "condition: value > 100")


def _revision(
    node: Node,
    lets: AnyMapping[str, Condition],
    context: Context,
    window: Window | None,
    common: Condition | None,
    *,
    alone: bool,
) -> _Read | None:
    fields = Fields(node, "a revision", REVISION, context.report)
    absent = fields.node_of("version", required=not alone) is None
    version = fields.integer("version", int(alone and absent), least=1)
    start, end = fields.time("from"), fields.time("to")
    ranged = all((fields.node_of(name) is None) is (one is None) for name, one in (("from", start), ("to", end)))
    if start is not None and end is not None and start >= end:
        ranged = False
        context.report.error(
            node.place, "the revision ends before it begins", "it holds from `from` to just before `to`"
        )
    when = context.condition(fields.scalar("when", required=True), lets, every=window is not None)
    own = _on_value(fields, context, window)
    if (written := fields.node_of("condition")) is not None and window is None:
        context.report.error(written.place, "condition without a window", "an event is judged by when")
    elif common is None:
        _check_measured(fields, window, own, context.report)
    revision = None if when is None else Revision(version or 1, start, end, when, own or common)
    return None if revision is None else _Read(revision, node.place, version > 0, ranged)


def _check_versions(found: Iterable[_Read], report: Report) -> None:
    versions: set[int] = set()
    for one in found:
        version = one.revision.version
        if one.numbered and version in versions:
            report.error(one.place, f"version {version} is here twice", "number each revision differently")
        if one.numbered:
            versions.add(version)


def _check_disjoint(found: Iterable[_Read], report: Report) -> None:
    in_order = sorted(found, key=lambda one: -inf if one.revision.start is None else one.revision.start)
    for before, after in pairwise(in_order):
        earlier, later = before.revision, after.revision
        if earlier.end is None or later.start is None or later.start < earlier.end:
            which = f"version {earlier.version}" if before.numbered else "another one"
            hint = "they are chosen by the event's time: [from, to) of one ends where that of the next begins"
            report.error(after.place, f"the revision overlaps with {which}", hint)


def read_exceptions(
    nodes: tuple[Node, ...], lets: AnyMapping[str, Condition], context: Context
) -> tuple[PolicyException, ...]:
    """Return the exceptions of a policy, or of an override; each must have an id of its own."""
    found: dict[str, PolicyException] = {}
    for node in nodes:
        fields = Fields(node, "an exception", EXCEPTION, context.report)
        name = fields.text("id", required=True)
        when = context.condition(fields.scalar("when", required=True), lets)
        approved_by, reason = fields.text("approved_by", required=True), fields.text("reason", required=True)
        expires = fields.time("expires", required=True, end_of_day=True)
        if name in found:
            context.report.error(node.place, f"exception {name} is here twice", "give each an id of its own")
        elif name and when is not None and expires is not None:
            place = node.place
            found[name] = PolicyException(name, when, approved_by, reason, expires, place.file.name, place.line)
    return tuple(found.values())


def read_alert(node: Node | None, report: Report) -> Alert | None:
    """Return how alerts are gathered."""
    if node is None:
        return None
    fields = Fields(node, "alert", ALERT, report)
    return Alert(paths_of(fields.texts("dedup_by"), "dedup_by", report), fields.duration("for"))


def paths_of(nodes: tuple[Scalar, ...], name: str, report: Report) -> tuple[Path, ...]:
    """Return the fields that a list names."""
    found = (_path(node.text, node.place, name, report, SCHEMA) for node in nodes)
    return tuple(dict.fromkeys(path for path in found if path is not None))


def _path(text: str, place: Place, name: str, report: Report, schema: Schema) -> Path | None:
    path = tuple(text.split("."))
    if path in schema.leaves:
        return path
    below = schema.leaves_below(path)
    if below:
        report.error(place, f"{text[:80]} in {name} is an object", f"name a field of it, such as {'.'.join(below[0])}")
    else:
        report.error(place, f"unknown field {text[:80]} in {name}", schema.advice(text))
    return None


def read_message(node: Scalar | None, report: Report, schema: Schema = SCHEMA) -> Message | None:
    """Return the message with its placeholders, which must name scalars or lists of texts."""
    if node is None:
        return None
    parts: list[str | Path] = []
    at = 0
    for found in PLACEHOLDER.finditer(node.text):
        parts.append(node.text[at : found.start()])
        at = found.end()
        if found.group() in ("{{", "}}"):
            parts.append(found.group()[0])
        elif found.group(1) is None:
            report.error(node.place, "a brace without its other half in message", "a brace itself is written twice: {{")
        elif (path := _path(found.group(1).strip(), node.place, "message", report, schema)) is not None:
            _check_shown(path, node, report, schema)
            parts.append(path)
    parts.append(node.text[at:])
    return Message(tuple(part for part in parts if part))


def _check_shown(path: Path, node: Scalar, report: Report, schema: Schema) -> None:
    kind = schema.leaves[path].type
    if not kind.scalar and (kind.kind is not Kind.LIST or kind.element is None or not kind.element.scalar):
        report.error(node.place, f"{'.'.join(path)} in message is a {kind}, which has no short form")
