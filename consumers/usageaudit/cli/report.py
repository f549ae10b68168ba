"""`usageaudit report`: who a change of the policies affects."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from usageaudit.cli.examples import examples as shown
from usageaudit.cli.options import StoreOption  # noqa: TC001  Typer reads the annotations
from usageaudit.cli.output import FormatOption  # noqa: TC001
from usageaudit.cli.settings import settings_of

report_app = typer.Typer(help="Report on the record: whom a change of the policies affects.", no_args_is_help=True)


class By(StrEnum):
    """What the rows of the report are."""

    policy = "policy"
    organization = "organization"
    application = "application"
    model = "model"
    event = "event"


@report_app.callback()
def _report() -> None:
    """Report on the record: whom a change of the policies affects."""


@report_app.command(
    "affected",
    epilog=shown(
        "usageaudit report affected --since 2024-05-01",
        "usageaudit report affected --since 2024-05-01 --pack ./our-policies --by organization",
        "usageaudit report affected --since 2027-01-01 --pack ./our-policies --from 2026-01-01 --until 2026-07-01",
    ),
)
def affected(
    context: typer.Context,
    since: Annotated[str, typer.Option(metavar="TIME", help="When the change takes effect: a date, or a time.")],
    pack: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE",
            help="Shipped pack, folder, or hash of a bundle that the store keeps; by default this folder where it is a "
            "bundle, otherwise the policies in force. May be given several times.",
        ),
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Only events from then on; by default all.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only events before then; by default all.")] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", metavar="ID", help="Only this policy, as pack/clause; may be given several times."),
    ] = None,
    examples: Annotated[
        int, typer.Option(metavar="N", min=0, max=100, help="Events to show of each change of a verdict.")
    ] = 3,
    by: Annotated[
        By | None,
        typer.Option(metavar="WHAT", help="One row for each policy, organization, application, model, event."),
    ] = None,
    store: StoreOption = None,
    format: FormatOption = None,  # noqa: A002
) -> None:
    """Say whom a change of the policies affects: organisations, applications and models, before and after.

    The revisions in force just before that time, and those in force at it, judge the same recorded events, whenever
    these were. Only policies that are revised then are listed, drafts among them.
    """
    from usageaudit.cli.access import explaining_missing_tables, reading
    from usageaudit.cli.bundles import bundle_named
    from usageaudit.cli.changes import print_change
    from usageaudit.cli.history import check_known
    from usageaudit.cli.periods import period_of, time_of
    from usageaudit.cli.progress import progress
    from usageaudit.history import affected as find

    settings = settings_of(context, store=store)
    moment, period = time_of("--since", since), period_of(from_, until, ("--from", "--until"))
    sources = pack or ([str(Path())] if Path("bundle.yaml").is_file() else settings.policies)
    bundle = bundle_named(",".join(sources), settings)
    check_known(policy or (), [bundle])
    with reading(settings) as opened, explaining_missing_tables(opened), progress("judging") as told:
        found = find(opened, bundle, moment, period, progress=told, only=policy or (), most_examples=examples)
    print_change(found, by.value if by else None, format)
