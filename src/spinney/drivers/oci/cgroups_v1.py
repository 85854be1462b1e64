"""Control groups version 1: a tree per controller (also the "hybrid" layout, where controllers are still in version 1 trees)."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from spinney.drivers.oci.cgroups import (
    CPU_WEIGHT_V1,
    common_resources,
    cpu_quota_us,
    kill_pids,
    list_groups,
    list_pids,
    read_fields,
    read_number,
    remove_group,
    write_text,
)
from spinney.model import ResourceUsage
from spinney.ports import Limits


class CgroupsV1:
    """``trees`` maps a controller to where its tree is mounted; trees without a controller have a name of their own."""

    version = 1

    def __init__(self, trees: dict[str, str], parent: str) -> None:
        self._trees = trees
        self._parent = parent
        self._mounts = sorted(set(trees.values()))
        self.controllers = frozenset(trees)

    def _path(self, controller: str, name: str = "") -> str:
        return os.path.join(self._trees[controller], self._parent, name)

    def prepare(self, memory_bytes: int, pids: int) -> None:
        for mount in self._mounts:
            os.makedirs(os.path.join(mount, self._parent), exist_ok=True)
        memory = self._path("memory")
        with contextlib.suppress(OSError):  # newer kernels have nothing but hierarchies and refuse or ignore it
            write_text(f"{memory}/memory.use_hierarchy", 1)
        self._limit_memory(memory, -1, growing=True)
        if memory_bytes:
            self._limit_memory(memory, memory_bytes, growing=False)
        write_text(self._path("pids") + "/pids.max", pids or "max")
        write_text(self._path("cpu") + "/cpu.shares", CPU_WEIGHT_V1)

    @property
    def counts_swap(self) -> bool:
        return os.path.exists(self._path("memory") + "/memory.memsw.limit_in_bytes")

    def location(self, name: str) -> str:
        return f"/{self._parent}/{name}"

    def resources(self, limits: Limits) -> dict[str, Any]:
        resources = common_resources(limits)
        if not self.counts_swap:
            resources["memory"] = {"limit": limits.memory_mb << 20, "swappiness": 0}
        return resources

    def _limit_memory(self, path: str, limit: int, growing: bool) -> None:
        """Memory plus swap may never be below memory alone, so the order depends on the direction."""
        files = ["memory.memsw.limit_in_bytes", "memory.limit_in_bytes"]
        for file in files if growing else reversed(files):
            if os.path.exists(f"{path}/{file}"):
                write_text(f"{path}/{file}", limit)

    def change(self, name: str, old: Limits, new: Limits) -> None:
        if new.memory_mb != old.memory_mb:
            self._limit_memory(self._path("memory", name), new.memory_mb << 20, new.memory_mb > old.memory_mb)
        if new.cpus != old.cpus:
            write_text(self._path("cpu", name) + "/cpu.cfs_quota_us", cpu_quota_us(new))
        if new.pids != old.pids:
            write_text(self._path("pids", name) + "/pids.max", new.pids)

    def oom_kills(self, name: str) -> int:
        return read_fields(self._path("memory", name) + "/memory.oom_control").get("oom_kill", 0)

    def usage(self, name: str) -> ResourceUsage:
        memory = self._path("memory", name)
        return ResourceUsage(
            cpu_s=read_number(self._path("cpuacct", name) + "/cpuacct.usage") / 1e9,
            memory_bytes=read_number(f"{memory}/memory.usage_in_bytes"),
            memory_peak_bytes=read_number(f"{memory}/memory.max_usage_in_bytes"),
        )

    def memory_bytes(self) -> int:
        memory = self._path("memory")
        fields = read_fields(f"{memory}/memory.stat")
        cached = fields.get("total_inactive_file", 0) + fields.get("total_active_file", 0)
        return max(0, read_number(f"{memory}/memory.usage_in_bytes") - cached)

    def names(self) -> set[str]:
        return set[str]().union(*(list_groups(os.path.join(mount, self._parent)) for mount in self._mounts))

    def kill(self, name: str) -> int:
        return kill_pids(list_pids(self._path("pids", name)))

    def remove(self, name: str) -> None:
        for mount in self._mounts:
            remove_group(os.path.join(mount, self._parent, name))

    def close(self) -> None:
        for mount in self._mounts:
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(mount, self._parent))
