"""Rust: the source becomes a library, and the bridge around it the module."""

from __future__ import annotations

import json
import os
import re

from .programs import Crashed, Refused, run

RUSTC = "/usr/bin/rustc"
LINKER = "/usr/bin/wasm-ld"
BRIDGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bridge.rs")
SOURCE, LIBRARY, FILES, MODULE = "module.rs", "libmodule.rlib", "module.d", "module.wasm"
STACK_BYTES = 8 << 20
"""In the module's memory. Larger than the engine's own stack, which then is exhausted first, with a message that says so."""

OPTIONS = ("--edition=2021", "-Awarnings", "-Copt-level=2", "-Cpanic=abort", "-Ccodegen-units=1")
LINK = (
    f"-Clinker={LINKER}",
    "-Cstrip=symbols",
    f"-Clink-arg=-zstack-size={STACK_BYTES}",
    "-Ctarget-feature=+mutable-globals",
    "-Clink-arg=--export=__stack_pointer",  # by which the host can tell when it is too small all the same
)

SIGNATURE = "Module must export pub fn handle(input: String) -> String"
OTHER_FILES = f"error: {SOURCE} cannot include other files"
PANICKED = 101
CRASH = re.compile(r"internal compiler error: (.*)|panicked at (.*)|(LLVM ERROR: .*)")

STANDARD = re.compile(r"/[^\s'\"`]*/(?=library/(?:alloc|core|std)/)")
CRATES = re.compile(r"/[^\s'\"`]*/(?=serde(?:_json|_derive)?-\d)")
ELSEWHERE = re.compile(rf"^ *(?:-->|:::) (?!{re.escape(SOURCE)}:|library/|serde|<)", re.MULTILINE)
LINK_FAILED = "error: linking with"
LINK_ERROR = re.compile(r"wasm-ld: (error: .*)")


class Rust:
    """rustc with serde and serde_json, which set-up has compiled into the kit."""

    def __init__(self, kit: str) -> None:
        with open(os.path.join(kit, "kit.json")) as file:
            facts = json.load(file)
        crates = os.path.join(kit, "crates")
        self.version: str = facts["versions"]
        self._base = (RUSTC, f"--target={facts['target']}", *OPTIONS, f"-Ldependency={crates}")
        self._crates = [
            f"--extern={name}={os.path.join(crates, file)}"
            for name in ("serde", "serde_json")
            for file in sorted(os.listdir(crates))
            if file.startswith(f"lib{name}-") and file.endswith(".rlib")
        ]

    def build(self, source: bytes, directory: str) -> str:
        """Raises Refused, Crashed."""
        with open(os.path.join(directory, SOURCE), "wb") as file:
            file.write(source)
        library = (*self._base, *self._crates, "--crate-name=module", "--crate-type=rlib")
        self._rustc(*library, f"--emit=link={LIBRARY},dep-info={FILES}", SOURCE, directory=directory)
        with open(os.path.join(directory, FILES)) as file:
            if any(line.rstrip().endswith(":") and not line.startswith(f"{SOURCE}:") for line in file):
                raise Refused(OTHER_FILES)
        module = (*self._base, *LINK, f"--extern=module={LIBRARY}", "--crate-name=bridge", "--crate-type=cdylib")
        self._rustc(*module, f"-o{MODULE}", BRIDGE, directory=directory)
        return os.path.join(directory, MODULE)

    def _rustc(self, *arguments: str, directory: str) -> None:
        code, text = run(arguments, directory)
        if code == 0:
            return
        if arguments[-1] == BRIDGE and BRIDGE in text:
            raise Refused(SIGNATURE)
        text = CRATES.sub("", STANDARD.sub("", text)).replace(f"{directory}/", "")
        crash = CRASH.search(text) if code == PANICKED else None
        if crash is not None:
            raise Crashed(next(filter(None, crash.groups()), "unknown"))
        if LINK_FAILED in text:
            raise Refused("\n".join(LINK_ERROR.findall(text)) or "error: linking failed")
        raise Refused(OTHER_FILES if ELSEWHERE.search(text) else text)
