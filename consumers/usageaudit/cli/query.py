"""`usageaudit query`."""

from __future__ import annotations

import difflib
import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from usageaudit.cli.options import StoreOption
from usageaudit.cli.output import FormatOption, print_rows, say
from usageaudit.cli.settings import settings_of
from usageaudit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NAME = re.compile(r"[A-Za-z0-9_-]+")


def query(
    context: typer.Context,
    sql: Annotated[
        str | None, typer.Argument(metavar="SQL|NAME", help="A statement, a name of --list, or - for standard input.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the shipped queries and their parameters.")] = False,
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Value of a placeholder {NAME:Type}; may be given several times."),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.001, help="Stop the query after so long; by default query_seconds.")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Refuse a result of more rows; by default query_rows.")
    ] = None,
    store: StoreOption = None,
    format: FormatOption = None,  # noqa: A002
) -> None:
    """Ask the record: read-only SQL, or a shipped query by name.

    The views usage_events, violations, indeterminates, rejects, usage_daily and others are described by `usageaudit
    schema sql`. Whatever would write is refused.
    """
    if list_:
        _print_list(format)
        return
    if sql is None:
        raise ConfigurationError('nothing to ask: usageaudit query "SELECT …", or usageaudit query --list')
    from usageaudit.cli.access import limits_of, reading

    settings = settings_of(context, store=store, query_seconds=seconds, query_rows=rows)
    given = _parameters(param or ())
    statement, parameters = _statement(sys.stdin.read() if sql == "-" else sql, given)
    with reading(settings) as opened:
        found = opened.query(statement, parameters, limits_of(settings))
    print_rows(found.columns, found.rows, format)
    if sys.stdout.isatty():
        say(f"{len(found.rows):,} row{'' if len(found.rows) == 1 else 's'}")


def _parameters(given: Sequence[str]) -> dict[str, str]:
    parameters = dict(one.partition("=")[::2] for one in given)
    wrong = [one for one in given if not re.match(r"[A-Za-z_]\w*=", one)]
    if wrong:
        raise ConfigurationError(f"--param {wrong[0]!r} is not NAME=VALUE")
    return parameters


def _statement(text: str, given: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    """Return the SQL to run and its parameters, those of a shipped query filled up with their defaults."""
    name = text.strip()
    if not _NAME.fullmatch(name):
        return text, given
    from usageaudit.stores.queries import named_queries

    queries = named_queries()
    if name not in queries:
        close = difflib.get_close_matches(name, queries, n=1)
        advice = f"did you mean {close[0]}?" if close else "`usageaudit query --list` lists them"
        raise ConfigurationError(f"no shipped query is called {name}; {advice}")
    return queries[name].sql, given


def _print_list(format: str | None) -> None:  # noqa: A002
    from usageaudit.stores.queries import named_queries

    rows = [(name, query.description) for name, query in named_queries().items()]
    print_rows(("name", "does"), rows, format)
