"""Which addresses deliveries may reach: those of the internet, and what the configuration allows beside them.

What is special is taken from the registries of IANA (iana-ipv4-special-registry, iana-ipv6-special-registry), which
`ipaddress` knows for the most part; what its versions tell differently, and what clouds put at public addresses,
stands here.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usageaudit.alerts.config.settings import Network

    Address = IPv4Address | IPv6Address

_METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Azure, Google and most others
        "169.254.170.2",  # tasks of AWS ECS
        "169.254.170.23",  # pods of AWS EKS
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",  # Google
        "100.100.100.200",  # Alibaba
        "fd00:100::100:200",
        "192.0.0.192",  # Oracle
        "fd00:c1::a9fe:a9fe",
        "fd00:a9fe:a9fe::1",  # Linode
        "fd00:42::42",  # Scaleway
        "168.63.129.16",  # Azure's host: a public address that never leaves the machine
    )
)
_SPECIAL = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "192.0.0.0/24",
        "192.88.99.0/24",  # relays of 6to4
        "240.0.0.0/4",
        "64:ff9b:1::/48",  # NAT64 with rules of its own
        "2001::/23",  # with Teredo
        "2001:db8::/32",
        "3fff::/20",  # documentation
    )
)
_UNICAST = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")


def refusal(address: str, host: str, network: Network) -> str | None:
    """Say what an address is that a delivery to `host` must not reach, or None where it may.

    A name that is allowed may lie at loopback, private, unique local and shared (100.64/10) addresses; those of
    metadata services, link-local, multicast and all others are reached only where a network has them.
    """
    given = ip_address(address.partition("%")[0])  # a zone (RFC 4007) would make it another address
    meant = _embedded(given)
    candidates = (given,) if meant is None else (given, meant)
    if any(one in allowed for one in candidates for allowed in network.networks):
        return None
    said = _kind(given, meant)
    if said in _BY_NAME and host.lower().rstrip(".") in network.hosts:
        return None
    return said


_BY_NAME = frozenset({"a loopback address", "a private address", "a unique local address", "a shared address"})


def _kind(given: Address, meant: IPv4Address | None) -> str | None:
    """Say what is special about an address; one with an IPv4 address inside is what that is."""
    if isinstance(given, IPv6Address) and meant is not None:
        inside = _special(meant)
        if inside is not None:
            return inside
        return None if given in _NAT64 else "an IPv4 address in the form of IPv6"
    return _special(given)


def _special(address: Address) -> str | None:
    tests = (
        (address in _METADATA, "the address of a metadata service"),
        (address.is_unspecified, "the unspecified address"),
        (address.is_loopback, "a loopback address"),
        (address.is_link_local, "a link-local address"),
        (address.is_multicast, "a multicast address"),
        (address in ip_network("100.64.0.0/10"), "a shared address"),
        (address in ip_network("fc00::/7"), "a unique local address"),
        (any(address in network for network in _SPECIAL), "a reserved address"),
        (address.version == 6 and address not in _UNICAST, "a reserved address"),
        (not address.is_global, "a private address"),
    )
    return next((said for found, said in tests if found), None)


def _embedded(address: Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address leads to: mapped, NAT64 (RFC 6052) or 6to4 (RFC 3056)."""
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.sixtofour
