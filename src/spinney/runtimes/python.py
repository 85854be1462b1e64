"""Python: id ``python311`` and its alias ``python3`` (Impuls contract 3.1 and 3.4)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from spinney.errors import Unsupported
from spinney.model import Function, Outcome, Rights, Version
from spinney.ports import Launch, Limits, Load, Problem, Sample
from spinney.runtimes import install
from spinney.runtimes.guest import guest_mount, make_load, module_name, nearest, program_mounts, search_path

RELEASE = (3, 11)
OLDEST = (3, 10)  # what the guest needs
NAMES = ("python3", *(f"python3.{minor}" for minor in range(10, 20)))  # a fixed list: scanning /usr/bin takes half a millisecond

FLAGS = (
    "-I",  # neither PYTHON* variables nor the guest's directory decide what is imported
    "-S",  # the standard library only: nothing that happens to be installed on the host
    "-B",  # the code's directory is read-only
    "-u",  # what was printed has left the process, also before a kill
)

MEMORY_ERROR = re.compile(r"MemoryError(:|$)")


class PythonRuntime:
    """CPython as installed on the machine. The guest is ``guests/python``."""

    name = "python"
    ids: tuple[str, ...] = ("python311", "python3")
    sample = Sample("index.handler", "def handler(event, context):\n    return {'hello': event['name']}\n")

    def installed(self) -> Mapping[str, str]:
        """The version behind the ids; empty without any Python. Asks each binary once, until it changes."""
        programs = find_programs()
        release = nearest(RELEASE, programs)
        return {} if release is None else dict.fromkeys(self.ids, install.version(programs[release]))

    def check(self, source: str) -> list[Problem]:
        """None: only the guest's own parser knows this language version."""
        return []

    def launch(self, runtime_id: str, rights: Rights) -> Launch:
        """Raises Unsupported when there is no Python at all."""
        programs = find_programs()
        release = nearest(RELEASE, programs)
        if release is None:
            raise Unsupported("Python is not installed")
        name = f"python{release[0]}{release[1]}"
        program, mounts = program_mounts(programs[release], name)
        guest = guest_mount("python")
        return Launch(
            key=name,
            argv=(program, *FLAGS, f"{guest.target}/main.py"),
            environment=(("PATH", search_path(program)),),
            mounts=(guest, *mounts),
            idle_mb=24,
        )

    def load(self, function: Function, version: Version, limits: Limits) -> Load:
        """The source as ``<module>.py``."""
        return make_load(function, version, limits, {f"{module_name(version.handler)}.py": version.source})

    def explain(self, exit_code: int, logs: Sequence[str]) -> Outcome:
        """A MemoryError that nobody caught ends a Python program with its traceback and exit code 1; so it does the guest."""
        if exit_code == 1 and any(MEMORY_ERROR.match(line) for line in logs[-3:]):
            return Outcome.OUT_OF_MEMORY
        return Outcome.EXITED


def find_programs() -> dict[tuple[int, int], Path]:
    """Python binaries that sandboxes can use, by release: those under /usr, where their standard library is too."""
    programs: dict[tuple[int, int], Path] = {}
    for directory in install.SYSTEM_PATH:
        for program in (Path(directory, name) for name in NAMES):
            match = re.match(r"(\d+)\.(\d+)\.", install.version(program))
            if match and program.resolve().is_relative_to("/usr"):
                programs.setdefault((int(match[1]), int(match[2])), program)
    return {release: program for release, program in programs.items() if release >= OLDEST}
