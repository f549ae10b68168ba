"""A bundle as one JSON text, as the store keeps it, and back: the same policies, the same hash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from usageaudit.errors import BundleError
from usageaudit.policy.gathering import Loaded, parse_files
from usageaudit.policy.loading import assemble, collecting_later, hash_of
from usageaudit.policy.model import Part
from usageaudit.policy.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterable

    from usageaudit.policy.model import Bundle

FORMAT = 1
"""Number of the form of an archive: {"format", "sources", "parts": [{"name", "uses", "files": {path: text}}]}."""


def archive(sources: Iterable[str], parts: Iterable[Part]) -> bytes:
    """Return sources and parts as JSON, the same bytes for the same bundle."""
    content = {
        "format": FORMAT,
        "sources": list(sources),
        "parts": [
            {"name": part.name, "uses": list(part.uses), "files": dict(sorted(part.files.items()))} for part in parts
        ],
    }
    return orjson.dumps(content)


@collecting_later()
def bundle_from_archive(content: bytes) -> Bundle:
    """Return the bundle of an archive. Raises BundleError where it is none, or has errors."""
    sources, parts = _read(content)
    names = {part.name for part in parts}
    if not names or any(used not in names for part in parts for used in (*part.uses, *sources)):
        raise BundleError("the archive of a policy bundle is broken: a part of it is missing")
    report = Report()
    loaded = {part.name: Loaded(part, part.name, parse_files(part.files, part.name, report)) for part in parts}
    return assemble(sources, loaded, report, commit=None)


def archived_hash(content: bytes) -> str:
    """Return the hash of the files in an archive, whether they make a bundle or not.

    Raises UnknownArchive where it is of another format, BundleError where it is none.
    """
    return hash_of(_read(content)[1])


class UnknownArchive(BundleError):
    """An archive of a format that this version does not know."""


def _read(content: bytes) -> tuple[tuple[str, ...], list[Part]]:
    """Return the sources and the parts of an archive."""
    try:
        found: Any = orjson.loads(content)
        if found["format"] != FORMAT:
            raise UnknownArchive(f"an archive of format {FORMAT} is read, not {found['format']!r}: update usageaudit")
        sources = tuple(map(str, found["sources"]))
        parts = [Part(str(one["name"]), tuple(map(str, one["uses"])), _files(one["files"])) for one in found["parts"]]
    except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
        raise BundleError(f"the archive of a policy bundle is broken: {error}") from error
    return sources, parts


def _files(files: dict[str, str]) -> dict[str, str]:
    return {str(path): str(text) for path, text in files.items()}
