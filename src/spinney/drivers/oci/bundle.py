"""The OCI bundle of a sandbox: ``config.json`` as the runtime specification 1.0 has it."""

from __future__ import annotations

import contextlib
import functools
import os
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from spinney.drivers.oci.identity import Ids
from spinney.ports import Limits, Mount, SandboxSpec

NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "user", "cgroup")
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8", "TZ": "UTC"}
MASKED_PATHS = ("/proc/acpi", "/proc/cmdline", "/proc/kcore", "/proc/keys", "/proc/timer_list")
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
SHM_SIZE = "64m"
TASKSET = "/usr/bin/taskset"


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """What all sandboxes of a Launch have in common.

    mounts: host directories over the root ``rootfs``. seccomp: ``linux.seccomp`` as JSON text.
    """

    rootfs: str
    mounts: tuple[Mount, ...]
    init: str
    seccomp: bytes | None


class Person(msgspec.Struct, frozen=True):
    """Who a process in a sandbox is: its id as it sees it and on the host, its limits.

    counted: for want of a control group the number of processes is limited by user; every user namespace counts its own.
    """

    id: int
    host_id: int
    limits: Limits
    counted: bool

    def give(self, *descriptors: int) -> None:
        """Make pipes its own, so that it can open /dev/stdout and the like by name. Without root it may have to do without."""
        for fd in descriptors:
            with contextlib.suppress(PermissionError):
                os.fchown(fd, self.host_id, self.host_id)

    def rlimits(self) -> list[tuple[str, int]]:
        """What one process may use, beyond what the sandbox as a whole may."""
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = self.limits.files if most == resource.RLIM_INFINITY else min(self.limits.files, most)
        fixed = [("RLIMIT_CORE", 0), ("RLIMIT_MEMLOCK", 65536), ("RLIMIT_MSGQUEUE", 0), ("RLIMIT_NOFILE", files)]
        return [*fixed, ("RLIMIT_NPROC", self.limits.pids)] if self.counted else fixed


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Where one sandbox goes on the host. task: the directory with its code. cgroup: ``""`` for none."""

    ids: Ids
    task: str
    cgroup: str
    resources: Mapping[str, Any]
    person: Person


def encode_config(template: Template, spec: SandboxSpec, place: Placement) -> bytes:
    """``config.json`` for one sandbox."""
    mappings = place.ids.mappings()
    linux: dict[str, Any] = {
        "namespaces": [{"type": name} for name in NAMESPACES],
        "uidMappings": mappings,
        "gidMappings": mappings,
        "maskedPaths": MASKED_PATHS,
        "readonlyPaths": READONLY_PATHS,
    }
    if place.cgroup:
        linux |= {"cgroupsPath": place.cgroup, "resources": place.resources}
    if template.seccomp is not None:
        linux["seccomp"] = msgspec.Raw(template.seccomp)
    argv = (template.init, "--", *_spare_a_processor(spec.limits), *spec.launch.argv)
    return msgspec.json.encode(
        {
            "ociVersion": "1.0.2",
            "hostname": "sandbox",
            "root": {"path": template.rootfs, "readonly": True},
            "process": describe_process(argv, environment(spec), place.person, cwd=spec.launch.cwd),
            "mounts": [
                *_mounts(template.mounts, spec),
                {"destination": "/var/task", "source": place.task, "options": ["bind", "ro", "nosuid", "nodev"]},
            ],
            "linux": linux,
        }
    )


def _spare_a_processor(limits: Limits) -> tuple[str, ...]:
    """For work in the background, a program that runs another on all processors but one.

    However little it weighs: while all processors are busy, a call waits for the scheduler's next tick now and then, 4 ms.
    """
    processors = sorted(os.sched_getaffinity(0))
    if not limits.background or len(processors) < 2 or not os.access(TASKSET, os.X_OK):
        return ()
    return (TASKSET, "--cpu-list", ",".join(map(str, processors[1:])))


def environment(spec: SandboxSpec) -> dict[str, str]:
    """Variables of everything in a sandbox; without the right to see them only what its Launch cannot do without."""
    return {**(ENVIRONMENT if spec.rights.env else {}), **dict(spec.launch.environment)}


def describe_process(
    argv: Sequence[str], environment: Mapping[str, str], person: Person, *, cwd: str, terminal: bool = False
) -> dict[str, Any]:
    """``process`` of a bundle, also what ``exec`` takes: no user but the guest's, no capability, nothing to gain by setuid."""
    return {
        "terminal": terminal,
        "user": {"uid": person.id, "gid": person.id},
        "args": list(argv),
        "env": [f"{name}={value}" for name, value in environment.items()],
        "cwd": cwd,
        "capabilities": {},
        "noNewPrivileges": True,
        "rlimits": [{"type": name, "hard": value, "soft": value} for name, value in person.rlimits()],
    }


def _mounts(binds: Sequence[Mount], spec: SandboxSpec) -> list[dict[str, Any]]:
    """Without the right to write nothing is writable."""
    access = () if spec.rights.write else ("ro",)
    return [
        _mount("/proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "nosuid", "noexec", "mode=755", "size=64k"),
        _mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
        _mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", f"size={SHM_SIZE}", *access),
        _mount("/tmp", "tmpfs", "nosuid", "nodev", "mode=1777", f"size={spec.limits.tmp_mb}m", *access),
        *({"destination": bind.target, "source": bind.source, "options": _bind_options(bind.source)} for bind in binds),
    ]


@functools.lru_cache(maxsize=256)
def _bind_options(source: str) -> list[str]:
    """Read-only, without devices and setuid; where other file systems are mounted below ``source``, for those as well.

    That takes Linux 5.12, which the plain form does not, and without it "ro" would hold for the uppermost only.
    """
    below = any(line.split()[4].startswith(f"{source}/") for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return ["rbind", "ro", "nosuid", "nodev"] + (["rro", "rnosuid", "rnodev"] if below else [])


def _mount(destination: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": kind, "options": options}
