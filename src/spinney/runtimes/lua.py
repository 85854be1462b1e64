"""Lua 5.1 on LuaJIT: id ``lua`` (Lunar contract 3).

The VM is the library in the Python package ``lupa``, used by a Python guest (``guests/lua``); the server never loads it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from spinney.errors import Unsupported
from spinney.model import Function, Outcome, Rights, Version
from spinney.ports import Launch, Limits, Load, Mount, Problem, Sample
from spinney.runtimes.guest import PYTHON_FLAGS, TARGET, find_pythons, guest_mount, make_load, program_mounts

RELEASE = sys.version_info[:2]
"""The server's own: its ``lupa`` is an extension for no other."""

SOURCE = "main.lua"
EXIT_OUT_OF_MEMORY = 12
BASE_MB = 96
"""Beside the state of a run: the guest itself, and what it copies of bodies on their way."""

LOG_BYTES = (16 << 20) + 65536  # what the guest keeps, and the row that says that there was more

ENVIRONMENT = (
    # A state is some thousand small pieces of memory, which go and come with each call: let the allocator keep them at hand.
    ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=4096:glibc.malloc.trim_threshold=8388608:glibc.malloc.mmap_threshold=1048576"),
)

SAMPLE = """
function handler(ctx, event)
  return { body = json.encode({ hello = json.decode(event.body).name }) }
end
"""


class LuaRuntime:
    """LuaJIT in a Python guest: every call in a state of its own."""

    name = "lua"
    ids: tuple[str, ...] = ("lua",)
    sample = Sample("", SAMPLE)

    def installed(self) -> Mapping[str, str]:
        """The VM, and lupa's version; empty without it, or without the Python that it is made for."""
        return {"lua": f"LuaJIT 2.1 (lupa {package_version()})"} if find_package() and RELEASE in find_pythons() else {}

    def check(self, source: str) -> list[Problem]:
        """None: faulty code is a failure of its calls."""
        return []

    def launch(self, runtime_id: str, rights: Rights) -> Launch:
        """Raises Unsupported without lupa or Python."""
        package, programs = find_package(), find_pythons()
        if package is None or RELEASE not in programs:
            raise Unsupported("lupa is not installed" if package is None else "there is no Python for lupa in /usr")
        program, mounts = program_mounts(programs[RELEASE], f"python{RELEASE[0]}{RELEASE[1]}")
        guest = guest_mount("lua")
        vm = Mount(str(package), f"{TARGET}/lua/lupa")
        return Launch(
            key="lua",
            argv=(program, *PYTHON_FLAGS, f"{guest.target}/main.py", vm.target),
            environment=ENVIRONMENT,
            mounts=(guest, guest_mount("python"), vm, *mounts),  # the Python guest's channel is this one's too
            idle_mb=16,
            pipes_are_logs=False,
        )

    def load(self, function: Function, version: Version, limits: Limits) -> Load:
        """The source as a file; ``version.memory_mb`` is what one run may hold."""
        limits = msgspec.structs.replace(limits, memory_mb=version.memory_mb + BASE_MB, log_bytes=LOG_BYTES)
        return make_load(function, version, limits, {SOURCE: version.source})

    def explain(self, exit_code: int, logs: Sequence[str]) -> Outcome:
        """The guest ends itself when a run has filled its memory."""
        return Outcome.OUT_OF_MEMORY if exit_code == EXIT_OUT_OF_MEMORY else Outcome.EXITED


@functools.cache
def find_package() -> Path | None:
    """The directory of the package ``lupa`` when it has LuaJIT for this Python; the package itself is not imported."""
    package = importlib.util.find_spec("lupa")
    if package is None or package.origin is None:
        return None
    directory = Path(package.origin).parent
    return directory if any(directory.glob("luajit21.*")) else None


@functools.cache
def package_version() -> str:
    return importlib.metadata.version("lupa")
