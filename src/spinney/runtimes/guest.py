"""What the runtimes whose guest is a program of its language have in common: where its files lie, and its ``load`` frame."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from spinney.model import Function, Version
from spinney.ports import Limits, Load, Mount
from spinney.runtimes import install

GUESTS = Path(__file__).with_name("guests")
TARGET = "/opt/spinney"
MODULE_NAME_MAX = 64

PYTHON_OLDEST = (3, 10)  # what guests need
PYTHON_NAMES = ("python3", *(f"python3.{minor}" for minor in range(10, 20)))  # a fixed list: a scan takes half a millisecond
PYTHON_FLAGS = (
    "-I",  # neither PYTHON* variables nor the guest's directory decide what is imported
    "-S",  # the standard library only: nothing that happens to be installed on the host
    "-B",  # the code's directory is read-only
    "-u",  # what was printed has left the process, also before a kill
)

Release = TypeVar("Release", int, tuple[int, int])


def nearest(wanted: Release, available: Collection[Release]) -> Release | None:
    """The release that serves an id: its own, else the nearest newer one, else the nearest older one (Impuls contract 3.1)."""
    newer = [release for release in available if release >= wanted]
    return min(newer) if newer else max(available, default=None)


def guest_mount(language: str) -> Mount:
    """A language's guest library, as its sandboxes see it."""
    return Mount(str(GUESTS / language), f"{TARGET}/guests/{language}")


def program_mounts(program: Path, name: str) -> tuple[str, tuple[Mount, ...]]:
    """The path of an interpreter inside the sandbox, and the mount it needs: none when it lies in /usr, which is there anyway."""
    resolved = program.resolve()
    if resolved.is_relative_to("/usr"):
        return str(resolved), ()
    target = f"{TARGET}/{name}/bin/{program.name}"
    return target, (Mount(str(resolved), target),)


def find_pythons() -> dict[tuple[int, int], Path]:
    """Python binaries that sandboxes can use, by release: those under /usr, where their standard library is too."""
    programs: dict[tuple[int, int], Path] = {}
    for directory in install.SYSTEM_PATH:
        for program in (Path(directory, name) for name in PYTHON_NAMES):
            match = re.match(r"(\d+)\.(\d+)\.", install.version(program))
            if match and program.resolve().is_relative_to("/usr"):
                programs.setdefault((int(match[1]), int(match[2])), program)
    return {release: program for release, program in programs.items() if release >= PYTHON_OLDEST}


def search_path(program: str) -> str:
    """PATH for a sandbox: child processes find the interpreter that runs their parent."""
    directories = dict.fromkeys((str(Path(program).parent), "/usr/local/bin", "/usr/bin", "/bin"))
    return ":".join(directories)


def module_name(handler: str) -> str:
    """The plain file name, without its ending, of the module in ``<module>.<export>``.

    Any module name is accepted (Impuls contract 3.2), so it is cut down to what is safe: its last segment, with ``_`` in place of
    all but letters, digits, ``_`` and ``-``.
    """
    module = handler[handler.rfind("/") + 1 :].partition(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]", "_", module)[:MODULE_NAME_MAX] or "index"


def make_load(function: Function, version: Version, limits: Limits, files: Mapping[str, str], **more: str) -> Load:
    """The files and the ``load`` frame of docs/guest-channel.md, with ``more`` in it; the first file is the one to load."""
    payload = {
        "function": function.name,
        "handler": version.handler,
        "file": next(iter(files), ""),
        "environment": version.environment,
        "memory_mb": version.memory_mb,
        "log_group": f"/{function.dialect}/{function.name}",
        "arn": f"arn:{function.dialect}:function:{function.name}",
        "result_bytes": limits.result_bytes,
        "log_bytes": limits.log_bytes,
        **more,
    }
    contents = {name: text.encode("utf-8", "surrogatepass") for name, text in files.items()}
    return Load(files=contents, payload=msgspec.json.encode(payload), limits=limits)
