"""What the compilers have in common whose guest runs programs anew for each source: Rust's and Go's (NIL contract 6.5)."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping

import msgspec

from spinney.errors import Unsupported
from spinney.model import Reply
from spinney.ports import Compiled, Launch, ModuleFacts, Mount
from spinney.runtimes import kits
from spinney.runtimes.guest import GUESTS, PYTHON_FLAGS, TARGET, find_pythons, guest_mount, nearest, program_mounts

GUEST = "compiler"
PYTHON_RELEASE = (3, 11)
PAGE_BYTES = 65536
WASI = "wasi_snapshot_preview1"
MEMORY = re.compile(r"memory\((\d+)\)")
EXPORTS = {"spinney_alloc": "(i32)->(i32)", "spinney_handle": "(i32,i32)->(i64)"}


class KitCompiler:
    """A compiler whose toolchain and libraries are a kit. A language's own module says which, and what a source looks like."""

    name: str
    languages: tuple[str, ...] = ()
    sample: str
    memory_mb = 1024

    def installed(self) -> Mapping[str, str]:
        """What modules depend on besides the source: the kit, and the guest, which sets the options."""
        place = kits.find(self.name)
        if place is None or not find_pythons():
            return {}
        facts = kits.facts(place)
        kit = hashlib.sha256(facts["made_of"].encode()).hexdigest()[:16]
        return {self.name: f"{facts['versions']}, kit {kit}, guest {_guest_digest()}"}

    def launch(self, language: str) -> Launch:
        """Raises Unsupported when the kit, or a Python for the guest, is missing."""
        place, programs = kits.find(self.name), find_pythons()
        release = nearest(PYTHON_RELEASE, programs)
        if place is None or release is None:
            raise Unsupported(f"the compiler of '{self.name}' is not installed")
        program, mounts = program_mounts(programs[release], f"python{release[0]}{release[1]}")
        guest, kit = guest_mount(GUEST), Mount(str(place), f"{TARGET}/kit/{self.name}")
        return Launch(
            key=f"compiler-{self.name}",
            argv=(program, *PYTHON_FLAGS, f"{guest.target}/main.py", self.name, kit.target),
            mounts=(guest, guest_mount("python"), kit, *mounts),  # the Python guest's channel is this one's too
            idle_mb=16,
            pipes_are_logs=False,
        )

    def request(self, language: str, source: str) -> bytes:
        return source.encode("utf-8", "replace")

    def result(self, reply: Reply) -> Compiled | None:
        return read_result(reply)

    def check(self, facts: ModuleFacts, memory_mb: int) -> str | None:
        """The rules of NIL contract 3.4, for modules with strings in UTF-8; whether there is a handler the bridge has found."""
        for module, name, kind in facts.imports:
            if _imports().get((module, name)) != kind:
                return f"Unsupported import {module}.{name}"
        for name, kind in EXPORTS.items():
            if facts.exports.get(name) != kind:
                return f"Module must export {name}"
        return check_memory(facts, memory_mb)


def check_memory(facts: ModuleFacts, memory_mb: int) -> str | None:
    """Why a module cannot run with so much memory; None when it can."""
    memory = MEMORY.fullmatch(facts.exports.get("memory", ""))
    if memory is None:
        return "Module must export memory"
    if int(memory[1]) * PAGE_BYTES > memory_mb << 20:
        return f"Module needs more memory than the limit of {memory_mb} MiB"
    return None


class _Meta(msgspec.Struct):
    kind: str


def read_result(reply: Reply) -> Compiled | None:
    """What a compiler's guest answers: a module, diagnostics, or the reason of a crash, which need not come again."""
    try:
        kind = msgspec.json.decode(reply.meta, type=_Meta).kind
    except msgspec.MsgspecError:
        return None
    match kind:
        case "module":
            return Compiled(module=reply.body)
        case "diagnostics":
            return Compiled(error=reply.body.decode("utf-8", "replace"))
        case "crash":
            return Compiled(error=f"Compiler crashed: {reply.body.decode('utf-8', 'replace')}", lasting=False)
    return None


@functools.cache
def _imports() -> Mapping[tuple[str, str], str]:
    """What a host offers: the way to fail, and the WASI functions of the WebAssembly guest's own table."""
    table = json.loads((GUESTS / "wasm" / "wasi.json").read_bytes())
    errors = {(WASI, name): _type(letters, "i32") for part in table.values() for name, letters in part.items()}
    return {("spinney", "abort"): _type("ii", ""), (WASI, "proc_exit"): _type("i", ""), **errors}


def _type(letters: str, result: str) -> str:
    return f"({','.join({'i': 'i32', 'I': 'i64'}[letter] for letter in letters)})->({result})"


@functools.cache
def _guest_digest() -> str:
    digest = hashlib.sha256()
    for file in sorted(path for path in (GUESTS / GUEST).rglob("*") if path.suffix in (".py", ".rs", ".go")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
