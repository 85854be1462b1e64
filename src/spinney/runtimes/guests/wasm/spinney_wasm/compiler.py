"""From a module as anybody may have made it to what this engine runs."""

from __future__ import annotations

from .binary import Module
from .capi import WasmtimeError
from .code import prepare
from .instructions import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:  # the typing module would only cost start-up time here
    from typing import Any

    from .capi import Library


def compile_module(library: Library, engine: int, wasm: bytes) -> tuple[dict[str, Any], bytes]:
    """What a module imports and exports, with an ``error`` when it is not valid; and the compiled form, empty then."""
    try:
        module = check(library, engine, wasm)
        facts = {"imports": module.imports, "exports": module.exports, "error": None}
        compiled = library.compile(engine, prepare(module))
        try:
            return facts, library.serialize(compiled)
        finally:
            library.wasmtime_module_delete(compiled)
    except (WasmtimeError, Refused) as error:
        return {"imports": [], "exports": {}, "error": _reason(str(error))}, b""


def check(library: Library, engine: int, wasm: bytes) -> Module:
    """A module that is known to be valid. Raises WasmtimeError."""
    library.check(library.wasmtime_module_validate(engine, wasm, len(wasm)))
    return Module(wasm)


def _reason(text: str) -> str:
    """The innermost cause of an error, in one line."""
    lines = [line.strip() for line in text.rpartition("Caused by:")[2].splitlines()]
    return " ".join(line for line in lines if line)
