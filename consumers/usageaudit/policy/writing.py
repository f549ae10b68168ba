"""Writes the YAML files that commands keep in a bundle's folder: scalars that are read back the same, whole files."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from usageaudit.errors import ConfigurationError
from usageaudit.policy.language import quote

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*([./][A-Za-z0-9_-]+)*( [A-Za-z][A-Za-z0-9_-]*)*", re.ASCII)
_WORDS = frozenset(("y", "n", "yes", "no", "true", "false", "on", "off", "null"))
"""What YAML 1.1 takes for something else than a text, in any case."""


def yaml_text(text: str) -> str:
    """Return a text as a scalar of one line: as it is where that is read as a text, otherwise in double quotes."""
    return text if _PLAIN.fullmatch(text) and text.lower() not in _WORDS else quote(text)


def replace_file(file: Path, text: str) -> None:
    """Write a file whole or not at all, keeping its permissions.

    Raises ConfigurationError where it can't be written.
    """
    try:
        mode = file.stat().st_mode & 0o777 if file.exists() else 0o666 & ~_umask()
        with tempfile.NamedTemporaryFile(
            "w", dir=file.parent, prefix=f".{file.name}.", delete=False, encoding="utf-8"
        ) as new:
            new.write(text)
        Path(new.name).chmod(mode)
        Path(new.name).replace(file)
    except OSError as error:
        raise ConfigurationError(f"{file} can't be written: {error.strerror or error}") from error


def _umask() -> int:
    """Return the mask of the process, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
