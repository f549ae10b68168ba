"""What a policy makes of a row of the ledger, as SQL: the same verdicts as `usageaudit.policy.explain`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usageaudit.policy.sql.lowering import lower

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from usageaudit.policy.model import Bundle, Policy, Revision
    from usageaudit.policy.sql.columns import Columns
    from usageaudit.verdicts import Stage, Verdict

CODES: Mapping[Verdict, int] = {"not_applicable": 0, "ok": 1, "indeterminate": 2, "exempted": 3, "violation": 4}
"""Verdicts as the numbers that SQL gives, the graver the greater."""
_NOT_APPLICABLE, _OK, _INDETERMINATE, _EXEMPTED, _VIOLATION = CODES.values()
_TIME = "toUnixTimestamp64Micro(event_time)"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A revision of a policy, and the expression of its verdict's code: 0 where it was not in force."""

    policy: Policy
    revision: Revision
    sql: str


def judgements(
    bundle: Bundle, columns: Columns, stages: Collection[Stage], as_of: int | None = None
) -> tuple[Judgement, ...]:
    """Return what the policies of some stages make of a row: an expression for each revision.

    With `as_of`, in microseconds since 1970, every row is judged by the revision of that time instead of its own.
    """
    return tuple(
        Judgement(policy, revision, _verdict(policy, revision, columns, always=as_of is not None))
        for policy in bundle.policies
        if policy.stage in stages
        for revision in policy.revisions
        if as_of is None or revision.in_force(as_of)
    )


def _verdict(policy: Policy, revision: Revision, columns: Columns, *, always: bool) -> str:
    when = lower(revision.when, columns)
    violated = _violated(policy, columns)
    unknown = violated if policy.on_unknown == "violate" else str(_INDETERMINATE)
    branches = [] if always else [(_outside(revision), str(_NOT_APPLICABLE))]
    undecided = f"isNull({when})"
    if policy.applies is not None:
        applies = lower(policy.applies, columns)
        branches.append((f"NOT ifNull({applies}, 1)", str(_NOT_APPLICABLE)))
        undecided = f"isNull({applies}) OR {undecided}"
    branches += [(undecided, unknown), (f"ifNull({when}, 0)", violated)]
    listed = "".join(f"{condition}, {code}, " for condition, code in branches if condition)
    return f"multiIf({listed}{_OK})"


def _outside(revision: Revision) -> str:
    tests = [f"{_TIME} < {revision.start}"] if revision.start is not None else []
    tests += [f"{_TIME} >= {revision.end}"] if revision.end is not None else []
    return " OR ".join(tests)


def _violated(policy: Policy, columns: Columns) -> str:
    """Return the code of a violation, or of an exempted one where an exception is in force and true."""
    if not policy.exceptions:
        return str(_VIOLATION)
    excused = (
        f"({_TIME} < {exception.expires} AND ifNull({lower(exception.when, columns)}, 0))"
        for exception in policy.exceptions
    )
    return f"if({' OR '.join(excused)}, {_EXEMPTED}, {_VIOLATION})"
