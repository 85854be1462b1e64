"""Modules with strings in UTF-8 and WASI, as wrappers for Rust and Go make them (docs/wasm-modules.md, NIL contract 6.5)."""

from __future__ import annotations

import struct

import pytest
from tests.unit.wat import data, failure, loaded, send

from spinney.model import LogLine, Outcome, Reply

RUST = {"settings": {"language": "rust"}}
TEXT = 1024
SCRATCH = 2048
ANSWER = "(i64.or (i64.shl (i64.extend_i32_u (i32.const {})) (i64.const 32)) (i64.const {}))"
ECHO = ANSWER.format("1023", "0").replace("(i64.const 0)", "(i64.extend_i32_u (i32.add (local.get $size) (i32.const 1)))")
"""The input is written behind a zero byte, so that it is the answer."""

FUNCTIONS = {
    "fd_write": "i32 i32 i32 i32",
    "fd_read": "i32 i32 i32 i32",
    "fd_close": "i32",
    "fd_prestat_get": "i32 i32",
    "fd_fdstat_get": "i32 i32",
    "path_open": "i32 i32 i32 i32 i32 i64 i64 i32 i32",
    "clock_time_get": "i32 i64 i32",
    "clock_res_get": "i32 i32",
    "random_get": "i32 i32",
    "poll_oneoff": "i32 i32 i32 i32",
    "args_sizes_get": "i32 i32",
    "environ_sizes_get": "i32 i32",
    "environ_get": "i32 i32",
    "sched_yield": "",
}


def module(body: str, *fields: str) -> str:
    """A module whose ``spinney_handle`` has this body: ``$at`` and ``$size`` are where the input is."""
    wasi = "".join(
        f'(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {kinds}) (result i32)))'
        for name, kinds in FUNCTIONS.items()
    )
    return f"""(module {wasi}
      (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
      (import "spinney" "abort" (func $abort (param i32 i32)))
      (memory (export "memory") 17)
      {"".join(fields)}
      (func (export "spinney_alloc") (param $size i32) (result i32) (i32.const {TEXT}))
      (func (export "spinney_handle") (param $at i32) (param $size i32) (result i64) {body}))"""


def answer(*fields: str, body: str) -> Reply:
    with loaded(module(body, *fields), **RUST) as guest:
        return send(guest)


def fails(body: str, *fields: str) -> str:
    return failure(module(body, *fields), **RUST)


def said(text: bytes, kind: bytes = b"\0", at: int = SCRATCH) -> tuple[str, str]:
    """A handler that answers with this, and the data that it needs."""
    return ANSWER.format(at, len(text) + 1), data(at, kind + text)


def check(expression: str, expected: int = 0) -> str:
    """Code that traps when an i32 is not as expected."""
    return f"(if (i32.ne {expression} (i32.const {expected})) (then (unreachable)))"


# -- strings -----------------------------------------------------------------------------------------------------------


def test_input_and_output() -> None:
    with loaded(module(ECHO), **RUST) as guest:
        for text in ('{"a":5,"t":"é\U0001f30d"}', "42", '"\\u0000"'):
            reply = send(guest, text)
            assert (reply.outcome, reply.body.decode()) == (Outcome.OK, text)
        assert send(guest, '"\\ud800"').body.decode() == '"\ufffd"'
        for text in ("", "{", "NaN", "1e999", "[" * 501 + "]" * 501):
            assert send(guest, text).message == "Function returned invalid JSON"


def test_errors() -> None:
    assert fails(*said("a: b\né".encode(), b"\1")) == "Runtime error: a: b\né"
    assert fails(*said(b"", b"\1")) == "Runtime error: abort"
    assert fails(*said(b"\xff", b"\1")) == "Runtime error: \ufffd"
    assert fails(*said(b"x" * 5000, b"\1")) == "Runtime error: " + "x" * (4096 - 15)


@pytest.mark.parametrize(
    "body",
    [
        ANSWER.format(SCRATCH, 0),
        ANSWER.format(0, 0),
        ANSWER.format(-1, 5),
        ANSWER.format(SCRATCH, 0xFFFF_FFFF),
        said(b"1", b"\2")[0],
    ],
)
def test_answers_that_are_none(body: str) -> None:
    assert fails(body, data(SCRATCH, b"\2")) == "Function returned an invalid string"


def test_outputs_up_to_their_limit() -> None:
    grown = "(drop (memory.grow (i32.const 200))) (memory.fill (i32.const 65537) (i32.const 49) (i32.const 10000001))"
    assert answer(body=grown + ANSWER.format(65536, 10_000_001)).body == b"1" * 10_000_000
    assert fails(grown + ANSWER.format(65536, 10_000_002)) == "Output too large: 10000001 bytes (limit 10000000)"
    assert fails(*said(b'"\xff"')) == "Function returned invalid JSON"


def test_aborts() -> None:
    body = f"(call $abort (i32.const {SCRATCH}) (i32.const 3)) (i64.const 0)"
    assert fails(body, data(SCRATCH, b"why?")) == "Runtime error: why"
    assert fails("(call $abort (i32.const -1) (i32.const 3)) (i64.const 0)") == "Runtime error: abort"


def test_a_reactor_is_initialized_in_each_instance() -> None:
    started = f'(func (export "_initialize") (i32.store8 (i32.const {SCRATCH + 1}) (i32.add (i32.const 48) (global.get $n))))'
    with loaded(module(ANSWER.format(SCRATCH, 2), "(global $n (mut i32) (i32.const 7))", started), **RUST) as guest:
        assert [send(guest).body for _ in range(2)] == [b"7", b"7"]


def test_ends_by_memory() -> None:
    grow = "(drop (memory.grow (i32.const 4000)))"
    assert fails(f"{grow} (unreachable)") == "Memory limit exceeded: 128 MiB"
    assert fails(f"{grow} (call $proc_exit (i32.const 2)) (unreachable)") == "Memory limit exceeded: 128 MiB"


# -- WASI --------------------------------------------------------------------------------------------------------------


def write(fd: int, text: bytes, at: int) -> tuple[str, str]:
    """Code that writes a text in two parts to a file, and its data."""
    parts = struct.pack("<IIII", at + 16, 1, at + 17, len(text) - 1)
    call = f"(call $fd_write (i32.const {fd}) (i32.const {at}) (i32.const 2) (i32.const {SCRATCH}))"
    return check(call) + check(f"(i32.load (i32.const {SCRATCH}))", len(text)), data(at, parts + text)


def test_output_is_the_log_line_by_line() -> None:
    pieces = [
        write(1, b"one\ntwo", 4096),
        write(2, b"wrong\n", 5120),
        write(1, b" and\n\nthree\xff", 6144),
    ]
    code, content = zip(*pieces, strict=True)
    reply = answer(*content, body="".join(code) + ECHO)
    assert reply.outcome is Outcome.OK
    assert reply.logs == [
        LogLine("info", "one"),
        LogLine("warn", "wrong"),
        LogLine("info", "two and"),
        LogLine("info", ""),
        LogLine("info", "three\ufffd"),
    ]


def test_a_flood_of_output_is_cut() -> None:
    code, content = write(1, b"xx", 4096)
    loop = (
        f"(local $n i32) (loop $more {code} (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) {{}})))"
    )
    reply = answer(content, body=loop.format("(i32.const 20000)") + ECHO)
    assert [line.text for line in reply.logs] == ["x" * 16384, "[logs truncated]"]
    code, content = write(1, b"x\n", 4096)
    loop = loop.replace(loop[loop.index("(if") : loop.rindex("(br_if")], code)
    reply = answer(content, body=loop.format("(i32.const 20000)") + ECHO)
    assert [line.text for line in reply.logs] == ["x"] * 1000 + ["[logs truncated]"]


@pytest.mark.parametrize(
    ("text", "end", "message"),
    [
        (b"fine\n", "(call $proc_exit (i32.const 3))", "exit status 3"),
        (b"panic: oh: no\n\ngoroutine 1\n", "(call $proc_exit (i32.const 2))", "oh: no"),
        (b"fatal error: deadlock!\n", "", "deadlock!"),
    ],
)
def test_last_words(text: bytes, end: str, message: str) -> None:
    code, content = write(2, text, 4096)
    assert fails(f"{code} {end} (unreachable)", content) == f"Runtime error: {message}"


def test_last_words_are_of_their_call_and_of_standard_error() -> None:
    code, content = write(1, b"panic: no\n", 4096)
    assert fails(f"{code} (unreachable)", content) == "WASM trap: unreachable"
    code, content = write(2, b"panic: no\n", 4096)
    once = f"(if (i32.eq (i32.load8_u (i32.const {TEXT})) (i32.const 48)) (then {code} (unreachable))) (unreachable)"
    with loaded(module(once, content), **RUST) as guest:
        assert send(guest, "0").message == "Runtime error: no"
        assert send(guest, "1").message == "WASM trap: unreachable"


BADF, FAULT, INVAL = 8, 21, 28
REFUSED = {
    "(call $fd_write (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))": BADF,
    "(call $fd_write (i32.const 1) (i32.const 0) (i32.const 1025) (i32.const 0))": INVAL,
    "(call $fd_write (i32.const 1) (i32.const -4) (i32.const 1) (i32.const 0))": INVAL,
    "(call $fd_write (i32.const 1) (i32.const 4096) (i32.const 1) (i32.const 0))": FAULT,
    "(call $fd_read (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0))": BADF,
    "(call $fd_close (i32.const 3))": BADF,
    "(call $fd_prestat_get (i32.const 3) (i32.const 0))": BADF,
    "(call $fd_fdstat_get (i32.const 3) (i32.const 0))": BADF,
    "(call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0) (i64.const 0)"
    " (i32.const 0) (i32.const 0))": BADF,
    "(call $clock_time_get (i32.const 9) (i64.const 0) (i32.const 0))": INVAL,
    "(call $clock_res_get (i32.const 2) (i32.const 0))": INVAL,
    "(call $random_get (i32.const 8) (i32.const -1))": FAULT,
    "(call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))": INVAL,
    "(call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const 2000) (i32.const 0))": INVAL,
}


@pytest.mark.parametrize(("code", "errno"), REFUSED.items(), ids=range(len(REFUSED)))
def test_what_is_refused(code: str, errno: int) -> None:
    reply = answer(data(4096, struct.pack("<II", 0xFFFF_0000, 0x10_0000)), body=check(code, errno) + ECHO)
    assert reply.outcome is Outcome.OK, reply


def test_places_outside_memory_are_a_trap() -> None:
    body = "(drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const -4))) (i64.const 0)"
    assert fails(body) == "WASM trap: out of bounds memory access"


def test_clocks_randomness_and_what_is_empty() -> None:
    body = "".join(
        check(code)
        for code in (
            f"(call $clock_time_get (i32.const 0) (i64.const 0) (i32.const {SCRATCH}))",
            f"(call $clock_time_get (i32.const 1) (i64.const 0) (i32.const {SCRATCH + 8}))",
            f"(call $clock_res_get (i32.const 1) (i32.const {SCRATCH + 16}))",
            f"(call $random_get (i32.const {SCRATCH + 24}) (i32.const 8))",
            f"(call $args_sizes_get (i32.const {SCRATCH + 32}) (i32.const {SCRATCH + 36}))",
            f"(call $environ_sizes_get (i32.const {SCRATCH + 40}) (i32.const {SCRATCH + 44}))",
            f"(i32.or (i32.load (i32.const {SCRATCH + 32})) (i32.load (i32.const {SCRATCH + 40})))",
            "(call $environ_get (i32.const 0) (i32.const 0))",
            f"(call $fd_read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const {SCRATCH + 48}))",
            f"(call $fd_fdstat_get (i32.const 1) (i32.const {SCRATCH + 52}))",
            "(call $fd_close (i32.const 1))",
            "(call $sched_yield)",
            f"(i64.lt_u (i64.load (i32.const {SCRATCH})) (i64.const 1700000000000000000))",
            f"(i64.eqz (i64.load (i32.const {SCRATCH + 8})))",
            f"(i64.eqz (i64.load (i32.const {SCRATCH + 24})))",
        )
    )
    with loaded(module(body + ECHO), **RUST) as guest:
        assert send(guest, "1").body == b"1"


def wish(mark: int, nanoseconds: int, kind: int = 0, clock: int = 1, flags: int = 0) -> bytes:
    return struct.pack("<QB7xIxxxxQxxxxxxxxH6x", mark, kind, clock, nanoseconds, flags)


def wait(*wishes: bytes, events: int) -> tuple[str, str]:
    call = f"(call $poll_oneoff (i32.const 4096) (i32.const 8192) (i32.const {len(wishes)}) (i32.const {SCRATCH}))"
    return check(call) + check(f"(i32.load (i32.const {SCRATCH}))", events), data(4096, b"".join(wishes))


def test_waiting() -> None:
    """For the first of several times; a standard file is ready at once, and a time in the past has been."""
    for wishes, mark in (
        ((wish(7, 1_000_000), wish(8, 10**18)), 7),
        ((wish(7, 10**18), wish(9, 1, kind=2)), 9),
        ((wish(7, 10**18), wish(6, 5, flags=1)), 6),
    ):
        code, content = wait(*wishes, events=1)
        body = code + check("(i32.wrap_i64 (i64.load (i32.const 8192)))", mark) + ECHO
        with loaded(module(body, content), **RUST) as guest:
            assert send(guest, "1").body == b"1"


def test_waiting_ends_with_the_time_of_the_call() -> None:
    code, content = wait(wish(1, 10**18), events=1)
    with loaded(module(f"(loop $more {code} (br $more)) (unreachable)", content), **RUST) as guest:
        assert send(guest, timeout_s=0.05).message == "Execution timed out after 0.05 seconds"
