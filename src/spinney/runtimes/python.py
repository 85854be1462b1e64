"""Python: id ``python311`` and its alias ``python3`` (Impuls contract 3.1 and 3.4)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from spinney.errors import Unsupported
from spinney.model import Function, Outcome, Rights, Version
from spinney.ports import Launch, Limits, Load, Problem, Sample
from spinney.runtimes import install
from spinney.runtimes.guest import (
    PYTHON_FLAGS,
    find_pythons,
    guest_mount,
    make_load,
    module_name,
    nearest,
    program_mounts,
    search_path,
)

RELEASE = (3, 11)

MEMORY_ERROR = re.compile(r"MemoryError(:|$)")


class PythonRuntime:
    """CPython as installed on the machine. The guest is ``guests/python``."""

    name = "python"
    ids: tuple[str, ...] = ("python311", "python3")
    sample = Sample("index.handler", "def handler(event, context):\n    return {'hello': event['name']}\n")

    def installed(self) -> Mapping[str, str]:
        """The version behind the ids; empty without any Python. Asks each binary once, until it changes."""
        programs = find_pythons()
        release = nearest(RELEASE, programs)
        return {} if release is None else dict.fromkeys(self.ids, install.version(programs[release]))

    def check(self, source: str) -> list[Problem]:
        """None: only the guest's own parser knows this language version."""
        return []

    def launch(self, runtime_id: str, rights: Rights) -> Launch:
        """Raises Unsupported when there is no Python at all."""
        programs = find_pythons()
        release = nearest(RELEASE, programs)
        if release is None:
            raise Unsupported("Python is not installed")
        name = f"python{release[0]}{release[1]}"
        program, mounts = program_mounts(programs[release], name)
        guest = guest_mount("python")
        return Launch(
            key=name,
            argv=(program, *PYTHON_FLAGS, f"{guest.target}/main.py"),
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
