"""The documentation of views, tables and queries: complete, and the same in docs/analytics.md."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from usageaudit.ledger.ddl import TABLES, VIEWS
from usageaudit.ledger.documentation import sql_reference
from usageaudit.stores.queries import named_queries
from usageaudit.stores.queries.reference import queries_reference

if TYPE_CHECKING:
    from usageaudit.ledger.view import View

PAGE = Path(__file__).parents[3] / "docs" / "analytics.md"
SECTIONS = {"questions by name": queries_reference, "reference": sql_reference}


def section(name: str, text: str) -> str:
    """Return a section of a page with its marks."""
    return f"<!-- begin: {name} -->\n{text}<!-- end: {name} -->"


@pytest.mark.parametrize("name", SECTIONS)
def test_the_page_has_what_the_definitions_say(name: str) -> None:
    """Both parts are made from the definitions; `USAGEAUDIT_WRITE_DOCS=1 pytest FILE` writes them."""
    page = PAGE.read_text(encoding="utf-8")
    expected = section(name, SECTIONS[name]())
    if os.environ.get("USAGEAUDIT_WRITE_DOCS") == "1":
        place = re.compile(re.escape(section(name, "\0")).replace("\0", ".*?"), re.DOTALL)
        page = place.sub(lambda _: expected, page)
        PAGE.write_text(page, encoding="utf-8")
    assert expected in page, f"docs/analytics.md is behind: USAGEAUDIT_WRITE_DOCS=1 pytest {Path(__file__).name}"


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_every_view_and_column_is_documented(view: View) -> None:
    """Each view says what one row is, each of its columns what it means, on one line."""
    assert view.row
    for column in view.columns:
        assert column.doc.strip(), f"{view.name}.{column.name} has no documentation"
        assert "\n" not in column.doc


def test_every_table_and_column_is_documented() -> None:
    """The same for tables."""
    for table in TABLES:
        assert table.row
        assert [column.name for column in table.columns if not column.doc.strip()] == []


def test_the_reference_names_everything() -> None:
    """Each view, table and column is in the reference, and what may identify a person is said to."""
    text = sql_reference()
    parts = {view.name: {column.name: column.personal for column in view.columns} for view in VIEWS}
    parts |= {table.name: {column.name: column.personal for column in table.columns} for table in TABLES}
    for name, columns in parts.items():
        lines = text.partition(f"### {name}\n")[2].partition("\n### ")[0].splitlines()
        for column, personal in columns.items():
            row = next(line for line in lines if line.startswith(f"| `{column}` |"))
            assert row.endswith("(may identify a person) |") == personal


def test_every_query_and_parameter_is_documented() -> None:
    """Each named query says in one sentence what it answers, each parameter what it means."""
    text = queries_reference()
    for query in named_queries().values():
        assert re.fullmatch(r"[A-Z].*\.", query.sentence), query.name
        assert f"### {query.name}\n\n{query.sentence}" in text
        assert all(parameter.sentence for parameter in query.parameters)
