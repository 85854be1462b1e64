"""Where sandboxes with network may go: pure text, given to nft and ip by ``network``."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from spinney.egress.policy import REFUSED_IPV4


def parse_allowed(cidrs: Sequence[str]) -> list[str]:
    """Check the operator's CIDRs; IPv6 ones are dropped, for sandboxes have no IPv6. Raises ValueError."""
    networks = [ipaddress.ip_network(cidr, strict=False) for cidr in cidrs]
    return [str(network) for network in networks if network.version == 4]


def write_rules(table: str, interfaces: str, block: str, nameservers: Sequence[str], allowed: Sequence[str], guard: str) -> str:
    """The nftables script that replaces this server's table.

    interfaces: pattern of the host's ends of sandboxes' links; block: their addresses; guard: pattern of the links of all servers
    when forwarding was off before, so that the host does not become a router for others; empty when it was on.
    """
    return f"""table inet {table}
delete table inet {table}
table inet {table} {{
    set refused {{ type ipv4_addr; flags interval; elements = {{ {", ".join(REFUSED_IPV4)} }} }}
    set allowed {{ type ipv4_addr; flags interval; auto-merge; {_elements(allowed)} }}
    set resolvers {{ type ipv4_addr; {_elements(nameservers)} }}
    chain arrive {{
        type filter hook prerouting priority raw; policy accept;
        iifname != "{interfaces}" return
        meta nfproto != ipv4 drop
        fib saddr . iif oif missing drop comment "not the sandbox's own address"
        fib daddr type != unicast drop comment "the host itself, before anybody's port forwarding; broadcast, multicast"
    }}
    chain input {{
        type filter hook input priority filter - 10; policy accept;
        iifname "{interfaces}" drop
    }}
    chain forward {{
        type filter hook forward priority filter - 10; policy accept;
        oifname "{interfaces}" ct state established,related accept
        oifname "{interfaces}" drop comment "nobody calls a sandbox, other sandboxes neither"
        iifname "{interfaces}" jump leave
        {f'iifname != "{guard}" oifname != "{guard}" drop' if guard else ""}
    }}
    chain leave {{
        ip daddr @resolvers udp dport 53 accept
        ip daddr @resolvers tcp dport 53 accept
        ip daddr @allowed accept
        ip daddr @refused reject with icmpx admin-prohibited
        accept
    }}
    chain translate {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {block} oifname != "{interfaces}" masquerade
    }}
}}
"""


def _elements(values: Sequence[str]) -> str:
    return f"elements = {{ {', '.join(values)} }}" if values else ""


def choose_block(cidr: str, seed: int, used: Sequence[str], prefix: int = 21) -> ipaddress.IPv4Network:
    """A part of ``cidr`` for one server that overlaps none of the host's routes ``used``. Raises ValueError when all do."""
    whole = ipaddress.IPv4Network(cidr)
    blocks = [whole] if whole.prefixlen >= prefix else list(whole.subnets(new_prefix=prefix))
    taken = [ipaddress.IPv4Network(route, strict=False) for route in used]
    start = seed % len(blocks)
    for block in blocks[start:] + blocks[:start]:
        if not any(block.overlaps(route) for route in taken if route.prefixlen):
            return block
    raise ValueError(f"every part of {cidr} is in use on this host: set another network_cidr")
