"""`usageaudit migrate`."""

from __future__ import annotations

from typing import Annotated

import typer

from usageaudit.cli.access import reading
from usageaudit.cli.options import StoreOption  # noqa: TC001  Typer reads the annotations
from usageaudit.cli.output import FormatOption, print_rows
from usageaudit.cli.settings import settings_of


def migrate(
    context: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit with 1 where something is pending.")
    ] = False,
    store: StoreOption = None,
    format: FormatOption = None,  # noqa: A002
) -> None:
    """Create or update the tables of the store.

    The consumer does this when it starts. With --check, print what is pending instead.
    """
    from usageaudit.stores import migrate as migrations
    from usageaudit.stores.address import open_store

    settings = settings_of(context, store=store)
    if check:
        with reading(settings) as opened:
            todo = migrations.pending(opened)
        print_rows(("version", "name"), [(one.version, one.name) for one in todo], format)
        if todo:
            raise typer.Exit(1)
        return
    opened = open_store(settings.store)
    try:
        todo = migrations.pending(opened)
        migrations.migrate(opened)
    finally:
        opened.close()
    print_rows(("version", "name"), [(one.version, one.name) for one in todo], format)
