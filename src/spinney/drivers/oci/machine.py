"""Facts about this machine that decide how sandboxes are made here."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from spinney.drivers.oci.cgroups import Cgroups, NoCgroups
from spinney.drivers.oci.cgroups_v1 import NOT_WRITABLE, CgroupsV1
from spinney.drivers.oci.cgroups_v2 import NO_DELEGATION, CgroupsV2, choose_base
from spinney.drivers.oci.settings import find_binary
from spinney.errors import Unsupported

CGROUP_MOUNT = Path("/sys/fs/cgroup")
NEEDED = ("cpu", "memory", "pids")
RUNTIMES = ("runc", "crun")
"""Those that hand a descriptor, the guest channel, to a sandbox and leave its first process to whoever started them."""

TREE_OPTIONS = {"rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "release_agent"}
USERNS_SWITCHES: Mapping[str, str] = {
    "/proc/sys/kernel/unprivileged_userns_clone": "0",
    "/proc/sys/user/max_user_namespaces": "0",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1",
}
"""Kernel settings, and the value with which each forbids user namespaces to ordinary users."""


def find_cgroups(parent: str) -> Cgroups:
    """The layout of control groups here, with ``parent`` as the name of the server's own group.

    Raises Unsupported when root can make none, with what to do about it; without root NoCgroups stands in.
    """
    try:
        return _find_cgroups(parent)
    except (Unsupported, OSError) as error:
        if os.geteuid() != 0:
            return NoCgroups()
        raise error if isinstance(error, Unsupported) else Unsupported(NO_DELEGATION) from error


def _find_cgroups(parent: str) -> Cgroups:
    trees = find_v1_trees(Path("/proc/self/mountinfo").read_text())
    if all(name in trees for name in NEEDED):
        if not os.access(trees["memory"], os.W_OK):
            raise Unsupported(NOT_WRITABLE)
        return CgroupsV1(trees, parent)
    if not (CGROUP_MOUNT / "cgroup.controllers").exists():
        raise Unsupported("control groups are not mounted at /sys/fs/cgroup")
    base = choose_base(CGROUP_MOUNT, find_own_group(Path("/proc/self/cgroup").read_text()))
    if not os.access(CGROUP_MOUNT / base.strip("/") / "cgroup.procs", os.W_OK):
        raise Unsupported(NO_DELEGATION)
    return CgroupsV2(CGROUP_MOUNT, base, parent)


def find_v1_trees(mountinfo: str) -> dict[str, Path]:
    """Where each version 1 controller is mounted; trees without a controller under their path."""
    trees: dict[str, Path] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        place = before.split()[4]
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup":
            names = [name for name in options.split(",") if name.partition("=")[0] not in TREE_OPTIONS]
            trees |= {place if "=" in name else name: Path(place) for name in names}
        elif kind == "cgroup2":
            trees[place] = Path(place)
    return trees


def find_own_group(text: str) -> str:
    """This process's group in the version 2 tree, from /proc/self/cgroup."""
    match = re.search(r"^0::(.*)$", text, re.MULTILINE)
    return match[1] if match else "/"


def find_init() -> str:
    """A tiny init for process 1 of each sandbox, as a path in the host's /usr. Raises Unsupported."""
    for path in ("/usr/bin/tini-static", "/usr/bin/tini", "/usr/sbin/tini"):
        if os.access(path, os.X_OK):
            return path
    raise Unsupported("tini is not installed: apt-get install tini")


def find_runtime(name: str) -> str:
    """The absolute path of the OCI runtime. Raises Unsupported."""
    if Path(name).name not in RUNTIMES:
        raise Unsupported(f"{name} cannot start sandboxes here: use {' or '.join(RUNTIMES)}")
    path = find_binary(name)
    if path is None:
        raise Unsupported(f"{name} is not installed: apt-get install {Path(name).name}")
    return path


def check_user_namespaces() -> None:
    """Raises Unsupported when this process may not make user namespaces, with what to do about it."""
    if os.geteuid() == 0:
        return
    for file, forbidding in USERNS_SWITCHES.items():
        path = Path(file)
        if path.exists() and path.read_text().strip() == forbidding:
            name = file.removeprefix("/proc/sys/").replace("/", ".")
            raise Unsupported(f"this kernel gives user namespaces to root only: run as root, or change the sysctl {name}")


def counts_processes_by_namespace(release: str) -> bool:
    """Whether RLIMIT_NPROC counts every user namespace by itself (Linux 5.14 and later), and not a user's sandboxes together."""
    version = re.match(r"(\d+)\.(\d+)", release)
    return version is not None and (int(version[1]), int(version[2])) >= (5, 14)


def find_nameservers(*texts: str) -> list[str]:
    """The resolvers, out of the first resolv.conf that names any which a sandbox can use: IPv4 and not the host's loopback."""
    for text in texts:
        found = re.findall(r"^\s*nameserver\s+(\d+\.\d+\.\d+\.\d+)\s*$", text, re.MULTILINE)
        usable = [address for address in found if not address.startswith(("127.", "0."))]
        if usable:
            return usable
    return []


def read_nameservers() -> list[str]:
    """Those of this host; behind a local stub the ones that it asks."""
    files = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
    return find_nameservers(*(path.read_text(errors="replace") for path in files if path.is_file()))
