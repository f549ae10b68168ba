"""Reading named queries: what their first lines say, and that it fits what follows."""

from __future__ import annotations

import re

import pytest

from usageaudit.ledger.ddl import TABLES, VIEWS
from usageaudit.stores.queries import NamedQuery, Parameter, named_queries, parse

QUERIES = tuple(named_queries().values())


def test_the_first_lines_say_what_a_query_answers_and_takes() -> None:
    """The first line is the sentence, each further one a parameter with or without a default; the rest is the SQL."""
    text = "-- What is there.\n-- since Date = 2026-01-01: first day\n-- who String: the team\nSELECT 1 -- one\n"
    assert parse("there", text) == NamedQuery(
        "there",
        "What is there.",
        (Parameter("since", "Date", "2026-01-01", "first day"), Parameter("who", "String", None, "the team")),
        "SELECT 1 -- one",
    )
    assert parse("there", text).defaults == {"since": "2026-01-01"}


@pytest.mark.parametrize("text", ["SELECT 1", "-- What.\n-- since: first day\nSELECT 1", "-- What.\n-- x y\nSELECT 1"])
def test_a_file_of_another_form_is_refused_by_name(text: str) -> None:
    """A file without a first line, or with a parameter that can't be read, names itself in the error."""
    with pytest.raises(ValueError, match=r"^broken: "):
        parse("broken", text)


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_the_placeholders_are_the_parameters(query: NamedQuery) -> None:
    """The SQL has exactly the placeholders that the first lines declare, with their types."""
    declared = {(parameter.name, parameter.type) for parameter in query.parameters}
    assert set(re.findall(r"\{(\w+):(\w+)\}", query.sql)) == declared


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_a_query_reads_views_only(query: NamedQuery) -> None:
    """Queries show how to ask: they read the documented views, never the tables behind them."""
    sources = set(re.findall(r"(?:FROM|(?<!ARRAY )JOIN) (\w+)", query.sql))
    assert sources <= {view.name for view in VIEWS}
    assert not sources & {table.name for table in TABLES}


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_the_rows_of_a_query_have_an_order(query: NamedQuery) -> None:
    """Asking twice gives the same rows in the same order."""
    assert "ORDER BY" in query.sql.rpartition(")\n")[2] or query.sql.count("ORDER BY") == 1
