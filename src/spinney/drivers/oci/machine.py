"""Facts about this machine that decide how sandboxes are made here."""

from __future__ import annotations

import os
import re
from pathlib import Path

from spinney.drivers.oci.cgroups import Cgroups
from spinney.drivers.oci.cgroups_v1 import CgroupsV1
from spinney.errors import Unsupported

NEEDED = ("cpu", "memory", "pids")


def find_cgroups(parent: str) -> Cgroups:
    """The layout of control groups on this machine, with ``parent`` as the name of the server's own group.

    Raises Unsupported when a controller is missing or groups cannot be made, with what to do about it.
    """
    trees = find_v1_trees(Path("/proc/self/mountinfo").read_text())
    if all(name in trees for name in NEEDED):
        return CgroupsV1(trees, parent)
    raise Unsupported("control groups are not available")


def find_v1_trees(mountinfo: str) -> dict[str, str]:
    """Where each version 1 controller is mounted; trees without a controller by their path."""
    trees: dict[str, str] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        mount = before.split()[4]
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup":
            names = [name for name in options.split(",") if name not in ("rw", "ro", "xattr", "noprefix", "clone_children")]
            trees |= {name if "=" not in name else mount: mount for name in names}
        elif kind == "cgroup2":
            trees[mount] = mount
    return trees


def find_init() -> str:
    """A tiny init for process 1 of each sandbox. Raises Unsupported."""
    for path in ("/usr/bin/tini-static", "/usr/bin/tini"):
        if os.access(path, os.X_OK):
            return path
    raise Unsupported("tini is not installed: apt-get install tini")


def find_nameservers(resolv_conf: str) -> list[str]:
    """The resolvers that a sandbox can use: not the host's own loopback ones."""
    found = re.findall(r"^\s*nameserver\s+([0-9.]+)\s*$", resolv_conf, re.MULTILINE)
    return [address for address in found if not address.startswith(("127.", "0."))]
