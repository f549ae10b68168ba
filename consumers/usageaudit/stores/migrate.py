"""Brings a store to the schema that this version works with: numbered SQL files, each applied once, in order.

ClickHouse has no transactions over DDL, so every statement of a migration may be run again: what was interrupted is
repeated from its first statement, and two processes that migrate at once do the same things twice.

Migrations add: tables, columns, and views with more columns. So a program goes on with a store that a later version
migrated, and consumers of both versions write beside each other. A migration after which older programs must not write
any more says so in its name, `NNNN_…_breaking.sql`.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from usageaudit.errors import ConfigurationError, QueryError
from usageaudit.stores import clustered
from usageaudit.stores.port import Replicated

if TYPE_CHECKING:
    from usageaudit.stores.port import Store

log = logging.getLogger("usageaudit.store")

_NAME = re.compile(r"(\d{4})_\w+\.sql")
_BREAKING = "_breaking.sql"
_TRIES = 3
_END_OF_STATEMENT = re.compile(r";[ \t]*$", re.MULTILINE)
_COMMENT = re.compile(r"^--.*\n?", re.MULTILINE)

_RECORD = """INSERT INTO schema_migrations (version, name, digest, applied_at)
SELECT {version:UInt32}, {name:String}, {digest:String}, now64(3, 'UTC')"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, its name and its text."""

    version: int
    name: str
    text: str

    @property
    def statements(self) -> tuple[str, ...]:
        """Its statements, which end in a semicolon at the end of a line; comments are whole lines."""
        parts = _END_OF_STATEMENT.split(_COMMENT.sub("", self.text))
        return tuple(part.strip() for part in parts if part.strip())

    @property
    def digest(self) -> str:
        """SHA-256 of the text, hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations() -> tuple[Migration, ...]:
    """Return every migration that this version knows, in order."""
    named = ((_NAME.fullmatch(file.name), file) for file in (files("usageaudit.ledger") / "migrations").iterdir())
    found = (Migration(int(name[1]), name[0], file.read_text(encoding="utf-8")) for name, file in named if name)
    return tuple(sorted(found, key=lambda migration: migration.version))


def pending(store: Store) -> tuple[Migration, ...]:
    """Return the migrations that the store still lacks, in order.

    Raises:
        ConfigurationError: a newer version migrated the store so that this one must not write to it, or it was
            migrated by other files of the same number.
        StoreUnavailable: it can't be reached.
    """
    clustered.check_tables(store)
    known = migrations()
    applied = _applied(store)
    last = known[-1].version
    if stop := [name for version, (name, _) in applied.items() if version > last and name.endswith(_BREAKING)]:
        raise ConfigurationError(
            f"the store's schema is at version {max(applied)} and this usageaudit knows {last}, which must not write "
            f"after {min(stop)}: install the version that migrated the store, or a later one"
        )
    for migration in known:
        if applied.get(migration.version, ("", migration.digest))[1] != migration.digest:
            raise ConfigurationError(
                f"the store was migrated with another {migration.name} than this usageaudit has: "
                "use the release that migrated it, or a new database"
            )
    return tuple(migration for migration in known if migration.version not in applied)


def newer(store: Store) -> tuple[str, ...]:
    """Return the names of the migrations that a later version applied to the store and this one does not know.

    Raises StoreUnavailable.
    """
    last = migrations()[-1].version
    return tuple(name for version, (name, _) in sorted(_applied(store).items()) if version > last)


def migrate(store: Store) -> tuple[int, ...]:
    """Apply what is pending and return the versions that were applied.

    On a cluster a replica that lacks tables, such as a new one, gets them first as the others have them.

    Raises:
        ConfigurationError: as `pending`, or the servers' configuration lacks what replicated tables need.
        QueryError: a statement failed; those before it were done, and running again repeats them.
        StoreUnavailable: it can't be reached.
    """
    if isinstance(store, Replicated):
        clustered.check_tables(store)
        _complete_replicas(store)
    todo = pending(store)
    if todo and isinstance(store, Replicated):
        clustered.check_servers(store)
    for migration in todo:
        _apply(store, migration)
    return tuple(migration.version for migration in todo)


def _complete_replicas(store: Replicated) -> None:
    """Give each replica the tables that it lacks; who may not, and has all on the one that is spoken to, goes on."""
    try:
        clustered.complete_replicas(store)
    except QueryError as error:
        if pending(store):
            raise
        log.warning("a replica lacks tables and this user may not create them, so run `usageaudit migrate`: %s", error)


def _apply(store: Store, migration: Migration) -> None:
    """Run a migration and record it; one that fails is repeated, since who migrates beside us may be in its way.

    The embedded engine replaces a view by dropping it first, so that for a moment it is not there.
    """
    for left in reversed(range(_TRIES)):
        try:
            if _run(store, migration):
                record = {"version": migration.version, "name": migration.name, "digest": migration.digest}
                store.execute(_RECORD, record)
        except QueryError:
            if not left:
                raise
        else:
            return


def _run(store: Store, migration: Migration) -> bool:
    """Run the statements of a migration; return whether it is still to be recorded."""
    for number, statement in enumerate(migration.statements, start=1):
        if migration.version in _applied(store):
            # Another process has just done it, and may have gone on to a later one that replaces the same view.
            return False
        try:
            if isinstance(store, Replicated):
                clustered.execute(store, statement)
            else:
                store.execute(statement)
        except QueryError as error:
            raise QueryError(f"{migration.name}, statement {number}: {error}") from error
    return True


def _applied(store: Store) -> dict[int, tuple[str, str]]:
    """Return name and digest of the applied migrations by version; of one that two processes applied, the first."""
    ((there,),) = store.execute("EXISTS TABLE schema_migrations").rows
    if not there:
        return {}
    sql = "SELECT version, argMin(name, applied_at), argMin(digest, applied_at) FROM schema_migrations GROUP BY version"
    return {int(version): (str(name), str(digest)) for version, name, digest in store.execute(sql).rows}
