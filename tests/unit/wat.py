"""WebAssembly in its text format, for the tests of what runs it: modules as AssemblyScript and Spinney's wrappers make them."""

from __future__ import annotations

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
  (global $top (mut i32) (i32.const 4096))
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


def module(body: str, *fields: str, pages: int = 1, imports: str = IMPORTS) -> str:
    """A module whose ``handle`` has this body; ``$input`` is its parameter, ``$n`` and ``$p`` are locals."""
    return f"""(module {imports}
      (memory (export "memory") {pages})
      {RUNTIME}
      {"".join(fields)}
      (func $handle (export "handle") (param $input i32) (result i32) (local $n i32) (local $p i32)
        {body}))"""


ECHO = module("(local.get $input)")
