"""Finds the parts of a bundle: what its sources name, and all that they use in turn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from usageaudit.policy.fields import Fields
from usageaudit.policy.folders import LISTS, MANIFEST, read_folder, shipped_packs
from usageaudit.policy.model import Part
from usageaudit.policy.report import PARTS, did_you_mean
from usageaudit.policy.shapes import MANIFEST as MANIFEST_SHAPE
from usageaudit.policy.shapes import NAME
from usageaudit.policy.yamltree import Place, Scalar, TextFile, read_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usageaudit.policy.report import Report
    from usageaudit.policy.yamltree import Node


@dataclass(slots=True)
class Loaded:
    """A part with the trees of its files; `label` begins the names that errors show."""

    part: Part
    label: str
    trees: dict[str, Node]

    def place_of(self, path: str) -> Place:
        """Return the place of a file, whether it is there or not."""
        return place_of(self.trees, path, self.label)


class Gathering:
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
        shown = str(source)[:200]
        hint = did_you_mean(shown, self.packs) or f"packs are {', '.join(self.packs)}; or the path of a folder"
        try:
            if (folder / MANIFEST).is_file():
                return folder
            if folder.is_dir():
                hint = f"write {MANIFEST} with its name, or let `usageaudit policy init` write it"
                self._report.error(place, f"{shown} is a folder without {MANIFEST}", hint)
            else:
                self._report.error(place, f"{shown} is no pack and no folder", hint)
        except OSError as error:
            self._report.error(place, f"{shown} can't be read: {error.strerror or error}", hint)
        self._report.incomplete = True
        return None

    def _load(self, folder: Path, label: str) -> str | None:
        key = folder.resolve()
        if key in self._names:
            return self._names[key]
        self._report.spend(PARTS, 1, partial(place_of, {}, MANIFEST, label))
        trees, texts = self._trees(folder, label)
        manifest = Fields(trees.get(MANIFEST), MANIFEST, MANIFEST_SHAPE, self._report)
        name = self._name(manifest)
        self._open.append(key)
        uses = [self._used(scalar, folder) for scalar in manifest.texts("uses")]
        self._open.pop()
        name = name or str(key)
        if name in self.found:
            self._report.error(place_of(trees, MANIFEST, label), f"two bundles are called {name}", "rename one of them")
            return None
        self._names[key] = name
        part = Part(name, tuple(filter(None, uses)), texts, manifest.flag("require_approvals"))
        self.found[name] = Loaded(part, label, trees)
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


def parse_files(texts: Mapping[str, str], label: str, report: Report) -> dict[str, Node]:
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


def place_of(trees: dict[str, Node], path: str, label: str) -> Place:
    """Return the place of a file, whether it is there or not."""
    return trees[path].place if path in trees else Place(TextFile.of(f"{label}/{path}", ""))
