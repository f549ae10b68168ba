"""The terms of the policies, each in three languages side by side: CEL, Python and SQL.

The two-valued texts are true exactly where the three-valued one is: where a fact is missing, ours is unknown, or false
for certain, and theirs is false. So all three find the same violations; only ours tells "could not be decided" from
"clean".
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Term(NamedTuple):
    """A condition in CEL, in Python over the event's `data` as a dict `d`, and in SQL over the ledger's columns."""

    cel: str
    python: str
    sql: str


def both(*terms: Term) -> Term:
    """Hold where all of the terms do."""
    return Term(*(f"({joint.join(texts)})" for joint, texts in _joined((" && ", " and ", " AND "), terms)))


def either(*terms: Term) -> Term:
    """Hold where at least one of the terms does."""
    return Term(*(f"({joint.join(texts)})" for joint, texts in _joined((" || ", " or ", " OR "), terms)))


def _joined(joints: Sequence[str], terms: Sequence[Term]) -> Iterator[tuple[str, tuple[str, ...]]]:
    return zip(joints, zip(*terms, strict=True), strict=True)


def equal(field: str, value: str) -> Term:
    """Hold where a text field is this text."""
    return Term(f'{field} == "{value}"', f"{_read(field)} == {value!r}", f"{_column(field)} = '{value}'")


def one_of(field: str, values: Sequence[str]) -> Term:
    """Hold where a text field is one of these texts."""
    return Term(
        f"{field} in {json.dumps(values)}",
        f"{_read(field)} in {tuple(values)!r}",
        f"{_column(field)} IN {_sql(values)}",
    )


def starts_with(field: str, prefix: str) -> Term:
    """Hold where a text field begins so."""
    return Term(
        f'{field}.startsWith("{prefix}")',
        f'({_read(field)} or "").startswith({prefix!r})',
        f"startsWith({_column(field)}, '{prefix}')",
    )


def matches(field: str, pattern: str) -> Term:
    """Hold where some part of a text field matches a regular expression."""
    return Term(
        f"{field}.matches({json.dumps(pattern)})",
        f'compiled({pattern!r}).search({_read(field)} or "") is not None',
        f"match({_column(field)}, {_sql_text(pattern)})",
    )


def shares(field: str, values: Sequence[str]) -> Term:
    """Hold where a list of texts has at least one of these."""
    return Term(
        f"{field}.exists(x, x in {json.dumps(values)})",
        f"any(x in {tuple(values)!r} for x in {_read(field)} or ())",
        f"hasAny({_column(field)}, {list(values)!r})",
    )


def lacks(field: str, value: str) -> Term:
    """Hold where a list of texts was reported and this one is not in it."""
    path = ", ".join(map(_sql_text, ("data", *field.split("."))))
    return Term(
        f'!("{value}" in {field})',
        f"({_read(field)} is not None and {value!r} not in {_read(field)})",
        f"(NOT has({_column(field)}, '{value}') AND JSONHas(raw, {path}))",
    )


def signalled(category: str, score: float) -> Term:
    """Hold where a detector saw this in the content and was so sure or surer."""
    return Term(
        f'content.signals.exists(s, s.category == "{category}" && s.score >= {score})',
        f"any(s['category'] == '{category}' and s['score'] >= {score} for s in {_read('content.signals')} or ())",
        f"arrayExists((c, s) -> c = '{category}' AND s >= {score}, content_signals_category, content_signals_score)",
    )


def tokens_above(limit: int) -> Term:
    """Hold where input and output tokens together are more than this."""
    into, out = "usage.input_tokens", "usage.output_tokens"
    known = f"{_read(into)} is not None and {_read(out)} is not None"
    return Term(
        f"{into} + {out} > {limit}",
        f"({known} and {_read(into)} + {_read(out)} > {limit})",
        f"{_column(into)} + {_column(out)} > {limit}",
    )


def cost_above(limit: float) -> Term:
    """Hold where the use cost more than this."""
    return Term(
        f"cost.amount > {limit}", f"float({_read('cost.amount')} or 0) > {limit}", f"toFloat64(cost_amount) > {limit}"
    )


def at_night(first: int, last: int) -> Term:
    """Hold where the use began at the first hour of the day (UTC) or later, or before the last."""
    hour = Term("event.time.getHours()", "hour", "toHour(event_time)")
    return Term(
        f"({hour.cel} >= {first} || {hour.cel} < {last})",
        f"({hour.python} >= {first} or {hour.python} < {last})",
        f"({hour.sql} >= {first} OR {hour.sql} < {last})",
    )


def _read(field: str) -> str:
    """Return how a Python function reads a field of a dict any part of which may be missing or null."""
    *parents, name = field.split(".")
    owner = "d"
    for parent in parents:
        owner = f"({owner}.get({parent!r}) or NOTHING)"
    return f"{owner}.get({name!r})"


def _column(field: str) -> str:
    return field.replace(".", "_")


def _sql(values: Sequence[str]) -> str:
    return f"({', '.join(map(_sql_text, values))})"


def _sql_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
