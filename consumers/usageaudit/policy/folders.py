"""Finds the files of a bundle: of a folder, or of a pack that is shipped with usageaudit."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from usageaudit.policy.report import did_you_mean
from usageaudit.policy.yamltree import Place, TextFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.policy.report import Report

MAX_FILE_BYTES = 1 << 20
MAX_LOCK_BYTES = 16 << 20
MAX_FILES = 5_000
MAX_BUNDLE_BYTES = 32 << 20
MANIFEST, LISTS, REGISTRY, OVERRIDES = "bundle.yaml", "lists.yaml", "registry.yaml", "overrides.yaml"
APPROVALS = "approvals.yaml"
TOP_FILES = (MANIFEST, LISTS, REGISTRY, OVERRIDES, APPROVALS)
LOCK = "policy.lock"
FOLDERS = ("policies", "tests")
_GIT_SECONDS = 5.0


def shipped_packs() -> dict[str, Path]:
    """Return the folders of the packs that are shipped, by name."""
    root = Path(str(resources.files("usageaudit.policy"))) / "packs"
    return {folder.name: folder for folder in sorted(root.iterdir()) if (folder / MANIFEST).is_file()}


def read_folder(folder: Path, label: str, report: Report) -> dict[str, str]:
    """Return the texts of a bundle's files by their paths with slashes; problems are reported by `label`/path.

    Read are `bundle.yaml` and its neighbours, and every .yaml file below `policies` and `tests`. Hidden files and
    folders are passed over, links to folders are not followed.
    """
    texts: dict[str, str] = {}
    total = 0
    for path in _files(folder, label, report):
        if len(texts) >= MAX_FILES:
            report.error(_place(label, path), f"more than {MAX_FILES} files in a bundle", "make several bundles of it")
            break
        text = _read(folder / path, label, path, report)
        if text is not None:
            texts[path] = text
            total += len(text)
        if total > MAX_BUNDLE_BYTES:
            report.error(_place(label, path), f"the bundle has more than {MAX_BUNDLE_BYTES >> 20} MiB")
            break
    return texts


def _place(label: str, path: str) -> Place:
    return Place(TextFile.of(f"{label}/{path}", ""))


def _files(folder: Path, label: str, report: Report) -> Iterator[str]:
    """Yield the paths of the files to read, in an order that is the same everywhere."""
    for name in sorted(os.listdir(folder)):  # noqa: PTH208  names alone are needed
        if name in TOP_FILES or name == LOCK:
            yield name
        elif name.endswith((".yaml", ".yml")) and not name.startswith("."):
            hint = did_you_mean(name, TOP_FILES) or f"policies belong into {FOLDERS[0]}/"
            report.warning(_place(label, name), "this file is not read", hint)
    for below in FOLDERS:
        for parent, folders, names in os.walk(folder / below):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                path = (Path(parent) / name).relative_to(folder).as_posix()
                if name.startswith(".") or not name.lower().endswith((".yaml", ".yml")):
                    continue
                if name.endswith(".yaml"):
                    yield path
                else:
                    report.error(_place(label, path), "the name of a policy file ends in .yaml", "rename it")


def _read(file: Path, label: str, path: str, report: Report) -> str | None:
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            report.error(_place(label, path), "is no regular file")
            return None
        most = MAX_LOCK_BYTES if path == LOCK else MAX_FILE_BYTES
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
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        report.error(_place(label, path), f"is not UTF-8: byte {error.start} is {content[error.start]:#04x}")
        return None


def git_commit(folder: Path) -> str | None:
    """Return the commit of the folder's work tree, with `-dirty` where the folder has changes; None outside of git."""
    git = shutil.which("git")
    head = _git(git, folder, "rev-parse", "--verify", "HEAD") if git else None
    if not git or not head:
        return None
    # A repository's own configuration could name a program to run on `status`; this one is not ours to trust.
    changed = _git(git, folder, "-c", "core.fsmonitor=false", "status", "--porcelain", "--", ".")
    return head.strip() + ("-dirty" if changed is None or changed.strip() else "")


def _git(git: str, folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603  fixed arguments, no shell
            [git, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode == 0 else None
