"""`usageaudit query`."""

from __future__ import annotations

import difflib
import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from usageaudit.cli.options import StoreOption  # noqa: TC001  Typer reads the annotations
from usageaudit.cli.output import FormatOption, print_rows, print_text, say
from usageaudit.cli.settings import settings_of
from usageaudit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from usageaudit.stores.queries import NamedQuery, Parameter

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_PARAMETER = re.compile(r"[A-Za-z_]\w*")


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
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Stop the query at so much memory, such as 512MiB.")
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
    from usageaudit.cli.access import explaining_missing_tables, limits_of, reading

    settings = settings_of(context, store=store, query_seconds=seconds, query_rows=rows, query_memory=memory)
    given = _parameters(param or ())
    statement, parameters = _statement(sys.stdin.read() if sql == "-" else sql, given)
    with reading(settings) as opened, explaining_missing_tables(opened):
        found = opened.query(statement, parameters, limits_of(settings))
    print_rows(found.columns, found.rows, format)
    if sys.stdout.isatty():
        say(f"{len(found.rows):,} row{'' if len(found.rows) == 1 else 's'}")


def _parameters(given: Sequence[str]) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not _PARAMETER.fullmatch(name):
            raise ConfigurationError(f"--param {one!r} is not NAME=VALUE")
        parameters[name] = value
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
    query = queries[name]
    known = [parameter.name for parameter in query.parameters]
    if unknown := [one for one in given if one not in known]:
        raise ConfigurationError(f"{name} has no parameter {unknown[0]}; it has {', '.join(known) or 'none'}")
    values = {**query.defaults, **given}
    if missing := [f"--param {one}=…" for one in known if one not in values]:
        raise ConfigurationError(f"{name} needs {' '.join(missing)}; `usageaudit query --list` says what they mean")
    return query.sql, values


def _print_list(format: str | None) -> None:  # noqa: A002
    """List the shipped queries; on a terminal as lines to read."""
    from usageaudit.stores.queries import named_queries

    queries = named_queries().values()
    if format is None and sys.stdout.isatty():
        print_text("\n".join(_described(query) for query in queries))
        return
    rows = [(query.name, query.sentence, [_signature(one) for one in query.parameters]) for query in queries]
    print_rows(("name", "answers", "parameters"), rows, format)


def _described(query: NamedQuery) -> str:
    lines = [query.name, f"    {query.sentence}"]
    lines += [f"    --param {_signature(one)}  {one.sentence}" for one in query.parameters]
    return "\n".join(lines)


def _signature(parameter: Parameter) -> str:
    return f"{parameter.name}={parameter.type if parameter.default is None else parameter.default}"
