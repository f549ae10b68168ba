"""`usageaudit schema`: what crosses the stream and what lies in the store, as documents."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from usageaudit.cli.examples import examples
from usageaudit.cli.output import FormatOption, print_json, print_rows, print_text

schema_app = typer.Typer(no_args_is_help=True)


@schema_app.callback()
def _schema() -> None:
    """Print the schemas of events, record and configuration."""


@schema_app.command("json", epilog=examples("usageaudit schema json > usage-event.schema.json"))
def json_schema() -> None:
    """Print the JSON Schema (draft 2020-12) of a usage event as a CloudEvent."""
    from usageaudit.events.jsonschema import event_schema

    print_json(event_schema())


@schema_app.command("asyncapi", epilog=examples("usageaudit schema asyncapi > asyncapi.json"))
def asyncapi() -> None:
    """Print the AsyncAPI 3.0 document of the stream."""
    from usageaudit.events.asyncapi import asyncapi_document

    print_json(asyncapi_document())


@schema_app.command("example", epilog=examples("usageaudit schema example minimal"))
def example(
    name: Annotated[
        Literal["minimal", "full"], typer.Argument(help="minimal: what is required; full: every field.")
    ] = "full",
) -> None:
    """Print an example of a usage event."""
    from usageaudit.events.examples import example_events

    print_json(example_events()[name])


@schema_app.command(
    "policy",
    epilog=examples("usageaudit schema policy > policy.schema.json", "usageaudit schema policy bundle"),
)
def policy_files(
    file: Annotated[
        Literal["policy", "tests", "bundle", "lists", "registry", "overrides", "approvals"],
        typer.Argument(help="The kind of file."),
    ] = "policy",
) -> None:
    """Print the JSON Schema (draft 7) of a file of a bundle of policies, with which editors complete and check it."""
    from usageaudit.policy.fileschema import file_schema

    print_json(file_schema(file))


@schema_app.command("alerts", epilog=examples("usageaudit schema alerts > alerts.schema.json"))
def alerts_file() -> None:
    """Print the JSON Schema (draft 7) of an alerts.yaml, with which editors complete and check it."""
    from usageaudit.alerts.config import alerts_schema

    print_json(alerts_schema())


@schema_app.command("sql", epilog=examples("usageaudit schema sql"))
def sql() -> None:
    """Print the views and tables for SQL, with the meaning of every column."""
    from usageaudit.ledger.documentation import sql_reference

    print_text(sql_reference())


@schema_app.command("columns", epilog=examples("usageaudit schema columns --format csv"))
def columns(format: FormatOption = None) -> None:  # noqa: A002
    """Print the columns of the ledger: type, origin, meaning, and whether they may identify a person."""
    from usageaudit.ledger.columns import COLUMNS

    rows = [
        (column.name, column.type, column.field.name if column.field else "", column.personal, column.doc)
        for column in COLUMNS
    ]
    print_rows(("column", "type", "field", "personal", "meaning"), rows, format)
