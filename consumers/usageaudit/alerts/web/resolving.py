"""The addresses of a name, asked of the system within a time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usageaudit.alerts.web.deadline import Deadline

Resolve = Callable[[str], Sequence[str]]
"""Returns the addresses of a host name, or of an address itself. Raises OSError where there is none."""
KEPT_SECONDS = 30.0
"""For how long an answer that came too late holds."""


def system_addresses(host: str) -> list[str]:
    """Return what the system says a host's addresses are, best first. Raises OSError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


@dataclass(slots=True)
class _Asked:
    """A question on its way; the answer or the error is there when `done` is set, which was at `answered`."""

    done: threading.Event = field(default_factory=threading.Event)
    addresses: Sequence[str] = ()
    error: Exception | None = None
    answered: float = 0.0

    def is_old(self) -> bool:
        """Tell whether it was answered when nobody waited any more, and so long ago that it may be wrong by now."""
        return self.done.is_set() and time.monotonic() - self.answered > KEPT_SECONDS


class Resolver:
    """Asks in a thread, since the system's call takes no time-out.

    A question that was not answered in time goes on; who asks the same meanwhile waits for it, so that a name server
    that is silent holds one thread a name.
    """

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._open: dict[str, _Asked] = {}

    def addresses(self, host: str, deadline: Deadline) -> Sequence[str]:
        """Return the addresses of a host. Raises OSError, of which TimeoutError is one, and UnicodeError."""
        asked = self._open.get(host)
        if asked is None or asked.is_old():
            asked = _Asked()
            threading.Thread(target=self._ask, args=[host, asked], name="usageaudit-resolve", daemon=True).start()
            self._open[host] = asked
        if not asked.done.wait(deadline.left()):
            raise TimeoutError
        self._open.pop(host, None)
        if asked.error is not None:
            raise asked.error
        return asked.addresses

    def _ask(self, host: str, asked: _Asked) -> None:
        try:
            asked.addresses = self._resolve(host)
        except (OSError, UnicodeError) as error:  # a label of no or too many letters is a UnicodeError
            asked.error = error
        finally:
            asked.answered = time.monotonic()
            asked.done.set()
