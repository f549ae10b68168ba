"""Finds the files of a bundle: of a folder, or of a pack that is shipped with usageaudit."""

from __future__ import annotations

import os
import stat
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from usageaudit.policy.report import BYTES, FILES, did_you_mean
from usageaudit.policy.yamltree import Place, TextFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.policy.report import Report

MAX_FILE_BYTES = 1 << 20
MAX_GROWING_BYTES = 4 << 20
"""The most bytes of the two files that can't be parted: the lock, and the approvals, of which none is taken out."""
MAX_ENTRIES = 50_000
"""How many files and folders of one folder of a bundle are looked at, those that are none of a bundle's included."""
MAX_DEPTH = 16
"""How deep the folders of a bundle may be nested."""
MANIFEST, LISTS, REGISTRY, OVERRIDES = "bundle.yaml", "lists.yaml", "registry.yaml", "overrides.yaml"
APPROVALS = "approvals.yaml"
TOP_FILES = (MANIFEST, LISTS, REGISTRY, OVERRIDES, APPROVALS)
LOCK = "policy.lock"
FOLDERS = ("policies", "tests")


def shipped_packs() -> dict[str, Path]:
    """Return the folders of the packs that are shipped, by name."""
    root = Path(str(resources.files("usageaudit.policy"))) / "packs"
    return {folder.name: folder for folder in sorted(root.iterdir()) if (folder / MANIFEST).is_file()}


def read_folder(folder: Path, label: str, report: Report) -> dict[str, str]:
    """Return the texts of a bundle's files by their paths with slashes; problems are reported by `label`/path.

    Read are `bundle.yaml` and its neighbours, and every .yaml file below `policies` and `tests`. Hidden files and
    folders are passed over, links to folders are not followed. Raises InvalidBundle at once where there is too much.
    """
    paths = [*_beside(folder, label, report)]
    for below in FOLDERS:
        paths += _Walk(folder, below, label, report).paths()
    report.spend(FILES, len(paths), lambda: _place(label, paths[-1]))
    texts: dict[str, str] = {}
    for path in paths:
        text = _read(folder / path, label, path, report)
        report.spend(BYTES, len(text or ""), partial(_place, label, path))
        if text is not None:
            texts[path] = text
    return texts


def _place(label: str, path: str) -> Place:
    return Place(TextFile.of(f"{label}/{path}" if path else label, ""))


def _beside(folder: Path, label: str, report: Report) -> Iterator[str]:
    """Yield the names of the files beside `bundle.yaml`, and that itself, in an order that is the same everywhere."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208  names alone are needed
    except OSError as error:
        report.error(_place(label, ""), f"can't be read: {error.strerror or error}")
        return
    for name in names:
        if name in TOP_FILES or name == LOCK:
            yield name
        elif name.endswith((".yaml", ".yml")) and not name.startswith("."):
            hint = did_you_mean(name, TOP_FILES) or f"policies belong into {FOLDERS[0]}/"
            report.warning(_place(label, name), "this file is not read", hint)


class _Walk:
    """Goes through a folder and those in it, each before those in it, in an order that is the same everywhere.

    What can't be read is an error: a bundle is never loaded without a part of it.
    """

    def __init__(self, folder: Path, below: str, label: str, report: Report) -> None:
        self._folder, self._below, self._label, self._report = folder, below, label, report
        self._entries = 0

    def paths(self) -> Iterator[str]:
        """Yield the paths of the .yaml files."""
        top = self._folder / self._below
        if not top.is_dir():
            if os.path.lexists(top):
                self._error(self._below, "is no folder", "policies and tests are folders of .yaml files")
            return
        open_ = [self._below]
        while open_:
            path = open_.pop()
            files, folders = self._in(path)
            yield from files
            open_ += reversed(folders)
            if folders and path.count("/") >= MAX_DEPTH:
                self._error(path, f"folders are nested more than {MAX_DEPTH} levels deep")
                return

    def _in(self, path: str) -> tuple[list[str], list[str]]:
        """Return the paths of the .yaml files and of the folders in a folder."""
        files: list[str] = []
        folders: list[str] = []
        try:
            with os.scandir(self._folder / path) as entries:
                for entry in sorted(self._counted(entries, path), key=lambda entry: entry.name):
                    if not entry.name.startswith("."):
                        self._sort(entry, f"{path}/{entry.name}", files, folders)
        except OSError as error:
            self._error(path, f"can't be read: {error.strerror or error}")
        return files, folders

    def _counted(self, entries: Iterator[os.DirEntry[str]], path: str) -> Iterator[os.DirEntry[str]]:
        for entry in entries:
            self._entries += 1
            if self._entries > MAX_ENTRIES:
                self._error(path, f"there are more than {MAX_ENTRIES:,} files and folders below {self._below}/")
                self._report.raise_errors()
            yield entry

    def _sort(self, entry: os.DirEntry[str], path: str, files: list[str], folders: list[str]) -> None:
        name = entry.name.lower()
        if not _is_text(entry.name):
            self._error(path, "the name is not UTF-8", "rename it")
        elif not name.endswith((".yaml", ".yml")):
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
        elif entry.name.endswith(".yaml"):
            files.append(path)
        else:
            self._error(path, "the name of a policy file ends in .yaml", "rename it")

    def _error(self, path: str, message: str, hint: str = "") -> None:
        self._report.error(_place(self._label, path), message, hint)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read(file: Path, label: str, path: str, report: Report) -> str | None:
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            report.error(_place(label, path), "is no regular file")
            return None
        most = MAX_GROWING_BYTES if path in (LOCK, APPROVALS) else MAX_FILE_BYTES
        with file.open("rb") as stream:
            content = stream.read(most + 1)
    except OSError as error:
        report.error(_place(label, path), f"can't be read: {error.strerror or error}")
        return None
    if len(content) > most:
        report.error(_place(label, path), f"the file has more than {most >> 20} MiB", "make several of it")
        return None
    try:
        # Line ends are those of the machine where the file was last written: they must not change the hash.
        # A damaged lock is for `policy lock` to refuse or to write anew: nothing else depends on it.
        errors = "replace" if path == LOCK else "strict"
        return content.decode("utf-8-sig", errors).replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        report.error(_place(label, path), f"is not UTF-8: byte {error.start} is {content[error.start]:#04x}")
        return None
