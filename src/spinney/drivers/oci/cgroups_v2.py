"""Control groups version 2: one tree, where a group with processes may have none below it that are limited."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from spinney.drivers.oci.cgroups import (
    CPU_PERIOD_US,
    CPU_WEIGHT_V2,
    common_resources,
    cpu_quota_us,
    kill_pids,
    list_groups,
    list_pids,
    read_fields,
    read_number,
    read_text,
    remove_group,
    write_text,
)
from spinney.errors import Unsupported
from spinney.model import ResourceUsage
from spinney.ports import Limits

WANTED = ("cpu", "memory", "pids")
SERVER_GROUP = "spinney-server"
NO_DELEGATION = (
    "no control group may be made here: run as root, under systemd with Delegate=yes, or in a container with its control groups"
    " writable (--privileged or --cgroupns=private with /sys/fs/cgroup mounted read-write)"
)


class CgroupsV2:
    """``mount`` is where the tree is mounted, ``base`` the path in it below which the server's parent group goes."""

    version = 2

    def __init__(self, mount: Path, base: str, parent: str) -> None:
        """Raises Unsupported when the base offers too few controllers."""
        self._mount = mount
        self._base = mount / base.strip("/")
        self._parent = self._base / parent
        self.controllers = frozenset(read_text(self._base / "cgroup.controllers").split())
        missing = [name for name in WANTED if name not in self.controllers]
        if missing:
            raise Unsupported(f"control group controllers are missing: {', '.join(missing)} (systemd: Delegate=yes)")

    def prepare(self, memory_bytes: int, pids: int) -> None:
        try:
            self._enable()
            self._parent.mkdir(exist_ok=True)
            write_text(self._parent / "cgroup.subtree_control", " ".join(f"+{name}" for name in WANTED))
        except OSError as error:
            raise Unsupported(NO_DELEGATION) from error
        write_text(self._parent / "memory.max", memory_bytes or "max")
        self._without_swap(self._parent)
        write_text(self._parent / "pids.max", pids or "max")
        write_text(self._parent / "cpu.weight", CPU_WEIGHT_V2)

    def _enable(self) -> None:
        """Let groups below the base be limited; the processes in the base, this server's first, move aside for that."""
        control = self._base / "cgroup.subtree_control"
        if set(WANTED) <= set(read_text(control).split()):
            return
        text = " ".join(f"+{name}" for name in WANTED)
        try:
            write_text(control, text)
            return
        except OSError:
            aside = self._base / SERVER_GROUP
            aside.mkdir(exist_ok=True)
        for pid in read_text(self._base / "cgroup.procs").split():
            with contextlib.suppress(ProcessLookupError):
                write_text(aside / "cgroup.procs", pid)
        write_text(control, text)

    def _without_swap(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):  # a kernel that does not count swap
            write_text(path / "memory.swap.max", 0)

    def location(self, name: str) -> str:
        return "/" + str((self._parent / name).relative_to(self._mount))

    def resources(self, limits: Limits) -> dict[str, Any]:
        return common_resources(limits)

    def change(self, name: str, old: Limits, new: Limits) -> None:
        path = self._parent / name
        if new.memory_mb != old.memory_mb:
            write_text(path / "memory.max", new.memory_mb << 20)
            self._without_swap(path)
        if new.cpus != old.cpus:
            write_text(path / "cpu.max", f"{cpu_quota_us(new)} {CPU_PERIOD_US}")
        if new.pids != old.pids:
            write_text(path / "pids.max", new.pids)

    def hasten(self, name: str) -> None:
        with contextlib.suppress(OSError):
            write_text(self._parent / name / "cpu.max", f"max {CPU_PERIOD_US}")

    def counts_swap(self) -> bool:
        return not self._parent.exists() or (self._parent / "memory.swap.max").exists()

    def oom_kills(self, name: str) -> int:
        return read_fields(self._parent / name / "memory.events").get("oom_kill", 0)

    def usage(self, name: str) -> ResourceUsage:
        path = self._parent / name
        return ResourceUsage(
            cpu_s=read_fields(path / "cpu.stat").get("usage_usec", 0) / 1e6,
            memory_bytes=read_number(path / "memory.current"),
            memory_peak_bytes=read_number(path / "memory.peak"),
        )

    def memory_bytes(self) -> int:
        fields = read_fields(self._parent / "memory.stat")
        cached = fields.get("inactive_file", 0) + fields.get("active_file", 0)
        return max(0, read_number(self._parent / "memory.current") - cached)

    def names(self) -> set[str]:
        return list_groups(self._parent)

    def kill(self, name: str) -> list[int]:
        path = self._parent / name
        pids = list_pids(path)
        with contextlib.suppress(FileNotFoundError):  # kernels before 5.14 have no cgroup.kill, and the group may be gone
            write_text(path / "cgroup.kill", 1)
        return kill_pids(pids)

    def remove(self, name: str) -> None:
        remove_group(self._parent / name)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._parent.rmdir()


def choose_base(mount: Path, own: str) -> str:
    """Where the parent group goes: at the top when the whole tree is ours to use, else below the server's own group.

    own: the server's group as in /proc/self/cgroup.
    """
    is_top = not (mount / "cgroup.type").exists()  # the true top of the tree has no type
    if is_top and os.access(mount / "cgroup.subtree_control", os.W_OK):
        return "/"
    base = own if own != f"/{SERVER_GROUP}" else "/"
    return base.removesuffix(f"/{SERVER_GROUP}") or "/"
