"""Which rows of the ledger a windowed policy counts, as SQL: one row of six columns for each event.

key     Array(String)    the values of group_by, as text
t       Int64            the event's time, in microseconds since 1970
source, id               who the event is
amount  Decimal(38, 9)   what value_sum adds
text    String           what value_count tells apart
role    UInt32           one bit for each step of temporal_ordered; of absence, 1 opens and 2 is what was expected
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usageaudit.policy.language import DOUBLE
from usageaudit.policy.schema import SCHEMA
from usageaudit.policy.sql.lowering import lower

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from usageaudit.policy.language import Condition, Path
    from usageaudit.policy.model import Policy, Revision
    from usageaudit.policy.sql.columns import Columns
    from usageaudit.policy.windows.model import Window

COLUMNS = ("key", "t", "source", "id", "amount", "text", "role")
OPENS, EXPECTED = 1, 2
TIME = "toUnixTimestamp64Micro(event_time)"
_AMOUNT = "Decimal(38, 9)"
_MOST_ADDED = "1e19"
"""No int is larger, and 10 billion of them have a sum."""


@dataclass(frozen=True, slots=True)
class Matching:
    """The SELECT of the rows that count, but for its WHERE, and the conditions of that.

    `counted` is true for an event that counts. `seen` is true for an event that the policy is about, and `decided`
    where its fields say whether it counts, of which group it is and how much: what is seen and not decided is what the
    window can't know of.
    """

    selected: str
    counted: str
    seen: str
    decided: str

    def rows(self, where: str) -> str:
        """Return the statement of the rows that count among those of the ledger that a condition chooses."""
        return f"SELECT {self.selected} FROM ledger WHERE status = 'accepted' AND ({where}) AND {self.counted}"


def matching(policy: Policy, revision: Revision, window: Window, columns: Columns) -> Matching:
    """Return which rows a revision of a windowed policy counts."""
    when = lower(revision.when, columns)
    applies = [lower(policy.applies, columns)] if policy.applies is not None else []
    excused = [
        f"NOT ({TIME} < {exception.expires} AND ifNull({lower(exception.when, columns)}, 0))"
        for exception in policy.exceptions
    ]
    grouped = list(dict.fromkeys(window.group_by))
    known = [f"isNotNull({columns[path].value})" for path in (*grouped, *([window.field] if window.field else []))]
    known += _addable(window, columns)
    roles = list(_roles(window, when, excused, columns))
    true = [f"ifNull({one}, 0)" for one in (*applies, *([] if roles else [when]))]
    # An exception excuses what opens a wait; what was expected ends one, exempted or not.
    beside = [] if window.expect is not None else excused
    counted = [*true, *beside, *known, *(["role != 0"] if roles else [])]
    seen = [*(f"ifNull({one}, 1)" for one in applies), *excused, f"ifNull({when}, 1)"]
    decided = [*(f"isNotNull({one})" for one in (*applies, when)), *known]
    key = ", ".join(f"toString(assumeNotNull({columns[path].value}))" for path in window.group_by)
    chosen = {
        "key": f"CAST([{key}], 'Array(String)')",
        "t": TIME,
        "source": "toString(event_source)",
        "id": "event_id",
        "amount": _amount(window, columns),
        "text": _text(window, columns),
        "role": f"toUInt32({' + '.join(roles) or '0'})",
    }
    return Matching(
        selected=", ".join(f"{sql} AS {name}" for name, sql in chosen.items()),
        counted=_all(counted),
        seen=_all(seen),
        decided=_all(decided),
    )


def alive_sql(condition: Condition, every: int, columns: Columns, where: str) -> str:
    """Return the statement of the beginnings, in microseconds, of the stretches of time that had a heartbeat."""
    stretch = f"intDiv({TIME}, {every}) * {every}"
    return (
        f"SELECT DISTINCT {stretch} AS t FROM ledger "
        f"WHERE status = 'accepted' AND ({where}) AND ifNull({lower(condition, columns)}, 0) ORDER BY t"
    )


def _roles(window: Window, when: str, excused: Sequence[str], columns: Columns) -> Iterator[str]:
    """Yield the numbers that make up `role`; of absence what opens fits `when`, of a sequence every step does."""
    if window.expect is not None:
        yield f"{OPENS} * ifNull({_all([when, *excused])}, 0)"
        yield f"{EXPECTED} * ifNull({lower(window.expect, columns)}, 0)"
    for number, step in enumerate(window.steps):
        yield f"{1 << number} * ifNull({when} AND {lower(step, columns)}, 0)"


def _amount(window: Window, columns: Columns) -> str:
    """Return what is added: exact to nine places after the point, so that sums do not depend on their order."""
    if window.kind != "value_sum" or window.field is None:
        return f"CAST(0, '{_AMOUNT}')"
    return f"assumeNotNull(accurateCastOrNull({columns[window.field].value}, '{_AMOUNT}'))"


def _addable(window: Window, columns: Columns) -> Iterator[str]:
    """Yield what a number has to be: so many of them as there will ever be do not add up to more than is kept."""
    if window.kind == "value_sum" and window.field is not None and SCHEMA.leaves[window.field].type == DOUBLE:
        yield f"abs(toFloat64({columns[window.field].value})) < {_MOST_ADDED}"


def _text(window: Window, columns: Columns) -> str:
    if window.kind != "value_count" or window.field is None:
        return "''"
    return f"toString(assumeNotNull({columns[window.field].value}))"


def _all(conditions: Sequence[str]) -> str:
    return " AND ".join(f"({one})" for one in conditions) or "1"


def countable(path: Path) -> bool:
    """Tell whether the values of a field can be added."""
    return str(SCHEMA.leaves[path].type) in ("int", "double")
