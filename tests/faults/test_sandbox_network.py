"""The egress policy, against an "internet" that is a network namespace of this test's own."""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.faults.test_sandbox_leftovers import Server, find_traces
from tests.internet import HOST, METADATA, PRIVATE, PUBLIC, RESOLVER, Internet, run

from spinney.drivers.oci import OciDriver, OciSettings
from spinney.model import Outcome
from spinney.ports import Sandbox
from spinney.testing.driver_suite import ask, get, make_spec, opened

pytestmark = pytest.mark.anyio


def read_forwarding() -> str:
    return Path("/proc/sys/net/ipv4/ip_forward").read_text()


def forwarding_was_off() -> bool:
    return Path("/run/spinney/forwarding-was-off").exists()


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
def internet() -> Iterator[Internet]:
    internet = Internet()
    yield internet
    internet.close()


@asynccontextmanager
async def make_driver(*allow: str) -> AsyncIterator[OciDriver]:
    settings = OciSettings(egress_allow=allow, nameservers=(RESOLVER,))
    driver = OciDriver(Path("/run/spinney", uuid.uuid4().hex), settings)
    try:
        yield driver
    finally:
        await driver.close()


@pytest.fixture(scope="module")
async def driver(internet: Internet) -> AsyncIterator[OciDriver]:
    async with make_driver() as driver:
        yield driver


@pytest.fixture
async def sandbox(driver: OciDriver) -> AsyncIterator[Sandbox]:
    async with opened(driver, make_spec(network=True)) as sandbox:
        yield sandbox


async def connect(sandbox: Sandbox, address: str, port: int = 8000, *, patience_s: float = 1) -> str:
    """What a TCP service answers, or what the connection fails with; a first packet that is lost is sent again after a second."""
    code = f"import socket; result = socket.create_connection(({address!r}, {port}), {patience_s}).recv(100).decode()"
    reply = await ask(sandbox, "python", code=code)
    return str(json.loads(reply.body)) if reply.outcome is Outcome.OK else reply.message


async def test_a_public_address_is_reached_through_translation(sandbox: Sandbox) -> None:
    assert await connect(sandbox, PUBLIC, patience_s=10) == HOST
    usage = sandbox.usage()
    assert usage.network_rx_bytes > 0
    assert usage.network_tx_bytes > 0


@pytest.mark.parametrize("address", [PRIVATE, METADATA, "127.0.0.2", "10.213.0.0", "100.64.0.1", "172.16.0.1", "192.168.0.1"])
async def test_addresses_that_are_not_public_are_refused(sandbox: Sandbox, address: str) -> None:
    assert HOST not in await connect(sandbox, address)


async def test_the_host_is_refused_at_every_address(sandbox: Sandbox) -> None:
    addresses = [line.split()[3].split("/")[0] for line in run("ip", "-4", "-o", "address").splitlines()]
    assert HOST in addresses
    with socket.create_server(("0.0.0.0", 0)) as server:
        for address in addresses:
            assert "timed out" in (answer := await connect(sandbox, address, server.getsockname()[1])) or "refused" in answer


async def test_names_are_asked_of_the_resolvers_only(sandbox: Sandbox) -> None:
    assert await get(sandbox, "read", path="/etc/resolv.conf") == f"nameserver {RESOLVER}\n"
    assert await connect(sandbox, RESOLVER, 53, patience_s=10) == HOST
    assert await connect(sandbox, RESOLVER, 8000) != HOST
    assert await connect(sandbox, PRIVATE, 53) != HOST


async def test_another_sandbox_is_refused(driver: OciDriver, sandbox: Sandbox) -> None:
    listen = """
import socket
probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
probe.connect(("11.22.33.2", 9))
server = socket.create_server(("", 8000))
import sys; sys.modules["kept"] = server
result = probe.getsockname()[0]
"""
    async with opened(driver, make_spec(network=True)) as other:
        address = await get(other, "python", code=listen)
        knock = f"import socket; socket.create_connection(({address!r}, 8000), 1)"
        assert (await ask(other, "python", code=knock)).outcome is Outcome.OK
        assert "timed out" in (await ask(sandbox, "python", code=knock)).message


async def test_a_forged_sender_is_dropped(sandbox: Sandbox, internet: Internet) -> None:
    code = f"""
import socket
for source, text in (("11.22.33.99", "forged"), ("10.213.0.77", "forged too"), ("", "honest")):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IP, 15, 1)  # IP_FREEBIND
    s.bind((source, 0))
    try:
        s.sendto(text.encode(), ("{PUBLIC}", 8000))
    except OSError:
        assert source
"""
    assert (await ask(sandbox, "python", code=code)).outcome is Outcome.OK
    assert internet.next_datagram() == f"honest {HOST}"


async def test_there_is_no_ipv6_and_no_raw_socket(sandbox: Sandbox) -> None:
    code = """
import socket
result = [open("/proc/net/if_inet6").read()]
for family, kind, protocol in ((socket.AF_INET, socket.SOCK_RAW, 1), (socket.AF_PACKET, socket.SOCK_RAW, 0)):
    try:
        result.append(socket.socket(family, kind, protocol).fileno())
    except PermissionError as error:
        result.append(error.strerror)
"""
    addresses, *sockets = await get(sandbox, "python", code=code)
    assert {line.split()[-1] for line in addresses.splitlines()} <= {"lo"}
    assert sockets == ["Operation not permitted"] * 2


async def test_a_sandbox_without_network_has_none(driver: OciDriver) -> None:
    async with opened(driver, make_spec()) as sandbox:
        assert HOST not in await connect(sandbox, PUBLIC)
        assert (await ask(sandbox, "read", path="/etc/resolv.conf")).outcome is Outcome.ERROR


async def test_the_operator_can_allow_a_private_network_but_never_the_host(internet: Internet) -> None:
    async with (
        make_driver("10.77.0.2/32", "11.22.33.0/24", "fd00::/8") as driver,
        opened(driver, make_spec(network=True)) as sandbox,
    ):
        assert await connect(sandbox, PRIVATE, patience_s=10) == HOST
        assert await connect(sandbox, RESOLVER, 8000) != HOST
        with socket.create_server((HOST, 0)) as server:
            assert "timed out" in await connect(sandbox, HOST, server.getsockname()[1])


async def test_a_host_that_did_not_forward_does_not_become_a_router(driver: OciDriver, sandbox: Sandbox) -> None:
    rules = run("nft", "list", "table", "inet", f"spinney_{driver.tag}")
    assert read_forwarding() == "1\n"
    assert ('iifname != "spn*" oifname != "spn*" drop' in rules) == forwarding_was_off()


async def test_the_first_sandboxes_may_come_at_once(internet: Internet) -> None:
    async with make_driver() as driver, AsyncExitStack() as stack:
        opening = (stack.enter_async_context(opened(driver, make_spec(network=True))) for _ in range(4))
        sandboxes = await asyncio.gather(*opening)
        assert [await connect(sandbox, PUBLIC, patience_s=10) for sandbox in sandboxes] == [HOST] * 4


async def test_nothing_is_left_of_a_network(internet: Internet) -> None:
    before = read_forwarding()
    async with make_driver() as driver:
        async with opened(driver, make_spec(network=True)) as sandbox:
            assert await connect(sandbox, PUBLIC, patience_s=10) == HOST
            assert find_traces(f"spn{driver.tag[:4]}", f"spinney_{driver.tag}")
        assert find_traces(f"spn{driver.tag[:4]}") == []
    assert find_traces(f"spinney_{driver.tag}") == []
    assert read_forwarding() == before


async def test_the_network_of_a_killed_server_is_swept_up(internet: Internet) -> None:
    run_dir = Path("/run/spinney", uuid.uuid4().hex)
    server = Server(run_dir, 2, "network")
    driver = OciDriver(run_dir)
    names = (f"spn{driver.tag[:4]}", f"spinney_{driver.tag}")
    assert len(find_traces(*names)) >= 3
    server.kill()
    assert await driver.sweep(()) >= 2
    assert find_traces(*server.ids, *names) == []
    await driver.close()
