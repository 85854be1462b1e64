"""The tool that makes modules ready to run, and what the guest assumes of the engine's library."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from ctypes import Structure, c_void_p, sizeof
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import wasmtime
from tests.unit.wat import ECHO, GIVEN, IMPORTS, RUNTIME, failure, loaded, module, send
from wasmtime import _bindings

from spinney.errors import Unsupported
from spinney.model import Call, Outcome, Reply, Rights
from spinney.ports import Prepared
from spinney.runtimes import wasm
from spinney.runtimes.guest import GUESTS
from spinney.runtimes.wasm import WasmRuntime
from spinney.testing.guest_process import GuestProcess

RUN = WasmRuntime()


@pytest.fixture(scope="module")
def tool() -> Iterator[GuestProcess]:
    guest = GuestProcess(RUN.launch_tool())
    yield guest
    guest.end()


def prepare(tool: GuestProcess, source: str | bytes) -> Prepared:
    binary = source if isinstance(source, bytes) else bytes(wasmtime.wat2wasm(source))
    reply = tool.invoke(Call("id", binary, 30.0), 30.0)
    assert reply.outcome is Outcome.OK and reply.reusable, reply
    prepared = RUN.prepared(reply)
    assert prepared is not None
    return prepared


def run(executable: bytes, text: str = '{"a":1}') -> Reply:
    with loaded("", settings={"executable": executable, "language": "assemblyscript"}) as guest:
        return send(guest, text)


def test_from_a_module_to_an_answer(tool: GuestProcess) -> None:
    prepared = prepare(tool, ECHO)
    assert prepared.error == ""
    assert run(prepared.executable).body == b'{"a":1}'


def test_facts(tool: GuestProcess) -> None:
    prepared = prepare(
        tool,
        """(module
        (import "a" "f" (func $f (param i32 i64 f32 f64 v128 funcref) (result i32 f64)))
        (import "a" "g" (global i32)) (import "a" "h" (global (mut f64)))
        (import "b" "t" (table 3 funcref)) (import "b" "é" (memory 2 5))
        (global $own (mut i64) (i64.const -300)) (global $other f64 (f64.const 11)) (table $own 1 funcref)
        (func $start) (start $start)
        (func $new (param i32) (result i32) (memory.grow (local.get 0)))
        (export "f" (func $f)) (export "new" (func $new)) (export "memory" (memory 0)) (export "own" (table $own))
        (export "global" (global $own)) (export "other" (global $other)) (export "start" (func $start)))""",
    )
    assert prepared.error == ""
    facts = prepared.facts
    assert facts.imports == (
        ("a", "f", "(i32,i64,f32,f64,v128,funcref)->(i32,f64)"),
        ("a", "g", "global"),
        ("a", "h", "global"),
        ("b", "t", "table"),
        ("b", "é", "memory(2)"),
    )
    assert facts.exports == {
        "f": "(i32,i64,f32,f64,v128,funcref)->(i32,f64)",
        "new": "(i32)->(i32)",
        "memory": "memory(2)",
        "own": "table",
        "global": "global",
        "other": "global",
        "start": "()->()",
    }


INVALID = {
    "nothing": b"",
    "text": b"(module)",
    "no code": b"\0asm\1\0\0\0\x0a",
    "a later version": b"\0asm\2\0\0\0",
    "a component": b"\0asm\x0d\0\1\0",
    "an executable": b"\x7fELF" + bytes(100),
    "types that do not match": bytes.fromhex("0061736d01000000 0104016000017f 03020100 0a040102000b"),
    "garbage": bytes(range(256)) * 4,
}
FEATURES = {
    "threads": "(module (memory 1 1 shared))",
    "64-bit memory": "(module (memory i64 1))",
    "two memories": "(module (memory 1) (memory 1))",
    "exceptions": "(module (tag))",
    "garbage collection": "(module (type (struct)))",
    "references to what the host has": "(module (table 1 externref))",
    "a huge table": "(module (table 1000000 funcref))",
    "many tables": f"(module {'(table 1 funcref)' * 9})",
}


@pytest.mark.parametrize("source", [*INVALID.values(), *FEATURES.values()], ids=[*INVALID, *FEATURES])
def test_modules_that_are_refused(tool: GuestProcess, source: str | bytes) -> None:
    prepared = prepare(tool, source)
    assert prepared.executable == b"" and prepared.facts.imports == ()
    assert prepared.error.startswith("Invalid WebAssembly module: ")
    assert len(prepared.error) > len("Invalid WebAssembly module: ") and "\n" not in prepared.error


def test_compiled_code_is_no_module(tool: GuestProcess) -> None:
    """What the tool itself has made, sent in by a user, is not run."""
    executable = prepare(tool, ECHO).executable
    assert prepare(tool, executable).error.startswith("Invalid WebAssembly module: ")


def test_one_module_leaves_nothing_for_the_next(tool: GuestProcess) -> None:
    before = prepare(tool, ECHO)
    prepare(tool, b"\0asm")
    prepare(tool, "(module (memory 1))")
    assert prepare(tool, ECHO) == before


# -- what is changed in modules ----------------------------------------------------------------------------------------

SIMD = """
    (drop (v128.const i32x4 0x40 0x4000 0x400040 0x40004000))
    (drop (i8x16.shuffle 0 31 16 1 2 3 4 5 6 7 8 9 10 11 12 13 (v128.const i64x2 0 0) (v128.const i64x2 0 0)))
    (drop (i8x16.extract_lane_u 15 (v128.load offset=64 (i32.const 0))))
    (drop (v128.load8_lane offset=64 align=1 0 (i32.const 0) (v128.const i64x2 0 0)))
    (v128.store64_lane 1 (i32.const 0) (v128.const i64x2 0 0))
    (drop (v128.load32_zero (i32.const 64)))
    (drop (i32x4.relaxed_trunc_f32x4_s (f32x4.splat (f32.const 64))))
"""
PLAIN = """
    (block (nop)) (block (br 0)) (loop) (if (i32.const 64) (then (nop)) (else (nop)))
    (block $a (block $b (br_table $a $b $a (i32.const 0x40))))
    (drop (i32.const 64)) (drop (i32.const 8192)) (drop (i64.const 0x4000400040)) (drop (i32.const -64))
    (drop (f32.const 2.0)) (drop (f64.const 3.0)) (drop (f64.const 32.00000000000001))
    (i64.store offset=64 (i32.const 0) (i64.load offset=8192 align=1 (i32.const 64)))
    (drop (select (result i64) (i64.const 1) (i64.const 64) (i32.const 0)))
    (drop (select (i32.const 1) (i32.const 2) (i32.const 3)))
    (global.set $g (global.get $g)) (local.set $n (local.tee $p (i32.const 64)))
    (drop (i32.trunc_sat_f64_u (f64.const 64))) (drop (i32.extend8_s (i32.const 64)))
    (memory.fill (i32.const 64) (i32.const 0) (i32.const 64)) (memory.copy (i32.const 64) (i32.const 0) (i32.const 64))
    (memory.init $d (i32.const 64) (i32.const 0) (i32.const 1)) (data.drop $d)
    (table.set (i32.const 0) (table.get (i32.const 0))) (table.fill (i32.const 0) (ref.null func) (i32.const 1))
    (table.init $e (i32.const 0) (i32.const 0) (i32.const 1)) (elem.drop $e)
    (table.copy (i32.const 0) (i32.const 1) (i32.const 1))
    (drop (table.grow (ref.null func) (i32.const 1))) (drop (table.size)) (drop (ref.is_null (ref.func $other)))
    (drop (call $tail)) (call_indirect (i32.const 2))
"""
SURROUNDINGS = """
    (global $g (mut i64) (i64.const 64)) (table 4 funcref) (func $other) (elem (i32.const 2) func $other) (elem $e func $other)
    (data $d "@\\00@\\00") (func $tail (result i32) (return_call $same)) (func $same (result i32) (i32.const 64))
"""
GROW = "(if (i32.ne (memory.grow (i32.const {})) (i32.const {})) (then (unreachable)))"


def test_every_kind_of_instruction_may_stand_before_a_growth(tool: GuestProcess) -> None:
    """Bytes that look like a growth are none; those that are one stay one, and what they ask for is known."""
    code = PLAIN + SIMD + GROW.format(1, 1) + PLAIN.replace("(data.drop $d)", "").replace("memory.init $d", "memory.init $d2")
    source = module(code.replace("(elem.drop $e)", "") + GROW.format(1, 2) + GIVEN, SURROUNDINGS + '(data $d2 "@")', pages=1)
    prepared = prepare(tool, source)
    assert prepared.error == ""
    assert run(prepared.executable).body == b'{"a":1}'
    assert failure(source.replace(GROW.format(1, 2), GROW.format(4000, 2))) == "Memory limit exceeded: 128 MiB"


def test_a_module_without_globals_start_and_custom_sections_changes_as_one_with_them(tool: GuestProcess) -> None:
    small = '(module (memory (export "memory") 1) (func (export "handle") (param i32) (result i32) (memory.grow (local.get 0))))'
    assert prepare(tool, small).error == ""
    named = bytes(wasmtime.wat2wasm(small.replace("(param i32)", "(param $named i32)").replace("(module", "(module $name")))
    assert b"named" in named and b"named" not in prepare(tool, named).executable


def test_what_the_guest_adds_has_names_of_its_own(tool: GuestProcess) -> None:
    head = f'(module {IMPORTS} (memory (export "memory") 1) {RUNTIME}'
    for taken in (
        '(global (export "spinney.grown") i32 (i32.const 0))',
        '(func (export "spinney.grown"))',
        '(func (export "spinney.start"))',
    ):
        for source in (f"{head} {taken})", f"(module {taken})"):
            prepared = prepare(tool, source)
            assert prepared.error.startswith("Invalid WebAssembly module: the name spinney.") and prepared.executable == b""
            with loaded(source) as guest:
                assert send(guest).outcome is Outcome.LOAD_ERROR


# -- the library -------------------------------------------------------------------------------------------------------


def guest_module(name: str) -> ModuleType:
    """A module of the guest that imports no other."""
    spec = importlib.util.spec_from_file_location(name, GUESTS / "wasm" / "spinney_wasm" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def shape(kind: Any) -> str:
    """What a parameter is to the machine: a pointer, or a number of some size."""
    if kind is None:
        return "nothing"
    is_pointer = kind is c_void_p or hasattr(kind, "contents") or hasattr(kind, "_argtypes_")
    return "pointer" if is_pointer else f"{kind._type_}{sizeof(kind)}"


def test_functions_are_declared_as_the_package_declares_them() -> None:
    for name, (result, parameters) in guest_module("capi").FUNCTIONS.items():
        theirs = getattr(_bindings, f"_{name}")
        assert shape(result) == shape(theirs.restype), name
        assert [shape(kind) for kind in parameters] == [shape(kind) for kind in theirs.argtypes], name


def test_structures_are_as_large_as_the_package_says() -> None:
    capi = guest_module("capi")
    pairs: tuple[tuple[type[Structure], Any, str], ...] = (
        (capi.Extern, _bindings.wasmtime_extern_t, "of"),
        (capi.Value, _bindings.wasmtime_val_t, "of"),
        (capi.ByteVector, _bindings.wasm_byte_vec_t, "data"),
    )
    for ours, theirs, field in pairs:
        second = ours._fields_[1][0]
        assert getattr(ours, second).offset == getattr(theirs, field).offset
        assert sizeof(ours) >= sizeof(theirs)
    assert sizeof(_bindings.wasmtime_val_raw_t) == capi.RAW_BYTES and _bindings.wasmtime_extern_t.of.offset == capi.ITEM
    assert sizeof(_bindings.wasmtime_instance_t) == 16
    callback = _bindings.wasmtime_func_unchecked_callback_t
    assert [shape(kind) for kind in capi.HostFunction._argtypes_] == [shape(kind) for kind in callback._argtypes_]
    epoch = _bindings._wasmtime_store_epoch_deadline_callback.argtypes[1]
    assert [shape(kind) for kind in capi.EpochCallback._argtypes_] == [shape(kind) for kind in epoch._argtypes_]


# -- the runtime on the host -------------------------------------------------------------------------------------------


def test_versions() -> None:
    assert RUN.installed() == {"wasm": wasm.engine_version()}
    guest = GuestProcess(RUN.launch("wasm", Rights()))
    try:
        assert guest.version == wasm.engine_version()
    finally:
        guest.end()
    assert wasm.engine_version() in RUN.installed_version()


def test_without_the_engine_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, nothing in (("find_library", lambda: None), ("find_pythons", dict)):
        with monkeypatch.context() as patch:
            patch.setattr(wasm, name, nothing)
            assert RUN.installed() == {} and RUN.installed_version() == ""
            for launch in (lambda: RUN.launch("wasm", Rights()), RUN.launch_tool):
                with pytest.raises(Unsupported):
                    launch()


def test_the_server_does_not_load_the_engine() -> None:
    source = Path(wasm.__file__).read_text()
    assert "import wasmtime" not in source and "ctypes" not in source


def test_answers_of_the_tool_that_make_no_sense() -> None:
    for meta in (b"", b"[]", b'{"imports": 1}', b'{"exports": {"a": 1}}'):
        assert RUN.prepared(Reply(Outcome.OK, meta=meta)) is None
