"""What tests of replicated tables share: a new owner's course, an account of every replica, and weakened replicas."""

from __future__ import annotations

import os
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

    from tests.servers.cluster import Cluster
    from usageaudit.stores.ledger import Ledger
    from usageaudit.stores.port import Store

Connect = Callable[..., Replicated]
"""Opens one more store, which speaks to the replica that it is given first."""

RACES = int(os.environ.get("USAGEAUDIT_TEST_REPLICATED_RACES", "10"))
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

    def catch_up(self) -> None:
        """Pass on, unless it is off."""
        assert isinstance(self.store, Replicated)
        if self.catches_up:
            self.store.catch_up()


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
    found = []
    for replica in cluster.replicas:
        store = connect(replica)
        store.catch_up()
        sql = "SELECT count(), uniqExact(offset) FROM ledger WHERE stream = {s:String}"
        found.append(store.execute(sql, {"s": partition.stream}).rows[0])
        store.close()
    return max(len(OFFSETS) - distinct for _, distinct in found), max(rows - distinct for rows, distinct in found)
