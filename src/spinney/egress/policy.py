"""Which addresses functions may reach: those that the whole world can, and what the operator has opened."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

REFUSED_IPV4 = (
    "0.0.0.0/8",  # this network
    "10.0.0.0/8",  # private
    "100.64.0.0/10",  # carriers' private (also some clouds' metadata)
    "127.0.0.0/8",  # loopback
    "169.254.0.0/16",  # link-local, cloud metadata
    "172.16.0.0/12",  # private
    "192.0.0.0/24",  # protocol assignments
    "192.0.2.0/24",  # documentation
    "192.88.99.0/24",  # former 6to4 relays
    "192.168.0.0/16",  # private
    "198.18.0.0/15",  # benchmarks
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, broadcast
)
"""What the registry of special-purpose IPv4 addresses says is not globally reachable."""

GLOBAL_IPV6 = "2000::/3"
"""All that is globally reachable over IPv6 is in here, but for addresses that stand for IPv4 ones."""
REFUSED_IPV6 = (
    "2001::/23",  # protocol assignments, among them Teredo, which hides an IPv4 address of another's choice
    "2001:db8::/32",  # documentation
    "3fff::/20",  # documentation
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_REFUSED_IPV4 = [ipaddress.IPv4Network(cidr) for cidr in REFUSED_IPV4]
_REFUSED_IPV6 = [ipaddress.IPv6Network(cidr) for cidr in REFUSED_IPV6]
_GLOBAL_IPV6 = ipaddress.IPv6Network(GLOBAL_IPV6)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_6TO4 = ipaddress.IPv6Network("2002::/16")
_ISATAP = (0x00005EFE, 0x02005EFE)


class EgressPolicy:
    """``allowed``: CIDRs that the operator has opened though they would be refused. Raises ValueError when one is none."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        self._allowed: list[Network] = [ipaddress.ip_network(cidr, strict=False) for cidr in allowed]

    def allows(self, address: str) -> bool:
        """Whether functions may reach this IP address; False for what is none."""
        try:
            return self._allows(ipaddress.ip_address(address))
        except ValueError:
            return False

    def _allows(self, address: Address) -> bool:
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped  # on the wire it is that one
        if any(address in network for network in self._allowed if network.version == address.version):
            return True
        if isinstance(address, ipaddress.IPv4Address):
            return not any(address in network for network in _REFUSED_IPV4)
        embedded = _embedded(address)
        if embedded is not None and not self._allows(embedded):
            return False
        if address in _NAT64:
            return True
        return address in _GLOBAL_IPV6 and not any(address in network for network in _REFUSED_IPV6)


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address to which a packet for this one is taken by a translator or a tunnel."""
    number = int(address)
    if address in _6TO4:
        return ipaddress.IPv4Address(number >> 80 & 0xFFFFFFFF)
    if address in _NAT64 or number >> 32 & 0xFFFFFFFF in _ISATAP:
        return ipaddress.IPv4Address(number & 0xFFFFFFFF)
    return None
