"""Addresses that functions may and may not reach, in every spelling that a resolver or a person may give them."""

from __future__ import annotations

import ipaddress

import pytest

from spinney.drivers.oci.egress import write_rules
from spinney.egress.policy import REFUSED_IPV4, EgressPolicy

PUBLIC = (
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "172.15.255.255",
    "172.32.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "223.255.255.255",
)
PUBLIC_IPV6 = ("2606:4700::1111", "2a00:1450:4001::1", "2001:4860:4860::8888", "2400:cb00::1")
REFUSED = (
    *("127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("0.0.0.0", "0.1.2.3", "224.0.0.1", "240.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1", "192.0.0.170"),
)
REFUSED_IPV6 = (
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd12:3456::1", "ff02::1", "100::1", "5f00::1"),
    *("2001:db8::1", "3fff::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::1", "2001:10::1", "2001:20::1"),
    *("::127.0.0.1", "::8.8.8.8", "::ffff:0:127.0.0.1", "64:ff9b:1::a00:1"),
)


@pytest.mark.parametrize("address", [*PUBLIC, *PUBLIC_IPV6])
def test_public_addresses(address: str) -> None:
    assert EgressPolicy().allows(address)


@pytest.mark.parametrize(
    "address", [*REFUSED, *REFUSED_IPV6, "", "localhost", "1.1.1", "0x7f.1", "1.1.1.1.1", "2130706433", "::g"]
)
def test_refused_addresses(address: str) -> None:
    assert not EgressPolicy().allows(address)


@pytest.mark.parametrize("network", REFUSED_IPV4)
def test_refused_networks_are_refused_to_their_ends(network: str) -> None:
    whole = ipaddress.IPv4Network(network)
    assert not EgressPolicy().allows(str(whole[0]))
    assert not EgressPolicy().allows(str(whole[-1]))


def forms(address: str) -> list[str]:
    """IPv6 addresses by which packets get to an IPv4 one."""
    number = int(ipaddress.IPv4Address(address))
    high, low = number >> 16, number & 0xFFFF
    return [
        f"::ffff:{address}",
        f"::ffff:{high:x}:{low:x}",
        f"64:ff9b::{high:x}:{low:x}",
        f"2002:{high:x}:{low:x}::1",
        f"2606:4700::5efe:{high:x}:{low:x}",
        f"2606:4700::200:5efe:{high:x}:{low:x}",
    ]


@pytest.mark.parametrize("address", REFUSED)
def test_ipv6_forms_of_refused_addresses(address: str) -> None:
    assert [form for form in forms(address) if EgressPolicy().allows(form)] == []


@pytest.mark.parametrize("address", PUBLIC)
def test_ipv6_forms_of_public_addresses(address: str) -> None:
    assert [form for form in forms(address) if not EgressPolicy().allows(form)] == []


def test_what_the_operator_has_opened() -> None:
    policy = EgressPolicy(("10.1.0.0/16", "fd00::/64", "127.0.0.1/32"))
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd00::1", "127.0.0.1", "1.1.1.1"):
        assert policy.allows(address), address
    for address in ("10.2.0.1", "fd00:0:0:1::1", "127.0.0.2", "::ffff:10.2.0.1", "::1"):
        assert not policy.allows(address), address


def test_it_is_what_sandboxes_with_a_network_have() -> None:
    rules = write_rules("t", "spn*", "10.0.0.0/24", [], [], "")
    assert all(network in rules for network in REFUSED_IPV4)
