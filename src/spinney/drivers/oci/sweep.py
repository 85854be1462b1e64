"""Removing what a killed server left behind."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import structlog

from spinney.drivers.oci.place import Place

log = structlog.get_logger(__name__)
DEATH_TIMEOUT_MS = 5000


def sweep(place: Place, keep: Collection[str]) -> int:
    """Kill and remove every sandbox below the server's run directory and control group that is not in ``keep``; the count.

    Everything is killed first and removed afterwards, so that the kernel takes hundreds of them down side by side.
    """
    names = (place.run_dir.names() | place.cgroups.names()) - set(keep)
    commands = list(_command_lines()) if names else []
    dying = [fd for name in names for fd in _kill(place, name, commands)]
    for fd in dying:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        poller.poll(DEATH_TIMEOUT_MS)
        os.close(fd)
    for name in names:
        try:
            place.remove_traces(name)
        except OSError as error:
            log.warning("a sandbox of a former server could not be removed", sandbox=name, error=str(error))
    place.run_dir.remove_old_roots()
    if place.network is not None:
        place.network.sweep()
    return len(names)


def _kill(place: Place, name: str, commands: Sequence[tuple[int, bytes]]) -> list[int]:
    """Kill a sandbox's processes and any runtime still at work on it; pidfds of those that must be dead before the rest goes."""
    bundle = place.run_dir.bundle(name)
    pids = [pid for pid, command in commands if place.runtime.is_starting(command, bundle)]
    with contextlib.suppress(OSError, ValueError):
        pid = int((bundle / "pid").read_text())
        if _is_inside(pid, name):
            pids.append(pid)
    fds = [fd for pid in pids for fd in _kill_pid(pid)]
    place.cgroups.kill(name)
    return fds


def _kill_pid(pid: int) -> Iterator[int]:
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        yield fd
        signal.pidfd_send_signal(fd, signal.SIGKILL)


def _is_inside(pid: int, name: str) -> bool:
    """Whether a process sees this sandbox's code: a pid alone may by now be somebody else's."""
    return f"/s/{name}/task /var/task " in Path(f"/proc/{pid}/mountinfo").read_text()


def _command_lines() -> Iterator[tuple[int, bytes]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                yield int(entry.name), (entry / "cmdline").read_bytes()
