"""`usageaudit spool`: events that wait on this machine for the broker."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from usageaudit.cli.examples import examples
from usageaudit.cli.options import StreamOption  # noqa: TC001  Typer reads the annotations
from usageaudit.cli.output import FormatOption, print_rows, say
from usageaudit.cli.settings import settings_of
from usageaudit.cli.text import printable
from usageaudit.errors import ConfigurationError, StreamUnavailable
from usageaudit.publisher.spool.draining import drain
from usageaudit.publisher.spool.folder import named_folder, statuses, stream_name
from usageaudit.stream_url import EmbeddedStreamAddress, parse_stream_url

if TYPE_CHECKING:
    from pathlib import Path

    from usageaudit.publisher.spool.folder import SpoolStatus

FOUND_A_PROBLEM = 1
COLUMNS = ("spool", "owner_alive", "owner_pid", "stream", "events", "refused", "bytes", "oldest_seconds", "problem")

SpoolOption = Annotated[
    str | None, typer.Option(metavar="FOLDER", help="Folder of spools instead of the one in the settings.")
]

spool_app = typer.Typer(no_args_is_help=True)


@spool_app.callback()
def _spool() -> None:
    """Look after events that publishers keep on this machine until the broker has them."""


@spool_app.command("status", epilog=examples("usageaudit spool status", "usageaudit spool status --format json"))
def status(context: typer.Context, spool: SpoolOption = None, format: FormatOption = None) -> None:  # noqa: A002
    """List the spools: whose they are, how much waits in them and for how long.

    `refused` events were turned down by the broker, because they are too large, say; they are kept, and `usageaudit
    spool drain` tries them again. The exit code is 1 where a spool can't be read or was set aside as damaged.
    """
    found = statuses(_folder(settings_of(context, spool=spool).spool))
    print_rows(COLUMNS, [_row(one) for one in found], format)
    if any(one.problem for one in found):
        raise typer.Exit(FOUND_A_PROBLEM)


@spool_app.command(
    "drain",
    epilog=examples("usageaudit spool drain", "usageaudit spool drain --timeout 600", "usageaudit spool drain --any"),
)
def drain_(
    context: typer.Context,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Give up when the broker has acknowledged nothing for so many seconds.")
    ] = 30.0,
    any_stream: Annotated[
        bool, typer.Option("--any", help="Ship spools of other streams, too, to the stream of the settings.")
    ] = False,
    stream: StreamOption = None,
    spool: SpoolOption = None,
    format: FormatOption = None,  # noqa: A002
) -> None:
    """Ship the spools whose owners are dead to the stream, and remove them.

    A publisher that starts does the same by itself. Spools of another stream than that of the settings are left alone,
    and named, unless --any is given; so are those whose owner lives. The exit code is 1 where spools or events were
    left that no owner ships.
    """
    settings = settings_of(context, stream=stream, spool=spool)
    folder = _folder(settings.spool)
    address = parse_stream_url(settings.stream)
    name = None if any_stream else stream_name(address)
    if isinstance(address, EmbeddedStreamAddress) and not any_stream:
        say("the stream of the settings is embedded and has no spools; name the one that spools are for with --stream")
    shipped, left, error = drain(folder, address, name, timeout)
    skipped = [one for one in statuses(folder) if not one.owner_alive and (one.problem or one.events or one.refused)]
    for one in skipped:
        say(printable(f"{one.path}: left with {one.events:,} events and {one.refused:,} refused: {_why(one, name)}"))
    print_rows(("shipped", "not_acknowledged", "spools_left"), [(shipped, left, len(skipped))], format)
    if error:
        raise StreamUnavailable(f"{left:,} events were not acknowledged and stay in the spool: {error}")
    if left:
        say(f"{left:,} events were not acknowledged and stay in the spool; the broker refused them, or did not answer")
    if skipped or left:
        raise typer.Exit(FOUND_A_PROBLEM)


def _why(one: SpoolStatus, name: str | None) -> str:
    if one.problem:
        return one.problem
    if name is not None and one.stream != name:
        return f"it is of another stream, {one.stream}; --any ships it to {name}"
    if one.events:
        return "the stream did not acknowledge them, or the spool was in use or can't be read; run it again"
    return "the stream turned them down; running it again tries them again"


def _folder(named: str | None) -> Path:
    if (folder := named_folder(named)) is None:
        raise ConfigurationError("the setting spool is empty, so publishers keep none; name a folder with --spool")
    return folder


def _row(one: SpoolStatus) -> tuple[object, ...]:
    age = None if one.oldest is None else round(max(0.0, time.time() - one.oldest / 1e3), 3)
    path = str(one.path)
    return path, one.owner_alive, one.owner_pid, one.stream, one.events, one.refused, one.bytes, age, one.problem
