"""The read-only root that all sandboxes of a server share: links into the host's /usr, mount points, a small generated /etc."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from spinney.ports import Mount

GUEST_ID = 1000
"""User and group of everything that runs in a sandbox, as seen inside."""

MOUNT_POINTS = ("dev", "etc", "opt", "proc", "run", "sys", "tmp", "usr", "var/task")
SYSTEM_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
ETC_FILES = {
    "passwd": f"root:x:0:0:root:/:/usr/sbin/nologin\nsandbox:x:{GUEST_ID}:{GUEST_ID}:sandbox:/tmp:/bin/sh\n",
    "group": f"root:x:0:\nsandbox:x:{GUEST_ID}:\n",
    "hosts": "127.0.0.1\tlocalhost sandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    "hostname": "sandbox\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    "host.conf": "multi on\n",
}
COPIED = ("ld.so.cache", "ssl/openssl.cnf", "mime.types")
COPIED_FOR_NETWORK = ("ssl/certs", "services", "protocols", "ca-certificates.conf")


def make_rootfs(directory: Path, nameservers: Sequence[str] | None = None) -> list[Mount]:
    """Fill ``directory``, which must not exist yet.

    Returns what has to be mounted over it besides /proc, /dev and /tmp. ``nameservers`` is given for sandboxes with network,
    which also get certificates.
    """
    for name in MOUNT_POINTS:
        (directory / name).mkdir(parents=True)
    (directory / "var/tmp").symlink_to("../tmp")
    (directory / "tmp").chmod(0o1777)  # runc gives a tmpfs the mode of the directory below it
    mounts = [Mount("/usr", "/usr")]
    for name in SYSTEM_LINKS:
        host = Path("/", name)
        if host.is_symlink():
            (directory / name).symlink_to(host.readlink())
        elif host.is_dir():
            (directory / name).mkdir()
            mounts.append(Mount(str(host), str(host)))
    _write_etc(directory / "etc", nameservers)
    return mounts


def _write_etc(etc: Path, nameservers: Sequence[str] | None) -> None:
    for name, text in ETC_FILES.items():
        (etc / name).write_text(text)
    for name in COPIED if nameservers is None else COPIED + COPIED_FOR_NETWORK:
        _copy(Path("/etc", name), etc / name)
    if nameservers is not None:
        (etc / "resolv.conf").write_text("".join(f"nameserver {address}\n" for address in nameservers))
    _copy_alternatives(etc / "alternatives")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("*.key"))
    elif source.is_file():
        shutil.copyfile(source, target)


def _copy_alternatives(target: Path) -> None:
    """Programs in /usr/bin may be links through /etc/alternatives; only the links are shown, never a file of the host's /etc."""
    target.mkdir()
    source = Path("/etc/alternatives")
    for entry in sorted(source.iterdir()) if source.is_dir() else ():
        if entry.is_symlink():
            destination = str(entry.readlink())
            if destination.startswith("/usr/") and "/man/" not in destination:
                (target / entry.name).symlink_to(destination)


def add_mount_points(directory: Path, mounts: Sequence[Mount]) -> None:
    """Make the places where a Launch's own mounts go; those below a host directory that is shown anyway exist already."""
    for mount in mounts:
        target = directory / mount.target.lstrip("/")
        if mount.target.startswith("/usr/") or target.exists():
            continue
        if Path(mount.source).is_dir():
            target.mkdir(parents=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
