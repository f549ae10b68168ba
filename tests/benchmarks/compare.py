"""Whether ledgers hold the same, row by row: two checksums a column over all rows, and the rows where they differ.

Compared are the columns that every path fills, the set of violated policies among them. Where a fact is missing, ours
records a policy as indeterminate and the peers say nothing: those columns are ours alone and are not compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.benchmarks.peers import COMPARED, TABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

SHOWN = 5
# The order in which policies were found, or labels written, means nothing.
_ORDERLESS = {"violated": "arraySort(violated)", "labels": "mapSort(labels)"}


@dataclass(frozen=True, slots=True)
class Difference:
    """A column in which two ledgers differ, in how many rows, and some of them: event id and both values."""

    column: str
    rows: int
    examples: Sequence[tuple[str, str, str]]


def differences(client: Any, one: str, other: str, columns: Sequence[str] = COMPARED) -> list[Difference]:
    """Return where the ledgers in two databases differ; an empty list where they hold the same rows.

    A row that is in one of them alone is a difference of every column.
    """
    first, second = _checksums(client, one, columns), _checksums(client, other, columns)
    return [_rows(client, one, other, name) for name in columns if first[name] != second[name]]


def _checksums(client: Any, database: str, columns: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return for each column the number of rows and the sum of hashes of their ids and values."""
    sums = ", ".join(f"sum(sipHash64(event_source, event_id, {_value(name)}))" for name in columns)
    found = client.execute(f"SELECT count(), {sums} FROM {database}.{TABLE}")[0]
    return {name: (found[0], checksum) for name, checksum in zip(columns, found[1:], strict=True)}


def _rows(client: Any, one: str, other: str, name: str) -> Difference:
    sides = [
        f"(SELECT event_source, event_id, {_value(name)} AS v FROM {database}.{TABLE})" for database in (one, other)
    ]
    join = f"{sides[0]} AS a FULL JOIN {sides[1]} AS b USING (event_source, event_id) WHERE a.v IS DISTINCT FROM b.v"
    settings = {"join_use_nulls": 1}
    rows = client.execute(f"SELECT count() FROM {join}", settings=settings)[0][0]
    values = "ifNull(a.v, 'no row'), ifNull(b.v, 'no row')"
    shown = client.execute(f"SELECT event_id, {values} FROM {join} ORDER BY event_id LIMIT {SHOWN}", settings=settings)
    return Difference(name, int(rows), shown)


def _value(name: str) -> str:
    """Return a column's value as text that tells null from empty."""
    return f"toJSONString({_ORDERLESS.get(name, f'`{name}`')})"
