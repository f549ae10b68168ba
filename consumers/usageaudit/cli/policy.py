"""`usageaudit policy`: start, check, test, explain and describe policies."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from usageaudit.cli.examples import examples
from usageaudit.cli.options import PoliciesOption, StoreOption  # noqa: TC001  Typer reads the annotations
from usageaudit.cli.output import Format, FormatOption, print_rows, print_text, say
from usageaudit.cli.settings import settings_of
from usageaudit.cli.text import printable
from usageaudit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from usageaudit.cli.explained import Explained
    from usageaudit.history.windowtests import WindowOutcome
    from usageaudit.policy import Bundle
    from usageaudit.policy.testing import Outcome

FOUND_A_PROBLEM = 1
BROKEN = 2

policy_app = typer.Typer(help="Check, test and explain policies, and try new ones.", no_args_is_help=True)

SourcesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE",
        help="Shipped packs and folders; by default this folder where it is a bundle, otherwise those in force.",
    ),
]


@policy_app.callback()
def _policy() -> None:
    """Check, test and explain policies, and try new ones."""


@policy_app.command("init", epilog=examples("usageaudit policy init our-policies"))
def init(folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write; made if need be.")]) -> None:
    """Start a bundle of policies of your own: a few files that pass check and test."""
    from usageaudit.policy.starting import start_bundle

    for file in start_bundle(folder):
        print_text(printable(str(file)))
    say(f"next: usageaudit policy test {printable(str(folder))}")


@policy_app.command("check", epilog=examples("usageaudit policy check", "usageaudit policy check ./our-policies"))
def check(context: typer.Context, sources: SourcesArgument = None, format: FormatOption = None) -> None:  # noqa: A002
    """Read policies and say everything that is wrong with them, or doubtful, with file, line and column."""
    from usageaudit.policy import InvalidBundle, load_bundle
    from usageaudit.policy.approvals import check_approvals
    from usageaudit.policy.expiry import expiry_warnings

    try:
        bundle = load_bundle(_sources(context, sources))
        warnings = (*bundle.warnings, *check_approvals(bundle), *expiry_warnings(bundle))
    except InvalidBundle as refused:
        for diagnostic in refused.diagnostics:
            say(diagnostic.render())
        errors = sum(diagnostic.severity == "error" for diagnostic in refused.diagnostics)
        more = "" if refused.complete else ", and what follows was not read"
        say(f"error: the policies have {_counted(errors, 'error')}{more}")
        raise typer.Exit(BROKEN) from None
    for warning in warnings:
        say(warning.render())
    policies = bundle.all_policies
    tests = sum(len(policy.tests) + len(policy.window_tests) for policy in policies)
    if format is None and sys.stdout.isatty():
        print_text(f"{bundle.name}: {_counted(len(policies), 'policy')} with {_counted(tests, 'test')}, no errors")
        return
    row = (bundle.name, bundle.hash, len(policies), tests, len(warnings))
    print_rows(("bundle", "hash", "policies", "tests", "warnings"), [row], format)


@policy_app.command(
    "test",
    epilog=examples(
        "usageaudit policy test",
        "usageaudit policy test ./our-policies",
        "usageaudit policy test ./our-policies --coverage --fail-under 90",
    ),
)
def run(
    context: typer.Context,
    sources: SourcesArgument = None,
    coverage: Annotated[
        bool, typer.Option("--coverage", help="Say which parts of conditions no test shows true and false.")
    ] = False,
    fail_under: Annotated[
        float | None,
        typer.Option(metavar="PERCENT", min=0, max=100, help="With --coverage: how many parts must be shown so."),
    ] = None,
    format: FormatOption = None,  # noqa: A002
) -> None:
    """Run the tests that policies bring along; the exit code is 1 where one fails.

    Those of policies with a window run in the embedded engine, over a ledger of their own. --coverage is about the
    conditions of policies that judge one event.
    """
    from usageaudit.history.windowtests import run_window_tests
    from usageaudit.policy import load_bundle
    from usageaudit.policy.testing import run_tests

    if fail_under is not None and not coverage:
        raise ConfigurationError("--fail-under is about coverage: add --coverage")
    bundle = load_bundle(_sources(context, sources))
    outcomes: list[Outcome | WindowOutcome] = [*run_tests(bundle), *run_window_tests(bundle)]
    failed = [outcome for outcome in outcomes if not outcome.passed]
    for outcome in failed:
        say(printable(_failure(outcome)))
    untested = [policy.id for policy in bundle.all_policies if not (policy.tests or policy.window_tests)]
    if untested:
        say(f"without a test: {', '.join(untested)}")
    if coverage:
        enough = _print_coverage(bundle, fail_under, format)
    else:
        _print_tests(bundle, outcomes, len(failed), format)
        enough = True
    if failed or not enough:
        raise typer.Exit(FOUND_A_PROBLEM)


def _print_coverage(bundle: Bundle, fail_under: float | None, format: Format | None) -> bool:  # noqa: A002
    """Print what the tests leave open, and return whether they show enough."""
    from usageaudit.cli.coverage import percent, print_coverage
    from usageaudit.policy.coverage import coverage

    found = list(coverage(bundle))
    print_coverage(found, format)
    if fail_under is None or percent(found) >= fail_under:
        return True
    say(f"the tests show {percent(found)} % of the parts true and false, less than {fail_under:g} %")
    return False


def _failure(outcome: Outcome | WindowOutcome) -> str:
    test = outcome.test
    return f"{test.file}:{test.line}: {outcome.policy_id}: {test.name}: {outcome.problem}"


def _print_tests(
    bundle: Bundle,
    outcomes: Sequence[Outcome | WindowOutcome],
    failed: int,
    format: Format | None,  # noqa: A002
) -> None:
    if format is None and sys.stdout.isatty():
        passed = f"{_counted(len(outcomes) - failed, 'test')} passed"
        print_text(f"{bundle.name}: {passed}{f', {failed} failed' if failed else ''}")
        return
    row = (bundle.name, bundle.hash, len(bundle.all_policies), len(outcomes), len(outcomes) - failed, failed)
    print_rows(("bundle", "hash", "policies", "tests", "passed", "failed"), [row], format)


@policy_app.command(
    "explain",
    epilog=examples(
        "usageaudit policy explain events.ndjson",
        "usageaudit policy explain - --policies ./our-policies < events.ndjson",
        "usageaudit policy explain --event //claims/triage 0190b5c6-9a3e-7b1c-8f57-2f3d5a1c9e70",
    ),
)
def explain(
    context: typer.Context,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE|-", help="Events, one a line; - is standard input.")
    ] = None,
    event: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="SOURCE ID", help="A recorded event, by the policies that judged it."),
    ] = None,
    policies: PoliciesOption = None,
    store: StoreOption = None,
    format: FormatOption = None,  # noqa: A002
) -> None:
    """Say for each event what every policy makes of it, what decided that, and which fields were missing.

    A policy with a window is decided over many events: of it is said whether the event counts, does not, or leaves it
    open.

    A bad line is named with its number and what is wrong with it; the others are explained, and the exit code is 1.
    """
    from usageaudit.cli.explained import explain_lines, explain_recorded

    if (file is None) == (event is None):
        raise ConfigurationError("name a file of events, or - for standard input, or one recorded event with --event")
    if event is not None:
        if policies:
            raise ConfigurationError("--event takes the policies that judged the event, so leave --policies out")
        settings = settings_of(context, store=store)
        _print_explained(explain_recorded(settings, *event), format)
        return
    from usageaudit.policy import load_bundle

    bad: list[str] = []
    bundle = load_bundle(settings_of(context, policies=policies).policies)
    _print_explained(explain_lines(file or "-", bundle, bad), format)
    for line in bad:
        say(printable(line))
    if bad:
        raise typer.Exit(FOUND_A_PROBLEM)


_COLUMNS = ("event_source", "event_id", "policies", "windowed")
_DETAILS = ("policy_id", "policy_version", "verdict", "missing_fields", "deciding", "exception_id")
_COUNTED = tuple("counts" if name == "verdict" else name for name in _DETAILS)


def _print_explained(explained: Iterable[Explained], format: Format | None) -> None:  # noqa: A002
    """Print one object for each event, or, in a table, one row for each event and policy."""
    chosen = format or (Format.table if sys.stdout.isatty() else Format.ndjson)
    if chosen in (Format.json, Format.ndjson):
        rows = (
            (
                *(one.source, one.event_id, [dict(zip(_DETAILS, row, strict=True)) for row in one.rows()]),
                [dict(zip(_COUNTED, row, strict=True)) for row in one.window_rows()],
            )
            for one in explained
        )
        print_rows(_COLUMNS, rows, chosen)
    else:
        print_rows((*_COLUMNS[:2], *_DETAILS), _flat(explained), chosen)


def _flat(explained: Iterable[Explained]) -> Iterator[tuple[object, ...]]:
    for one in explained:
        for row in (*one.rows(), *one.window_rows()):
            yield (one.source, one.event_id, *(", ".join(cell) if isinstance(cell, tuple) else cell for cell in row))


@policy_app.command(
    "docs", epilog=examples("usageaudit policy docs ./our-policies > policies.md", "usageaudit policy docs 5f0c4b1e")
)
def docs(context: typer.Context, sources: SourcesArgument = None, store: StoreOption = None) -> None:
    """Print a page of Markdown on the policies: what each says, why, what it rests on, and who approved it.

    The hash of a bundle that the store keeps, of which eight digits do, is a source, too: what judged then.
    """
    from usageaudit.cli.bundles import bundle_named
    from usageaudit.policy import load_bundle
    from usageaudit.policy.document import markdown

    named = _sources(context, sources)
    one = len(named) == 1
    bundle = bundle_named(named[0], settings_of(context, store=store)) if one else load_bundle(named)
    print_text(markdown(bundle))


def _sources(context: typer.Context, sources: list[str] | None) -> tuple[str, ...]:
    if not sources and Path("bundle.yaml").is_file():
        return (".",)
    return tuple(sources) if sources else settings_of(context).policies


def _counted(number: int, noun: str) -> str:
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1] + 'ies' if noun.endswith('y') else noun + 's'}"


# They register their commands on `policy_app`, so they come last.
from usageaudit.cli import history, lifecycle  # noqa: E402, F401
