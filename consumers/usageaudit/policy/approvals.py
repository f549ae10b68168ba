"""Who approved which meaning of which policy, and why: `approvals.yaml`, a list that only grows.

An approval names the digest of what it approved, so it says nothing about a policy that means something else since.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usageaudit.events.times import MAX_TIME, format_time
from usageaudit.policy.fields import Fields
from usageaudit.policy.folders import APPROVALS
from usageaudit.policy.language import Diagnostic
from usageaudit.policy.meaning import meaning_of
from usageaudit.policy.model import Approval
from usageaudit.policy.report import InvalidBundle, did_you_mean
from usageaudit.policy.shapes import APPROVAL
from usageaudit.policy.yamltree import Mapping, Scalar, Sequence

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from usageaudit.policy.gathering import Loaded
    from usageaudit.policy.model import Bundle, Part, Policy
    from usageaudit.policy.report import Report
    from usageaudit.policy.yamltree import Node

_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Recorded:
    """An approval, and whether the policy of a bundle still means what was approved."""

    approval: Approval
    current: bool


def read_approvals(parts: Iterable[Loaded], report: Report) -> tuple[Approval, ...]:
    """Return the approvals of all parts of a bundle; what is wrong with one is reported."""
    trees = (loaded.trees.get(APPROVALS) for loaded in parts)
    return tuple(one for tree in trees if tree is not None for one in entries(tree, report))


def warn_of_unknown(parts: Iterable[Loaded], known: Collection[str], report: Report) -> None:
    """Warn of each policy that approvals name and the bundle does not have: it was renamed, or is misspelt."""
    told: set[str] = set()
    for name in _approved(loaded.trees.get(APPROVALS) for loaded in parts):
        if name.text not in known and name.text not in told:
            hint = did_you_mean(name.text, known) or "nothing but the record refers to it"
            report.warning(name.place, f"approved is {name.text[:120]}, which is no policy of this bundle", hint)
        told.add(name.text)


def _approved(trees: Iterable[Node | None]) -> Iterator[Scalar]:
    """Yield the ids of policies that approvals name."""
    for tree in trees:
        for node in tree.items if isinstance(tree, Sequence) else ():
            for key, value in node.entries if isinstance(node, Mapping) else ():
                if key.text == "policy" and isinstance(value, Scalar):
                    yield value


def entries(tree: Node, report: Report) -> Iterator[Approval]:
    """Yield the approvals of one file; what is wrong with one is reported."""
    if not isinstance(tree, Sequence):
        report.error(tree.place, f"{APPROVALS} is a list of approvals", "`usageaudit policy approve` writes them")
        return
    for node in tree.items:
        fields = Fields(node, "an approval", APPROVAL, report)
        policy_id, by = fields.text("policy", required=True), fields.text("approved_by", required=True)
        fields.node_of("version", required=True)
        version, reason = fields.integer("version", 1, least=1), fields.text("reason", required=True)
        digest, date = fields.scalar("digest", required=True), fields.time("date", required=True)
        if digest is not None and not _DIGEST.fullmatch(digest.text):
            report.error(digest.place, "digest is a SHA-256 of 64 hex digits", "`usageaudit policy approve` writes it")
        elif date is not None and not 0 <= date < MAX_TIME:
            report.error(node.place, "date lies from 1970 to 2105")
        elif digest is not None and date is not None:
            yield Approval(policy_id, version, digest.text, by, reason, date)


def recorded(bundle: Bundle) -> tuple[Recorded, ...]:
    """Return the approvals of a bundle, each with whether its policy still means what was approved."""
    digests = _digests(bundle, {approval.policy_id for approval in bundle.approvals})
    return tuple(Recorded(one, digests.get(one.policy_id) == one.digest) for one in bundle.approvals)


def _digests(bundle: Bundle, policies: Iterable[str]) -> dict[str, str]:
    wanted = frozenset(policies)
    return {policy.id: meaning_of(policy, bundle).digest for policy in bundle.all_policies if policy.id in wanted}


def unapproved(bundle: Bundle) -> tuple[Diagnostic, ...]:
    """Return a diagnostic for each enforced policy whose present meaning nobody approved.

    Asked for are the policies of those parts of a bundle that have an `approvals.yaml`, and of what they use; where
    their `bundle.yaml` says `require_approvals: true` it is an error, otherwise a warning.
    """
    required = _covered(bundle, (part for part in bundle.parts if part.require_approvals))
    asked = required | _covered(bundle, (part for part in bundle.parts if APPROVALS in part.files))
    enforced = [policy for policy in bundle.all_policies if policy.stage == "enforce" and _part_of(policy) in asked]
    digests = _digests(bundle, (policy.id for policy in enforced)) if enforced else {}
    approved = {(one.policy_id, one.digest) for one in bundle.approvals}
    return tuple(
        _diagnostic(policy, bundle, error=_part_of(policy) in required)
        for policy in enforced
        if (policy.id, digests[policy.id]) not in approved
    )


def check_approvals(bundle: Bundle) -> tuple[Diagnostic, ...]:
    """Return a warning for each enforced policy that lacks an approval.

    Raises InvalidBundle where the bundle requires them.
    """
    found = unapproved(bundle)
    if any(one.severity == "error" for one in found):
        raise InvalidBundle((*found, *bundle.warnings))
    return found


def _covered(bundle: Bundle, parts: Iterable[Part]) -> set[str]:
    """Return the names of parts and of all that they use, directly or not."""
    by_name = {part.name: part for part in bundle.parts}
    open_, found = [part.name for part in parts], set[str]()
    while open_:
        if (name := open_.pop()) not in found:
            found.add(name)
            open_.extend(by_name[name].uses)
    return found


def _part_of(policy: Policy) -> str:
    return policy.id.partition("/")[0]


def _diagnostic(policy: Policy, bundle: Bundle, *, error: bool) -> Diagnostic:
    earlier = [one for one in bundle.approvals if one.policy_id == policy.id]
    what = f"{policy.id} is enforced, and nobody approved what it means now"
    if earlier:
        last = max(earlier, key=lambda one: one.date)
        what += f": {last.approved_by} approved version {last.version} on {format_time(last.date)[:10]}, as it was then"
    hint = f"usageaudit policy approve {policy.id} --by NAME --reason TEXT"
    return Diagnostic("error" if error else "warning", what, policy.file, 1, 1, hint=hint)
