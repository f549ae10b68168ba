"""One scheduler at a time: a lease in the store, taken over when its holder is silent for too long.

The clock that counts is the store's. Who takes the lease raises its epoch in the fence, as a consumer does with a
partition's, and of two at once only one gets each epoch. A holder that slept writes nothing that harms: all that
schedulers write has keys that do not depend on who wrote it, and progress of a lower epoch does not count.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from usageaudit.stores.fencing import fence_of
from usageaudit.streams.port import Partition

if TYPE_CHECKING:
    from usageaudit.stores.port import Store

SECONDS = 15.0
"""How long a holder may be silent."""

_HELD = """SELECT argMax(holder, epoch), max(epoch), max((epoch, until)).2 > now64(3, 'UTC') FROM leases
WHERE name = {name:String}"""
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
        ((holder, epoch, held),) = self.store.execute(_HELD, {"name": self.name}).rows
        ours = holder == self.holder and epoch == self.epoch != 0
        if held and not ours:
            self.epoch = 0
            return False
        if not ours:
            self.epoch = fence_of(self.store).raise_epoch(Partition("usageaudit", self.name, 0), self.holder)
        self._write(self.seconds)
        ((holder, epoch, _),) = self.store.execute(_HELD, {"name": self.name}).rows
        if holder != self.holder or epoch != self.epoch:
            self.epoch = 0
        return self.epoch != 0

    def give_back(self) -> None:
        """Let the next one have it at once."""
        if self.epoch:
            self._write(0)
            self.epoch = 0

    def _write(self, seconds: float) -> None:
        values = {"name": self.name, "epoch": self.epoch, "holder": self.holder}
        self.store.execute(_RENEW, {**values, "milliseconds": int(seconds * 1000)})
