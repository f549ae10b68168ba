"""The table of commands, each loaded when it is called."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path  # noqa: TC003  Typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from usageaudit.cli.examples import examples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typer._click.core import Command, Context
    from typer._click.formatting import HelpFormatter


@dataclass(slots=True)
class Invocation:
    """What was said on the command line that holds for every command: the context's `obj`."""

    config: Path | None = None
    verbose: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """A command: where it is defined, as a function or a Typer, and what it does."""

    module: str
    attribute: str
    summary: str
    examples: tuple[str, ...] = ()


COMMANDS: dict[str, Entry] = {
    "demo": Entry(
        "usageaudit.cli.demo",
        "demo",
        "Show everything on a simulated week: nothing else to start.",
        ("usageaudit demo", "usageaudit demo --data /tmp/demo --keep"),
    ),
    "up": Entry(
        "usageaudit.cli.service",
        "up",
        "Run everything there is in one process, on embedded data.",
        ("usageaudit up", "usageaudit up --policies azure-openai-code-of-conduct --policies ./our-policies"),
    ),
    "publish": Entry(
        "usageaudit.cli.publish",
        "publish",
        "Publish events from a file or from standard input.",
        ("usageaudit publish events.ndjson", "tail -f events.ndjson | usageaudit publish -"),
    ),
    "consume": Entry(
        "usageaudit.cli.service",
        "consume",
        "Run the consumer: judge and record what is on the stream.",
        ("usageaudit consume", "usageaudit consume --until-caught-up"),
    ),
    "schedule": Entry(
        "usageaudit.cli.service",
        "schedule",
        "Run the windowed policies over what is recorded.",
        ("usageaudit schedule",),
    ),
    "query": Entry(
        "usageaudit.cli.query",
        "query",
        "Ask the record: read-only SQL, or a shipped query by name.",
        (
            "usageaudit query --list",
            'usageaudit query "SELECT policy_id, count() FROM violations GROUP BY policy_id"',
            'usageaudit query "SELECT count() FROM usage_events WHERE model_name = {m:String}" --param m=gpt-4o',
        ),
    ),
    "policy": Entry("usageaudit.cli.policy", "policy_app", "Check, test and explain policies, and try new ones."),
    "report": Entry(
        "usageaudit.cli.report", "report_app", "Report on the record: whom a change of the policies affects."
    ),
    "rejects": Entry("usageaudit.cli.rejects", "rejects_app", "Look at records that could not be decoded."),
    "alerts": Entry(
        "usageaudit.cli.alerts", "alerts_app", "Tell people of violations and findings, and see what was sent."
    ),
    "verify": Entry(
        "usageaudit.cli.verify",
        "verify",
        "Check that the record is complete.",
        ("usageaudit verify", "usageaudit verify --format json"),
    ),
    "doctor": Entry(
        "usageaudit.cli.doctor", "doctor", "Check that every configured part works.", ("usageaudit doctor",)
    ),
    "topic": Entry(
        "usageaudit.cli.topic",
        "topic_app",
        "Create and check the topic of events, and see how far behind its consumers are.",
    ),
    "spool": Entry(
        "usageaudit.cli.spool",
        "spool_app",
        "Look after events that publishers keep on this machine until the broker has them.",
    ),
    "migrate": Entry(
        "usageaudit.cli.migrate",
        "migrate",
        "Create or update the tables of the store.",
        ("usageaudit migrate", "usageaudit migrate --check"),
    ),
    "config": Entry("usageaudit.cli.config", "config_app", "Show the settings in force."),
    "schema": Entry("usageaudit.cli.schema", "schema_app", "Print the schemas of events, record and configuration."),
}


class CommandTable(TyperGroup):
    """The root command: lists its commands from the table, and imports the one that is called."""

    def list_commands(self, ctx: Context) -> list[str]:
        """Return the names of the commands in the order of the table."""
        return list(self.commands)

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the table, importing none of the commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """Import a command and return it; None for a name that is not in the table."""
        return load(cmd_name) if cmd_name in COMMANDS else None


def load(name: str) -> Command:
    """Import the command of that name, with the options that every command has."""
    entry = COMMANDS[name]
    found = getattr(importlib.import_module(entry.module), entry.attribute)
    shelf = typer.Typer(rich_markup_mode=None, add_completion=False)
    if isinstance(found, typer.Typer):
        found.rich_markup_mode = None
        shelf.add_typer(found, name=name)
    else:
        shelf.command(name, epilog=examples(*entry.examples))(found)
    command: Command = typer.main.get_group(shelf).commands[name]
    for leaf in _leaves(command):
        leaf.params.extend(_common_options())
    return command


def _leaves(command: Any) -> Iterator[Any]:
    """Yield the commands below a group, or the command itself."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield command
    else:
        for one in inner.values():
            yield from _leaves(one)


def _remember_config(ctx: typer.Context, value: Path | None) -> None:
    if value is not None:
        ctx.ensure_object(Invocation).config = value


def _remember_verbose(ctx: typer.Context, value: bool) -> None:
    if value:
        ctx.ensure_object(Invocation).verbose = True


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"usageaudit {version('usageaudit')}")
        raise typer.Exit


def _common(
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Settings file; by default usageaudit.toml in the current folder, where there is one.",
            callback=_remember_config,
            expose_value=False,
        ),
    ] = None,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", help="Say the cause of an error.", callback=_remember_verbose, expose_value=False),
    ] = False,
) -> None:
    """Declare the options that every command has."""


def _common_options() -> list[Any]:
    shelf = typer.Typer(rich_markup_mode=None, add_completion=False)
    shelf.command("common")(_common)
    return list(typer.main.get_group(shelf).commands["common"].params)


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Say the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Record every use of AI models, judge it by the code of conduct in force, and keep the proof in SQL."""


def root_command() -> Command:
    """Return the command `usageaudit`."""
    root = typer.Typer(
        cls=CommandTable,
        rich_markup_mode=None,
        add_completion=False,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    root.callback(epilog=examples("usageaudit demo", 'usageaudit query "SELECT count() FROM usage_events"'))(_root)
    command = typer.main.get_group(root)
    command.commands = dict.fromkeys(COMMANDS)  # type: ignore[assignment]  # names for suggestions; get_command imports
    command.params.extend(_common_options())
    return command
