"""WebAssembly on Wasmtime: id ``wasm`` (NIL contract 3.3 to 3.7), and the tool that compiles modules for it.

The engine is the library in the Python package ``wasmtime``, used by a Python guest (``guests/wasm``); the server never loads it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from spinney.errors import Unsupported
from spinney.model import Function, Outcome, Reply, Rights, Version
from spinney.ports import Launch, Limits, Load, ModuleFacts, Mount, Prepared, Problem, Sample
from spinney.runtimes.guest import GUESTS, PYTHON_FLAGS, TARGET, find_pythons, guest_mount, make_load, nearest, program_mounts

RELEASE = (3, 11)
EXECUTABLE = "module.cwasm"
RESULT_BYTES = 15_000_000  # of UTF-8 for the 10,000,000 of UTF-16 that an output may have
LOG_BYTES = 262144 + 4096  # what the guest keeps, which counts neither ends of lines nor the mark of a cut

GREETING = r"""
(module ;; {"name":"you"} becomes {"hello":"you"}: the head is another, the rest is the input's
  (memory (export "memory") 1)
  (data (i32.const 8) "\02\00\00\00\00\00\00\00{\00\22\00h\00e\00l\00l\00o\00")
  (func (export "__new") (param $size i32) (param $class i32) (result i32)
    (i32.store (i32.const 1024) (local.get $class))
    (i32.store (i32.const 1028) (local.get $size))
    (i32.const 1032))
  (func (export "__pin") (param i32) (result i32) (local.get 0))
  (func (export "__unpin") (param i32))
  (func (export "handle") (param $input i32) (result i32) (local $rest i32)
    (local.set $rest (i32.sub (i32.load (i32.const 1028)) (i32.const 12)))
    (i32.store (i32.const 12) (i32.add (local.get $rest) (i32.const 14)))
    (memory.copy (i32.const 30) (i32.add (local.get $input) (i32.const 12)) (local.get $rest))
    (i32.const 16)))
"""


class WasmRuntime:
    """Runs modules that its own tool has compiled; a source in WebAssembly's text format is compiled in the sandbox."""

    name = "wasm"
    ids: tuple[str, ...] = ("wasm",)
    runtime_id = "wasm"
    sample = Sample("", GREETING)

    def installed(self) -> Mapping[str, str]:
        """Wasmtime's version; empty without it, or without a Python for the guest."""
        return {"wasm": engine_version()} if find_library() and find_pythons() else {}

    def check(self, source: str) -> list[Problem]:
        """None: the engine's own parser knows."""
        return []

    def launch(self, runtime_id: str, rights: Rights) -> Launch:
        """Raises Unsupported without Wasmtime or Python."""
        return _launch("run", "wasm", idle_mb=16)

    def load(self, function: Function, version: Version, limits: Limits) -> Load:
        """The executable in the version's setting ``executable`` (bytes), else the source, in WebAssembly's text format.

        The setting ``language`` says how the module takes its strings (``wasm`` where there is none).
        """
        limits = msgspec.structs.replace(limits, result_bytes=RESULT_BYTES, log_bytes=LOG_BYTES)
        language = str(version.settings.get("language", "wasm"))
        executable = version.settings.get("executable")
        if executable is None:
            return make_load(function, version, limits, {"module.wat": version.source}, language=language)
        load = make_load(function, version, limits, {EXECUTABLE: ""}, language=language)
        return msgspec.structs.replace(load, files={EXECUTABLE: bytes(executable)})

    def explain(self, exit_code: int, logs: Sequence[str]) -> Outcome:
        return Outcome.EXITED

    # -- as an Engine --------------------------------------------------------------------------------------------------

    def installed_version(self) -> str:
        """The library, what the guest sets and changes, and the processor: native code for one is none for another."""
        if not self.installed():
            return ""
        return f"wasmtime {engine_version()}, guest {_guest_digest()}, {platform.machine()} {_processor_digest()}"

    def launch_tool(self) -> Launch:
        """Raises Unsupported without Wasmtime or Python."""
        return _launch("compile", "wasm-tool", idle_mb=32)

    def prepared(self, reply: Reply) -> Prepared | None:
        """The facts in the reply's meta, and the executable that is its body."""
        try:
            facts = msgspec.json.decode(reply.meta, type=_Facts)
        except msgspec.MsgspecError:
            return None
        if facts.error is not None:
            return Prepared(error=f"Invalid WebAssembly module: {facts.error}")
        return Prepared(facts=ModuleFacts(imports=facts.imports, exports=facts.exports), executable=reply.body)


class _Facts(msgspec.Struct):
    imports: tuple[tuple[str, str, str], ...] = ()
    exports: dict[str, str] = {}
    error: str | None = None


def _launch(task: str, key: str, idle_mb: int) -> Launch:
    library, programs = find_library(), find_pythons()
    release = nearest(RELEASE, programs)
    if library is None or release is None:
        raise Unsupported("Wasmtime is not installed" if library is None else "Python is not installed")
    program, mounts = program_mounts(programs[release], f"python{release[0]}{release[1]}")
    guest = guest_mount("wasm")
    engine = Mount(str(library), f"{TARGET}/wasmtime/{library.name}")
    return Launch(
        key=key,
        argv=(program, *PYTHON_FLAGS, f"{guest.target}/main.py", engine.target, engine_version(), task),
        mounts=(guest, guest_mount("python"), engine, *mounts),  # the Python guest's channel is this one's too
        idle_mb=idle_mb,
        pipes_are_logs=False,
    )


@functools.cache
def find_library() -> Path | None:
    """The engine as the package ``wasmtime`` brings it for this machine; the package itself is not imported."""
    package = importlib.util.find_spec("wasmtime")
    if package is None or package.origin is None:
        return None
    library = Path(package.origin).with_name(f"linux-{platform.machine()}") / "_libwasmtime.so"
    return library if library.is_file() else None


@functools.cache
def engine_version() -> str:
    return importlib.metadata.version("wasmtime")


@functools.cache
def _guest_digest() -> str:
    digest = hashlib.sha256()
    for file in sorted((GUESTS / "wasm" / "spinney_wasm").glob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@functools.cache
def _processor_digest() -> str:
    """Of what the processor can do, as the kernel says it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    features = {line.partition(":")[2].strip() for line in lines if line.startswith(("flags", "Features"))}
    return hashlib.sha256(" ".join(sorted(features)).encode()).hexdigest()[:16]
