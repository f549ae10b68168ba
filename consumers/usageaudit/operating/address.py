"""Where the port of a service is, as the setting `http` says it."""

from __future__ import annotations

from usageaudit.errors import ConfigurationError

DEFAULT_ADDRESS = "127.0.0.1:9464"
OFF = "off"


def parse_address(address: str) -> tuple[str, int] | None:
    """Return host and port of HOST:PORT or [HOST]:PORT, None for off. Raises ConfigurationError."""
    if address == OFF:
        return None
    host, _, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not bare or (":" in bare and bare == host) or not (port.isascii() and port.isdigit() and int(port) < 65_536):
        raise ConfigurationError("should be HOST:PORT, such as 127.0.0.1:9464 or [::1]:9464, or off")
    return bare, int(port)
