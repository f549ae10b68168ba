"""`usageaudit policy backtest` and `rejudge`: try policies on what was recorded, and record what they find."""

from __future__ import annotations

import difflib
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from usageaudit.cli.examples import examples as shown
from usageaudit.cli.options import BUNDLE_HELP, StoreOption
from usageaudit.cli.output import FormatOption  # noqa: TC001
from usageaudit.cli.periods import FromOption, UntilOption, period_of, time_of
from usageaudit.cli.policy import policy_app
from usageaudit.cli.settings import settings_of
from usageaudit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from usageaudit.cli.settings import Settings
    from usageaudit.policy import Bundle
    from usageaudit.stores.port import Store


class By(StrEnum):
    """What the rows of a back-test are."""

    policy = "policy"
    organization = "organization"
    application = "application"
    month = "month"
    event = "event"


PolicyOption = Annotated[
    list[str] | None,
    typer.Option("--policy", metavar="ID", help="Only this policy, as pack/clause; may be given several times."),
]
ExamplesOption = Annotated[
    int, typer.Option("--examples", metavar="N", min=0, max=100, help="Events to show of each change of a verdict.")
]


@policy_app.command(
    "backtest",
    epilog=shown(
        "usageaudit policy backtest ./our-policies",
        "usageaudit policy backtest ./our-policies --against azure-openai-code-of-conduct --since 2024-05-01",
        "usageaudit policy backtest ./our-policies --as-of 2026-12-01 --by organization --format csv",
    ),
)
def backtest(
    context: typer.Context,
    new: Annotated[str, typer.Argument(metavar="NEW", help=BUNDLE_HELP)],
    against: Annotated[
        str | None, typer.Option(metavar="OLD", help="Bundle to compare with, named as NEW; by default the record.")
    ] = None,
    since: FromOption = None,
    until: UntilOption = None,
    as_of: Annotated[
        str | None,
        typer.Option("--as-of", metavar="TIME", help="Judge every event by the revisions of NEW in force then."),
    ] = None,
    policy: PolicyOption = None,
    examples: ExamplesOption = 3,
    by: Annotated[
        By | None,
        typer.Option(metavar="WHAT", help="One row for each policy, organization, application, month, event."),
    ] = None,
    store: StoreOption = None,
    format: FormatOption = None,  # noqa: A002
) -> None:
    """Say what policies would have found in the record: violations that are added, removed, now indeterminate.

    Recorded events are judged by NEW and compared with what was recorded, or with what OLD makes of them. Drafts of NEW
    are tried as well, retired policies are not. What an event did not say makes a verdict indeterminate, never clean.
    Nothing is recorded; `usageaudit policy rejudge` does that.
    """
    from usageaudit.cli.access import explaining_missing_tables, reading
    from usageaudit.cli.bundles import bundle_named
    from usageaudit.cli.changes import print_change
    from usageaudit.cli.progress import progress
    from usageaudit.history import backtest as compare

    settings = settings_of(context, store=store)
    period = period_of(since, until)
    moment = None if as_of is None else time_of("--as-of", as_of)
    bundle = bundle_named(new, settings)
    other = None if against is None else bundle_named(against, settings)
    check_known(policy or (), [one for one in (bundle, other) if one is not None])
    with reading(settings) as opened, explaining_missing_tables(opened), progress("judging") as told:
        found = compare(
            opened,
            bundle,
            other,
            period,
            progress=told,
            as_of=moment,
            only=policy or (),
            most_examples=examples,
        )
    print_change(found, by.value if by else None, format)


@policy_app.command(
    "rejudge",
    epilog=shown(
        "usageaudit policy rejudge ./our-policies --since 2026-01-01 --dry-run",
        "usageaudit policy rejudge ./our-policies --since 2026-01-01",
    ),
)
def rejudge(
    context: typer.Context,
    new: Annotated[str, typer.Argument(metavar="NEW", help=BUNDLE_HELP)],
    since: FromOption = None,
    until: UntilOption = None,
    policy: PolicyOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be recorded, and record nothing.")] = False,
    store: StoreOption = None,
    format: FormatOption = None,  # noqa: A002
) -> None:
    """Record what policies find in the record that was not found at the time, as findings of kind rejudged.

    A violation that was not recorded is a finding of effect violation; what was recorded and is clean now is cleared;
    what can't be decided any more, is exempted, or is again a violation that is listed already, is a notice. Each
    names both bundles. The events' own rows stay as they are. Policies in stage shadow and enforce judge, by the
    revision of the event's time. Running it again records nothing new. Windowed policies are not judged again: what
    they would have found, `usageaudit policy backtest` says.
    """
    from usageaudit.cli.access import explaining_missing_tables
    from usageaudit.cli.bundles import bundle_named
    from usageaudit.cli.output import print_rows, say
    from usageaudit.cli.progress import progress
    from usageaudit.history import rejudge as judge_again
    from usageaudit.pipeline.policies import user_name
    from usageaudit.policy.approvals import check_approvals

    settings = settings_of(context, store=store)
    period = period_of(since, until)
    bundle = bundle_named(new, settings)
    check_known(policy or (), [bundle])
    _check_not_windowed(policy or (), bundle)
    for warning in check_approvals(bundle):
        say(warning.render())
    with _opened(settings, dry_run=dry_run) as opened, explaining_missing_tables(opened), progress("judging") as told:
        found = judge_again(
            opened,
            bundle,
            period,
            loaded_by=user_name(),
            progress=told,
            only=policy or (),
            dry_run=dry_run,
        )
    rows = [(one.policy_id, one.stage, one.severity, one.violations, one.cleared, one.notices) for one in found]
    print_rows(("policy_id", "stage", "severity", "violations", "cleared", "notices"), rows, format)
    total = sum(one.violations + one.cleared + one.notices for one in found)
    say(f"{total:,} finding{'' if total == 1 else 's'} {'would be ' if dry_run else ''}recorded")


@contextmanager
def _opened(settings: Settings, *, dry_run: bool) -> Iterator[Store]:
    """Give the store to read, or to write to: then no other process may hold an embedded one."""
    from usageaudit.cli.access import hold, reading

    with reading(settings) as store:  # says what is wrong where nothing was recorded yet
        if dry_run:
            yield store
            return
    store = hold(settings.store)
    try:
        yield store
    finally:
        store.close()


def _check_not_windowed(policies: Iterable[str], bundle: Bundle) -> None:
    """Raise ConfigurationError for a windowed policy, which no single event can be judged by."""
    windowed = {policy.id for policy in bundle.windowed}
    if named := [one for one in policies if one in windowed]:
        raise ConfigurationError(
            f"{named[0]} has a window, and is not judged again: `usageaudit policy backtest --policy {named[0]}` says "
            "what it would have found, and `usageaudit schedule` records what it finds from now on"
        )


def check_known(policies: Iterable[str], bundles: Collection[Bundle]) -> None:
    """Raise ConfigurationError for a policy that no bundle has."""
    known = [policy.id for bundle in bundles for policy in bundle.all_policies]
    for policy_id in policies:
        if policy_id not in known:
            close = difflib.get_close_matches(policy_id, known, n=1)
            advice = f"did you mean {close[0]}?" if close else "an id is pack/clause"
            raise ConfigurationError(f"--policy {policy_id}: no such policy; {advice}")
