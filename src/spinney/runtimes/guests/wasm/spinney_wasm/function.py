"""The function of a sandbox: its module, loaded once, and the answers to its calls."""

from __future__ import annotations

import os
from ctypes import byref, c_void_p

from spinney_guest.channel import result_frame  # type: ignore[import-not-found]

from .assemblyscript import AssemblyScript
from .capi import WasmtimeError
from .code import prepare
from .compiler import check
from .interface import Interface
from .logs import Log
from .machine import MESSAGE_MAX, Failed, Machine
from .utf8 import Utf8

TYPE_CHECKING = False
if TYPE_CHECKING:  # the typing module would only cost start-up time here
    from typing import Any

    from spinney_guest.channel import Channel

    from .capi import Library
    from .deadline import Deadline

OK, FAILED = range(2)
INTERFACES: dict[str, type[Interface]] = {
    "assemblyscript": AssemblyScript,
    "wasm": AssemblyScript,
    "rust": Utf8,
    "go": Utf8,
}
"""By language."""


class Function:
    """One module and how it is called. Raises WasmtimeError when it cannot be loaded.

    settings: those of the load frame. ``file`` in the working directory is the module, compiled (``.cwasm``) or as text.
    """

    def __init__(self, library: Library, engine: int, deadline: Deadline, settings: dict[str, Any]) -> None:
        self._machine = Machine(library, engine, deadline, settings["memory_mb"])
        self._interface = INTERFACES[settings["language"]](self._machine)
        self._machine.link(_load(library, engine, settings["file"]))

    def answer(self, channel: Channel, number: int, body: bytes, timeout_s: float) -> bytes:
        """The frames that answer a call: what it logged that has not been sent, and its result."""
        interface = self._interface
        log = Log(channel, number)
        interface.begin(log)
        try:
            output = self._machine.run(interface.handle, body, timeout_s)
            outcome, answer = OK, interface.finish(output)
        except Failed as failure:
            outcome, answer = FAILED, str(failure)[:MESSAGE_MAX].encode("utf-8", "replace")
        except ValueError:
            outcome, answer = FAILED, b"Function returned invalid JSON"
        interface.end()
        return log.end() + result_frame(number, outcome, answer)  # type: ignore[no-any-return]


def _load(library: Library, engine: int, file: str) -> int:
    """A module of this sandbox's own server: what users supply is compiled, never loaded in compiled form."""
    path = os.path.join(os.getcwd(), file)
    if not file.endswith(".cwasm"):
        with open(path, "rb") as source:
            return library.compile(engine, prepare(check(library, engine, library.parse_text(source.read()))))
    module = c_void_p()
    error = library.wasmtime_module_deserialize_file(engine, path.encode(), byref(module))
    if error is not None:
        # A file system without the right to execute allows no code in mapped files, only in memory.
        library.wasmtime_error_delete(error)
        with open(path, "rb") as source:
            data = source.read()
        library.check(library.wasmtime_module_deserialize(engine, data, len(data), byref(module)))
    if module.value is None:
        raise WasmtimeError("no module")
    return module.value
