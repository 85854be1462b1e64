"""What runs on this machine, seen from outside the sandboxes: functions under test give their process a name."""

from __future__ import annotations

import ctypes
import itertools
import os
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36

_numbers = itertools.count(1)


def new_name() -> str:
    """A process name (at most 15 characters) that nothing else on this machine has."""
    return f"spt{os.getpid()}-{next(_numbers)}."


def find_processes(name: str) -> list[int]:
    """The pids of live processes that have this as their name or in their command line."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if _matches(path, name)]


def _matches(process: Path, name: str) -> bool:
    try:
        return name in (process / "comm").read_text() or name.encode() in (process / "cmdline").read_bytes()
    except OSError:
        return False


def find_below(pid: int, words: str) -> list[int]:
    """The pids of all processes below another that have these words in their command line."""
    children: dict[int, list[int]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        children.setdefault(int(status_of(int(process.name)).get("PPid", "0")), []).append(int(process.name))
    below, todo = list[int](), [pid]
    while todo:
        found = children.get(todo.pop(), [])
        below += found
        todo += found
    return [one for one in below if words in command_line(one)]


def command_line(pid: int) -> str:
    """The words of a process's command line; "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
    except OSError:
        return ""


def status_of(pid: int) -> dict[str, str]:
    """The fields of /proc/<pid>/status; empty when the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def refuse_orphans() -> None:
    """What a killed server leaves must not become this process's children, as it would when a driver here has asked for that."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
