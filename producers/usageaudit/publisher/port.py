"""The stream as a publisher sees it: records go in, and each is acknowledged, refused, or has to be sent again.

Two adapters implement this port, `kafka` and `embedded`.
"""

from __future__ import annotations

import sqlite3
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from usageaudit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usageaudit.embedded_log import NewRecord


@dataclass(frozen=True, slots=True)
class Unsent:
    """Why a record was not acknowledged; `refused` where sending it again would change nothing."""

    reason: str
    refused: bool


def is_lasting(error: Exception) -> bool:
    """Tell whether what `ship` raised stays as it is until somebody does something about it."""
    cause = error.__cause__
    damaged = isinstance(cause, sqlite3.Error) and _primary_code(cause) in (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    )
    return isinstance(error, ConfigurationError) or damaged


def _primary_code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


class Outlet(Protocol):
    """The writing side of a stream. One thread owns it; it connects when it first ships."""

    group_records: int
    """How many records it takes at once at best."""

    @abstractmethod
    def ship(self, records: Sequence[NewRecord]) -> Sequence[Unsent | None]:
        """Append records in order; return for each of them None when it is durable, or why it was not acknowledged.

        Waits for a stream that was reached once, until `halt` is called. Raises StreamUnavailable or ConfigurationError
        where nothing was acknowledged; the same records may then be shipped again.
        """

    def halt(self) -> None:
        """Let a `ship` that waits give up; called by another thread."""

    def close(self) -> None:
        """Let go of the stream without waiting."""

    def abandon(self) -> None:
        """In a forked child: forget the parent's connections without touching them."""
