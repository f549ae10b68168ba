"""Loads a bundle: gathers its parts, reads every file of them, and refuses the whole if anything in it is wrong."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from usageaudit.policy.fields import Fields, number_of, texts_of
from usageaudit.policy.folders import (
    FOLDERS,
    LISTS,
    MANIFEST,
    OVERRIDES,
    REGISTRY,
    git_commit,
    read_folder,
    shipped_packs,
)
from usageaudit.policy.model import STAGES, Bundle, Part, RegistryEntry
from usageaudit.policy.policyfile import NAME, WORD, Context, read_alert, read_exceptions, read_policy
from usageaudit.policy.report import Report, did_you_mean
from usageaudit.policy.testcases import read_cases
from usageaudit.policy.yamltree import Mapping, Place, Scalar, TextFile, read_yaml
from usageaudit.policy.yamltree import Sequence as SequenceNode
from usageaudit.verdicts import SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Mapping as AnyMapping

    from usageaudit.policy.model import ListValues, Policy
    from usageaudit.policy.yamltree import Node


@dataclass(slots=True)
class Loaded:
    """A part with the trees of its files; `label` begins the names that errors show."""

    part: Part
    label: str
    trees: dict[str, Node]


def load_bundle(sources: Sequence[str | Path]) -> Bundle:
    """Return the bundle of some sources: names of shipped packs, and folders.

    Several sources, and the packs that they use, make one bundle. Raises InvalidBundle (a BundleError), whose message
    shows every error of all of them with its place, and never returns a part of a bundle.
    """
    report = Report()
    gathering = _Gathering(report)
    if not sources:
        report.error(Place(TextFile.of("policies", "")), "no policies are named", "name a pack or a folder")
    names = [gathering.source(source) for source in sources]
    if not gathering.found:
        report.raise_errors()
    folders = [source for source in sources if str(source) not in gathering.packs]
    commit = git_commit(Path(folders[0])) if folders else None
    return assemble(tuple(dict.fromkeys(filter(None, names))), gathering.found, report, commit=commit)


class _Gathering:
    """Finds the parts of a bundle, each once, those that are used before those that use them."""

    def __init__(self, report: Report) -> None:
        self.packs = shipped_packs()
        self.found: dict[str, Loaded] = {}
        self._report = report
        self._names: dict[Path, str] = {}
        self._open: list[Path] = []

    def source(self, source: str | Path) -> str | None:
        """Load what a source names, and all that it uses; return its name."""
        folder = self._folder(source, Path(), Place(TextFile.of(str(source), "")))
        return self._load(folder, str(Path(source))) if folder is not None else None

    def _folder(self, source: str | Path, beside: Path, place: Place) -> Path | None:
        if str(source) in self.packs:
            return self.packs[str(source)]
        folder = beside / source
        if (folder / MANIFEST).is_file():
            return folder
        hint = did_you_mean(str(source), self.packs) or f"packs are {', '.join(self.packs)}; or the path of a folder"
        if folder.is_dir():
            hint = f"write {MANIFEST} with its name, or let `usageaudit policy init` write it"
            self._report.error(place, f"{source} is a folder without {MANIFEST}", hint)
        else:
            self._report.error(place, f"{source} is no pack and no folder", hint)
        self._report.incomplete = True
        return None

    def _load(self, folder: Path, label: str) -> str | None:
        key = folder.resolve()
        if key in self._names:
            return self._names[key]
        trees, texts = self._trees(folder, label)
        manifest = Fields(trees.get(MANIFEST), MANIFEST, ("name", "uses"), self._report)
        name = self._name(manifest)
        self._open.append(key)
        uses = [self._used(scalar, folder) for scalar in manifest.texts("uses")]
        self._open.pop()
        name = name or str(key)
        if name in self.found:
            self._report.error(
                _place_of(trees, MANIFEST, label), f"two bundles are called {name}", "rename one of them"
            )
            return None
        self._names[key] = name
        self.found[name] = Loaded(Part(name, tuple(filter(None, uses)), texts), label, trees)
        return name

    def _trees(self, folder: Path, label: str) -> tuple[dict[str, Node], dict[str, str]]:
        texts = read_folder(folder, label, self._report)
        return parse_files(texts, label, self._report), texts

    def _name(self, manifest: Fields) -> str | None:
        node = manifest.scalar("name", required=True)
        if node is None:
            return None
        if not NAME.fullmatch(node.text) or len(node.text) > 100:
            self._report.error(node.place, "the name of a bundle is of lower case letters, digits and hyphens")
            return None
        return node.text

    def _used(self, scalar: Scalar, folder: Path) -> str | None:
        used = self._folder(scalar.text, folder, scalar.place)
        if used is not None and used.resolve() in self._open:
            self._report.error(scalar.place, f"{scalar.text} uses this bundle in turn", "one of the two must not")
            return None
        return self._load(used, scalar.text if scalar.text in self.packs else str(used)) if used is not None else None


def parse_files(texts: AnyMapping[str, str], label: str, report: Report) -> dict[str, Node]:
    """Return the trees of a part's files by path; broken files are reported."""
    trees: dict[str, Node] = {}
    for path, text in texts.items():
        if not path.endswith(".yaml"):
            continue
        tree = read_yaml(TextFile.of(f"{label}/{path}", text), report)
        if tree is not None:
            trees[path] = tree
        elif path == LISTS:
            report.incomplete = True
    return trees


def _place_of(trees: dict[str, Node], path: str, label: str) -> Place:
    return trees[path].place if path in trees else Place(TextFile.of(f"{label}/{path}", ""))


def assemble(sources: tuple[str, ...], found: dict[str, Loaded], report: Report, *, commit: str | None) -> Bundle:
    """Return the bundle of loaded parts, those that are used first. Raises InvalidBundle with everything wrong."""
    parts = list(found.values())
    lists = _merged_lists(found, report)
    registry = _merged_registry(parts, report)
    context = Context(lists, report)
    policies = _Policies(context)
    for loaded in parts:
        policies.read(loaded)
    for loaded in parts:
        policies.override(loaded)
    report.raise_errors()
    return Bundle(
        name="+".join(sources),
        hash=hash_of(loaded.part for loaded in parts),
        policies=policies.all(),
        lists=lists,
        registry=registry,
        sources=sources,
        parts=tuple(loaded.part for loaded in parts),
        commit=commit,
        warnings=report.warnings,
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

    def read(self, loaded: Loaded) -> None:
        """Read the policies of a part, and their tests."""
        before = set(self._policies)
        for path, tree in loaded.trees.items():
            if path.startswith(f"{FOLDERS[0]}/"):
                self._read_one(tree, loaded.part.name)
        if not any(path.startswith(f"{FOLDERS[0]}/") for path in loaded.part.files) and not loaded.part.uses:
            place = _place_of(loaded.trees, MANIFEST, loaded.label)
            self._report.error(place, "the bundle has no policy and uses none", f"put one into {FOLDERS[0]}/")
        own = {name.partition("/")[2]: policy for name, policy in self._policies.items() if name not in before}
        for path, tree in loaded.trees.items():
            if path.startswith(f"{FOLDERS[1]}/"):
                for clause, tests in read_cases(tree, own, self._report).items():
                    policy = own[clause] = replace(own[clause], tests=(*own[clause].tests, *tests))
                    self._policies[policy.id] = policy

    def _read_one(self, tree: Node, pack: str) -> None:
        policy = read_policy(tree, pack, self._context)
        name = policy.id if policy is not None else _id_in(tree)
        if name in self._places:
            first = self._places[name]
            self._report.error(tree.place, f"policy {name} is here twice", f"first in {first.file.name}")
        elif name:
            self._places[name] = tree.place
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
        fields = Fields(node, "an override", ("stage", "severity", "exceptions", "alert"), self._report)
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


def _id_in(tree: Node) -> str:
    """Return the id that a file with errors gives its policy, empty where it gives none."""
    entries = tree.entries if isinstance(tree, Mapping) else ()
    return next((value.text for key, value in entries if key.text == "id" and isinstance(value, Scalar)), "")


def _merged_lists(found: dict[str, Loaded], report: Report) -> dict[str, ListValues]:
    """Return the lists of all parts: one that a part defines replaces those of the same name in what it uses."""
    lists: dict[str, ListValues] = {}
    owners: dict[str, str] = {}
    for name, loaded in found.items():
        tree = loaded.trees.get(LISTS)
        if tree is None:
            continue
        if not isinstance(tree, Mapping):
            report.error(tree.place, f"{LISTS} is a mapping of names to lists")
            continue
        for key, value in tree.entries:
            values = _list_values(key, value, report)
            owner = owners.get(key.text)
            if owner and lists[key.text] != values and owner not in _used_by(name, found):
                hint = f"let one bundle use both, and define lists.{key.text[:60]} there"
                report.error(key.place, f"lists.{key.text[:60]} is defined differently by {owner}", hint)
            lists[key.text], owners[key.text] = values, name
    return dict(sorted(lists.items()))


def _used_by(name: str, found: dict[str, Loaded]) -> set[str]:
    """Return the names of all parts that a part uses, directly or not."""
    used: set[str] = set()
    open_ = [*found[name].part.uses]
    while open_:
        if (one := open_.pop()) not in used:
            used.add(one)
            open_.extend(found[one].part.uses)
    return used


def _list_values(key: Scalar, node: Node, report: Report) -> ListValues:
    if not WORD.fullmatch(key.text):
        report.error(
            key.place, f"{key.text[:60]} is no name of a list", "letters, digits and _, so that lists.NAME works"
        )
    if not isinstance(node, SequenceNode):
        report.error(node.place, f"lists.{key.text[:60]} is a list of texts or of numbers")
        return ()
    numbers = node.items and all(isinstance(item, Scalar) and item.tag in ("int", "float") for item in node.items)
    if not numbers:
        return tuple(scalar.text for scalar in texts_of(node.items, f"lists.{key.text[:60]}", report))
    found = [number_of(item, "an entry", report) for item in node.items]
    values = [value for value in found if value is not None]
    return tuple(map(float, values)) if any(isinstance(value, float) for value in values) else tuple(values)


_ENTRY = ("owner", "team", "sector", "jurisdiction", "approved_use_cases", "data_classes")


def _merged_registry(parts: Iterable[Loaded], report: Report) -> dict[str, RegistryEntry]:
    """Return the applications of all parts; one may be described by one part only."""
    registry: dict[str, RegistryEntry] = {}
    for loaded in parts:
        tree = loaded.trees.get(REGISTRY)
        if tree is None:
            continue
        if not isinstance(tree, Mapping):
            report.error(tree.place, f"{REGISTRY} is a mapping of applications to what is known of them")
            continue
        for key, value in tree.entries:
            if key.text in registry:
                report.error(key.place, f"application {key.text[:100]} is also in the registry of another part")
            registry[key.text] = _registry_entry(value, report)
    return dict(sorted(registry.items()))


def _registry_entry(node: Node, report: Report) -> RegistryEntry:
    fields = Fields(node, "an application", _ENTRY, report)

    def texts(name: str) -> tuple[str, ...] | None:
        found = tuple(scalar.text for scalar in fields.texts(name))
        return found if fields.node_of(name) is not None else None

    return RegistryEntry(
        owner=fields.text("owner") or None,
        team=fields.text("team") or None,
        sector=fields.text("sector") or None,
        jurisdiction=fields.text("jurisdiction") or None,
        approved_use_cases=texts("approved_use_cases"),
        data_classes=texts("data_classes"),
    )


def hash_of(parts: Iterable[Part]) -> str:
    """Return the SHA-256, in hex, of all files of a bundle by part and path; their order does not matter."""
    content = sorted((part.name, path, text) for part in parts for path, text in part.files.items())
    return hashlib.sha256(orjson.dumps(content)).hexdigest()
