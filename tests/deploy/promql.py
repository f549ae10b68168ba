"""Answers the few forms of PromQL that alerts about counters have, for one series: an oracle for when one fires."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import promql_parser

if TYPE_CHECKING:
    import datetime as dt

LOOK_BACK = 300
"""How long Prometheus takes a sample for the present one, in seconds."""

Samples = Mapping[int, float]
"""Values of the series by their time in seconds."""


def value_of(expression: str, samples: Samples, now: int) -> float | None:
    """Return what an expression gives at a time, None where it gives nothing.

    It knows `increase`, `offset`, `>`, `or` and `unless`. `increase` is the plain one: Prometheus extrapolates it to
    the ends of its range, which turns no rise into one.

    Raises:
        ValueError: the expression has another form.
    """
    return _value(promql_parser.parse(expression), samples, now)


def _value(node: Any, samples: Samples, now: int) -> float | None:
    match type(node).__name__:
        case "NumberLiteral":
            return float(node.val)
        case "ParenExpr":
            return _value(node.expr, samples, now)
        case "VectorSelector":
            at = now - _seconds(node.offset)
            return next((samples[time] for time in sorted(samples, reverse=True) if at - LOOK_BACK < time <= at), None)
        case "Call" if node.func.name == "increase":
            return _increase(samples, now, _seconds(node.args[0].range))
        case "BinaryExpr":
            return _joined(str(node.op), _value(node.lhs, samples, now), _value(node.rhs, samples, now))
    raise ValueError(f"not known here: {node}")


def _joined(operator: str, left: float | None, right: float | None) -> float | None:
    match operator:
        case ">":
            return left if left is not None and right is not None and left > right else None
        case "or":
            return right if left is None else left
        case "unless":
            return left if right is None else None
    raise ValueError(f"not known here: {operator}")


def _increase(samples: Samples, now: int, seconds: float) -> float | None:
    values = [samples[time] for time in sorted(samples) if now - seconds < time <= now]
    if len(values) < 2:
        return None
    return sum(after - before if after >= before else after for before, after in pairwise(values))


def _seconds(duration: dt.timedelta | None) -> float:
    return 0.0 if duration is None else duration.total_seconds()
