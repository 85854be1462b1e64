"""JavaScript and TypeScript on Deno: id ``deno`` (Fluxbase contract 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from spinney.errors import Unsupported
from spinney.model import Function, Outcome, Rights, Version
from spinney.ports import Launch, Limits, Load, Problem, Sample
from spinney.runtimes import install
from spinney.runtimes.guest import guest_mount, make_load, program_mounts

PLACE = "/tmp"
"""A function's own directory: the only one that may be read or written, and that only with the right to do so."""

ENVIRONMENT = (
    ("DENO_DIR", "/dev/null/deno"),  # caches are neither wanted nor writable
    ("DENO_NO_UPDATE_CHECK", "1"),
    ("NO_COLOR", "1"),
)

V8_FLAGS = (
    # A stem does not know its function's memory yet, so V8 must not derive its heap from the machine: the control group decides.
    # Early collections keep garbage from looking like need.
    "--max-old-space-size=4096",
    "--max-semi-space-size=8",
    "--heap-growing-percent=25",
    # Collected beside or between the program's own work, garbage buffers pile up to hundreds of megabytes.
    "--single-threaded-gc",
    "--no-incremental-marking",
)
BASE_MB = 24
"""What a warmed guest needs for itself, and then some: it holds 16 MB."""
SLACK = 1.25
"""Garbage is not need: of a limit a quarter more may be in use, so that what a function holds may come near to the limit."""

TRAPPED = 128 + 5

FLAGS = (
    "--no-prompt",
    "--no-config",
    "--no-lock",
    "--no-remote",
    "--cached-only",
    "--unstable-worker-options",  # without it a Worker that asks for permissions of its own ends the process
    "--node-modules-dir=none",
    "--no-code-cache",
    "--allow-ffi",  # for the guest itself, which gives it up before it loads any code
    f"--v8-flags={','.join(V8_FLAGS)}",
)


class DenoRuntime:
    """Deno from its PyPI wheel. The guest is ``guests/deno``."""

    name = "deno"
    ids: tuple[str, ...] = ("deno",)
    sample = Sample("", "export default (request: { body: string }) => ({ hello: JSON.parse(request.body).name });\n")

    def installed(self) -> Mapping[str, str]:
        """The version behind the id; empty without Deno. Asks the binary once, until it changes."""
        program = install.find("deno")
        return {} if program is None else {"deno": install.version(program)}

    def check(self, source: str) -> list[Problem]:
        """None: faulty code is a failure of its calls."""
        return []

    def launch(self, runtime_id: str, rights: Rights) -> Launch:
        """Raises Unsupported when there is no Deno."""
        found = install.find("deno")
        if found is None:
            raise Unsupported("Deno is not installed")
        program, mounts = program_mounts(found, "deno")
        guest = guest_mount("deno")
        return Launch(
            key="deno",
            argv=(program, "run", *FLAGS, *permission_flags(rights), f"{guest.target}/main.js"),
            environment=ENVIRONMENT,
            mounts=(guest, *mounts),
            idle_mb=20,
            cwd=PLACE,
            pipes_are_logs=False,
        )

    def load(self, function: Function, version: Version, limits: Limits) -> Load:
        """The source in the frame: the code of a function that may not read files is in none."""
        room = msgspec.structs.replace(limits, memory_mb=BASE_MB + int(version.memory_mb * SLACK))
        return make_load(function, version, room, {}, source=version.source.encode("utf-8", "replace").decode())

    def explain(self, exit_code: int, logs: Sequence[str]) -> Outcome:
        """V8 ends itself by a trap when it can get no more memory; functions have no other way to come by one."""
        return Outcome.OUT_OF_MEMORY if exit_code == TRAPPED else Outcome.EXITED


def permission_flags(rights: Rights) -> tuple[str, ...]:
    """Deno's flags for what a function may do; what is not named here is refused without asking."""
    return (
        *(["--allow-net"] if rights.net else []),
        "--allow-env" if rights.env else "--allow-env=FLUXBASE_*,SPINNEY_*",
        *([f"--allow-read={PLACE}"] if rights.read else []),
        *([f"--allow-write={PLACE}"] if rights.write else []),
    )
