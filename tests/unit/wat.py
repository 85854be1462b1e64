"""WebAssembly in its text format, as AssemblyScript would make it, and guests that run it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from tests.unit.guests import loaded_guest

from spinney.model import Call, Outcome, Reply
from spinney.runtimes.wasm import WasmRuntime
from spinney.testing.guest_process import GuestProcess

CLASS, HEADER_BYTES = 2, 8


def data(at: int, content: bytes) -> str:
    """A data segment."""
    text = "".join(f"\\{byte:02x}" for byte in content)
    return f'(data (i32.const {at}) "{text}")'


def string(at: int, text: str, class_id: int = CLASS, size: int | None = None) -> str:
    """A string of AssemblyScript's as a data segment: its pointer is ``at``."""
    units = text.encode("utf-16-le", "surrogatepass")
    header = class_id.to_bytes(4, "little") + (len(units) if size is None else size).to_bytes(4, "little")
    return data(at - HEADER_BYTES, header + units)


RUNTIME = """
  (global $top (mut i32) (i32.const 32768))
  (func $new (export "__new") (param $size i32) (param $class i32) (result i32) (local $at i32)
    (local.set $at (i32.add (global.get $top) (i32.const 8)))
    (global.set $top (i32.add (local.get $at) (i32.and (i32.add (local.get $size) (i32.const 7)) (i32.const -8))))
    (if (i32.gt_u (global.get $top) (i32.mul (memory.size) (i32.const 65536)))
      (then (if (i32.eq (memory.grow (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1))) (i32.const -1))
        (then unreachable))))
    (i32.store (i32.sub (local.get $at) (i32.const 8)) (local.get $class))
    (i32.store (i32.sub (local.get $at) (i32.const 4)) (local.get $size))
    (local.get $at))
  (func (export "__pin") (param i32) (result i32) (local.get 0))
  (func (export "__unpin") (param i32))
"""

IMPORTS = """
  (import "env" "abort" (func $abort (param i32 i32 i32 i32)))
  (import "env" "console.log" (func $log (param i32)))
  (import "env" "Date.now" (func $now (result f64)))
  (import "env" "seed" (func $seed (result f64)))
"""


def module(body: str, *fields: str, pages: int = 1, imports: str = IMPORTS, heap: int = 32768) -> str:
    """A module whose ``handle`` has this body; ``$input`` is its parameter, ``$n`` and ``$p`` are locals.

    ``heap``: where in memory it puts new strings.
    """
    return f"""(module {imports}
      (memory (export "memory") {pages})
      {RUNTIME.replace("32768", str(heap))}
      {"".join(fields)}
      (func $handle (export "handle") (param $input i32) (result i32) (local $n i32) (local $p i32)
        {body}))"""


ECHO = module("(local.get $input)")

GIVEN = "(local.get $input)"
TEXT = 1008
"""Where the tests have a string in memory."""


def loaded(source: str, **fields: Any) -> AbstractContextManager[GuestProcess]:
    return loaded_guest(WasmRuntime(), "wasm", source, **fields)


def send(guest: GuestProcess, text: str = '{"a":1}', timeout_s: float = 10.0) -> Reply:
    return guest.invoke(Call("id", text.encode(), timeout_s), timeout_s + 10)


def failure(source: str, timeout_s: float = 10.0, **fields: Any) -> str:
    """The message of a module's failure, which is the same twice."""
    with loaded(source, **fields) as guest:
        first, second = (send(guest, timeout_s=timeout_s) for _ in range(2))
    assert (first.outcome, first.reusable) == (Outcome.ERROR, True), first
    assert second.message == first.message
    return first.message
