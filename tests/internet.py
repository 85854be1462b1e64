"""An internet of the tests' own: a network namespace with addresses of every kind, and services that answer there."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

HOST, PUBLIC, PRIVATE, RESOLVER, METADATA = "11.22.33.1", "11.22.33.2", "10.77.0.2", "10.77.0.3", "169.254.169.254"

NAME, LINK = "spinney-test-", "spt"
LOCK = Path("/run/spinney-tests.lock")
"""Held by whoever has the addresses: of two runs of the tests on one machine the second waits."""

SERVICES = """
import selectors, socket, sys
def resolve(query):
    end = query.index(0, 12) + 5
    parts = query[13 : 13 + query[12]].decode().split("-")
    known = len(parts) == 4 and query[end - 4 : end] == bytes([0, 1, 0, 1])
    answer = bytes([192, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, *map(int, parts)]) if known else b""
    return query[:2] + bytes([129, 128, 0, 1, 0, known, 0, 0, 0, 0]) + query[12:end] + answer
selector = selectors.DefaultSelector()
for port in (53, 8000):
    tcp = socket.create_server(("", port), backlog=16)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((sys.argv[1] if port == 53 else "", port))  # it answers from the address that was asked
    selector.register(tcp, 1, "tcp")
    selector.register(udp, 1, "udp")
print("ready", flush=True)
while True:
    for key, _ in selector.select():
        if key.data == "tcp":
            connection, peer = key.fileobj.accept()
            connection.sendall(peer[0].encode())
            connection.close()
        else:
            data, peer = key.fileobj.recvfrom(600)
            if key.fileobj.getsockname()[1] == 53:
                key.fileobj.sendto(resolve(data), peer)
            else:
                print(data.decode(), peer[0], flush=True)
                key.fileobj.sendto(peer[0].encode(), peer)
"""


class Internet:
    """Another machine: a namespace with public and private addresses, where TCP ports 53 and 8000 and UDP port 8000 say who asks.

    UDP port 53 resolves names whose first label spells an address: ``10-77-0-2.test``.
    """

    def __init__(self) -> None:
        self._lock = LOCK.open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        sweep()
        tag = uuid.uuid4().hex[:6]
        self.name, self.link = f"{NAME}{tag}", f"{LINK}{tag}"
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        run("ip", "address", "add", f"{HOST}/24", "dev", self.link)
        run("ip", "link", "set", self.link, "up")
        inside = ("ip", "-n", self.name)
        for address in (f"{PUBLIC}/24", f"{PRIVATE}/32", f"{RESOLVER}/32", f"{METADATA}/32"):
            run(*inside, "address", "add", address, "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")
        for address in (PRIVATE, RESOLVER, METADATA):
            run("ip", "route", "add", address, "via", PUBLIC)
        command = ("ip", "netns", "exec", self.name, sys.executable, "-c", SERVICES, RESOLVER)
        self.services = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.services.stdout is not None
        assert self.services.stdout.readline() == "ready\n"

    def next_datagram(self) -> str:
        assert self.services.stdout is not None
        return self.services.stdout.readline().strip()

    def close(self) -> None:
        self.services.kill()
        self.services.wait()
        assert self.services.stdout is not None
        self.services.stdout.close()
        sweep()
        self._lock.close()


def sweep() -> None:
    """Remove what a run that was killed has left; the lock is held, so nothing of a living one is there."""
    for line in run("ip", "-oneline", "link", "show", "type", "veth").splitlines():
        name = line.split()[1].partition("@")[0]
        if name.startswith(LINK):
            run("ip", "link", "delete", name)
    for line in run("ip", "netns", "list").splitlines():
        name = line.split()[0]
        if name.startswith(NAME):
            for pid in run("ip", "netns", "pids", name).split():
                os.kill(int(pid), signal.SIGKILL)
            run("ip", "netns", "delete", name)


def run(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout
