"""Google's CEL as a third voice, for the part of the language where it can say the same.

Left out, since the language deviates there by intent: `has()` of an object, of a map, of a name without a dot and of
`labels["key"]`; sub-conditions, which CEL does not have; arithmetic on doubles, which may give infinity in CEL;
durations beyond 292 years, and so the difference of times, unless they are the event's own; texts for `timestamp()` and
`duration()`, of which CEL reads nanoseconds; zones with a name beyond the years 1970 to 2099, and so on times that are
computed. Left out since the evaluator rounds there: an int beside a double. Texts with a NUL are left out, which the
binding cuts off there.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cel_expr_python import cel  # type: ignore[import-untyped]
from cel_expr_python.ext import ext_strings  # type: ignore[import-untyped]
from msgspec import to_builtins

from usageaudit.policy import SCHEMA
from usageaudit.policy.language import (
    DOUBLE,
    DURATION,
    MAP,
    TIMESTAMP,
    Call,
    Const,
    Field,
    Has,
    Member,
    Sort,
    walk,
)
from usageaudit.policy.schema import EVENT_TIME, RECORD_TIME, value_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.differential.sides import Truth
    from usageaudit.policy.language import Condition, Node
    from usageaudit.policy.schema import Occurrence

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = {EVENT_TIME: "event_time", RECORD_TIME: "record_time"}
"""Variables for the times: the binding takes no time within an object."""
_TIME = re.compile(r"(?<!has\()\b(event|record)\.time\b")
_PLAIN = re.compile(r'timestamp\("[-T:\d]{19}(\.\d{1,6})?Z"\)|duration\("-?\d+us"\)')
"""Times and durations without digits finer than a microsecond, in the form that both read."""
_LONGEST = (2**63 - 1) // 1000
"""The longest duration of CEL in microseconds."""


def sayable(condition: Condition) -> bool:
    """Whether CEL gives the condition the meaning that it has here."""
    # CEL has no 2**63, which this is without the two signs before it.
    unreadable = ("\\U00000000", "--9223372036854775808")
    return not any(text in condition.source.text for text in unreadable) and not any(
        map(_means_otherwise, walk(condition.root))
    )


def _means_otherwise(node: Node) -> bool:
    match node:
        case Has(leaves=(Field() | Member() as leaf,)):
            return leaf.path != node.path or len(node.path) < 2 or leaf.type == MAP
        case Has():
            return True
        case Const(type=kind, value=value) if (kind.element or kind) in (DURATION, TIMESTAMP):
            values = value if isinstance(value, tuple) else (value,)
            too_long = (kind.element or kind) == DURATION and any(abs(int(one)) > _LONGEST for one in values)
            return too_long or "(" in _PLAIN.sub("", node.span.text)
        case Call():
            return _computes_otherwise(node)
        case _:
            return False


def _computes_otherwise(call: Call) -> bool:
    """Whether an operator gives something else in CEL, for some operands at least."""
    row, arguments = call.operator, call.arguments
    if Sort.NUMBER in row.parameters:
        return len({argument.type.element or argument.type for argument in arguments}) > 1
    if Sort.ZONE in row.parameters:
        return not isinstance(arguments[0], Field)
    if row.parameters == (TIMESTAMP, TIMESTAMP) and row.result == DURATION:
        return not all(isinstance(argument, Field) for argument in arguments)
    return row.name in ("timestamp", "duration") or (row.parameters == (DOUBLE, DOUBLE) and row.result == DOUBLE)


class Cel:
    """CEL's evaluator, with the names of events and the lists of a bundle."""

    def __init__(self, lists: Mapping[str, tuple[Any, ...]]) -> None:
        roots = {path[0] for path in SCHEMA.leaves} | {"lists"}
        variables = dict.fromkeys(roots, cel.Type.DYN) | dict.fromkeys(_TIMES.values(), cel.Type.TIMESTAMP)
        self._lists = {name: list(values) for name, values in lists.items()}
        self._environment = cel.NewEnv(variables=variables, extensions=[ext_strings.ExtStrings()])

    def activation(self, event: Occurrence) -> Any:
        """Return the values of an event: an object always, what is in it only where it is there."""
        data: dict[str, Any] = {"lists": self._lists}
        for path, leaf in SCHEMA.leaves.items():
            value = value_of(path)(event)
            present = value or leaf.type != MAP
            if path in _TIMES and value is not None:
                data[_TIMES[path]] = _EPOCH + timedelta(microseconds=value)
            _put(data, path, _plain(value) if present else None)
        return self._environment.Activation(data)

    def truths(self, text: str, activations: list[Any]) -> list[Truth]:
        """Return the values of a condition; where CEL ends in an error, the value is unknown.

        It is not checked, since CEL's checker refuses what its evaluator compares: an int with a double.
        """
        expression = self._environment.compile(_TIME.sub(r"\1_time", text), disable_check=True)
        results = (expression.eval(activation) for activation in activations)
        return [None if result.type() == cel.Type.ERROR else result.value() for result in results]


def _put(data: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    owner = data
    for step in path[:-1]:
        owner = owner.setdefault(step, {})
    if value is not None:
        owner[path[-1]] = value


def _plain(value: Any) -> Any:
    """Return a value as CEL's binding takes it, objects without the members that are missing."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    plain = to_builtins(value)
    if isinstance(plain, dict):
        return {name: found for name, found in plain.items() if found is not None}
    return plain
