"""How often somebody may be wrong: whoever tries tokens gets a few tries, and then none for a while."""

from __future__ import annotations

import ipaddress
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_PEERS = 1024


@dataclass(slots=True)
class Throttle:
    """Counts failures of each address within `seconds`; of IPv6 it is the network of 64 bits that counts.

    So many addresses are remembered at most; the one that has not failed for longest is forgotten first.
    """

    failures: int = 20
    seconds: float = 60.0
    clock: Callable[[], float] = time.monotonic
    _failed: dict[str, list[float]] = field(default_factory=dict)

    def refuses(self, peer: str) -> bool:
        """Tell whether an address has failed too often to be heard now."""
        since = self.clock() - self.seconds
        return sum(at > since for at in self._failed.get(_whose(peer), ())) >= self.failures

    def failed(self, peer: str) -> None:
        """Remember that an address failed."""
        whose = _whose(peer)
        times = self._failed.pop(whose, [])
        self._failed[whose] = [*times[-self.failures + 1 :], self.clock()] if self.failures > 1 else [self.clock()]
        if len(self._failed) > MOST_PEERS:
            del self._failed[next(iter(self._failed))]


def _whose(peer: str) -> str:
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
