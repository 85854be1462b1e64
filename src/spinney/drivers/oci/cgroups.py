"""Control groups: one parent for the server with the budget of all sandboxes, one group below it for each sandbox.

The runtime makes a sandbox's group from the bundle; here it is measured, given new limits, emptied and removed. Two layouts
exist on today's machines: version 1 (a tree per controller) and version 2 (one tree).
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from pathlib import Path
from typing import Any, Protocol

from spinney.model import ResourceUsage
from spinney.ports import Limits

CPU_PERIOD_US = 100_000
CPU_WEIGHT_V1 = 512
CPU_WEIGHT_V2 = 50
"""Half of a normal process's weight for all sandboxes together, so that the server answers while they are all busy."""

BACKGROUND_SHARES = 102
REMOVE_TIMEOUT_S = 5.0


class Cgroups(Protocol):
    """What the driver needs of either layout. ``name`` is a sandbox's id; files are those of a kernel, never of a guest."""

    version: int
    controllers: frozenset[str]

    def prepare(self, memory_bytes: int, pids: int) -> None:
        """Make the parent group and set the budget of all sandboxes; 0 means none. Raises Unsupported. May be repeated."""

    def location(self, name: str) -> str:
        """``linux.cgroupsPath`` of the bundle."""

    def resources(self, limits: Limits) -> dict[str, Any]:
        """``linux.resources`` of the bundle."""

    def change(self, name: str, old: Limits, new: Limits) -> None:
        """Put new limits on a living sandbox. Raises OSError."""

    def hasten(self, name: str) -> None:
        """Before a kill: give up the limit on CPU, for hundreds of processes take their time to die. Raises nothing."""

    def counts_swap(self) -> bool:
        """Whether a sandbox's limit holds for memory and swap together."""

    def oom_kills(self, name: str) -> int:
        """How many of its processes the kernel has killed for want of memory."""

    def usage(self, name: str) -> ResourceUsage:
        """Zeros when the group is gone."""

    def memory_bytes(self) -> int:
        """What all sandboxes use, without file contents that the kernel can drop at any time."""

    def names(self) -> set[str]:
        """Every sandbox that has a group."""

    def kill(self, name: str) -> list[int]:
        """Send SIGKILL to everything in a group; the processes that were there."""

    def remove(self, name: str) -> None:
        """Remove an emptied group; waits shortly while the kernel still takes it down. Raises OSError."""

    def close(self) -> None:
        """Remove the parent group when nothing is below it."""


class NoCgroups:
    """Without root or delegation: nothing is limited or measured, and Features say so."""

    version = 0
    controllers: frozenset[str] = frozenset()

    def prepare(self, memory_bytes: int, pids: int) -> None:
        """Nothing to make."""

    def location(self, name: str) -> str:
        return ""

    def resources(self, limits: Limits) -> dict[str, Any]:
        return {}

    def change(self, name: str, old: Limits, new: Limits) -> None:
        """Nothing to change."""

    def hasten(self, name: str) -> None:
        """Nothing to give up."""

    def counts_swap(self) -> bool:
        return False

    def oom_kills(self, name: str) -> int:
        return 0

    def usage(self, name: str) -> ResourceUsage:
        return ResourceUsage()

    def memory_bytes(self) -> int:
        return 0

    def names(self) -> set[str]:
        return set()

    def kill(self, name: str) -> list[int]:
        return []

    def remove(self, name: str) -> None:
        """Nothing to remove."""

    def close(self) -> None:
        """Nothing to remove."""


def cpu_quota_us(limits: Limits) -> int:
    """Microseconds of CPU in each period; the kernel takes no less than 1000."""
    return max(1000, int(limits.cpus * CPU_PERIOD_US))


def cpu_shares(limits: Limits) -> int:
    """The sandbox's weight among its siblings, on the scale of version 1; the runtime translates it for version 2."""
    return BACKGROUND_SHARES if limits.background else 1024


def common_resources(limits: Limits) -> dict[str, Any]:
    """What the runtime understands for both layouts; no device may be opened but those that it adds by itself."""
    size = limits.memory_mb << 20
    return {
        "memory": {"limit": size, "swap": size},
        "pids": {"limit": limits.pids},
        "cpu": {"quota": cpu_quota_us(limits), "period": CPU_PERIOD_US, "shares": cpu_shares(limits)},
        "devices": [{"allow": False, "access": "rwm"}],
    }


def read_text(path: Path) -> str:
    return path.read_text(encoding="ascii")


def read_number(path: Path) -> int:
    """The integer in a file; 0 when the file is gone or says ``max``."""
    try:
        return int(read_text(path))
    except (OSError, ValueError):
        return 0


def read_fields(path: Path) -> dict[str, int]:
    """``name value`` lines; {} when the file is gone."""
    try:
        pairs = (line.split() for line in read_text(path).splitlines())
        return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}
    except (OSError, ValueError):
        return {}


def write_text(path: Path, value: str | int) -> None:
    """One ``write`` to an existing file: a controller takes or refuses a value as a whole."""
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(fd, str(value).encode())
    finally:
        os.close(fd)


def list_groups(path: Path) -> set[str]:
    try:
        with os.scandir(path) as entries:
            return {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}
    except OSError:
        return set()


def list_pids(path: Path) -> list[int]:
    """Processes in a group and in all groups below it."""
    pids: list[int] = []
    for directory, _, _ in os.walk(path):
        with contextlib.suppress(OSError):
            pids += [int(pid) for pid in read_text(Path(directory, "cgroup.procs")).split()]
    return pids


def kill_pids(pids: list[int]) -> list[int]:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return pids


def remove_group(path: Path) -> None:
    """Remove a group and those below it, retrying while dying processes still count as members. Raises OSError."""
    deadline = time.monotonic() + REMOVE_TIMEOUT_S
    pause_s = 0.0005
    while True:
        try:
            _remove_tree(path)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY) or time.monotonic() > deadline:
                raise
        kill_pids(list_pids(path))
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.05)


def _remove_tree(path: Path) -> None:
    try:
        path.rmdir()
    except OSError as error:
        below = list_groups(path)
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY) or not below:
            raise
        for name in below:
            _remove_tree(path / name)
        path.rmdir()
