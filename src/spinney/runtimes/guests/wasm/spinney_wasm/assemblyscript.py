"""Modules as AssemblyScript makes them: strings in UTF-16, and the imports that it offers its users (NIL contract 3.3, 3.5)."""

from __future__ import annotations

import os
import struct
from time import time

from .interface import INVALID, OUTPUT_BYTES_MAX, Interface, too_large
from .logs import ENTRY_BYTES_MAX
from .machine import MESSAGE_MAX, Failed, Machine, runtime_error, trap
from .text import decode_units, encode_units, json_from_units

TYPE_CHECKING = False
if TYPE_CHECKING:  # only for annotations: imports cost start-up time here
    from typing import NoReturn

NOWHERE = (1, 1)
"""Line and column of what asc itself adds: the check of its second stack, for references. It runs out before the engine's; asc
makes the check's text, "stack overflow", when the data are complete, so that mostly there is none where its pointer points."""

STRING_CLASS = 2
HEADER = struct.Struct("<II")  # class id and length in bytes, in front of a string's data


class AssemblyScript(Interface):
    """Calls ``handle`` with a string, and takes one back."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        machine.define("env", "abort", "iiii", "", self._abort)
        machine.define("env", "console.log", "i", "", self._log)
        machine.define("env", "Date.now", "", "F", lambda: float(int(time() * 1000)))
        machine.define("env", "seed", "", "F", _seed)

    def handle(self, body: bytes) -> bytes:
        """UTF-16."""
        machine = self._machine
        units = encode_units(body)
        given = machine.call(b"__new", len(units), STRING_CLASS)
        machine.call(b"__pin", given)
        machine.write(given, units)
        answer = machine.call(b"handle", given)
        if answer == 0:
            raise Failed("WASM function returned null")
        size = self._string_bytes(answer)
        output = None if size is None or size > OUTPUT_BYTES_MAX else machine.read(answer, size)
        if output is None:
            raise Failed(INVALID if size is None else too_large(size))
        machine.call(b"__unpin", given, results=0)
        return output

    def finish(self, output: bytes) -> bytes:
        return json_from_units(output)

    def _string_bytes(self, pointer: int) -> int | None:
        """The length of the string at a pointer; None when there is none. Any number may come from the module."""
        header = self._machine.read(pointer - HEADER.size, HEADER.size)
        if header is None:
            return None
        class_id, size = HEADER.unpack(header)
        if class_id != STRING_CLASS or size % 2 or pointer + size > self._machine.memory_bytes:
            return None
        return int(size)

    def _read_string(self, pointer: int, units_max: int) -> str | None:
        """The beginning of a string; None when there is none."""
        size = self._string_bytes(pointer)
        units = None if size is None else self._machine.read(pointer, min(size, 2 * units_max))
        return None if units is None else decode_units(units)

    def _abort(self, message: int, _file: int, line: int, column: int) -> NoReturn:
        # Twice as many units as characters are wanted: each may be a pair.
        text = self._read_string(message, 2 * MESSAGE_MAX)
        if message and (line, column) == NOWHERE and text in (None, "stack overflow"):
            self._machine.abort(trap("call stack exhausted"))
        self._machine.abort(runtime_error(text))

    def _log(self, message: int) -> None:
        """Whatever is no string is not logged, but for null, which reads as such."""
        if self.log.full:
            return
        text = self._read_string(message, ENTRY_BYTES_MAX + 1) if message else "null"
        if text is not None:
            self.log.add(text)


def _seed() -> float:
    """A random number from 0 to 1."""
    return (int.from_bytes(os.urandom(8), "little") >> 11) * 2.0**-53
