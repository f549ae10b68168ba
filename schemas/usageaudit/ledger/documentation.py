"""The reference of the store's SQL, made from the definitions of tables and views."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.ledger.ddl import TABLES, VIEWS
from usageaudit.ledger.views import plain_type

if TYPE_CHECKING:
    from collections.abc import Iterable

    from usageaudit.ledger.ddl import Table
    from usageaudit.ledger.view import View

_PERSONAL = " (may identify a person)"


def sql_reference() -> str:
    """Return the reference as Markdown: every view, then every table, with type and meaning of each column."""
    views = "\n\n".join(_view(view) for view in VIEWS)
    tables = "\n\n".join(_table(table) for table in TABLES)
    return f"""## Views

What queries read. Names and columns are the same on ClickHouse and on the embedded store; times are UTC.

{views}

## Tables

What the views are made of. Rows are appended and never edited; read them through the views, which know what a copy is.

{tables}
"""


def _view(view: View) -> str:
    rows = (_row(c.name, c.type, c.doc, personal=c.personal) for c in view.columns)
    notes = f"\n\n{view.notes}" if view.notes else ""
    return f"### {view.name}\n\nOne row is {view.row}.{notes}\n\n{_columns(rows)}"


def _table(table: Table) -> str:
    rows = (_row(c.name, plain_type(c.type), c.doc, personal=c.personal) for c in table.columns)
    return f"### {table.name}\n\nOne row is {table.row}.\n\n{_columns(rows)}"


def _columns(rows: Iterable[str]) -> str:
    return "\n".join(("| column | type | meaning |", "|---|---|---|", *rows))


def _row(name: str, type_name: str, doc: str, *, personal: bool) -> str:
    meaning = f"{doc}{_PERSONAL if personal else ''}".replace("|", "\\|")
    return f"| `{name}` | {type_name} | {meaning} |"
