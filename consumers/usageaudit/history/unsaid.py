"""Which fields the events that can't be decided any more did not say, among those that their policy reads."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from usageaudit.history.comparing import LIMITS, groups, unfolded
from usageaudit.history.counting import codes_of
from usageaudit.policy.language import fields_read
from usageaudit.policy.schema import SCHEMA
from usageaudit.policy.sql import ledger_columns
from usageaudit.policy.sql.judging import CODES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from usageaudit.history.comparing import Compared, Counts
    from usageaudit.history.spans import Span
    from usageaudit.policy import Bundle
    from usageaudit.policy.language import Path
    from usageaudit.policy.sql import Columns
    from usageaudit.stores.port import Store

_INDETERMINATE = CODES["indeterminate"]


def unsaid(
    store: Store, compared: Mapping[str, Compared], counts: Counts, after: Bundle
) -> Mapping[str, Mapping[str, int]]:
    """Return for each policy the fields that it reads, with how many of the events now undecided did not say them.

    A field that was not said need not be what decides: the examples name those.
    """
    columns = ledger_columns(after.registry)
    fields = {policy.id: _optional(policy_fields(after, policy.id), columns) for policy in after.policies}
    wanted: defaultdict[Span, dict[str, None]] = defaultdict(dict)
    for (policy_id, pair), spans in counts.spans.items():
        if newly(pair) and fields.get(policy_id):
            for span, _ in spans:
                wanted[span][policy_id] = None
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for span, names in wanted.items():
        for group in groups(compared[name] for name in names):
            _add(found, store, group, span, fields)
    return {name: {path: n for path, n in unsaid.most_common() if n} for name, unsaid in found.items()}


def newly(pair: int) -> bool:
    """Tell whether a verdict is indeterminate after and was not before."""
    before, after = codes_of(pair)
    return after == _INDETERMINATE != before


def policy_fields(bundle: Bundle, policy_id: str) -> Collection[Path]:
    """Return the fields that the conditions of a policy read."""
    policy = bundle.policy(policy_id)
    if policy is None:
        return ()
    conditions = [*(one.when for one in policy.revisions), *([policy.applies] if policy.applies else [])]
    return sorted({path for condition in conditions for path in fields_read(condition)})


def _optional(paths: Collection[Path], columns: Columns) -> Mapping[str, str]:
    """Return, by name, the SQL that a row does not have a field, for fields that may be missing."""
    found = {}
    for path in paths:
        leaf, stored = SCHEMA.leaves[path], columns[path]
        if leaf.type.scalar and not leaf.required:
            found[".".join(path)] = f"isNull({stored.value})"
        elif stored.present:
            found[".".join(path)] = f"NOT ({stored.present})"
    return found


def _add(
    found: Mapping[str, Counter[str]],
    store: Store,
    group: Sequence[Compared],
    span: Span,
    fields: Mapping[str, Mapping[str, str]],
) -> None:
    missing = {name: sql for one in group for name, sql in fields[one.policy_id].items()}
    places = {name: f"m{place}" for place, name in enumerate(missing)}
    flags = [f"{sql} AS {places[name]}" for name, sql in missing.items()]
    after, before = f"bitAnd(n, 7) = {_INDETERMINATE}", f"bitAnd(intDiv(n, 8), 7) != {_INDETERMINATE}"
    sums = ", ".join(f"sum({place})" for place in places.values())
    rows = unfolded(group, span.period.accepted, flags, f"{after} AND {before}")
    for number, *counts in store.query(f"SELECT number, {sums} FROM ({rows}) GROUP BY number", None, LIMITS).rows:
        policy_id = group[number // 64].policy_id
        for name, events in zip(places, counts, strict=True):
            if name in fields[policy_id]:
                found[policy_id][name] += int(events)
