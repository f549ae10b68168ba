"""Reads the window of a policy from its file, and the condition on its value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.policy.fields import Fields, text_of
from usageaudit.policy.language import DOUBLE, INT, STRING, Leaf, Schema
from usageaudit.policy.language.times import zone
from usageaudit.policy.schema import SCHEMA
from usageaudit.policy.shapes import HEARTBEAT, WINDOW
from usageaudit.policy.windows.model import (
    KINDS,
    MEASURED,
    UNITS,
    VALUE,
    WINDOW_END,
    WINDOW_START,
    Calendar,
    Heartbeat,
    Window,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usageaudit.policy.language import Condition, Path
    from usageaudit.policy.policyfile import Context
    from usageaudit.policy.windows.model import Unit, WindowKind
    from usageaudit.policy.yamltree import Node

MIN_OVER, MAX_OVER = 1_000_000, 366 * 86_400_000_000
"""The shortest and the longest sliding window, in microseconds: a second, and a leap year."""
MAX_STEPS = 10
MAX_GROUPED = 8
MAX_STRETCHES = 10_000
"""How many heartbeats one wait may need."""

_OF_KIND: Mapping[WindowKind, frozenset[str]] = {
    "event_count": frozenset(),
    "value_count": frozenset(("field",)),
    "value_sum": frozenset(("field",)),
    "temporal_ordered": frozenset(("steps",)),
    "absence": frozenset(("expect", "heartbeat")),
    "first_seen": frozenset(),
}
"""What a kind needs beside `over` and `group_by`; no other kind may have it."""
_OPTIONAL = {"first_seen": frozenset(("over",))}
_CALENDAR: frozenset[WindowKind] = MEASURED


def value_schema(kind: WindowKind) -> Schema:
    """Return what the condition of a window may name: its value, a number."""
    doc = "What the window counts or adds up to."
    return Schema({VALUE: Leaf(DOUBLE if kind == "value_sum" else INT, required=True, doc=doc)})


def message_schema(window: Window) -> Schema:
    """Return what the message of a windowed policy may name: its group, its value and its bounds."""
    beside = {VALUE: "What the window counts or adds up to.", WINDOW_START: "Its beginning.", WINDOW_END: "Its end."}
    return Schema(
        {path: SCHEMA.leaves[path] for path in window.group_by}
        | {path: Leaf(STRING, required=True, doc=doc) for path, doc in beside.items()}
    )


def read_window(node: Node, lets: Mapping[str, Condition], context: Context) -> Window | None:
    """Return a window, None where it has errors, which are reported."""
    return _Reading(Fields(node, "a window", WINDOW, context.report), lets, context).window()


class _Reading:
    """Reads one window."""

    def __init__(self, fields: Fields, lets: Mapping[str, Condition], context: Context) -> None:
        self._fields, self._lets, self._context, self._report = fields, lets, context, context.report

    def window(self) -> Window | None:
        """Return the window, None where something is wrong with it."""
        fields = self._fields
        before = self._report.errors
        kind: WindowKind = fields.choice("kind", KINDS, "event_count", required=True)
        if self._report.errors == before:
            self._check_keys(kind)
        window = Window(
            kind=kind,
            over=self._over(kind),
            group_by=self._group_by(kind),
            field=self._field(kind),
            steps=self._steps(),
            expect=self._context.condition(fields.scalar("expect"), self._lets),
            heartbeat=self._heartbeat(),
        )
        self._check_stretches(window)
        return window if self._report.errors == before else None

    def _check_keys(self, kind: WindowKind) -> None:
        needed = _OF_KIND[kind] | ({"over"} - _OPTIONAL.get(kind, frozenset()))
        for name in sorted(needed):
            if self._fields.node_of(name) is None:
                self._error(self._fields.node, f"a window of kind {kind} needs {name}")
        every = frozenset().union(*_OF_KIND.values())
        for name in sorted(every - _OF_KIND[kind]):
            if (found := self._fields.node_of(name)) is not None:
                others = ", ".join(one for one in KINDS if name in _OF_KIND[one])
                self._error(found, f"a window of kind {kind} has no {name}", f"it belongs to {others}")
        if self._fields.node_of("zone") is not None and kind not in _CALENDAR:
            self._error(
                self._fields.node_of("zone"), f"a window of kind {kind} has no zone", "it belongs to a calendar"
            )

    def _error(self, node: Node | None, message: str, hint: str = "") -> None:
        if node is not None:
            self._report.error(node.place, message, hint)

    def _over(self, kind: WindowKind) -> int | Calendar | None:
        node = self._fields.node_of("over")
        text = text_of(node, "over", self._report)
        named = self._fields.scalar("zone")
        if node is None or text is None:
            return None
        unit: Unit | None = next((one for one in UNITS if text == f"calendar {one}"), None)
        if unit is not None:
            if kind not in _CALENDAR:
                self._error(node, f"a window of kind {kind} is no calendar's", "give a duration such as 24h")
            if named is None:
                self._error(node, f"{text} needs a zone", "name the time zone whose days they are: zone: Europe/Paris")
            elif zone(named.text) is None:
                self._error(named, f"unknown time zone {named.text[:60]}", "a name such as Europe/Paris, or UTC")
            return Calendar(unit, named.text if named is not None else "UTC")
        if text.startswith("calendar"):
            self._error(node, f"over is {' or '.join(f'calendar {one}' for one in UNITS)}, or a duration")
            return None
        if named is not None:
            self._error(named, "a sliding window has no zone", "over: calendar day or calendar month has one")
        before = self._report.errors
        length = self._fields.duration("over")
        if self._report.errors == before and not MIN_OVER <= length <= MAX_OVER:
            self._error(node, "over is from one second to 366 days")
        return length or None

    def _group_by(self, kind: WindowKind) -> tuple[Path, ...]:
        node = self._fields.node_of("group_by")
        paths = tuple(dict.fromkeys(self._scalar(one, one.text, "group_by") for one in self._fields.texts("group_by")))
        if len(paths) > MAX_GROUPED:
            self._error(node, f"group_by names more than {MAX_GROUPED} fields")
        if kind == "first_seen" and not paths:
            self._error(
                node or self._fields.node, "first_seen needs group_by", "it says what is seen for the first time"
            )
        return tuple(path for path in paths if path is not None)

    def _scalar(self, node: Node, text: str, name: str) -> Path | None:
        path = tuple(text.split("."))
        leaf = SCHEMA.leaves.get(path)
        if leaf is None:
            self._error(node, f"unknown field {text[:80]} in {name}", SCHEMA.advice(text))
        elif not leaf.type.scalar:
            self._error(node, f"{text} in {name} is a {leaf.type}", "name a field that has one value")
        else:
            return path
        return None

    def _field(self, kind: WindowKind) -> Path | None:
        node = self._fields.scalar("field")
        if node is None:
            return None
        path = self._scalar(node, node.text, "field")
        if kind == "value_sum" and path is not None and SCHEMA.leaves[path].type not in (INT, DOUBLE):
            self._error(node, f"{node.text} is a {SCHEMA.leaves[path].type}", "a sum is one of numbers")
        return path

    def _steps(self) -> tuple[Condition, ...]:
        node = self._fields.node_of("steps")
        texts = self._fields.texts("steps")
        if node is not None and not 2 <= len(texts) <= MAX_STEPS:
            self._error(node, f"steps are a list of 2 to {MAX_STEPS} conditions")
        found = (self._context.condition(one, self._lets) for one in texts)
        return tuple(one for one in found if one is not None)

    def _heartbeat(self) -> Heartbeat | None:
        node = self._fields.node_of("heartbeat")
        if node is None:
            return None
        fields = Fields(node, "a heartbeat", HEARTBEAT, self._report)
        when = self._context.condition(fields.scalar("when", required=True), self._lets, every=True)
        every = fields.duration("every", required=True)
        if every and every < MIN_OVER:
            self._error(fields.node_of("every"), "every is at least one second")
        return Heartbeat(when, every) if when is not None and every else None

    def _check_stretches(self, window: Window) -> None:
        heartbeat = window.heartbeat
        if heartbeat is not None and window.length > heartbeat.every * MAX_STRETCHES:
            self._error(self._fields.node_of("heartbeat"), f"over has more than {MAX_STRETCHES:,} heartbeats")
