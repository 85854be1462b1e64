"""JavaScript on Node.js: ids ``nodejs18``, ``nodejs20``, ``nodejs22`` (Impuls contract 3.1 to 3.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from spinney.errors import Unsupported
from spinney.model import Function, Outcome, Rights, Version
from spinney.ports import Launch, Limits, Load, Problem, Sample
from spinney.runtimes import install
from spinney.runtimes.guest import guest_mount, make_load, module_name, nearest, program_mounts, search_path

MAJORS = {"nodejs18": 18, "nodejs20": 20, "nodejs22": 22}

FLAGS = (
    # A stem does not know its function's memory yet, so V8 must not derive its heap from the machine or the stem's own limit: the
    # control group decides. Small young generation and early first collections keep garbage from looking like need; the guest
    # sets the growth of the old generation when it learns the function's memory.
    "--max-old-space-size=4096",
    "--max-semi-space-size=8",
    "--initial-old-space-size=16",
    "--v8-pool-size=1",  # one thread beside the main one: sandboxes have about one CPU, and threads cost memory
)

MODULE_WORDS = re.compile(r"\b(?:import|export|await)\b")
"""Without one of these words nothing is an ES module; with one, only the guest's parser can tell."""

HEAP_EXHAUSTED = re.compile(r"(FATAL ERROR|Fatal).*(out of memory|Allocation failed)")
ABORTS = (128 + 6, 128 + 5, 128 + 4)  # SIGABRT, or the trap instruction of V8's own fatal errors


class NodeRuntime:
    """Node.js, any installed version of it. The guest is ``guests/node``."""

    name = "node"
    ids = tuple(MAJORS)
    sample = Sample("index.handler", "exports.handler = async (event) => ({ hello: event.name });\n")

    def installed(self) -> Mapping[str, str]:
        """The version behind each id; empty without any Node.js. Asks each binary once, until it changes."""
        programs = find_programs()
        chosen = {id: nearest(major, programs) for id, major in MAJORS.items()}
        return {id: install.version(programs[major]) for id, major in chosen.items() if major is not None}

    def check(self, source: str) -> list[Problem]:
        """None: only the guest's own parser knows this language version."""
        return []

    def launch(self, runtime_id: str, rights: Rights) -> Launch:
        """Raises Unsupported when there is no Node.js at all."""
        programs = find_programs()
        major = nearest(MAJORS[runtime_id], programs)
        if major is None:
            raise Unsupported("Node.js is not installed")
        name = f"node{major}"
        program, mounts = program_mounts(programs[major], name)
        guest = guest_mount("node")
        return Launch(
            key=name,
            argv=(program, *FLAGS, f"{guest.target}/main.js"),
            environment=(("PATH", search_path(program)), ("NODE_ENV", "production")),
            mounts=(guest, *mounts),
            idle_mb=32,
        )

    def load(self, function: Function, version: Version, limits: Limits) -> Load:
        """The source as ``.js``, and beside it as ``.mjs`` when it may be an ES module: which it is, its guest decides."""
        name = module_name(version.handler)
        files = {f"{name}.js": version.source}
        if MODULE_WORDS.search(version.source):
            files[f"{name}.mjs"] = version.source
        return make_load(function, version, limits, files)

    def explain(self, exit_code: int, logs: Sequence[str]) -> Outcome:
        """V8 says so on standard error and ends itself when its heap is full."""
        if exit_code in ABORTS and any(HEAP_EXHAUSTED.search(line) for line in logs):
            return Outcome.OUT_OF_MEMORY
        return Outcome.EXITED


def find_programs() -> dict[int, Path]:
    """Node.js binaries that sandboxes can use, by major version: our own, and whatever version the system has."""
    programs: dict[int, Path] = {}
    for directory in install.SYSTEM_PATH:
        program = Path(directory, "node")
        if version := install.version(program):
            programs.setdefault(int(version.partition(".")[0]), program)
    for major in MAJORS.values():
        if own := install.find(f"node{major}"):
            programs[major] = own
    return programs
