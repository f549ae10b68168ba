"""The store as the replicas of one shard of ClickHouse, behind the port `Store`.

What it adds to one server: another replica is taken where one can't be reached; a write is on most replicas before it
counts as done; a replica is asked only after it has caught up with the others; KILL goes to every replica. Where a
replica that may still be writing can't be reached, KILL fails, for nobody knows what will yet land there.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from usageaudit.errors import OutcomeUnknown, StoreUnavailable
from usageaudit.stores.clickhouse import ClickHouseStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from usageaudit.stores.address import ClusterAddress
    from usageaudit.stores.native import NativeBlock
    from usageaudit.stores.port import Insert, Limits, Parameters, Rows

_SYNC = "SYSTEM SYNC REPLICA ledger LIGHTWEIGHT"
_OF_LEDGER = "FROM system.replicas WHERE database = currentDatabase() AND table = 'ledger'"
_NAME = f"SELECT replica_name {_OF_LEDGER}"
_REGISTERED = f"SELECT mapKeys(replica_is_active) {_OF_LEDGER}"
# What a server has written to Keeper comes after what was there before: its next reads see that, too. Reads alone may
# be answered by a member of a Keeper ensemble that lags.
_SEE_THE_FENCE = """INSERT INTO fence (partition_key, stream, topic, partition, epoch, owner, taken_at)
SELECT concat('replica/', getMacro('replica')), '', '', 0, 0, '', now64(3, 'UTC') SETTINGS keeper_map_strict_mode = 0"""

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
        self._answering = [ClickHouseStore(one, SETTINGS, _SYNC) for one in address.replicas]
        # Apart from those that answer: a replica that lags has to be fenced, and does not answer.
        self._each = [ClickHouseStore(one, SETTINGS) for one in address.replicas]
        self._current = 0

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
        with self._reached() as replica:
            return replica.look_up(sql, name, block)

    def query(self, sql: str, parameters: Parameters | None = None, limits: Limits | None = None) -> Rows:
        """Run one statement of a person, read-only and within limits; see the port."""
        with self._reached() as replica:
            return replica.query(sql, parameters, limits)

    def insert(self, insert: Insert) -> None:
        """Write a block as one data part on one replica, and wait until most have it; see the port."""
        with self._reached() as replica:
            replica.insert(insert)
        try:
            self._most_catch_up(replica)
        except StoreUnavailable as error:
            raise OutcomeUnknown(f"insert {insert.query_id}: one replica has it: {error}; read back") from None

    def kill(self, query_id_prefix: str) -> None:
        """End the statements whose id starts so, on every replica.

        Raises StoreUnavailable where a replica of the ledger, or a host of the URL while there is no ledger, can't be
        reached.
        """
        registered = self._registered()
        ended, failed = set[str](), list[str]()
        for replica in self._each:
            try:
                ended.add(_end_statements(replica, query_id_prefix))
            except StoreUnavailable as error:
                failed.append(str(error))
        if registered - ended or (failed and not registered):
            raise _unfenced(sorted(registered - ended), failed)

    def catch_up(self) -> None:
        """Wait until the replica that is spoken to, and most of those of the ledger, have all that was recorded.

        What has been read back is then as safe as what a quorum has confirmed.
        """
        with self._reached() as current:
            current.execute(_SYNC)
        self._most_catch_up(current)

    def _most_catch_up(self, current: ClickHouseStore) -> None:
        """Wait until most replicas have what the current one has."""
        most = len(self._registered()) // 2 + 1
        place = self._answering.index(current)
        synced, failed = 1, list[str]()
        for replica in (*self._each[:place], *self._each[place + 1 :]):
            if synced < most:
                try:
                    replica.execute(_SYNC)
                    synced += 1
                except StoreUnavailable as error:
                    failed.append(str(error))
        if synced < most:
            raise StoreUnavailable(f"only {synced} replicas have all that was recorded: {'; '.join(failed)}")

    def another(self) -> ReplicatedStore:
        """Return a store of the same address for another thread."""
        return ReplicatedStore(self._address)

    def close(self) -> None:
        """Close the connections; the next call would open one again."""
        for replica in (*self._answering, *self._each):
            replica.close()

    def _registered(self) -> set[str]:
        """Return the names of the replicas of the ledger, whether or not they are there; none where it has no table."""
        rows = self.execute(_REGISTERED).rows
        names = {str(name) for (names,) in rows for name in names}
        if rows and not names:
            raise StoreUnavailable("Keeper does not say which replicas there are: is it running, and are most of it")
        return names

    @contextmanager
    def _reached(self) -> Iterator[ClickHouseStore]:
        """Give a replica that can be reached; where it fails, the next call begins with the one after it."""
        replica = self._connected_replica()
        try:
            yield replica
        except (StoreUnavailable, OutcomeUnknown):
            self._current += 1
            raise

    def _connected_replica(self) -> ClickHouseStore:
        failed = list[str]()
        for _ in self._answering:
            replica = self._answering[self._current % len(self._answering)]
            try:
                replica.connect()
            except StoreUnavailable as error:
                failed.append(str(error))
                self._current += 1
            else:
                return replica
        raise StoreUnavailable("no replica can be used: " + "; ".join(failed))


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
