"""Network of sandboxes: a link to the host for each, address translation, the egress policy.

A sandbox's network namespace is the one the runtime makes; its end of the link is moved in by pid. So nothing here has a name
that could be left behind but the host's ends of the links, which vanish with their namespaces, and one nftables table.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import subprocess
import threading
from collections import deque
from collections.abc import Collection, Sequence
from pathlib import Path

from spinney.drivers.oci.egress import choose_block, parse_allowed, write_rules
from spinney.drivers.oci.settings import find_binary
from spinney.errors import StartFailed, Unsupported

TOOLS = ("ip", "nft", "nsenter")
LINKS = "spn"
TABLES = "spinney_"
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
IPV6 = Path("/proc/sys/net/ipv6")
COMMAND_TIMEOUT_S = 20


class Link:
    """One sandbox's connection: the host's end has the even address of a pair, the sandbox's the odd one."""

    def __init__(self, number: int, name: str, block: ipaddress.IPv4Network) -> None:
        self.number = number
        self.name = name
        self.host = str(block[2 * number])
        self.guest = str(block[2 * number + 1])

    def read_bytes(self) -> tuple[int, int]:
        """Bytes received and sent by the sandbox; zeros when the link is gone."""
        counters = Path("/sys/class/net", self.name, "statistics")
        try:
            sent, received = (int((counters / name).read_text()) for name in ("rx_bytes", "tx_bytes"))
        except (OSError, ValueError):
            return 0, 0
        return received, sent


class Network:
    """Networks of one server. Blocking: everything here is for a thread.

    tag: hexadecimal digits that tell servers on one machine apart. nameservers: what sandboxes may ask on port 53.
    record: a file that says whether forwarding was off before any server of this kind switched it on.
    """

    def __init__(self, tag: str, cidr: str, allowed: Sequence[str], nameservers: Sequence[str], record: Path) -> None:
        """Raises Unsupported when a tool is missing, ValueError for a wrong CIDR."""
        found = {name: find_binary(name) for name in TOOLS}
        missing = [name for name, path in found.items() if path is None]
        if missing:
            raise Unsupported(f"network needs {', '.join(missing)}: apt-get install iproute2 nftables util-linux")
        self._tools = {name: str(path) for name, path in found.items()}
        self._prefix = f"{LINKS}{tag[:4]}"
        self._table = f"{TABLES}{tag}"
        self._seed = int(tag, 16)
        self._cidr = cidr
        self._allowed = parse_allowed(allowed)
        self.nameservers = list(nameservers)
        self._record = record
        self._block: ipaddress.IPv4Network | None = None
        self._numbers: deque[int] = deque()
        self._preparing = threading.Lock()

    # -- one sandbox ---------------------------------------------------------------------------------------------------

    def connect(self, pid: int) -> Link:
        """Give the network namespace of ``pid``, a child of ours, its link. Raises StartFailed and leaves nothing."""
        self.prepare()
        assert self._block is not None
        if not self._numbers:
            raise StartFailed("no network address is free")
        number = self._numbers.popleft()
        link = Link(number, f"{self._prefix}{number:x}", self._block)
        try:
            self._run("ip", "-batch", "-", text=_host_commands(link, pid))
            self._run("nsenter", f"--net=/proc/{pid}/ns/net", self._tools["ip"], "-batch", "-", text=_guest_commands(link))
        except OSError as error:
            self.disconnect(link)
            raise StartFailed("the sandbox's network could not be set up") from error
        return link

    def disconnect(self, link: Link) -> None:
        with contextlib.suppress(OSError):  # it is gone already when the kernel took the namespace down first
            self._run("ip", "link", "delete", link.name)
        self._numbers.append(link.number)

    # -- the server ----------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Rules and forwarding, at the first sandbox with network; several may come at once. Raises StartFailed."""
        with self._preparing:
            if self._block is None:
                self._prepare()

    def _prepare(self) -> None:
        try:
            used = [
                route["dst"] for route in json.loads(self._run("ip", "-json", "-4", "route", "show")) if route["dst"] != "default"
            ]
            block = choose_block(self._cidr, self._seed, used)
            guard = f"{LINKS}*" if self._switch_forwarding_on() else ""
            rules = write_rules(self._table, f"{self._prefix}*", str(block), self.nameservers, self._allowed, guard)
            self._run("nft", "-f", "-", text=rules)
        except (OSError, ValueError) as error:
            raise StartFailed(f"network is not available: {error}") from error
        self._numbers = deque(range(block.num_addresses // 2))
        self._block = block

    def _switch_forwarding_on(self) -> bool:
        """Whether it was off before servers of this kind came; the record of that outlives a killed server."""
        if FORWARDING.read_text().strip() == "0":
            self._record.touch()
            FORWARDING.write_text("1")
        return self._record.exists()

    def sweep(self, keep: Collection[str] = ()) -> None:
        """Remove what a killed server left: its links, and its rules unless they are in use again."""
        for name in {path.name for path in Path("/sys/class/net").glob(f"{self._prefix}*")} - set(keep):
            with contextlib.suppress(OSError):
                self._run("ip", "link", "delete", name)
        if self._block is None:
            self.close()

    def close(self) -> None:
        """Remove the rules; after the last server's, put forwarding back."""
        with contextlib.suppress(OSError):
            self._run("nft", "delete", "table", "inet", self._table)
        self._block = None
        if self._record.exists() and TABLES not in self._run("nft", "list", "tables"):
            FORWARDING.write_text("0")
            self._record.unlink(missing_ok=True)

    def _run(self, tool: str, *arguments: str, text: str = "") -> str:
        """What a tool prints. Raises OSError with what it complains about."""
        command = [self._tools[tool], *arguments]
        try:
            done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise OSError(f"{tool} did not end") from error
        if done.returncode:
            raise OSError(f"{tool}: {done.stderr.strip()}")
        return done.stdout


def _host_commands(link: Link, pid: int) -> str:
    return f"""link add {link.name} type veth peer name eth0 netns {pid}
{_without_ipv6(link.name)}
address add {link.host}/31 dev {link.name}
link set {link.name} up
"""


def _guest_commands(link: Link) -> str:
    return f"""{_without_ipv6("eth0")}
address add {link.guest}/31 dev eth0
link set eth0 up
route add default via {link.host}
"""


def _without_ipv6(name: str) -> str:
    """No address is generated for a link; there is nothing to prevent where the kernel has no IPv6."""
    return f"link set {name} addrgenmode none" if IPV6.exists() else ""
