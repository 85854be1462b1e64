"""AssemblyScript, compiled to WebAssembly by asc with json-as (NIL contract 3.2 to 3.4)."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from spinney.errors import Unsupported
from spinney.model import Reply
from spinney.ports import Compiled, Launch, ModuleFacts, Mount
from spinney.runtimes import install, packages
from spinney.runtimes.guest import GUESTS, TARGET, guest_mount, program_mounts

NAME = "assemblyscript"
PROGRAM = "node22"
PAGE_BYTES = 65536

FLAGS = (
    "--permission",  # a second fence, inside the sandbox
    f"--allow-fs-read={TARGET}/*",
    "--experimental-vm-modules",  # each build gets json-as's transform anew
    "--no-warnings",
    "--max-old-space-size=4096",  # the sandbox's limit decides, not V8's guess of the machine
)

IMPORTS = {
    ("env", "abort"): "(i32,i32,i32,i32)->()",
    ("env", "console.log"): "(i32)->()",
    ("env", "Date.now"): "()->(f64)",
    ("env", "seed"): "()->(f64)",
}
"""What a host offers; asc itself asks for the names, as ``console.log`` and the like in a source lead to them."""

HANDLER = ("handle", "(i32)->(i32)")
RUNTIME_EXPORTS = {"__new": "(i32,i32)->(i32)", "__pin": "(i32)->(i32)", "__unpin": "(i32)->()"}
MEMORY = re.compile(r"memory\((\d+)\)")


class AssemblyScriptCompiler:
    """asc and json-as from npm, pinned by ``guests/assemblyscript/package-lock.json``; the guest keeps them warm."""

    name = NAME
    languages: tuple[str, ...] = (NAME,)
    memory_mb = 1024
    sample = "export function handle(input: string): string {\n  return input;\n}\n"

    def installed(self) -> Mapping[str, str]:
        """Versions of what takes part, and a hash of our own part, which sets options and rules; empty without asc or Node.js."""
        program = install.find(PROGRAM)
        if program is None or packages.find(NAME) is None:
            return {}
        return {NAME: f"{_versions()}, node {install.version(program)}, guest {_guest_digest()}"}

    def launch(self, language: str) -> Launch:
        """Raises Unsupported when asc or its Node.js is not installed."""
        program, place = install.find(PROGRAM), packages.find(NAME)
        if program is None or place is None:
            raise Unsupported("the AssemblyScript compiler is not installed")
        path, mounts = program_mounts(program, PROGRAM)
        guest, modules = guest_mount(NAME), Mount(str(place / "node_modules"), f"{TARGET}/{NAME}/node_modules")
        return Launch(
            key=NAME,
            argv=(path, *FLAGS, f"{guest.target}/main.js", modules.target),
            environment=(("JSON_MODE", "NAIVE"),),  # the other modes corrupt strings
            mounts=(guest, guest_mount("node"), modules, *mounts),
            idle_mb=400,
            pipes_are_logs=False,
        )

    def request(self, language: str, source: str) -> bytes:
        return source.encode("utf-8", "replace")

    def result(self, reply: Reply) -> Compiled | None:
        """A module, diagnostics, or the reason of a crash, which need not come again."""
        match _kind(reply.meta):
            case "module":
                return Compiled(module=reply.body)
            case "diagnostics":
                return Compiled(error=reply.body.decode("utf-8", "replace"))
            case "crash":
                return Compiled(error=f"Compiler crashed: {reply.body.decode('utf-8', 'replace')}", lasting=False)
        return None

    def check(self, facts: ModuleFacts, memory_mb: int) -> str | None:
        """The rules of NIL contract 3.4, in their order."""
        for module, name, kind in facts.imports:
            if IMPORTS.get((module, name)) != kind:
                return f"Unsupported import {module}.{name}"
        if facts.exports.get(HANDLER[0]) != HANDLER[1]:
            return "Module must export function handle(input: string): string"
        for name, kind in RUNTIME_EXPORTS.items():
            if facts.exports.get(name) != kind:
                return f"Module must export {name}"
        memory = MEMORY.fullmatch(facts.exports.get("memory", ""))
        if memory is None:
            return "Module must export memory"
        if int(memory[1]) * PAGE_BYTES > memory_mb << 20:
            return f"Module needs more memory than the limit of {memory_mb} MiB"
        return None


class _Meta(msgspec.Struct):
    kind: str


def _kind(meta: bytes) -> str:
    try:
        return msgspec.json.decode(meta, type=_Meta).kind
    except msgspec.MsgspecError:
        return ""


@functools.cache
def _versions() -> str:
    lock = json.loads((GUESTS / NAME / packages.LOCK).read_bytes())
    return ", ".join(f"{name} {lock['packages'][f'node_modules/{name}']['version']}" for name in ("assemblyscript", "json-as"))


@functools.cache
def _guest_digest() -> str:
    """Of the guest's program, the lock file, and this module, which says what a module must be like."""
    digest = hashlib.sha256()
    for file in (Path(__file__), *sorted((GUESTS / NAME).iterdir())):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
