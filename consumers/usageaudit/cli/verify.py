"""`usageaudit verify`."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from typing import Annotated

import typer

from usageaudit.cli.options import StoreOption, StreamOption  # noqa: TC001  Typer reads the annotations
from usageaudit.cli.output import FormatOption, print_rows, say
from usageaudit.cli.settings import settings_of
from usageaudit.errors import ConfigurationError

_PARTITION_COLUMNS = (
    "topic",
    "partition",
    "consumed",
    "accepted",
    "duplicate",
    "rejected",
    "first_offset",
    "last_offset",
    "missing",
    "explained",
    "behind",
    "stream",
)
_SHORT = _PARTITION_COLUMNS[:-1]


def verify(
    context: typer.Context,
    problems: Annotated[
        bool, typer.Option("--problems", help="Print the problems as rows instead of the partitions.")
    ] = False,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Longest wait for a running consumer to catch up.")
    ] = 5.0,
    window: Annotated[
        str,
        typer.Option(
            metavar="DURATION",
            help="How far back rows are judged again, and reports of dropped events count.",
        ),
    ] = "24h",
    whole: Annotated[bool, typer.Option("--all", help="The same of everything, however old.")] = False,
    verdicts: Annotated[bool, typer.Option("--verdicts/--no-verdicts", help="Judge rows again, or not at all.")] = True,
    stream: StreamOption = None,
    store: StoreOption = None,
    format: FormatOption = None,  # noqa: A002
) -> None:
    """Check that the record is complete.

    Prints one row a partition: consumed = accepted + duplicate + rejected, every offset once, the end of the stream
    reached. Also looks for gaps in the numbers of publishers and for events that were accepted twice, and judges the
    rows of the last day again in SQL, each by the bundle that judged it. What is wrong is said on standard error, and
    the exit code is 1. What can no longer be told, no_longer_known, is said there, too, and changes no exit code.
    """
    from usageaudit.cli.access import explaining_missing_tables, reading
    from usageaudit.cli.progress import progress
    from usageaudit.integrity import check_verdicts
    from usageaudit.integrity import verify as check
    from usageaudit.streams.inspection import inspect

    seconds = None if whole else _seconds(window)
    settings = settings_of(context, stream=stream, store=store)
    looked_at = inspect(settings.stream)
    try:
        with reading(settings) as opened, explaining_missing_tables(opened):
            found = check(opened, looked_at, wait, seconds)
            if verdicts:
                with progress("rows judged again") as advance:
                    again = check_verdicts(opened, seconds, advance)
                found = replace(found, problems=[*found.problems, *again.problems], notes=[*found.notes, *again.notes])
    finally:
        looked_at.close()
    if problems:
        rows = [(one.kind, one.where, one.message) for one in (*found.problems, *found.notes)]
        print_rows(("problem", "where", "message"), rows, format)
    else:
        columns = _PARTITION_COLUMNS if format or not sys.stdout.isatty() else _SHORT
        print_rows(columns, [[asdict(one)[name] for name in columns] for one in found.partitions], format)
        for one in (*found.problems, *found.notes):
            say(f"{one.kind}: {one.where}: {one.message}")
    if found.problems:
        raise typer.Exit(1)


def _seconds(window: str) -> int:
    from usageaudit.policy.fields import span

    micros = span(window)
    if micros is None:
        raise ConfigurationError(f"--window: {window!r} is no duration: write it such as 90m, 24h or 7d")
    return micros // 1_000_000
