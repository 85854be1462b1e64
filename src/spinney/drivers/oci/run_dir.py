"""The run directory of one server: bundles, the runtime's state, the shared roots; worthless after the last sandbox."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import secrets
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from spinney.drivers.oci.identity import Ids
from spinney.drivers.oci.rootfs import add_mount_points, make_rootfs
from spinney.errors import Unavailable, Unsupported
from spinney.ports import Mount

MS_NOSUID, MS_NODEV, MNT_DETACH = 2, 4, 2
LOCK_WAIT_S = 1.0
SHARED = "spinney"
SEARCHABLE = 0o711
"""A sandbox's root user (no user of the host) has to get through to the shared root and its code, but may not look around."""

_libc = ctypes.CDLL(None, use_errno=True)


class RunDir:
    """Paths below ``path``.

    With root it is a tmpfs of its own: nothing reaches the disk, and no host path shows in a sandbox's list of mounts.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = path / "state"
        self._start = secrets.token_hex(4)
        self._lock: int | None = None
        self._roots: dict[bool, list[Mount]] = {}
        self._making = threading.Lock()

    def bundle(self, name: str) -> Path:
        return self.path / "s" / name

    def task(self, name: str) -> Path:
        return self.path / "s" / name / "task"

    def root(self, network: bool) -> Path:
        return self.path / "roots" / f"{self._start}-{'network' if network else 'plain'}"

    def prepare(self) -> None:
        """Make the directory and take it.

        Raises Unavailable when another live server has it, Unsupported when sandboxes could not reach it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        closed = [str(parent) for parent in self.path.parents if not parent.stat().st_mode & 0o001]
        if closed and os.geteuid() == 0:
            raise Unsupported(f"sandboxes cannot reach the run directory: choose one outside {closed[0]}")
        if os.geteuid() == 0 and filesystem_of(self.path) != "tmpfs":
            _libc.mount(b"spinney", os.fsencode(self.path), b"tmpfs", MS_NOSUID | MS_NODEV, b"mode=711")
        self._lock = lock_directory(self.path)
        for directory in (self.path, self.path / "s", self.path / "roots", self.state):
            directory.mkdir(exist_ok=True)
            directory.chmod(SEARCHABLE)

    def make_root(self, network: bool, nameservers: Sequence[str], mounts: Sequence[Mount]) -> tuple[Mount, ...]:
        """Make the shared root when it is not there, with places for a Launch's ``mounts``; everything to be mounted over it."""
        with self._making:
            if network not in self._roots:
                self._roots[network] = make_rootfs(self.root(network), nameservers if network else None)
            add_mount_points(self.root(network), mounts)
            return (*self._roots[network], *mounts)

    def make_bundle(self, name: str, ids: Ids) -> None:
        """Directories of one sandbox; its code can be read by it and by the server only, as far as this user can see to that."""
        task = self.task(name)
        task.mkdir(parents=True)
        self.bundle(name).chmod(SEARCHABLE)
        if ids.guest is None:
            task.chmod(0o700)
        elif os.geteuid() == 0:
            os.chown(task, 0, ids.guest)
            task.chmod(0o750)
        else:
            task.chmod(0o755)

    def names(self) -> set[str]:
        """Every sandbox of which something is left."""
        return {entry.name for place in (self.path / "s", self.state) for entry in place.iterdir()}

    def remove(self, name: str) -> None:
        shutil.rmtree(self.state / name, ignore_errors=True)
        shutil.rmtree(self.bundle(name), ignore_errors=True)

    def remove_old_roots(self) -> None:
        """After the last sandbox of a former server: removing a directory takes away what is mounted on it, everywhere."""
        for root in (self.path / "roots").iterdir():
            if not root.name.startswith(self._start):
                shutil.rmtree(root, ignore_errors=True)

    def close(self) -> None:
        if self._lock is None:
            return
        os.close(self._lock)
        self._lock = None
        self._roots.clear()
        if os.path.ismount(self.path):
            _libc.umount2(os.fsencode(self.path), MNT_DETACH)
        shutil.rmtree(self.path, ignore_errors=True)
        if self.path.parent.name == SHARED:
            with contextlib.suppress(OSError):
                self.path.parent.rmdir()  # this was the last server on the machine


def lock_directory(path: Path) -> int:
    """A descriptor that holds the directory for this process. Raises Unavailable when another one does.

    Waits a moment: a child that a killed server was just starting has all its descriptors until it has become another program.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                os.close(fd)
                raise Unavailable("another server runs its sandboxes in the same run directory") from error
        time.sleep(0.01)


def filesystem_of(path: Path) -> str:
    """The type of the file system that ``path`` is on."""
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == number:
            return after.split()[0]
    return ""
