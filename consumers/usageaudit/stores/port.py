"""The analytics store as everything else sees it: SQL in ClickHouse's dialect, and native blocks that go in whole.

Three adapters here implement this port whole: `clickhouse` (a server, over its native protocol), `replicated` (several
that are replicas of each other) and `embedded` (chDB, the same engine in this process). A fourth, of the command line,
passes a person's queries to the process that holds an embedded store, and refuses the rest. What the SQL says is not
their business; see `ledger`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from usageaudit.stores.native import NativeBlock

Parameters = Mapping[str, Any]
"""Values of `{name:Type}` placeholders: bound by the engine, never pasted into the text."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A result: names and ClickHouse types of its columns, and its rows as tuples of Python values."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a query may use before it is stopped; `long_text` is for SQL that was generated, not typed."""

    seconds: float = 60.0
    memory_bytes: int = 2 * 1024**3
    result_rows: int = 1_000_000
    long_text: bool = False


@dataclass(frozen=True, slots=True)
class Insert:
    """One INSERT of one block, which becomes one data part: all of it lands or nothing.

    `unless` is a scalar subquery with `parameters`: where it is true the insert is refused and Fenced is raised.
    """

    table: str
    block: NativeBlock
    query_id: str
    unless: str = ""
    parameters: Parameters = field(default_factory=dict)


class Store(Protocol):
    """A ClickHouse engine. One instance belongs to one thread; `another()` makes one for another thread.

    Every call may raise StoreUnavailable, after which it may be made again, and QueryError for SQL that the engine
    refuses, now as later.
    """

    @abstractmethod
    def execute(self, sql: str, parameters: Parameters | None = None, *, query_id: str | None = None) -> Rows:
        """Run a statement of usageaudit's own: DDL, small inserts, and reads.

        Where the answer was lost or the engine broke off, a write may have been done: write what may be repeated.
        """

    @abstractmethod
    def look_up(self, sql: str, name: str, block: NativeBlock) -> Rows:
        """Run a read that may join the temporary table `name`, which has the columns and rows of a block."""

    @abstractmethod
    def query(self, sql: str, parameters: Parameters | None = None, limits: Limits | None = None) -> Rows:
        """Run one statement of a person: raises QueryRefused where it is not read-only or goes over a limit."""

    @abstractmethod
    def insert(self, insert: Insert) -> None:
        """Write a block.

        Raises StoreUnavailable or Fenced (nothing was written) or OutcomeUnknown (it may have been, or may yet be).
        """

    @abstractmethod
    def kill(self, query_id_prefix: str) -> None:
        """End every running statement whose query id starts so, and return when they are gone."""

    @abstractmethod
    def another(self) -> Store:
        """Return a store of the same address for another thread."""

    @abstractmethod
    def close(self) -> None:
        """Give the connection back."""


@runtime_checkable
class Replicated(Store, Protocol):
    """A store of several servers that hold the same tables; every other call goes to one of them.

    `kill` ends the statements on all of them: it raises StoreUnavailable where one that may be writing can't be
    reached. What begins anywhere after it has returned sees what was written to the fence before it was called.
    """

    @property
    @abstractmethod
    def cluster(self) -> str:
        """The name of the cluster in the servers' configuration."""

    @property
    @abstractmethod
    def replicas(self) -> Sequence[Store]:
        """Each of the servers by itself."""

    @abstractmethod
    def staying(self) -> AbstractContextManager[str]:
        """Have every call go to one of them, and fail where that goes away; yields which one it is.

        Otherwise a call goes on at the next one, which has caught up with the ledger alone.
        """

    @abstractmethod
    def catch_up(self, table: str = "ledger") -> None:
        """Return when the server that answers reads, and most of all, have every row that a table got before."""
