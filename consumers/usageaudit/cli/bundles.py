"""The bundle that an argument names: shipped packs and folders, or the hash of one that the store keeps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from usageaudit.errors import QueryError
from usageaudit.policy import bundle_from_archive, load_bundle

if TYPE_CHECKING:
    from usageaudit.cli.settings import Settings
    from usageaudit.policy import Bundle

_HASH = re.compile("[0-9a-f]{8,64}")
_KEPT = "SELECT hash, archive FROM bundles WHERE startsWith(hash, {hash:String}) ORDER BY loaded_at LIMIT 2"


def bundle_named(source: str, settings: Settings) -> Bundle:
    """Return the bundle of packs and folders with commas between, or of a hash in the store, of which eight digits do.

    Raises BundleError where it can't be loaded, QueryError where the store keeps none, or several, of that hash.
    """
    if Path(source).exists():
        return load_bundle((source,))
    if not _HASH.fullmatch(source):
        return load_bundle([name.strip() for name in source.split(",") if name.strip()] or [source])
    from usageaudit.cli.access import explaining_missing_tables, reading

    with reading(settings) as store, explaining_missing_tables(store):
        rows = store.execute(_KEPT, {"hash": source}).rows
    if len(rows) != 1:
        found = "several bundles begin" if rows else "no bundle that the store keeps begins"
        raise QueryError(f'{found} with {source}: `usageaudit query "SELECT hash, name FROM bundles"` lists them')
    archive = rows[0][1]
    return bundle_from_archive(archive.encode() if isinstance(archive, str) else archive)
