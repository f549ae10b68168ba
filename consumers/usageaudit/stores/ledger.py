"""The ledger as the consumer needs it: take a partition over, read back, write a batch, keep what goes with it.

A batch is one fenced insert of one block. Whoever takes a partition over first writes a higher epoch, then ends the
inserts that are still running for it, and only then reads back: an insert that began before the epoch is seen by the
second step, one that begins after it is refused by the first.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from usageaudit.stores.fencing import fence_of, named, query_prefix
from usageaudit.stores.native import NativeBlock
from usageaudit.stores.offsets import Offsets
from usageaudit.stores.port import Insert, Replicated

if TYPE_CHECKING:
    from collections.abc import Collection

    from usageaudit.stores.port import Parameters, Store
    from usageaudit.streams.port import Partition

__all__ = ["BundleToKeep", "EventKey", "Finding", "Ledger", "Offsets", "RejectedRecord"]

EventKey = tuple[int, str, str]
"""Event time in microseconds since 1970, source, id."""

RejectedRecord = tuple[int, bytes, Sequence[str], Sequence[bytes]]
"""Offset, bytes, and names and values of the headers."""

_OF_PARTITION = "stream = {stream:String} AND topic = {topic:String} AND partition = {partition:UInt32}"

_END = f"SELECT count(), max(offset) + 1 FROM ledger WHERE {_OF_PARTITION}"
_END_FROM = f"{_END} AND `offset` >= {{start:UInt64}}"
# Offsets that follow each other without a gap have the same distance from their rank.
_PRESENT = f"""SELECT min(o), max(o) FROM (
    SELECT o, toInt64(o) - toInt64(row_number() OVER (ORDER BY o)) AS run
    FROM (SELECT DISTINCT `offset` AS o FROM ledger WHERE {_OF_PARTITION} AND `offset` >= {{start:UInt64}})
) GROUP BY run ORDER BY min(o)"""

_KEYS = (("event_time", "DateTime64(6, 'UTC')"), ("event_source", "String"), ("event_id", "String"))
_ACCEPTED = """SELECT DISTINCT toUnixTimestamp64Micro(event_time), event_source, event_id FROM ledger
WHERE (event_time, event_source, event_id) IN keys AND status = 'accepted'"""

_REJECTED = (
    ("stream", "LowCardinality(String)"),
    ("topic", "LowCardinality(String)"),
    ("partition", "UInt32"),
    ("ingest_time", "DateTime64(3, 'UTC')"),
    ("offset", "UInt64"),
    ("payload", "String"),
    ("header_names", "Array(String)"),
    ("header_values", "Array(String)"),
)
_BUNDLE = """INSERT INTO bundles_log (hash, name, archive, loaded_by, loaded_at, git_commit)
SELECT {hash:String}, {name:String}, {archive:String}, {loaded_by:String}, now64(3, 'UTC'), {git_commit:String}
WHERE (SELECT count() FROM bundles_log WHERE hash = {hash:String}) = 0"""
_APPROVALS = """INSERT INTO policy_approvals_log (bundle, policy_id, policy_version, digest, approved_by, reason,
    approved_at, current, recorded_at)
SELECT {bundle:String}, policy_id, policy_version, digest, approved_by, reason,
    fromUnixTimestamp64Micro(date, 'UTC'), current, now64(3, 'UTC')
FROM (SELECT 1)
ARRAY JOIN {policies:Array(String)} AS policy_id, {versions:Array(UInt32)} AS policy_version,
    {digests:Array(String)} AS digest, {names:Array(String)} AS approved_by, {reasons:Array(String)} AS reason,
    {dates:Array(Int64)} AS date, {current:Array(UInt8)} AS current
WHERE (SELECT count() FROM policy_approvals_log WHERE bundle = {bundle:String}) = 0"""
_FINDING = """INSERT INTO findings_log (finding_id, kind, effect, policy_id, policy_version, bundle, severity,
    window_start, window_end, group_key, event_refs, message, created)
SELECT {finding_id:String}, {kind:String}, {effect:String}, {policy_id:String}, {policy_version:UInt32},
    {bundle:String}, {severity:String}, {window_start:DateTime64(6, 'UTC')}, {window_end:DateTime64(6, 'UTC')},
    {group_key:String}, {event_refs:Array(Tuple(source String, id String))}, {message:String}, now64(3, 'UTC')
WHERE (SELECT count() FROM findings_log WHERE finding_id = {finding_id:String}) = 0"""


class BundleToKeep(Protocol):
    """A policy bundle as the store keeps it: `archive` is enough to judge with it again."""

    @property
    def hash(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def commit(self) -> str | None: ...  # noqa: D102
    def archive(self) -> bytes: ...  # noqa: D102


class ApprovalOfPolicy(Protocol):
    """Who approved a policy, which meaning of it, why, and when, in microseconds since 1970."""

    @property
    def policy_id(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def digest(self) -> str: ...
    @property
    def approved_by(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def date(self) -> int: ...


class ApprovalToKeep(Protocol):
    """An approval in a bundle; `current` says whether the policy still means there what was approved."""

    @property
    def approval(self) -> ApprovalOfPolicy: ...
    @property
    def current(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Finding:
    """What belongs to no single record; the same `finding_id` says that it is the same finding."""

    finding_id: str
    kind: str
    effect: str
    message: str
    window_start: dt.datetime
    window_end: dt.datetime
    severity: str = "info"
    policy_id: str = ""
    policy_version: int = 0
    bundle: str = ""
    group_key: str = ""
    event_refs: Sequence[tuple[str, str]] = ()


class Ledger:
    """The ledger of a store, for one thread.

    Every call may raise StoreUnavailable, after which it may be made again; `record` and `keep_rejected` raise
    OutcomeUnknown where reading back has to find out.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._fence = store, fence_of(store)

    def fence(self, partition: Partition, owner: str) -> int:
        """Take a partition over and return its new epoch; when this returns nobody else's insert can land any more.

        What was recorded before can be read back then.
        """
        epoch = self._fence.raise_epoch(partition, f"{owner} {uuid.uuid4().hex}")
        self._store.kill(query_prefix(partition))
        if isinstance(self._store, Replicated):
            self._store.catch_up()
        return epoch

    def end(self, partition: Partition, near: int | None = None) -> int | None:
        """Return the offset after the last one recorded, None where none is.

        `near` is an offset that is probably recorded, such as the last one acknowledged. The index of offsets finds
        what lies from it on; without it, or where nothing does, every row of the ledger is looked at.
        """
        if near is not None:
            count, end = self._store.execute(_END_FROM, {**named(partition), "start": max(near, 0)}).rows[0]
            if count:
                return int(end)
        count, end = self._store.execute(_END, named(partition)).rows[0]
        return int(end) if count else None

    def present(self, partition: Partition, start: int) -> Offsets:
        """Return which offsets from `start` on are recorded."""
        rows = self._store.execute(_PRESENT, {**named(partition), "start": start}).rows
        return Offsets((int(first), int(last)) for first, last in rows)

    def accepted(self, keys: Collection[EventKey]) -> set[EventKey]:
        """Return those of the keys whose event was accepted, in whatever partition."""
        if not keys:
            return set()
        block = NativeBlock(_KEYS)
        block.add_rows(list(keys))
        return set(self._store.look_up(_ACCEPTED, "keys", block).rows)

    def record(self, block: NativeBlock, partition: Partition, epoch: int, number: int, *, bundle: str) -> None:
        """Write a batch: a block of the ledger's columns whose batch columns are constants, set here.

        Raises Fenced where the partition was taken over since `epoch`, OutcomeUnknown where the batch may be there.
        """
        constants = {**named(partition), "ingest_time": _now_ms(), "epoch": epoch, "batch": number, "bundle": bundle}
        for name, value in constants.items():
            block.set_constant(name, value)
        query_id = f"{query_prefix(partition)}{epoch}/{number}"
        parameters = self._fence.parameters(partition, epoch)
        self._store.insert(Insert("ledger", block, query_id, self._fence.taken_over, parameters))

    def keep_rejected(self, partition: Partition, records: Sequence[RejectedRecord]) -> None:
        """Keep bytes and headers of rejected records; what is kept twice is read once."""
        block = NativeBlock(_REJECTED, [name for name, _ in _REJECTED[:4]])
        block.add_rows(records)
        for name, value in {**named(partition), "ingest_time": _now_ms()}.items():
            block.set_constant(name, value)
        query_id = f"rejected/{uuid.uuid4().hex}"
        self._store.insert(Insert("rejected_payloads", block, query_id))

    def keep_bundle(self, bundle: BundleToKeep, loaded_by: str) -> None:
        """Keep a policy bundle, once."""
        self._keep(
            "bundles_log",
            _BUNDLE,
            {
                "hash": bundle.hash,
                "name": bundle.name,
                "archive": bundle.archive(),
                "loaded_by": loaded_by,
                "git_commit": bundle.commit or "",
            },
        )

    def keep_approvals(self, bundle_hash: str, approvals: Sequence[ApprovalToKeep]) -> None:
        """Keep the approvals of a bundle, once and all together."""
        if not approvals:
            return
        found = [one.approval for one in approvals]
        self._keep(
            "policy_approvals_log",
            _APPROVALS,
            {
                "bundle": bundle_hash,
                "policies": [one.policy_id for one in found],
                "versions": [one.version for one in found],
                "digests": [one.digest for one in found],
                "names": [one.approved_by for one in found],
                "reasons": [one.reason for one in found],
                "dates": [one.date for one in found],
                "current": [int(one.current) for one in approvals],
            },
        )

    def bundle_archive(self, bundle_hash: str) -> bytes | None:
        """Return the archive of a bundle, None where it was never kept."""
        sql = "SELECT archive FROM bundles_log WHERE hash = {hash:String} LIMIT 1"
        rows = self._store.execute(sql, {"hash": bundle_hash}).rows
        archive = rows[0][0] if rows else None
        return archive.encode() if isinstance(archive, str) else archive

    def add_finding(self, finding: Finding) -> None:
        """Append a finding, unless there is one with its id."""
        self.add_findings([finding])

    def add_findings(self, findings: Sequence[Finding]) -> None:
        """Append findings, except those whose id there is."""
        if not findings:
            return
        for finding in findings:
            values = {name: getattr(finding, name) for name in Finding.__slots__}
            self._store.execute(_FINDING, {**values, "event_refs": list(finding.event_refs)})
        self._outlive("findings_log")

    def _keep(self, table: str, sql: str, values: Parameters) -> None:
        """Write what is written once."""
        self._store.execute(sql, values)
        self._outlive(table)

    def _outlive(self, table: str) -> None:
        """Return when what was written to a table outlives the server that took it: who wrote it goes on then."""
        if isinstance(self._store, Replicated):
            self._store.catch_up(table)

    def add_offset_gap(self, partition: Partition, first: int, last: int, *, acknowledged: bool = False) -> None:
        """Append the finding that the stream dropped the offsets [first, last) before they were recorded.

        Where they had been acknowledged it can't be told whether they held any records, so it is no sure loss.
        """
        what = "were dropped by the stream before they were read"
        if acknowledged:
            what = (
                "were acknowledged and are neither recorded nor in the stream: the store lost rows, or they were none"
            )
        now = dt.datetime.now(dt.UTC)
        place = [partition.stream, partition.topic, str(partition.number), str(first), str(last)]
        self.add_finding(
            Finding(
                finding_id=hashlib.sha256("\0".join(["offset_gap", *place]).encode()).hexdigest()[:32],
                kind="offset_gap",
                effect="notice",
                message=f"{partition}: offsets {first} to {last - 1} {what}",
                window_start=now,
                window_end=now,
                severity="medium" if acknowledged else "critical",
                group_key="/".join(place),
            )
        )


def _now_ms() -> int:
    return int(dt.datetime.now(dt.UTC).timestamp() * 1000)
