"""Loads a bundle: reads every file of its parts, and refuses the whole if anything in it is wrong."""

from __future__ import annotations

import gc
import hashlib
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from usageaudit.policy.approvals import read_approvals, warn_of_unknown
from usageaudit.policy.commits import git_commit
from usageaudit.policy.doubts import Doubts
from usageaudit.policy.fields import Fields
from usageaudit.policy.folders import FOLDERS, MANIFEST, OVERRIDES
from usageaudit.policy.gathering import Gathering
from usageaudit.policy.merging import merged_lists, merged_registry
from usageaudit.policy.model import STAGES, Bundle
from usageaudit.policy.policyfile import Context, read_alert, read_exceptions, read_policy
from usageaudit.policy.report import Report, did_you_mean
from usageaudit.policy.shapes import OVERRIDE
from usageaudit.policy.testcases import read_cases
from usageaudit.policy.yamltree import Mapping, Place, Scalar, TextFile
from usageaudit.verdicts import SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from usageaudit.policy.gathering import Loaded
    from usageaudit.policy.model import Part, Policy, PolicyTest
    from usageaudit.policy.yamltree import Node


@contextmanager
def collecting_later() -> Iterator[None]:
    """Keep the garbage collector from looking through the many objects of a bundle again and again while it is read.

    Hardly any of them is garbage, and it would take a third of the time. How many they are is bounded.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@collecting_later()
def load_bundle(sources: Sequence[str | Path]) -> Bundle:
    """Return the bundle of some sources: names of shipped packs, and folders.

    Several sources, and the packs that they use, make one bundle. Raises InvalidBundle (a BundleError), whose message
    shows every error of all of them with its place, and never returns a part of a bundle.
    """
    report = Report()
    gathering = Gathering(report)
    if not sources:
        report.error(Place(TextFile.of("policies", "")), "no policies are named", "name a pack or a folder")
    names = [gathering.source(source) for source in sources]
    if not gathering.found:
        report.raise_errors()
    own = next((at for at, source in enumerate(sources) if str(source) not in gathering.packs), None)
    name = names[own] if own is not None else None
    commit = git_commit(Path(sources[own]), gathering.found[name].part.files) if own is not None and name else None
    return assemble(tuple(dict.fromkeys(filter(None, names))), gathering.found, report, commit=commit)


def assemble(sources: tuple[str, ...], found: dict[str, Loaded], report: Report, *, commit: str | None) -> Bundle:
    """Return the bundle of loaded parts, those that are used first. Raises InvalidBundle with everything wrong."""
    parts = list(found.values())
    lists = merged_lists(found, report)
    registry = merged_registry(parts, report)
    context = Context(lists, report)
    policies = _Policies(context)
    for loaded in parts:
        policies.read(loaded)
    for loaded in parts:
        policies.override(loaded)
    approvals = read_approvals(parts, report)
    report.raise_errors()
    doubts = Doubts(lists, registry, report)
    policies.doubt(doubts, {name for loaded in parts for name in loaded.part.uses})
    doubts.of_lists(parts)
    warn_of_unknown(parts, {policy.id for policy in policies.all()}, report)
    return Bundle(
        name="+".join(sources),
        hash=hash_of(loaded.part for loaded in parts),
        policies=tuple(policy for policy in policies.all() if policy.window is None),
        lists=lists,
        registry=registry,
        sources=sources,
        parts=tuple(loaded.part for loaded in parts),
        commit=commit,
        warnings=report.warnings,
        approvals=approvals,
        windowed=tuple(policy for policy in policies.all() if policy.window is not None),
    )


class _Policies:
    """The policies of all parts by id; those with errors are known by id alone."""

    def __init__(self, context: Context) -> None:
        self._context, self._report = context, context.report
        self._policies: dict[str, Policy] = {}
        self._places: dict[str, Place] = {}
        self._overridden: dict[str, str] = {}

    def all(self) -> tuple[Policy, ...]:
        """Return the policies by id."""
        return tuple(self._policies[name] for name in sorted(self._policies))

    def doubt(self, doubts: Doubts, used: Container[str]) -> None:
        """Look for what is doubtful in the policies; `used` are the names of parts that another part uses."""
        for policy in self.all():
            own = policy.id.partition("/")[0] not in used
            doubts.of_policy(policy, self._places[policy.id], own=own)

    def read(self, loaded: Loaded) -> None:
        """Read the policies of a part, and their tests."""
        before = set(self._policies)
        for path, tree in loaded.trees.items():
            if path.startswith(f"{FOLDERS[0]}/"):
                self._read_one(tree, loaded.part.name)
        if not any(path.startswith(f"{FOLDERS[0]}/") for path in loaded.part.files) and not loaded.part.uses:
            place = loaded.place_of(MANIFEST)
            self._report.error(place, "the bundle has no policy and uses none", f"put one into {FOLDERS[0]}/")
        cases: dict[str, list[PolicyTest]] = {}
        own = {name.partition("/")[2]: policy for name, policy in self._policies.items() if name not in before}
        for path, tree in loaded.trees.items():
            if path.startswith(f"{FOLDERS[1]}/"):
                for clause, tests in read_cases(tree, own, self._report).items():
                    cases.setdefault(clause, []).extend(tests)
        for clause, tests in cases.items():
            policy = replace(own[clause], tests=(*own[clause].tests, *tests))
            self._policies[policy.id] = policy

    def _read_one(self, tree: Node, pack: str) -> None:
        policy = read_policy(tree, pack, self._context)
        written = _id_in(tree)
        name = policy.id if policy is not None else written.text if written is not None else ""
        place = written.place if written is not None else tree.place
        if name in self._places:
            first = self._places[name]
            self._report.error(place, f"policy {name[:120]} is here twice", f"first in {first.file.name}")
        elif name:
            self._places[name] = place
            if policy is not None:
                self._policies[name] = policy

    def override(self, loaded: Loaded) -> None:
        """Apply what a part says about the policies of those that it uses."""
        tree = loaded.trees.get(OVERRIDES)
        if tree is None:
            return
        if not isinstance(tree, Mapping):
            self._report.error(tree.place, f"{OVERRIDES} is a mapping of policy ids to what changes")
            return
        for key, value in tree.entries:
            name = key.text
            if name not in self._places and not self._report.incomplete:
                hint = did_you_mean(name, self._places) or "write pack/clause, of a pack that the bundle uses"
                self._report.error(key.place, f"unknown policy {name[:120]}", hint)
            elif name not in self._places:
                continue
            elif name.startswith(f"{loaded.part.name}/"):
                self._report.error(key.place, f"{name} is a policy of this bundle", "change it in its own file")
            elif name in self._overridden:
                self._report.error(key.place, f"{name} is overridden twice", f"also by {self._overridden[name]}")
            else:
                self._overridden[name] = loaded.label
                if name in self._policies:
                    self._policies[name] = self._changed(self._policies[name], value)

    def _changed(self, policy: Policy, node: Node) -> Policy:
        fields = Fields(node, "an override", OVERRIDE, self._report)
        exceptions = read_exceptions(fields.items("exceptions"), policy.lets, self._context)
        taken = {exception.id for exception in policy.exceptions}
        for exception in exceptions:
            if exception.id in taken:
                self._report.error(node.place, f"exception {exception.id} is in the policy itself", "take another id")
        alert = read_alert(fields.node_of("alert"), self._report)
        return replace(
            policy,
            stage=fields.choice("stage", STAGES, policy.stage),
            severity=fields.choice("severity", SEVERITIES, policy.severity),
            exceptions=(*policy.exceptions, *exceptions),
            alert=alert or policy.alert,
        )


def _id_in(tree: Node) -> Scalar | None:
    """Return the id that a file gives its policy, None where it gives none."""
    entries = tree.entries if isinstance(tree, Mapping) else ()
    return next((value for key, value in entries if key.text == "id" and isinstance(value, Scalar)), None)


def hash_of(parts: Iterable[Part]) -> str:
    """Return the SHA-256, in hex, of all files of a bundle by part and path; their order does not matter."""
    content = sorted((part.name, path, text) for part in parts for path, text in part.files.items())
    return hashlib.sha256(orjson.dumps(content)).hexdigest()
