"""What was decided, each step's decisions as one block: all of them are kept, or none is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from usageaudit.ledger.ddl import ALERT_DECISIONS
from usageaudit.stores.fencing import fence_of, query_prefix
from usageaudit.stores.native import NativeBlock
from usageaudit.stores.port import Insert
from usageaudit.stores.settling import settle
from usageaudit.streams.port import Partition

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from usageaudit.ledger.ddl import Table
    from usageaudit.stores.port import Store
    from usageaudit.verdicts import Severity

Outcome = Literal["opened", "gathered", "unrouted", "cleared", "resolved", "unchanged"]
LEASE = "alerts"
PARTITION = Partition("usageaudit", LEASE, 0)
"""Where the fence has the epochs of the dispatcher's lease."""
TABLES = ("alert_decisions", "alert_deliveries_log", "alert_progress")
_ROWS_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Subject:
    """A violation, or a row of a finding: what is decided about. Times are of 1970, in the unit of their name.

    `values` are those of the fields that alerts of its policy are gathered by.
    """

    violation_id: str
    recorded_ms: int
    kind: str
    policy_id: str
    policy_version: int
    severity: Severity
    time_us: int
    event_source: str = ""
    event_id: str = ""
    application: str = ""
    team: str = ""
    organization: str = ""
    model: str = ""
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[int, str]:
        """Return by what its decision is found."""
        return self.recorded_ms, self.violation_id


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about a subject; alert, gathering, routes and targets are empty where nobody is told."""

    subject: Subject
    outcome: Outcome
    alert_id: str = ""
    gathering: str = ""
    routes: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()


class Journal:
    """Appends blocks for who holds the lease; those of a lower epoch are refused."""

    def __init__(self, store: Store) -> None:
        self._store, self._fence = store, fence_of(store)
        self._number = 0

    def recover(self) -> None:
        """End what a dispatcher before was writing, and return when all that was written can be read."""
        self._store.kill(query_prefix(PARTITION))
        self.catch_up()

    def catch_up(self) -> None:
        """Return when all that was written can be read from the replica that is spoken to now."""
        settle(self._store, "ledger", "findings_log", *TABLES)

    def keep(self, decisions: Sequence[Decision], epoch: int, now_ms: int) -> None:
        """Append decisions. Raises Fenced, OutcomeUnknown and StoreUnavailable."""
        block = NativeBlock(columns(ALERT_DECISIONS), ("epoch", "decided_at"))
        for start in range(0, len(decisions), _ROWS_AT_ONCE):
            block.add_rows([_row(one) for one in decisions[start : start + _ROWS_AT_ONCE]])
        self.append(ALERT_DECISIONS, block, epoch, {"epoch": epoch, "decided_at": now_ms})

    def append(self, table: Table, block: NativeBlock, epoch: int, constants: Mapping[str, object]) -> None:
        """Append a block to a table. Raises Fenced, OutcomeUnknown and StoreUnavailable."""
        for name, value in constants.items():
            block.set_constant(name, value)
        self._number += 1
        query_id = f"{query_prefix(PARTITION)}{epoch}/{self._number}"
        parameters = self._fence.parameters(PARTITION, epoch)
        self._store.insert(Insert(table.name, block, query_id, self._fence.taken_over, parameters))


def columns(table: Table) -> list[tuple[str, str]]:
    """Return names and types of a table's columns."""
    return [(column.name, column.type) for column in table.columns]


def decided(store: Store, subjects: Collection[Subject]) -> set[tuple[int, str]]:
    """Return the keys of those subjects that something was decided about."""
    block = NativeBlock([("recorded", "DateTime64(3, 'UTC')"), ("violation_id", "String")])
    keys = [one.key for one in subjects]
    if not keys:
        return set()
    for start in range(0, len(keys), _ROWS_AT_ONCE):
        block.add_rows(keys[start : start + _ROWS_AT_ONCE])
    first, last = min(keys)[0], max(keys)[0]
    found = store.look_up(
        "SELECT toUnixTimestamp64Milli(recorded), violation_id FROM alert_decisions "
        f"WHERE recorded >= fromUnixTimestamp64Milli({first}, 'UTC') "
        f"AND recorded <= fromUnixTimestamp64Milli({last}, 'UTC') "
        "AND (recorded, violation_id) IN (SELECT recorded, violation_id FROM asked)",
        "asked",
        block,
    )
    return {(int(recorded), str(name)) for recorded, name in found.rows}


def _row(one: Decision) -> tuple[object, ...]:
    subject = one.subject
    return (
        *(subject.violation_id, subject.recorded_ms, one.outcome, one.alert_id, one.gathering, subject.kind),
        *(subject.policy_id, subject.policy_version, subject.severity, subject.values),
        *(subject.event_source, subject.event_id, subject.time_us, one.routes, one.targets),
    )
