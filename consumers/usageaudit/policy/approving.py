"""Appends to `approvals.yaml`: somebody approves what a policy means now."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from usageaudit.errors import ConfigurationError
from usageaudit.events.times import format_time, to_micros
from usageaudit.policy.approvals import entries
from usageaudit.policy.folders import APPROVALS
from usageaudit.policy.language import quote
from usageaudit.policy.loading import load_bundle
from usageaudit.policy.meaning import meaning_of
from usageaudit.policy.model import Approval
from usageaudit.policy.report import Report, did_you_mean
from usageaudit.policy.writing import replace_file, yaml_text
from usageaudit.policy.yamltree import Sequence, TextFile, read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.policy.model import Bundle

MAX_TEXT = 2_000
"""The longest name of who approves, and the longest reason, in characters."""
_HEAD = "# Who approved which meaning of which policy: `usageaudit policy approve` appends, nothing is taken out.\n"


def approve_policy(source: str, policy_id: str, *, approved_by: str, reason: str) -> tuple[Approval, bool]:
    """Append to a folder's `approvals.yaml` that somebody approves what a policy means now.

    Returns the approval, and False where the same person had approved the same before and nothing was written.
    Raises BundleError where the bundle can't be loaded, ConfigurationError where it has no such policy.
    """
    folder = Path(source)
    if not folder.is_dir():
        raise ConfigurationError(f"{source} is no folder: approvals are kept in a folder of your own")
    for name, text in (("--by", approved_by), ("--reason", reason)):
        if not text.strip() or len(text) > MAX_TEXT:
            raise ConfigurationError(f"{name} is a text of 1 to {MAX_TEXT} characters")
    with _alone(folder):
        return _approve(folder, load_bundle((source,)), policy_id, approved_by, reason)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time read and replace a folder's approvals, so that none is lost."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _approve(folder: Path, bundle: Bundle, policy_id: str, approved_by: str, reason: str) -> tuple[Approval, bool]:
    policy = bundle.policy(policy_id)
    if policy is None:
        hint = did_you_mean(policy_id, (one.id for one in bundle.all_policies)) or "`usageaudit policy docs` lists them"
        raise ConfigurationError(f"{folder} has no policy {policy_id}: {hint}")
    meaning = meaning_of(policy, bundle)
    now = to_micros(datetime.now(UTC).replace(microsecond=0))
    new = Approval(policy.id, meaning.version, meaning.digest, approved_by, reason, now)
    for one in bundle.approvals:
        if (one.policy_id, one.digest, one.approved_by) == (new.policy_id, new.digest, new.approved_by):
            return one, False
    own = next(part for part in bundle.parts if part.name == bundle.sources[0])
    replace_file(folder / APPROVALS, appended(own.files.get(APPROVALS), new))
    return new, True


def appended(text: str | None, approval: Approval) -> str:
    """Return the text of an `approvals.yaml`, None where there is none yet, with one approval more.

    Raises ConfigurationError where the list is not one that an entry can be put below.
    """
    before = _HEAD + "[]\n" if text is None else text
    tree = read_yaml(TextFile.of(APPROVALS, before), Report())
    after = _with(before, tree, approval) if isinstance(tree, Sequence) else ""
    found, report = read_yaml(TextFile.of(APPROVALS, after), Report()), Report()
    if not isinstance(tree, Sequence) or not isinstance(found, Sequence) or _both(tree, found, report) != approval:
        raise ConfigurationError(
            f"{APPROVALS} is not written as a list with an entry below the other, so none can be appended: rewrite it"
        )
    return after


def _with(text: str, tree: Sequence, approval: Approval) -> str:
    indent = " " * (tree.place.column - 1 if tree.items else 0)
    if not tree.items:  # the brackets of the empty list make room
        lines = text.splitlines(keepends=True)
        line = lines[tree.place.line - 1]
        lines[tree.place.line - 1] = line.replace("[]", "", 1).lstrip(" ").removeprefix("\n")
        text = "".join(lines)
    return text.rstrip("\n") + "\n" + "".join(f"{indent}{line}\n" for line in _lines(approval))


def _lines(approval: Approval) -> Iterator[str]:
    yield f"- policy: {yaml_text(approval.policy_id)}"
    yield f"  version: {approval.version}"
    yield f"  digest: {quote(approval.digest)}"
    yield f"  approved_by: {yaml_text(approval.approved_by)}"
    yield f"  reason: {yaml_text(approval.reason)}"
    yield f"  date: {format_time(approval.date)}"


def _both(before: Sequence, after: Sequence, report: Report) -> Approval | None:
    """Return the entry that came in addition, None where anything else changed."""
    old, new = list(entries(before, Report())), list(entries(after, report))
    return new[-1] if new[:-1] == old and not report.diagnostics else None
