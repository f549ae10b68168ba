"""What tests of replicated tables share: a new owner's course, an account of every replica, and weakened replicas."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.integration.test_takeover import Weakened
from tests.ledger_blocks import ledger_block
from usageaudit.errors import OutcomeUnknown, StoreUnavailable
from usageaudit.stores.port import Replicated
from usageaudit.streams.port import Partition

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from tests.servers.cluster import Cluster, Replica
    from usageaudit.stores.ledger import Ledger
    from usageaudit.stores.port import Store

Connect = Callable[..., Replicated]
"""Opens one more store, which speaks to the replica that it is given first."""

_USUAL = "150" if os.environ.get("USAGEAUDIT_TEST_FAULTS") == "long" else "10"
RACES = int(os.environ.get("USAGEAUDIT_TEST_REPLICATED_RACES", _USUAL))
"""Races between owners; what else is repeated goes by it."""
BUNDLE_HASH = "b" * 64
OFFSETS = range(200)
DEADLINE_S = 60


@dataclass
class WeakenedReplicas(Weakened):
    """Replicas without one of the protections: as one server, or read from while they lag."""

    catches_up: bool = True

    @property
    def cluster(self) -> str:
        """Pass on."""
        assert isinstance(self.store, Replicated)
        return self.store.cluster

    @property
    def replicas(self) -> Sequence[Store]:
        """Pass on."""
        assert isinstance(self.store, Replicated)
        return self.store.replicas

    def staying(self) -> AbstractContextManager[str]:
        """Pass on."""
        assert isinstance(self.store, Replicated)
        return self.store.staying()

    def catch_up(self, table: str = "ledger") -> None:
        """Pass on, unless it is off."""
        assert isinstance(self.store, Replicated)
        if self.catches_up:
            self.store.catch_up(table)


def new_partition() -> Partition:
    """Return a partition of a stream that nobody else has."""
    return Partition(uuid.uuid4().hex, "usage-events", 0)


def take_over(ledger: Ledger, partition: Partition) -> None:
    """Do what a new owner does, again where an outcome is unknown: fence, read back, record what is missing."""
    give_up = time.monotonic() + DEADLINE_S
    while True:
        try:
            epoch = ledger.fence(partition, "new")
            present = ledger.present(partition, 0)
            if missing := [offset for offset in OFFSETS if offset not in present]:
                ledger.record(ledger_block(missing), partition, epoch, 1, bundle=BUNDLE_HASH)
        except (OutcomeUnknown, StoreUnavailable):
            assert time.monotonic() < give_up
        else:
            return


def differences(connect: Connect, cluster: Cluster, partition: Partition) -> tuple[int, int]:
    """Return how many offsets are lost, and how many rows too many there are, on the replica where it is worst."""
    ((database,),) = connect().execute("SELECT currentDatabase()").rows
    found = [rows_of(replica, database, f"stream = '{partition.stream}'") for replica in cluster.replicas]
    return max(len(OFFSETS) - distinct for _, distinct, _ in found), max(rows - distinct for rows, distinct, _ in found)


def rows_of(replica: Replica, database: str, condition: str) -> tuple[int, int, int]:
    """Return a replica's rows of the ledger, distinct offsets among them, and accepted events, once it has caught up.

    It asks the replica itself, by none of the product's code. One that has just started is read-only for a moment.
    """
    give_up = time.monotonic() + DEADLINE_S
    read_only = f"SELECT max(is_readonly) FROM system.replicas WHERE database = '{database}' AND table = 'ledger'"
    while replica.execute(read_only) != [(0,)]:
        assert time.monotonic() < give_up, f"the ledger of {replica.name} stays read-only"
    replica.execute(f"SYSTEM SYNC REPLICA {database}.ledger LIGHTWEIGHT")
    accepted = "uniqExactIf((event_source, event_id), status = 'accepted')"
    sql = f"SELECT count(), uniqExact(partition, offset), {accepted} FROM {database}.ledger WHERE {condition}"
    ((rows, offsets, events),) = replica.execute(sql)
    return rows, offsets, events


def as_it_catches_up(replica: Replica, table: str, call: Callable[[], object]) -> None:
    """Make a call while a replica does not fetch a table, which it does once it is waited for or the call is over."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except (StoreUnavailable, AssertionError) as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    waiting = f"SELECT count() FROM system.processes WHERE query LIKE 'SYSTEM SYNC REPLICA {table} %'"
    give_up = time.monotonic() + DEADLINE_S
    while thread.is_alive() and replica.execute(waiting) == [(0,)]:
        assert time.monotonic() < give_up
    replica.execute("SYSTEM START FETCHES")
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    if failed:
        raise failed[0]
