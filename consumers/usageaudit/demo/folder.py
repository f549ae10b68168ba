"""The folder of the demonstration: made anew by each run, and never one that belongs to something else."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from usageaudit.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

MARK = ".usageaudit-demo"
_MARK_TEXT = "Made by `usageaudit demo`, which empties this folder when it runs again.\n"


def prepare(folder: Path, *, keep: bool) -> None:
    """Make the folder, or empty it unless `keep`.

    Raises ConfigurationError where it holds anything and was not made by the demonstration, or can't be written.
    """
    try:
        if folder.exists() and not (folder / MARK).is_file() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigurationError(
                f"{folder} holds something that the demonstration did not make: name another folder with --data"
            )
        folder.mkdir(parents=True, exist_ok=True)
        if not keep:
            _empty(folder)
        (folder / MARK).write_text(_MARK_TEXT, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{folder}: {error.strerror or error}; name another folder with --data") from error


def _empty(folder: Path) -> None:
    """Remove what is in the folder; the mark goes last, so that an interrupted run is still known as ours."""
    for one in sorted(folder.iterdir(), key=lambda path: path.name == MARK):
        if one.is_dir() and not one.is_symlink():
            shutil.rmtree(one)
        else:
            one.unlink()
