"""One scheduler at a time: a lease in the store, taken over when its holder is silent for too long.

The clock that counts is the store's. Who takes the lease raises its epoch in the fence, as a consumer does with a
partition's, and of two at once only one gets each epoch. A holder that slept writes nothing that harms: findings are
written under the condition that nobody took the lease over, what else schedulers write has keys that do not depend on
who wrote it, and progress of a lower epoch does not count.

Replicas may know of a lease later than its holder, or of its loss. So who finds it free looks again when its replica
has caught up, and who finds it its own asks the fence, which all replicas share.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from usageaudit.scheduler.reading import OWN_STREAM
from usageaudit.stores.fencing import fence_of
from usageaudit.stores.settling import settle
from usageaudit.streams.port import Partition

if TYPE_CHECKING:
    from usageaudit.stores.port import Parameters, Store

SECONDS = 15.0
"""How long a holder may be silent."""

_HELD = """SELECT argMax(holder, epoch), max(epoch), max((epoch, until)).2 > now64(3, 'UTC')
    AND max((epoch, until)).2 <= now64(3, 'UTC') + toIntervalMillisecond({longest:UInt32})
FROM leases WHERE name = {name:String}"""
_LONGEST = 4
"""One that lasts so many times as long as a lease does was taken before the store's clock was set back: it is free."""
_RENEW = """INSERT INTO leases (name, epoch, holder, until)
SELECT {name:String}, {epoch:UInt64}, {holder:String}, now64(3, 'UTC') + toIntervalMillisecond({milliseconds:UInt32})"""


@dataclass(slots=True)
class Lease:
    """The lease of a name; `epoch` is 0 while somebody else holds it."""

    store: Store
    name: str
    seconds: float = SECONDS
    holder: str = field(default_factory=lambda: uuid.uuid4().hex)
    epoch: int = 0

    def hold(self) -> bool:
        """Take the lease where it is free, or renew it, and tell whether it is ours. To be called often."""
        holder, epoch, held = self._held()
        ours = holder == self.holder and epoch == self.epoch != 0
        if not ours and not held:
            settle(self.store, "leases")
            holder, epoch, held = self._held()
        if (held and not ours) or (ours and self._lost()):
            self.epoch = 0
            return False
        if not ours:
            self.epoch = fence_of(self.store).raise_epoch(self._partition, self.holder)
        self.renew(self.store)
        holder, epoch, _ = self._held()
        if holder != self.holder or epoch != self.epoch:
            self.epoch = 0
        return self.epoch != 0

    def renew(self, store: Store) -> None:
        """Write that the lease is still held, where it is ours, through a store that may be another thread's."""
        if epoch := self.epoch:
            _write(store, self.name, epoch, self.holder, self.seconds)

    def give_back(self) -> None:
        """Let the next one have it at once: what is over is an epoch of its own, since the last one goes on."""
        if self.epoch:
            owner = uuid.uuid4().hex
            _write(self.store, self.name, fence_of(self.store).raise_epoch(self._partition, owner), owner, 0)
            self.epoch = 0

    def taken_over(self) -> tuple[str, Parameters]:
        """Return the scalar subquery that is true where another one has taken the lease since, and its parameters."""
        fence = fence_of(self.store)
        return fence.taken_over, fence.parameters(self._partition, self.epoch)

    def _lost(self) -> bool:
        taken_over, parameters = self.taken_over()
        ((lost,),) = self.store.execute(f"SELECT ifNull(({taken_over}), 1)", parameters).rows
        return bool(lost)

    @property
    def _partition(self) -> Partition:
        return Partition(OWN_STREAM, self.name, 0)

    def _held(self) -> tuple[str, int, bool]:
        longest = int(max(self.seconds, SECONDS) * 1000) * _LONGEST
        ((holder, epoch, held),) = self.store.execute(_HELD, {"name": self.name, "longest": longest}).rows
        return str(holder), int(epoch), bool(held)


def _write(store: Store, name: str, epoch: int, holder: str, seconds: float) -> None:
    store.execute(_RENEW, {"name": name, "epoch": epoch, "holder": holder, "milliseconds": int(seconds * 1000)})
