"""The store as the replicas of one shard of ClickHouse, behind the port `Store`.

What it adds to one server: another replica is taken where one can't be reached; a write is on most replicas before it
counts as done; a replica is asked only after it has caught up with the others; KILL goes to every replica. Where a
replica that may still be writing can't be reached, KILL fails, for nobody knows what will yet land there.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from usageaudit.errors import OutcomeUnknown, QueryError, StoreUnavailable
from usageaudit.ledger.ddl import TABLES
from usageaudit.stores.clickhouse import ClickHouseStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from usageaudit.stores.address import ClusterAddress
    from usageaudit.stores.native import NativeBlock
    from usageaudit.stores.port import Insert, Limits, Parameters, Rows

_LEDGER = "ledger"
_REPLICATED = frozenset(table.name for table in TABLES)
_SYNC = "SYSTEM SYNC REPLICA {table} LIGHTWEIGHT"
_OF_LEDGER = "FROM system.replicas WHERE database = currentDatabase() AND table = 'ledger'"
_NAME = f"SELECT replica_name {_OF_LEDGER}"
_REGISTERED = f"SELECT replica_name, mapKeys(replica_is_active) {_OF_LEDGER}"
# What a server has written to Keeper comes after what was there before: its next reads see that, too. Reads alone may
# be answered by a member of a Keeper ensemble that lags, and SYNC reads what there is to catch up with.
_SEE_THE_FENCE = """INSERT INTO fence (partition_key, stream, topic, partition, epoch, owner, taken_at)
SELECT concat('replica/', getMacro('replica')), '', '', 0, 0, '', now64(3, 'UTC') SETTINGS keeper_map_strict_mode = 0"""
_GREETING = (_SEE_THE_FENCE, _SYNC.format(table=_LEDGER))
_NO_TABLE = "(code 60)"
_AWAY_SECONDS = 60.0
"""For so long a replica that did not catch up is asked after the others."""

SETTINGS: Mapping[str, int | float | str] = {
    "insert_deduplicate": 0,
    # Where the replica that alone has a block dies, the others may declare its quorum failed and go on without it, and
    # it comes back with that replica. Instead most have a block when they have caught up after the insert.
    "insert_quorum": 0,
    # In seconds: how long a replica may take to catch up.
    "receive_timeout": 10,
    "distributed_ddl_task_timeout": 40,
    "distributed_ddl_output_mode": "throw",
    # A change of a replicated table is over when every replica has made it.
    "alter_sync": 2,
    # In Keeper what is there is not overwritten, and what is changed is what was read.
    "keeper_map_strict_mode": 1,
}


class ReplicatedStore:
    """The replicas as one store: one of them is spoken to until it fails, then the next.

    A new connection waits until the replica has what the others had when it was opened.
    """

    def __init__(self, address: ClusterAddress) -> None:
        self._address = address
        self._answering = [ClickHouseStore(one, SETTINGS, _GREETING) for one in address.replicas]
        # Apart from those that answer: a replica that lags has to be fenced, and does not answer.
        self._each = [ClickHouseStore(one, SETTINGS) for one in address.replicas]
        self._away_until = dict.fromkeys(range(len(self._each)), 0.0)
        self._caught_up_last = 0
        self._current = 0
        self._stays = False

    @property
    def cluster(self) -> str:
        """The name of the cluster in the servers' configuration."""
        return self._address.name

    @property
    def replicas(self) -> Sequence[ClickHouseStore]:
        """Each replica by itself."""
        return self._each

    def execute(self, sql: str, parameters: Parameters | None = None, *, query_id: str | None = None) -> Rows:
        """Run a statement on one replica; see the port."""
        with self._reached() as replica:
            return replica.execute(sql, parameters, query_id=query_id)

    def look_up(self, sql: str, name: str, block: NativeBlock) -> Rows:
        """Run a read that may join the rows of a block as the temporary table `name`."""
        with self._reached(caught_up=True) as replica:
            return replica.look_up(sql, name, block)

    def query(self, sql: str, parameters: Parameters | None = None, limits: Limits | None = None) -> Rows:
        """Run one statement of a person, read-only and within limits; see the port."""
        with self._reached() as replica:
            return replica.query(sql, parameters, limits)

    def insert(self, insert: Insert) -> None:
        """Write a block as one data part on one replica, and wait until most have it; see the port."""
        with self._reached(caught_up=True) as replica:
            replica.insert(insert)
        if insert.table not in _REPLICATED:
            return
        try:
            self._most_catch_up(replica, insert.table)
        except StoreUnavailable as error:
            raise OutcomeUnknown(f"insert {insert.query_id}: one replica has it: {error}; read back") from None

    def kill(self, query_id_prefix: str) -> None:
        """End the statements whose id starts so, on every replica.

        Raises StoreUnavailable where a replica of the ledger, or a host of the URL while there is no ledger, can't be
        reached.
        """
        with self._reached() as current:
            _, registered = _registered(current)
        ended, failed = set[str](), list[str]()
        for replica in self._each:
            try:
                ended.add(_end_statements(replica, query_id_prefix))
            except StoreUnavailable as error:
                failed.append(str(error))
        if registered - ended or (failed and not registered):
            raise _unfenced(sorted(registered - ended), failed)

    @contextmanager
    def staying(self) -> Iterator[str]:
        """Have every call go to one replica, or raise StoreUnavailable where it goes away; see the port."""
        replica = self._connected_replica()
        self._stays = True
        try:
            yield str(replica)
        finally:
            self._stays = False

    def catch_up(self, table: str = _LEDGER) -> None:
        """Wait until the replica that is spoken to, and most of all, have all that was written to a table.

        What is read then is on most of them, so that it outlives the loss of one.
        """
        with self._reached() as current:
            _sync(current, table)
        self._most_catch_up(current, table)

    def _most_catch_up(self, current: ClickHouseStore, table: str) -> None:
        """Wait until most replicas have what the current one has; the same one listed twice counts once."""
        own, registered = _registered(current)
        most = len(registered) // 2 + 1
        synced, failed = {own}, list[str]()
        for place in self._others(self._answering.index(current)):
            if len(synced & registered) >= most:
                return
            try:
                synced.add(_sync(self._each[place], table))
            except StoreUnavailable as error:
                failed.append(str(error))
                self._away_until[place] = time.monotonic() + _AWAY_SECONDS
            else:
                self._away_until[place], self._caught_up_last = 0.0, place
        if len(synced & registered) < most:
            raise StoreUnavailable(f"only {len(synced)} replicas have all that was recorded: {'; '.join(failed)}")

    def _others(self, current: int) -> list[int]:
        """Return the places of the others: first the one that caught up last, last those that did not of late."""
        now = time.monotonic()
        others = [place for place in self._away_until if place != current]
        return sorted(others, key=lambda place: (self._away_until[place] > now, place != self._caught_up_last))

    def another(self) -> ReplicatedStore:
        """Return a store of the same address for another thread."""
        return ReplicatedStore(self._address)

    def close(self) -> None:
        """Close the connections; the next call would open one again."""
        for replica in (*self._answering, *self._each):
            replica.close()

    @contextmanager
    def _reached(self, *, caught_up: bool = False) -> Iterator[ClickHouseStore]:
        """Give a replica that can be reached; where it fails, the next call begins with the one after it.

        Raises QueryError where it has to have caught up and its connection could not begin with that.
        """
        replica = self._connected_replica()
        if caught_up and replica.refusals:
            raise replica.refusals[0]
        try:
            yield replica
        except (StoreUnavailable, OutcomeUnknown):
            self._current += 1
            raise

    def _connected_replica(self) -> ClickHouseStore:
        """Return a replica that has tables, or any where none has, as before the first migration."""
        failed, empty = list[str](), list[ClickHouseStore]()
        for _ in self._answering:
            replica = self._answering[self._current % len(self._answering)]
            try:
                replica.connect()
            except StoreUnavailable as error:
                if self._stays:
                    self._current += 1
                    raise
                failed.append(str(error))
            else:
                if not any(_NO_TABLE in str(error) for error in replica.refusals):
                    return replica
                empty.append(replica)
                replica.close()  # it may have tables when it is connected to again
            self._current += 1
        if empty and not failed:
            return empty[0]
        failed += [f"ClickHouse at {replica} has no tables: run usageaudit migrate" for replica in empty]
        raise StoreUnavailable("no replica can be used: " + "; ".join(failed))


def _registered(replica: ClickHouseStore) -> tuple[str, set[str]]:
    """Return a replica's name, and those of all of the ledger, there or not; none where it has no table."""
    for own, names in replica.execute(_REGISTERED).rows:
        if not names:
            raise StoreUnavailable("Keeper does not say which replicas there are: is it running, and are most of it")
        return str(own), {str(name) for name in names}
    return "", set()


def _sync(replica: ClickHouseStore, table: str) -> str:
    """Wait until a replica has all that was written to a table, and return the name that the others know it by."""
    try:
        replica.execute(_SEE_THE_FENCE)
        replica.execute(_SYNC.format(table=table))
    except QueryError as error:
        if _NO_TABLE not in str(error):
            raise
        raise StoreUnavailable(f"ClickHouse at {replica} lacks tables: run usageaudit migrate ({error})") from None
    return "".join(str(name) for (name,) in replica.execute(_NAME).rows)


def _end_statements(replica: ClickHouseStore, query_id_prefix: str) -> str:
    """End a replica's statements, and return the name that the others know it by; empty where it has no ledger."""
    names = [str(name) for (name,) in replica.execute(_NAME).rows]
    if names:
        replica.execute(_SEE_THE_FENCE)
    replica.kill(query_id_prefix)
    return names[0] if names else ""


def _unfenced(missing: Sequence[str], failed: Sequence[str]) -> StoreUnavailable:
    which = f"replica {', '.join(missing)}" if missing else "a host of the store's URL"
    return StoreUnavailable(
        f"{which} can't be reached, and an earlier owner's insert may still be under way there, so no partition is "
        f"taken over until it is back. Start it again, or list it in the store's URL if it is not there; if it is gone "
        f"for good, remove it: SYSTEM DROP REPLICA '{missing[0] if missing else 'NAME'}' on another replica"
        + "".join(f"; {reason}" for reason in failed)
    )
