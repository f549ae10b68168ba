"""Connections to addresses that were looked at: what is connected to is the address that was checked.

So no name can lead elsewhere between the check and the connection. TLS still asks for the host's name, and the
certificate must be that name's.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

import httpcore2

from usageaudit.alerts.targets.port import DeliveryFailed
from usageaudit.alerts.web.addresses import refusal

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Sequence

    from usageaudit.alerts.config.settings import Network
    from usageaudit.alerts.web.deadline import Deadline
    from usageaudit.alerts.web.resolving import Resolver

MAX_READ = 512 * 1024
"""How many bytes of a whole answer are read at most, whatever they are: interim answers, heads, body."""


class Backend(httpcore2.NetworkBackend):
    """Connects for one delivery; `place` is how messages begin."""

    def __init__(
        self, network: Network, resolver: Resolver, deadline: Deadline, place: str, connect_seconds: float
    ) -> None:
        self._network, self._resolver, self._deadline = network, resolver, deadline
        self._place, self._connect_seconds = place, connect_seconds

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect to the first address of the host that answers, once every one is known to be allowed."""
        addresses = self._resolved(host)
        for address in addresses:
            said = refusal(address, host, self._network)
            if said is not None:
                raise DeliveryFailed(
                    f"{self._place}: {address} is {said}, which deliveries don't reach; where it is meant, allow "
                    f"the network (or the host) under network.allow in alerts.yaml",
                    again=False,
                )
        return _Stream(self._connected(addresses, port), self._deadline)

    def _resolved(self, host: str) -> Sequence[str]:
        try:
            addresses = self._resolver.addresses(host, self._deadline)
        except TimeoutError:
            raise DeliveryFailed(f"{self._place}: no name server said in time where it is", again=True) from None
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "no host name"
            message = f"{self._place}: the name can't be resolved: {reason}; check the host and the name server"
            raise DeliveryFailed(message, again=True) from None
        if not addresses:
            raise DeliveryFailed(f"{self._place}: the name has no address", again=True)
        return addresses

    def _connected(self, addresses: Sequence[str], port: int) -> socket.socket:
        """Return a connection; the addresses share the time for it. Raises OSError of the last of them."""
        failed: OSError = OSError("no address")
        share = self._connect_seconds / len(addresses)
        for address in addresses:
            try:
                connection = socket.create_connection((address, port), min(share, self._deadline.left()))
            except OSError as error:
                failed = error
            else:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return connection
        if isinstance(failed, TimeoutError):
            message = f"{self._place}: no connection within {self._connect_seconds:g} s"
            raise DeliveryFailed(message, again=True) from None
        raise failed


class _Stream(httpcore2.NetworkStream):
    """A connection whose every step ends with the deadline, and that reads so many bytes and no more."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection, self._deadline, self._read = connection, deadline, 0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._connection.settimeout(self._deadline.left())
        data = self._connection.recv(max_bytes)
        self._read += len(data)
        if self._read > MAX_READ:
            raise httpcore2.RemoteProtocolError(f"more than {MAX_READ // 1024} KiB")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        view = memoryview(buffer)
        while view:
            self._connection.settimeout(self._deadline.left())
            try:
                view = view[self._connection.send(view) :]
            except TimeoutError:
                raise
            except OSError as error:  # the answer may be there already: httpcore2 looks for it
                raise httpcore2.WriteError(str(error)) from error

    def close(self) -> None:
        self._connection.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        try:
            self._connection.settimeout(self._deadline.left())
            # A dot at the end belongs to the name server alone: no certificate has it (RFC 6066, 3).
            name = server_hostname.rstrip(".") if server_hostname else None
            self._connection = ssl_context.wrap_socket(self._connection, server_hostname=name)
        except OSError:
            self._connection.close()
            raise
        except ValueError:
            self._connection.close()
            raise OSError(errno.EINVAL, "the host is no name for TLS") from None
        return self

    def get_extra_info(self, info: str) -> Any:
        return None
