"""Where the store is: one URL.

`embedded:DIRECTORY`, `clickhouse://user:password@host:port/database?secure=1`, or, for replicated tables,
`clickhouse://user:password@host1:9000,host2:9000,host3:9000/database?cluster=NAME` with every replica as a host.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from usageaudit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

    from usageaudit.stores.port import Store

_FORMS = "write embedded:./usageaudit-data or clickhouse://user:password@host:9000/usageaudit"
_ESCAPED = "in a password the characters @ / : # are written %40 %2F %3A %23"
_FLAGS = {"0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}
_OPTIONS = ("ca_certs", "certfile", "cluster", "connect_timeout", "keyfile", "server_hostname", "timeout", "verify")

# Taking a partition over waits for the end of an insert whose sender went silent, which takes a server up to 12 s.
_LEAST_SECONDS = {"connect_timeout": 1, "timeout": 15}


@dataclass(frozen=True, slots=True)
class EmbeddedAddress:
    """A directory that the engine in this process opens."""

    directory: Path


@dataclass(frozen=True, slots=True)
class ClickHouseAddress:
    """A server, spoken to over its native protocol; the password is left out where the address is printed.

    `options` are those of the URL: `verify`, `ca_certs`, `certfile`, `keyfile` and `server_hostname` for TLS,
    `connect_timeout` and `timeout` in seconds, `cluster`.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    secure: bool
    options: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ClusterAddress:
    """The replicas of one shard, each by its address, and the name that the servers' configuration gives to them."""

    name: str
    replicas: tuple[ClickHouseAddress, ...]

    def __str__(self) -> str:
        return ",".join(map(str, self.replicas))


def parse_store_url(url: str) -> EmbeddedAddress | ClickHouseAddress | ClusterAddress:
    """Return the address that a URL names; raises ConfigurationError, without showing a password."""
    scheme, colon, rest = url.partition(":")
    if scheme == "embedded" and rest:
        return EmbeddedAddress(Path(os.path.expanduser(unquote(rest.removeprefix("//")))))  # noqa: PTH111  leaves ~nobody as it is
    if scheme in ("clickhouse", "clickhouses"):
        return _cluster_address(url)
    name = f"the store's URL begins with {scheme}:" if colon and "@" not in scheme else "the store's URL has no scheme"
    raise ConfigurationError(f"{name}; {_FORMS}")


def _cluster_address(url: str) -> ClickHouseAddress | ClusterAddress:
    """Return the address of a server, or of the replicas that a URL lists, which differ in host and port alone."""
    first, *others = _with_one_host(url)
    address = _clickhouse_address(first)
    if "cluster" not in address.options:
        if others:
            raise ConfigurationError(
                "the store's URL names several hosts: add ?cluster=NAME, the name that the servers' configuration "
                "gives to these replicas; without replicated tables each of the servers would have some of the events"
            )
        return address
    if not address.options["cluster"]:
        raise ConfigurationError("the store's URL: cluster= needs the name of a cluster, such as cluster=audit")
    return ClusterAddress(address.options["cluster"], (address, *map(_clickhouse_address, others)))


def _with_one_host(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return [url]
    login, at, hosts = parts.netloc.rpartition("@")
    return [urlunsplit(parts._replace(netloc=f"{login}{at}{host}")) for host in hosts.split(",")]


def _clickhouse_address(url: str) -> ClickHouseAddress:
    # Without its parts: where a password is not encoded, any of them may be a piece of it.
    unreadable = ConfigurationError(f"the store's URL can't be read: {_ESCAPED}; {_FORMS}")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise unreadable from None
    if "@" in parts.path + parts.query + parts.fragment:
        raise unreadable
    options = _options(parts)
    secure = _flag("secure", options.pop("secure", "1" if parts.scheme == "clickhouses" else "0"))
    if not host:
        raise ConfigurationError(f"the store's URL names no host; {_FORMS}")
    return ClickHouseAddress(
        host=host,
        port=port or (9440 if secure else 9000),
        user=unquote(parts.username or "default"),
        password=unquote(parts.password or ""),
        database=unquote(parts.path.strip("/")) or "default",
        secure=secure,
        options=options,
    )


def _options(parts: SplitResult) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(set(options) - {*_OPTIONS, "secure"})
    if unknown or parts.fragment:
        known = ", ".join(("secure", *_OPTIONS))
        raise ConfigurationError(f"the store's URL has unknown options: {', '.join(unknown) or '#'}; known are {known}")
    for name, least in _LEAST_SECONDS.items():
        if name in options and not (options[name].isdecimal() and int(options[name]) >= least):
            raise ConfigurationError(f"the store's URL: {name} must be a number of seconds, at least {name}={least}")
    if "verify" in options:
        _flag("verify", options["verify"])
    return options


def _flag(name: str, value: str) -> bool:
    if value.lower() not in _FLAGS:
        raise ConfigurationError(f"the store's URL: {name} must be 1 or 0, such as {name}=1")
    return _FLAGS[value.lower()]


def open_store(url: str) -> Store:
    """Return the store that a URL names; it connects when it is first used.

    Raises ConfigurationError for a URL that names none, or where the package of its adapter is not installed.
    """
    address = parse_store_url(url)
    if isinstance(address, EmbeddedAddress):
        return _open_embedded(address)
    if isinstance(address, ClusterAddress):
        return _open_cluster(address)
    return _open_clickhouse(address)


def _open_embedded(address: EmbeddedAddress) -> Store:
    try:
        from usageaudit.stores.embedded import EmbeddedStore
    except ModuleNotFoundError as error:
        raise _missing("embedded", error) from None
    return EmbeddedStore(address)


def _open_clickhouse(address: ClickHouseAddress) -> Store:
    try:
        from usageaudit.stores.clickhouse import ClickHouseStore
    except ModuleNotFoundError as error:
        raise _missing("consumer", error) from None
    return ClickHouseStore(address)


def _open_cluster(address: ClusterAddress) -> Store:
    try:
        from usageaudit.stores.replicated import ReplicatedStore
    except ModuleNotFoundError as error:
        raise _missing("consumer", error) from None
    return ReplicatedStore(address)


def _missing(extra: str, error: ModuleNotFoundError) -> ConfigurationError:
    return ConfigurationError(f"this store needs the package {error.name}: pip install 'usageaudit[{extra}]'")
