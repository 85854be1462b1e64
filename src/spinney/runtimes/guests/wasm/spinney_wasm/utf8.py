"""Modules with strings in UTF-8, as Spinney's wrappers for Rust and Go make them (docs/wasm-modules.md)."""

from __future__ import annotations

from .interface import INVALID, OUTPUT_BYTES_MAX, Interface, too_large
from .machine import MESSAGE_MAX, Failed, Machine, runtime_error
from .text import check_json, mend
from .wasi import Wasi

TYPE_CHECKING = False
if TYPE_CHECKING:  # only for annotations: imports cost start-up time here
    from typing import NoReturn

    from .logs import Log

OUTPUT, ERROR = 0, 1
CHARACTER_BYTES_MAX = 4


class Utf8(Interface):
    """Calls ``spinney_handle`` with a place in memory, and takes one back."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        machine.define("spinney", "abort", "ii", "", self._abort)
        self._wasi = Wasi(machine)

    def begin(self, log: Log) -> None:
        super().begin(log)
        self._wasi.begin(log)

    def handle(self, body: bytes) -> bytes:
        machine = self._machine
        machine.call_if_there(b"_initialize")
        given = machine.call(b"spinney_alloc", len(body))
        machine.write(given, body)
        answer = machine.call(b"spinney_handle", given, len(body))
        address, size = answer >> 32, answer & 0xFFFF_FFFF
        kind = machine.read(address, 1) if size else None
        if kind == bytes((ERROR,)):
            raise Failed(runtime_error(self._read(address + 1, size - 1)))
        if kind != bytes((OUTPUT,)) or address + size > machine.memory_bytes:
            raise Failed(INVALID)
        if size - 1 > OUTPUT_BYTES_MAX:
            raise Failed(too_large(size - 1))
        return machine.read(address + 1, size - 1) or b""

    def finish(self, output: bytes) -> bytes:
        text = output.decode()
        check_json(text)
        return mend(text).encode()

    def end(self) -> None:
        self._wasi.end()

    def _read(self, address: int, size: int) -> str | None:
        """As much of a message as is shown."""
        data = self._machine.read(address, min(size, CHARACTER_BYTES_MAX * MESSAGE_MAX))
        return None if data is None else data.decode("utf-8", "replace")

    def _abort(self, address: int, size: int) -> NoReturn:
        self._machine.abort(runtime_error(self._read(address, size)))
