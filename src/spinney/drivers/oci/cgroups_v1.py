"""Control groups version 1: a tree per controller (also the "hybrid" layout, where controllers are still in version 1 trees)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
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
from spinney.errors import Unsupported
from spinney.model import ResourceUsage
from spinney.ports import Limits

NOT_WRITABLE = "control groups are read-only here: run on the host as root, or in a container with --privileged"
MEMORY_FILES = ("memory.memsw.limit_in_bytes", "memory.limit_in_bytes")


class CgroupsV1:
    """``trees`` maps each controller, and each tree without one, to where it is mounted."""

    version = 1

    def __init__(self, trees: Mapping[str, Path], parent: str) -> None:
        self._parents = {name: mount / parent for name, mount in trees.items()}
        self._places = sorted(set(self._parents.values()))
        self._name = parent
        self.controllers = frozenset(trees)

    def prepare(self, memory_bytes: int, pids: int) -> None:
        try:
            for place in self._places:
                place.mkdir(exist_ok=True)
        except OSError as error:
            raise Unsupported(NOT_WRITABLE) from error
        memory = self._parents["memory"]
        with contextlib.suppress(OSError):  # newer kernels have nothing but hierarchies, and refuse to be told
            write_text(memory / "memory.use_hierarchy", 1)
        self._limit_memory(memory, -1, growing=True)
        if memory_bytes:
            self._limit_memory(memory, memory_bytes, growing=False)
        write_text(self._parents["pids"] / "pids.max", pids or "max")
        write_text(self._parents["cpu"] / "cpu.shares", CPU_WEIGHT_V1)

    def location(self, name: str) -> str:
        return f"/{self._name}/{name}"

    def resources(self, limits: Limits) -> dict[str, Any]:
        resources = common_resources(limits)
        if not self.counts_swap():
            resources["memory"] = {"limit": limits.memory_mb << 20, "swappiness": 0}
        return resources

    def hasten(self, name: str) -> None:
        with contextlib.suppress(OSError):
            write_text(self._parents["cpu"] / name / "cpu.cfs_quota_us", -1)

    def counts_swap(self) -> bool:
        mount = self._parents["memory"].parent
        return any((path / MEMORY_FILES[0]).exists() for path in (mount, self._parents["memory"]))

    def _limit_memory(self, path: Path, limit: int, *, growing: bool) -> None:
        """Memory plus swap may never be below memory alone, so the order depends on the direction."""
        for name in MEMORY_FILES if growing else reversed(MEMORY_FILES):
            if (path / name).exists():
                write_text(path / name, limit)

    def change(self, name: str, old: Limits, new: Limits) -> None:
        if new.memory_mb != old.memory_mb:
            growing = new.memory_mb > old.memory_mb
            self._limit_memory(self._parents["memory"] / name, new.memory_mb << 20, growing=growing)
        if new.cpus != old.cpus:
            write_text(self._parents["cpu"] / name / "cpu.cfs_quota_us", cpu_quota_us(new))
        if new.pids != old.pids:
            write_text(self._parents["pids"] / name / "pids.max", new.pids)

    def oom_kills(self, name: str) -> int:
        return read_fields(self._parents["memory"] / name / "memory.oom_control").get("oom_kill", 0)

    def usage(self, name: str) -> ResourceUsage:
        memory = self._parents["memory"] / name
        cpu = self._parents.get("cpuacct", memory) / name
        return ResourceUsage(
            cpu_s=read_number(cpu / "cpuacct.usage") / 1e9,
            memory_bytes=read_number(memory / "memory.usage_in_bytes"),
            memory_peak_bytes=read_number(memory / "memory.max_usage_in_bytes"),
        )

    def memory_bytes(self) -> int:
        memory = self._parents["memory"]
        fields = read_fields(memory / "memory.stat")
        cached = fields.get("total_inactive_file", 0) + fields.get("total_active_file", 0)
        return max(0, read_number(memory / "memory.usage_in_bytes") - cached)

    def names(self) -> set[str]:
        return set[str]().union(*(list_groups(place) for place in self._places))

    def kill(self, name: str) -> list[int]:
        return kill_pids(list_pids(self._parents["pids"] / name))

    def remove(self, name: str) -> None:
        for place in self._places:
            remove_group(place / name)

    def close(self) -> None:
        for place in self._places:
            with contextlib.suppress(OSError):
                place.rmdir()
