"""The OCI bundle of a sandbox: ``config.json`` as the runtime specification 1.0 has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from spinney.drivers.oci.rootfs import GUEST_ID
from spinney.ports import Limits, Mount, SandboxSpec

NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "user", "cgroup")
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8", "TZ": "UTC"}
MASKED_PATHS = ("/proc/acpi", "/proc/cmdline", "/proc/kcore", "/proc/keys", "/proc/timer_list")
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
SHM_SIZE = "64m"
OOM_SCORE = 500
"""When the whole machine runs out of memory, sandboxes go before the server."""


class Ids(msgspec.Struct, frozen=True):
    """Host ids of one sandbox: ``root`` is its namespace's uid and gid 0 (nothing runs as it), ``guest`` is what its code runs as."""

    root: int
    guest: int

    def mappings(self) -> list[dict[str, int]]:
        return [
            {"containerID": 0, "hostID": self.root, "size": 1},
            {"containerID": GUEST_ID, "hostID": self.guest, "size": 1},
        ]


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """What all sandboxes of a Launch have in common. ``seccomp`` is ``linux.seccomp`` as JSON text."""

    rootfs: str
    mounts: tuple[Mount, ...]
    init: str
    seccomp: bytes | None


def encode_config(template: Template, spec: SandboxSpec, ids: Ids, task: str, cgroup: str, resources: dict[str, Any]) -> bytes:
    """``config.json`` for one sandbox whose code is in the host directory ``task``."""
    linux: dict[str, Any] = {
        "cgroupsPath": cgroup,
        "resources": resources,
        "namespaces": [{"type": name} for name in NAMESPACES],
        "uidMappings": ids.mappings(),
        "gidMappings": ids.mappings(),
        "maskedPaths": MASKED_PATHS,
        "readonlyPaths": READONLY_PATHS,
    }
    if template.seccomp is not None:
        linux["seccomp"] = msgspec.Raw(template.seccomp)
    return msgspec.json.encode(
        {
            "ociVersion": "1.0.2",
            "hostname": "sandbox",
            "root": {"path": template.rootfs, "readonly": True},
            "process": encode_process((template.init, "--", *spec.launch.argv), dict(spec.launch.environment), spec.limits),
            "mounts": _mounts((*template.mounts, *spec.launch.mounts, Mount(task, "/var/task")), spec.limits),
            "linux": linux,
        }
    )


def encode_process(argv: Sequence[str], environment: dict[str, str], limits: Limits, cwd: str = "/var/task") -> dict[str, Any]:
    """``process`` of a bundle, also what ``exec`` takes: no user but the guest's, no capability, nothing to gain by setuid."""
    return {
        "terminal": False,
        "user": {"uid": GUEST_ID, "gid": GUEST_ID},
        "args": list(argv),
        "env": [f"{name}={value}" for name, value in (ENVIRONMENT | environment).items()],
        "cwd": cwd,
        "capabilities": {},
        "noNewPrivileges": True,
        "oomScoreAdj": OOM_SCORE,
        "rlimits": [
            {"type": name, "hard": value, "soft": value}
            for name, value in (
                ("RLIMIT_NOFILE", limits.files),
                ("RLIMIT_CORE", 0),
                ("RLIMIT_MEMLOCK", 65536),
                ("RLIMIT_MSGQUEUE", 0),
            )
        ],
    }


def _mounts(binds: Sequence[Mount], limits: Limits) -> list[dict[str, Any]]:
    return [
        _mount("/proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "nosuid", "noexec", "mode=755", "size=64k"),
        _mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
        _mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", f"size={SHM_SIZE}"),
        _mount("/tmp", "tmpfs", "nosuid", "nodev", "mode=1777", f"size={limits.tmp_mb}m"),
        *({"destination": bind.target, "source": bind.source, "options": ["rbind", "ro", "nosuid", "nodev"]} for bind in binds),
    ]


def _mount(destination: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": kind, "options": options}
