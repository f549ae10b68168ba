"""Asks the ledger how two verdicts of each policy compare: one statement for a span of time and a group of policies.

Of every row and policy a number is computed, which is the policy's place in the group and both codes; only rows with a
verdict that is worth recording are unfolded, and counted for several groupings at once.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from usageaudit.history.counting import IGNORED, Tally
from usageaudit.policy.sql.judging import CODES, judgements
from usageaudit.policy.sql.text import literal
from usageaudit.stores.port import Limits

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from usageaudit.history.spans import Span
    from usageaudit.policy import Bundle
    from usageaudit.policy.sql import Columns
    from usageaudit.stores.port import Rows, Store
    from usageaudit.verdicts import Stage, Verdict

LIMITS = Limits(seconds=600.0, memory_bytes=768 * 1024**2, result_rows=1_000_000, long_text=True)
"""What one statement may use; the process that holds an embedded store may have lower ones."""
SPAN_EVENTS = 500_000
"""Events that one statement judges: seconds of work at most, so that it can be interrupted."""
_GROUP_CHARACTERS = 96 * 1024
"""How long the expressions of the policies of one statement are together, where one alone is not longer."""
NOT_JUDGED = "0"
_OF_IGNORED = f"[0, 1, {IGNORED}, 3, 4]"
_LISTED: Mapping[str, Verdict] = {"violated": "violation", "exempted": "exempted", "indeterminate": "indeterminate"}
"""The columns of a row that list policies, and what their verdict is then."""
_RECORDABLE = 0b110
"""The bits of a code that are all 0 for `not_applicable` and `ok` alone."""

Dimension = str
DIMENSIONS: Mapping[Dimension, str] = {
    "organization": "actor_organization",
    "application": "application_name",
    "model": "model_name",
    "month": "toYYYYMM(event_time)",
}
"""What violations are broken down by, and what that is in the ledger; the organisation may be NULL."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A policy with its two verdicts, as SQL of their codes; `before` is None for what the row says."""

    policy_id: str
    before: str | None
    after: str

    def pair(self, place: int) -> str:
        """Return the expression of place and codes in one number; what the row says is taken for `ok`."""
        if self.before is None:
            return f"toUInt32({64 * place + 8 * CODES['ok']} + {self.after})"
        if self.before == self.after:
            return f"toUInt32({64 * place} + 9 * {self.after})"
        return f"toUInt32({64 * place} + 8 * {self.before} + {self.after})"


def verdicts(
    bundle: Bundle, columns: Columns, stages: Collection[Stage], as_of: int | None = None
) -> Mapping[str, str]:
    """Return for each policy of some stages the code of its verdict on a row, with IGNORED for what it ignores."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    ignoring = {policy.id for policy in bundle.policies if policy.on_unknown == "ignore"}
    for judgement in judgements(bundle, columns, stages, as_of):
        found[judgement.policy.id].append(judgement.sql)
    return {name: _one(revisions, ignoring=name in ignoring) for name, revisions in found.items()}


def _one(revisions: Sequence[str], *, ignoring: bool) -> str:
    """Return the code of the one revision that was in force."""
    code = revisions[0] if len(revisions) == 1 else f"greatest({', '.join(revisions)})"
    return f"{_OF_IGNORED}[{code} + 1]" if ignoring else code


def groups(compared: Iterable[Compared]) -> Iterator[list[Compared]]:
    """Yield the policies in groups whose expressions make a statement of a length that engines take."""
    group: list[Compared] = []
    length = 0
    for one in compared:
        own = len(one.pair(0))
        if group and length + own > _GROUP_CHARACTERS:
            yield group
            group, length = [], 0
        group.append(one)
        length += own
    if group:
        yield group


def numbered(group: Sequence[Compared], rows: str, columns: Iterable[str]) -> str:
    """Return the SELECT of the rows of a condition: columns, and a number for each policy of a group, in an array.

    Few rows list any policy, so that only of those it is looked up which.
    """
    listed = "".join(f"{column}, " for column in columns)
    array = ", ".join(one.pair(place) for place, one in enumerate(group))
    from_ledger = f"FROM ledger WHERE {rows}"
    if all(one.before is not None for one in group):
        return f"SELECT {listed}[{array}] AS numbers {from_ledger}"
    names = ", ".join(literal(one.policy_id) if one.before is None else "''" for one in group)
    more = ", ".join(f"has({name}, p), {8 * (CODES[verdict] - CODES['ok'])}" for name, verdict in _LISTED.items())
    some = " OR ".join(f"notEmpty({name})" for name in _LISTED)
    return (
        f"SELECT * EXCEPT (plain, listed), if(listed, arrayMap((n, p) -> toUInt32(n + multiIf({more}, 0)), plain, "
        f"[{names}]), plain) AS numbers "
        f"FROM (SELECT {listed}{', '.join(_LISTED)}, [{array}] AS plain, {some} AS listed {from_ledger})"
    )


def unfolded(group: Sequence[Compared], rows: str, columns: Iterable[str], wanted: str) -> str:
    """Return the SELECT of rows and numbers, one for each policy for which `wanted`, over `n`, is true of a number."""
    inner = numbered(group, rows, columns)
    return f"SELECT * EXCEPT numbers, arrayJoin(arrayFilter(n -> {wanted}, numbers)) AS number FROM ({inner})"


@dataclass(slots=True)
class Counts:
    """Tallies by policy, and by policy, dimension and value; `spans` are those in which a policy's pair of codes is."""

    policies: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    parts: defaultdict[tuple[str, Dimension, str | None], Tally] = field(default_factory=lambda: defaultdict(Tally))
    spans: defaultdict[tuple[str, int], list[tuple[Span, int]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, group: Sequence[Compared], dimensions: Sequence[Dimension], span: Span, rows: Rows) -> None:
        """Add the answer of a statement."""
        for number, events, grouping, *values in rows.rows:
            policy_id, pair = group[number // 64].policy_id, number % 64
            if grouping == 0:
                self.policies[policy_id].pairs[pair] += events
                self.spans[policy_id, pair].append((span, events))
                continue
            place = int(grouping) - 1
            dimension, value = dimensions[place], values[place]
            if dimension == "month":
                value = f"{value[:4]}-{value[4:]}"
            self.parts[policy_id, dimension, value].pairs[pair] += events


def count(store: Store, group: Sequence[Compared], span: Span, dimensions: Sequence[Dimension]) -> Rows:
    """Return rows of number, events, place of the dimension from 1 (0 for all events) and each dimension's value."""
    names = [f"d{place}" for place in range(len(dimensions))]
    columns = [f"{DIMENSIONS[dimension]} AS {name}" for dimension, name in zip(dimensions, names, strict=True)]
    sets = ", ".join(["(number)", *(f"(number, {name})" for name in names)])
    grouping = " + ".join(f"{place} * (1 - grouping({name}))" for place, name in enumerate(names, 1))
    values = "".join(f", toString({name})" for name in names)
    high = f"{_RECORDABLE * 8 | _RECORDABLE}"
    rows = unfolded(group, span.period.accepted, columns, f"bitAnd(n, {high}) != 0")
    sql = f"SELECT number, count(), toUInt8({grouping}){values} FROM ({rows}) GROUP BY GROUPING SETS ({sets})"
    return store.query(sql, None, LIMITS)
