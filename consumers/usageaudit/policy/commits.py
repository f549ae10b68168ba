"""Finds out from which git commit the files of a bundle are.

A repository's own configuration names programs to run: file system monitors, filters, hooks, transports. The folder of
a bundle is not ours to trust, so git is only asked for what a commit holds, and files are compared here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from usageaudit.policy.folders import FOLDERS, LOCK, TOP_FILES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

_SECONDS = 5.0
_LINK = "120000"
_ENVIRONMENT = {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none", "GIT_OPTIONAL_LOCKS": "0"}
"""A commit that the repository lacks is not fetched."""


def git_commit(folder: Path, paths: Collection[str]) -> str | None:
    """Return the commit of the folder's work tree, None outside of git.

    `paths` are those of the bundle's files; `-dirty` follows where they are not those of the commit. Line ends are not
    compared, as git may write them in another way.
    """
    git = shutil.which("git")
    head = _git(git, folder, "rev-parse", "--verify", "HEAD") if git else None
    if not git or not head:
        return None
    listed = _git(git, folder, "ls-tree", "-r", "-z", "HEAD", "--", *TOP_FILES, LOCK, *FOLDERS)
    held = dict(_entries(listed or ""))
    same = held.keys() == set(paths) and all(_is(folder / path, *held[path]) for path in paths)
    return head.strip() + ("" if same else "-dirty")


def _entries(listed: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield path, mode and object id of the files of a bundle that a commit holds."""
    for line in filter(None, listed.split("\0")):
        head, _, path = line.partition("\t")
        mode, _, name = head.split(" ")
        inside = path.split("/")
        if len(inside) == 1 or (path.endswith(".yaml") and not any(part.startswith(".") for part in inside)):
            yield path, (mode, name)


def _is(file: Path, mode: str, name: str) -> bool:
    """Whether a file is what an object id names."""
    try:
        content = os.fsencode(os.readlink(file)) if mode == _LINK else file.read_bytes()  # noqa: PTH115  as bytes
    except OSError:
        return False
    return name in (_object_id(content, name), _object_id(content.replace(b"\r\n", b"\n"), name))


def _object_id(content: bytes, like: str) -> str:
    """Return git's id of a file, made as another one is: with SHA-1, or with SHA-256 where it is longer."""
    whole = b"blob %d\0" % len(content) + content
    return (hashlib.sha256(whole) if len(like) == 64 else hashlib.sha1(whole, usedforsecurity=False)).hexdigest()


def _git(git: str, folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603  fixed arguments, no shell
            [git, *arguments],
            cwd=folder,
            env={**os.environ, **_ENVIRONMENT},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode == 0 else None
