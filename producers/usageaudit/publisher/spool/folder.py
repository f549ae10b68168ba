"""The folder of spools: the own one of each process, and those that ended processes left behind."""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
import stat
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from usageaudit.errors import ConfigurationError, StreamUnavailable
from usageaudit.publisher.complaints import logger
from usageaudit.publisher.spool.file import COUNTS, DAMAGED_SUFFIX, OLDEST, SUFFIX, SpoolFile
from usageaudit.publisher.spool.owner import OwnerLock, is_held, signed_by
from usageaudit.publisher.spool.parts import parts, taken
from usageaudit.stream_url import KafkaStreamAddress

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from usageaudit.publisher.complaints import Complaints
    from usageaudit.stream_url import StreamAddress

VARIABLE = "USAGEAUDIT_SPOOL"
AUTOMATIC = "auto"
LOCK_SUFFIX = ".lock"
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.ELOOP)
_NO_STREAM = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
"""Codes of SQLite for a file that is damaged, and for one without the table, whose owner was killed as it made it."""


def default_folder() -> Path:
    """Return where spools lie unless somebody says otherwise: in the folder for state that XDG's rules give a user.

    Raises ConfigurationError where this user has no home.
    """
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else expanded(Path("~/.local/state"))) / "usageaudit" / "spool"


def expanded(folder: Path) -> Path:
    """Return a folder with `~` replaced; raises ConfigurationError where nobody knows by what."""
    try:
        return folder.expanduser()
    except RuntimeError as error:
        raise ConfigurationError(f"spool {folder}: the home folder of this user is not known; {_ADVICE}") from error


def chosen_folder(spool: str | os.PathLike[str] | None, address: StreamAddress) -> Path | None:
    """Return the folder of spools that was asked for, made; None where there is to be no spool.

    The embedded stream has none: what is appended to it is on the local disk already. For "auto" it is the folder that
    USAGEAUDIT_SPOOL names, no spool where that is empty, and else `default_folder`, done without where it can't be
    written or others may write it. Raises ConfigurationError where that is so of a folder that was named.
    """
    named = os.environ.get(VARIABLE) if spool == AUTOMATIC else spool
    if not isinstance(address, KafkaStreamAddress) or (not named and not (named is None and spool == AUTOMATIC)):
        return None
    if named is not None:
        return make_folder(Path(named))
    try:
        return make_folder(default_folder())
    except ConfigurationError as error:
        logger.warning("no spool: events wait in memory alone, and a durable one waits for the broker: %s", error)
        return None


def named_folder(setting: str | None) -> Path | None:
    """Return the folder of spools on this machine by the setting `spool`; None where that is empty.

    Without the setting it is the default one. Raises ConfigurationError where this user has no home.
    """
    if setting == "":
        return None
    return default_folder() if setting is None else expanded(Path(setting))


def stream_name(address: StreamAddress) -> str:
    """Return what a spool remembers of its stream: brokers and topic, and no secret."""
    if isinstance(address, KafkaStreamAddress):
        return f"kafka://{','.join(sorted(address.servers))}?topic={address.topic}"
    return f"{address}?topic={address.topic}"


def make_folder(folder: Path) -> Path:
    """Make the folder of spools, for this user alone, and return its absolute path.

    Raises ConfigurationError where it can't be written, or by others, too, who could put events there or take them.
    """
    folder = expanded(folder).absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise ConfigurationError(f"spool {folder}: the folder can't be made: {error.strerror}; {_ADVICE}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(f"spool {folder}: the folder can't be written by this user; {_ADVICE}")
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigurationError(
            f"spool {folder}: others may write the folder, so events could be forged there; take the right from them, "
            f"or {_ADVICE}"
        )
    return folder


_ADVICE = f"name another one with spool= or {VARIABLE}; spool=None, or {VARIABLE} set to nothing, does without"


def new_spool(folder: Path, stream: str, max_bytes: int) -> SpoolFile:
    """Return a new spool, owned by this process; raises StreamUnavailable."""
    name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
    lock = OwnerLock.acquire(folder / f"{name}{LOCK_SUFFIX}")
    if lock is None:
        raise StreamUnavailable(f"spool {folder}: the lock {name}{LOCK_SUFFIX} is taken; it is tried again")
    return SpoolFile(lock, stream, max_bytes)


def adopted_spools(
    folder: Path, stream: str | None, max_bytes: int, complaints: Complaints, *, but: Collection[Path] = ()
) -> Iterator[SpoolFile]:
    """Take over and yield the spools of a stream, None for any, whose owners are dead; the oldest first, unread.

    Those of other users are left alone, other than by root, and so are those in `but`.
    """
    names = {path.stem for suffix in (SUFFIX, LOCK_SUFFIX) for path in folder.glob(f"*{suffix}")}
    for path in (folder / f"{name}{SUFFIX}" for name in sorted(names)):
        if path in but:
            continue
        try:
            lock = OwnerLock.acquire(path.with_suffix(LOCK_SUFFIX))
        except StreamUnavailable as error:
            if getattr(error.__cause__, "errno", 0) not in _NOT_OURS:
                complaints.add("spool of another process not adopted", str(error))
            continue
        if lock is None:
            continue
        if not _is_ours(path):
            lock.release(remove=False)
        elif not path.exists():  # its owner finished with it, or was killed when it was about to
            lock.release(remove=True)
        elif not _is_of(path, stream, complaints):
            lock.release(remove=False)
        else:
            yield SpoolFile(lock, stream or "", max_bytes, loaded=False)


def _is_ours(path: Path) -> bool:
    """Tell whether a file may be shipped: what others put into the folder could hold events that nobody emitted."""
    for part in parts(path):
        try:
            found = part.lstat()
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(found.st_mode) or os.geteuid() not in (0, found.st_uid):
            return False
    return True


def _is_of(path: Path, stream: str | None, complaints: Complaints) -> bool:
    """Tell whether a spool is of a stream, as one is that doesn't say so any more: to be counted, or set aside."""
    if stream is None:
        return True
    try:
        return stream_of(path) in (stream, None)
    except sqlite3.Error as error:
        complaints.add("spool of another process not adopted", f"{path}: it can't be read: {error}")
        return False


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """One spool: its file, whether its owner lives and its process id, the stream, and what waits in it.

    `oldest` is when the oldest event was spooled, in milliseconds since 1970, None where there is none. `problem` says
    why it can't be read, and is empty where it can.
    """

    path: Path
    owner_alive: bool
    owner_pid: str
    stream: str
    events: int
    refused: int
    bytes: int
    oldest: int | None
    problem: str


def statuses(folder: Path) -> list[SpoolStatus]:
    """Return all spools of a folder, also those that were set aside as damaged; the oldest first."""
    return [_status(path) for path in [*spool_files(folder), *sorted(folder.glob(f"*{DAMAGED_SUFFIX}"))]]


def spool_files(folder: Path) -> list[Path]:
    """Return the spool files of a folder, the oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def stream_of(path: Path) -> str | None:
    """Return the stream that a spool remembers; None where it is damaged or empty.

    Raises sqlite3.Error where it can't be read now.
    """
    try:
        with closing(_look(path)) as connection:
            row = connection.execute("SELECT stream FROM spool").fetchone()
    except sqlite3.Error as error:
        if int(getattr(error, "sqlite_errorcode", 0)) & 0xFF not in _NO_STREAM:
            raise
        return None
    return None if row is None else str(row[0])


def _status(path: Path) -> SpoolStatus:
    lock = path.with_suffix(LOCK_SUFFIX)
    alive = is_held(lock)
    size = taken(path)
    try:
        with closing(_look(path)) as connection:
            stream = str(connection.execute("SELECT stream FROM spool").fetchone()[0])
            events, refused = connection.execute(COUNTS).fetchone()
            oldest = connection.execute(OLDEST, (0,)).fetchone()[0]
    except (sqlite3.Error, TypeError) as error:
        return SpoolStatus(path, alive, signed_by(lock), "", 0, 0, size, None, f"it can't be read: {error}")
    problem = "set aside as damaged" if path.suffix == DAMAGED_SUFFIX else ""
    return SpoolStatus(path, alive, signed_by(lock), stream, events, refused, size, oldest, problem)


def _look(path: Path) -> sqlite3.Connection:
    """Open a file without making it; what is not in the main file yet is read, too."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=1.0)
