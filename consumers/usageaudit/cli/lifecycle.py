"""`usageaudit policy diff`, `lock` and `approve`: how policies change, and who agreed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from usageaudit.cli.examples import examples
from usageaudit.cli.options import BUNDLE_HELP, StoreOption
from usageaudit.cli.output import FormatOption, print_rows, print_text, say
from usageaudit.cli.policy import FOUND_A_PROBLEM, policy_app
from usageaudit.cli.settings import settings_of
from usageaudit.cli.text import printable
from usageaudit.errors import ConfigurationError
from usageaudit.events.times import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usageaudit.policy import Bundle
    from usageaudit.policy.locking import Disagreement, Locked


@policy_app.command(
    "diff",
    epilog=examples(
        "usageaudit policy diff azure-openai-code-of-conduct ./our-policies",
        "usageaudit policy diff 5f0c4b1e ./our-policies --format json",
    ),
)
def diff(
    context: typer.Context,
    old: Annotated[str, typer.Argument(metavar="OLD", help=BUNDLE_HELP)],
    new: Annotated[str, typer.Argument(metavar="NEW", help=BUNDLE_HELP)],
    store: StoreOption = None,
    format: FormatOption = None,  # noqa: A002
) -> None:
    """Say which policies mean something else in another bundle, and which parts of them.

    Comments, white space, titles and the order of operands are no difference; an entry of a list that a condition names
    is one. Of a list, old has the entries that were removed and new those that were added. The exit code is 0 where
    both mean the same and 1 where they differ.
    """
    from usageaudit.cli.bundles import bundle_named
    from usageaudit.policy.diff import differences

    settings = settings_of(context, store=store)
    found = list(differences(bundle_named(old, settings), bundle_named(new, settings)))
    rows = [(one.policy_id, one.change, one.part, one.old, one.new) for one in found]
    print_rows(("policy_id", "change", "part", "old", "new"), rows, format)
    if found:
        raise typer.Exit(FOUND_A_PROBLEM)


_MEANT = {
    "changed": "means something else under the version that is locked: give it a new one, or lock it again",
    "outdated": "has a version that is not locked",
    "missing": "is not in the lock",
    "surplus": "is in the lock alone",
}


@policy_app.command("lock", epilog=examples("usageaudit policy lock ./our-policies", "usageaudit policy lock --check"))
def lock(
    source: Annotated[str, typer.Argument(metavar="FOLDER", help="Folder of the bundle.")] = ".",
    check: Annotated[bool, typer.Option("--check", help="Write nothing; compare the lock with the policies.")] = False,
    format: FormatOption = None,  # noqa: A002
) -> None:
    """Write policy.lock: the version and a digest of the meaning of every policy, with the lists and registry it reads.

    With --check the policies that mean something else than the lock says are printed, and the exit code is 1: changed
    under the version that is locked, outdated (a version that is not locked), missing from the lock, or surplus in it.
    Policies of used packs are locked as they hold in this bundle, overrides included.
    """
    from usageaudit.policy import load_bundle
    from usageaudit.policy.locking import disagreements, lock_of, locked_in

    bundle = load_bundle((source,))
    now = lock_of(bundle)
    if not check:
        _write_lock(source, bundle, now)
        return
    before = locked_in(bundle, source)
    found = list(disagreements(before or {}, now))
    if before is None:
        say(f"there is no {source}/policy.lock: write it with `usageaudit policy lock`")
    for one in found if before is not None else ():
        say(printable(f"{one.policy_id} {_MEANT[one.problem]}{_parts(one)}"))
    rows = [(one.policy_id, one.problem, one.locked_version, one.version, one.parts) for one in found]
    print_rows(("policy_id", "problem", "locked_version", "version", "parts"), rows, format)
    if found or before is None:
        raise typer.Exit(FOUND_A_PROBLEM)


def _write_lock(source: str, bundle: Bundle, now: Mapping[str, Locked]) -> None:
    from usageaudit.policy import InvalidBundle
    from usageaudit.policy.folders import LOCK
    from usageaudit.policy.locking import disagreements, lock_text, locked_in
    from usageaudit.policy.writing import replace_file

    folder = Path(source)
    if not folder.is_dir():
        raise ConfigurationError(f"{source} is a shipped pack: a lock is written into a folder of your own")
    try:
        before = locked_in(bundle, source)
    except InvalidBundle:  # such as one with the marks of a merge conflict: it is written anew
        before = None
    replace_file(folder / LOCK, lock_text(now))
    for one in disagreements(before or now, now):
        if one.problem == "changed":
            say(
                printable(
                    f"warning: {one.policy_id} meant something else under version {one.locked_version}{_parts(one)}"
                )
            )
    print_text(printable(str(folder / LOCK)))


@policy_app.command(
    "approve",
    epilog=examples(
        'usageaudit policy approve acme/no-scoring ./our-policies --by "C. Officer" --reason "Board, 4 May"'
    ),
)
def approve(
    policy: Annotated[str, typer.Argument(metavar="POLICY", help="Id of the policy, as pack/clause.")],
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who approves.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, or where it was decided.")],
    source: Annotated[str, typer.Argument(metavar="FOLDER", help="Folder of the bundle.")] = ".",
    format: FormatOption = None,  # noqa: A002
) -> None:
    """Append to approvals.yaml that somebody approved what a policy means now, and why.

    What is approved is the meaning that policy lock writes, of the policy as it holds in this bundle. It is not
    approved any more once it means something else. Whoever may change the folder may write approvals into it, so have
    its changes reviewed.
    """
    from usageaudit.policy.approving import approve_policy

    found, added = approve_policy(source, policy, approved_by=by, reason=reason)
    if not added:
        say(printable(f"{found.approved_by} approved this on {format_time(found.date)} already; nothing is written"))
    row = (found.policy_id, found.version, found.digest, found.approved_by, found.reason, format_time(found.date))
    print_rows(("policy_id", "version", "digest", "approved_by", "reason", "date"), [row], format)


def _parts(one: Disagreement) -> str:
    return f" ({', '.join(one.parts)})" if one.parts else ""
