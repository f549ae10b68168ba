"""Which addresses deliveries may reach."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from usageaudit.alerts.config.settings import Network
from usageaudit.alerts.web.addresses import refusal

NOTHING = Network()
ADDRESSES = st.ip_addresses(v=4) | st.ip_addresses(v=6)
EMBEDDINGS = ("::ffff:0:0", "64:ff9b::", "64:ff9b:1::", "::")


def embedded(prefix: str, address: IPv4Address) -> str:
    """Return an IPv4 address at the end of an IPv6 address."""
    return str(IPv6Address(int(IPv6Address(prefix)) | int(address)))


def six_to_four(address: IPv4Address) -> str:
    """Return an address of 6to4's network of an IPv4 address."""
    return str(IPv6Address((0x2002 << 112) | (int(address) << 80) | 1))


@given(ADDRESSES)
@example(ip_address("100.64.0.1"))
@example(ip_address("169.254.169.254"))
@example(ip_address("fd00:ec2::254"))
def test_what_is_not_global_is_refused(address: IPv4Address | IPv6Address) -> None:
    """Whatever `ipaddress` does not call global, or calls multicast or reserved, is refused."""
    if not address.is_global or address.is_multicast or address.is_reserved:
        if address.version == 6 and address in ip_network("64:ff9b::/96"):
            return  # newer versions of Python tell differently of it; what lies inside decides, as below
        assert refusal(str(address), "hooks.example", NOTHING) is not None


@given(st.ip_addresses(v=4), st.sampled_from(EMBEDDINGS))
def test_what_hides_in_ipv6_is_refused(address: IPv4Address, prefix: str) -> None:
    """An IPv4 address that is refused is refused inside IPv6, too: mapped, compatible, NAT64 and 6to4."""
    if refusal(str(address), "hooks.example", NOTHING) is not None:
        assert refusal(embedded(prefix, address), "hooks.example", NOTHING) is not None
        assert refusal(six_to_four(address), "hooks.example", NOTHING) is not None


@given(ADDRESSES)
def test_what_a_network_allows_may_be_reached(address: IPv4Address | IPv6Address) -> None:
    """An address whose network the configuration names may be reached, whatever it is; its neighbour only if global."""
    allowing = Network(networks=(ip_network(f"{address}/{address.max_prefixlen}"),))
    assert refusal(str(address), "hooks.example", allowing) is None
    neighbour = type(address)(int(address) ^ 1)
    assert refusal(str(neighbour), "h.example", allowing) == refusal(str(neighbour), "h.example", NOTHING)


@pytest.mark.parametrize(
    "public", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::808:808", "192.0.1.1", "100.128.0.1"]
)
def test_the_internet_may_be_reached(public: str) -> None:
    """Addresses of the internet are not refused, nor one of them behind NAT64."""
    assert refusal(public, "hooks.example", NOTHING) is None


@pytest.mark.parametrize("private", ["127.0.0.1", "::1", "10.1.2.3", "fd12::1", "100.64.0.1", "192.168.0.1"])
def test_a_name_that_is_allowed_may_be_private(private: str) -> None:
    """A host that the configuration names may lie in a private network; another host may not."""
    allowing = Network(hosts=frozenset({"hooks.example"}))
    assert refusal(private, "Hooks.Example.", allowing) is None
    assert refusal(private, "hooks.example.org", allowing) is not None


@pytest.mark.parametrize(
    "never",
    [
        *("169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "169.254.1.1"),
        *("fe80::1", "224.0.0.1", "ff02::1", "0.0.0.0", "::", "255.255.255.255", "::ffff:169.254.169.254"),
        *(
            "fd00:ec2::23",
            "fd00:c1::a9fe:a9fe",
            "fd00:a9fe:a9fe::1",
            "fd00:42::42",
            "fd00:100::100:200",
            "fd00:ec2::254%1",
        ),
    ],
)
def test_no_name_leads_to_a_metadata_service(never: str) -> None:
    """Metadata services, link-local, multicast and unspecified addresses are not reached by a host that is allowed."""
    assert refusal(never, "hooks.example", Network(hosts=frozenset({"hooks.example"}))) is not None
