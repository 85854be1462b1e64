"""The WebAssembly guest as a bare process: ends of executions, memory, imports, logs, loading (NIL contract 3.3 to 3.7, 6.1)."""

from __future__ import annotations

import json

import pytest
from tests.unit.wat import ECHO, GIVEN, IMPORTS, RUNTIME, TEXT, data, failure, loaded, module, send, string

from spinney.model import Call, LogLine, Outcome

FOREVER = "(loop $again (br $again)) (unreachable)"
PAIR = "\U0001f30d"


# -- ends --------------------------------------------------------------------------------------------------------------

TABLE = "(table 2 funcref) (func $other) (elem (i32.const 0) $other)"
INDIRECT = "(call_indirect (param i32) (result i32) (local.get $input) (i32.const {}))"
TRAPS = {
    "integer divide by zero": "(i32.div_s (i32.const 1) (i32.const 0))",
    "unreachable": "(unreachable)",
    "integer overflow": "(i32.div_s (i32.const 0x80000000) (i32.const -1))",
    "out of bounds memory access": "(i32.load (i32.const -1))",
    "invalid conversion to integer": "(i32.trunc_f64_s (f64.const nan))",
    "call stack exhausted": "(call $handle (local.get $input))",
    "undefined element: out of bounds table access": INDIRECT.format(2),
    "uninitialized element": INDIRECT.format(1),
    "indirect call type mismatch": INDIRECT.format(0),
}


@pytest.mark.parametrize(("text", "body"), TRAPS.items(), ids=TRAPS.keys())
def test_traps(text: str, body: str) -> None:
    assert failure(module(body, TABLE)) == f"WASM trap: {text}"


def start(body: str) -> str:
    """A module whose top-level code this is."""
    return module(GIVEN, f"(func $start {body}) (start $start)")


def test_top_level_code_may_fail_too() -> None:
    assert failure(start("(unreachable)")) == "WASM trap: unreachable"
    assert failure(start("(drop (memory.grow (i32.const 4000))) (unreachable)")) == "Memory limit exceeded: 128 MiB"
    assert failure(start("(call $start)")) == "WASM trap: call stack exhausted"
    assert failure(module(GIVEN, data(65530, b"too long"))) == "WASM trap: out of bounds memory access"


@pytest.mark.parametrize("source", [module(FOREVER), start(FOREVER), module(f"(call $log {GIVEN}) {FOREVER}")])
def test_endless_code_is_ended_and_the_guest_stays_usable(source: str) -> None:
    assert failure(source, timeout_s=0.05) == "Execution timed out after 0.05 seconds"


def test_the_message_of_a_timeout() -> None:
    body = f"(if (i32.eq (i32.load16_u {GIVEN}) (i32.const 0x30)) (then {FOREVER})) {GIVEN}"
    with loaded(module(body)) as guest:
        assert send(guest, "0", 1.0).message == "Execution timed out after 1 seconds"
        assert send(guest, "1").body == b"1"


ABORT = "(call $abort (i32.const {}) (i32.const 0) (i32.const 7) (i32.const 1))"
ABORTS = {
    "x": "x",
    "a: b\nc: é \U0001f600 \0": "a: b\nc: é \U0001f600 \0",
    "\ud83d": "\ufffd",
    "": "abort",
    "[" * 5000: "[" * (4096 - len("Runtime error: ")),
    PAIR * 4096: PAIR * (4096 - len("Runtime error: ")),
}


@pytest.mark.parametrize(("text", "shown"), ABORTS.items(), ids=range(len(ABORTS)))
def test_aborts_say_why(text: str, shown: str) -> None:
    assert failure(module(f"{ABORT.format(TEXT)} (unreachable)", string(TEXT, text))) == f"Runtime error: {shown}"


@pytest.mark.parametrize("pointer", [0, 3, -3, 65536])
def test_aborts_that_do_not_say_why(pointer: int) -> None:
    assert failure(module(f"{ABORT.format(pointer)} (unreachable)")) == "Runtime error: abort"


def test_the_end_of_the_stack_that_asc_keeps_for_references() -> None:
    check = "(call $abort (i32.const {}) (i32.const 0) (i32.const 1) (i32.const 1)) (unreachable)"
    for pointer in (TEXT + 8, 65536):
        text = failure(module(check.format(pointer), string(TEXT + 8, "stack overflow")))
        assert text == "WASM trap: call stack exhausted"
    assert failure(module(check.format(0))) == "Runtime error: abort"
    assert failure(module(check.format(TEXT), string(TEXT, "x"))) == "Runtime error: x"


def test_nothing_runs_behind_an_abort() -> None:
    body = f"{ABORT.format(TEXT)} (call $log {GIVEN}) {GIVEN}"
    with loaded(module(body, string(TEXT, "x"))) as guest:
        reply = send(guest)
    assert (reply.outcome, reply.message, reply.logs) == (Outcome.ERROR, "Runtime error: x", [])


def test_an_abort_goes_before_memory_and_a_timeout_before_all() -> None:
    grow = "(drop (memory.grow (i32.const 4000)))"
    assert failure(module(f"{grow} {ABORT.format(TEXT)} (unreachable)", string(TEXT, "x"))) == "Runtime error: x"
    assert failure(module(f"{grow} {FOREVER}"), timeout_s=0.05).startswith("Execution timed out")
    assert failure(module(f"{grow} (i32.div_u {GIVEN} (i32.const 0))")) == "WASM trap: integer divide by zero"


# -- memory ------------------------------------------------------------------------------------------------------------

PAGES = 2048
"""128 MiB."""


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (PAGES - 1, "WASM trap: unreachable"),
        (PAGES, "Memory limit exceeded: 128 MiB"),
        (-1, "Memory limit exceeded: 128 MiB"),
    ],
)
def test_memory_ends_at_its_limit(wish: int, message: str) -> None:
    assert failure(module(f"(drop (memory.grow (i32.const {wish}))) (unreachable)")) == message


def test_a_refused_wish_is_minus_one_and_no_failure() -> None:
    body = f"""(if (i32.ne (memory.grow (i32.const {PAGES})) (i32.const -1)) (then (unreachable)))
        (if (i32.ne (memory.grow (i32.const 3)) (i32.const 1)) (then (unreachable)))
        (if (i32.ne (memory.size) (i32.const 4)) (then (unreachable)))
        {GIVEN}"""
    with loaded(module(body)) as guest:
        assert [send(guest).body for _ in range(2)] == [b'{"a":1}'] * 2


def test_a_modules_own_maximum_is_not_the_limit() -> None:
    source = module("(drop (memory.grow (i32.const 20))) (unreachable)").replace('"memory") 1', '"memory") 1 10')
    assert failure(source) == "WASM trap: unreachable"


def test_a_module_may_be_too_large_from_the_start() -> None:
    assert failure(module(GIVEN, pages=PAGES + 1)) == "Memory limit exceeded: 128 MiB"
    assert failure(module(GIVEN, pages=17), memory_mb=1) == "Memory limit exceeded: 1 MiB"
    with loaded(module(GIVEN, pages=PAGES)) as guest:
        assert send(guest).outcome is Outcome.OK


def test_all_of_memory_may_be_used_and_is_given_back() -> None:
    body = f"""(drop (memory.grow (i32.const {PAGES - 1})))
        (memory.fill (i32.const 65536) (i32.const 1) (i32.const {(PAGES - 1) * 65536})) {GIVEN}"""
    with loaded(module(body)) as guest:
        assert send(guest).outcome is Outcome.OK
        assert guest.memory_bytes() < 32 << 20


def test_nothing_survives_a_call() -> None:
    body = f"""(if (i32.or (i32.ne (global.get $seen) (i32.const 0)) (i32.load (i32.const 60000))) (then (unreachable)))
        (global.set $seen (i32.const 1)) (i32.store (i32.const 60000) (i32.const 1))
        (if (i32.ne (memory.grow (i32.const 1)) (i32.const 1)) (then (unreachable)))
        (if (i32.load (i32.const 70000)) (then (unreachable))) (i32.store (i32.const 70000) (i32.const 1))
        (if (i32.ne (i32.load (i32.const 512)) (i32.const 0x03020100)) (then (unreachable)))
        (i32.store (i32.const 512) (i32.const 9)) {GIVEN}"""
    with loaded(module(body, "(global $seen (mut i32) (i32.const 0))", data(512, bytes(range(4))))) as guest:
        assert [send(guest).outcome for _ in range(3)] == [Outcome.OK] * 3


# -- imports and logs --------------------------------------------------------------------------------------------------


def number(expression: str) -> str:
    """A module that answers an i64 below 10^16 in digits."""
    return module(
        f"""(local.set $left {expression})
        (local.set $p (call $new (i32.const 32) (i32.const 2))) (local.set $n (i32.add (local.get $p) (i32.const 30)))
        (loop $more
          (i32.store16 (local.get $n) (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get $left) (i64.const 10)))))
          (local.set $left (i64.div_u (local.get $left) (i64.const 10)))
          (br_if $more (i32.ge_u (local.tee $n (i32.sub (local.get $n) (i32.const 2))) (local.get $p))))
        (i32.store16 (local.get $p) (i32.const 0x31)) (local.get $p)"""
    ).replace("(local $p i32)", "(local $p i32) (local $left i64)")


def test_randomness_is_fresh_in_each_instance() -> None:
    with loaded(number("(i64.trunc_f64_u (f64.mul (call $seed) (f64.const 1e15)))")) as guest:
        drawn = {int(send(guest).body) for _ in range(50)}
    assert len(drawn) == 50 and all(10**15 <= value < 2 * 10**15 for value in drawn)


def test_the_clock_is_real() -> None:
    with loaded(number("(i64.trunc_f64_u (call $now))")) as guest:
        seen = [int(send(guest).body) - 10**15 for _ in range(2)]
    assert 1_700_000_000_000 < seen[0] <= seen[1] < 10_000_000_000_000


def test_an_import_that_there_is_not() -> None:
    for missing in ('(import "env" "process.exit" (func (param i32)))', '(import "env" "Date.now" (func (result i32)))'):
        with loaded(f"(module {missing})") as guest:
            reply = send(guest)
            assert reply.outcome is Outcome.LOAD_ERROR and "env::" in reply.message


def logging(times: int, field: str, pointer: int = TEXT) -> str:
    """A module that logs a string so many times."""
    return module(
        f"""(loop $more (call $log (i32.const {pointer}))
          (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {times})))) {GIVEN}""",
        field,
        pages=17,
        heap=1 << 20,
    )


def logged(source: str) -> list[str]:
    with loaded(source) as guest:
        first, second = send(guest), send(guest)
    assert first.outcome is Outcome.OK and first.logs == second.logs
    assert {line.level for line in first.logs} <= {"info"}
    return [line.text for line in first.logs]


MARK = "[logs truncated]"


def test_logs() -> None:
    text = 'two\nlines: é \U0001f600 \ud83d {"output":1}'
    assert logged(logging(3, string(TEXT, text))) == [text.replace("\ud83d", "\ufffd")] * 3
    assert logged(logging(1, string(TEXT, ""))) == [""]
    assert logged(logging(1, "", 0)) == ["null"]
    assert logged(logging(1, "", -5)) == logged(logging(1, "", 5)) == []


def test_logs_have_limits() -> None:
    assert logged(logging(1000, string(TEXT, "x"))) == ["x"] * 1000
    assert logged(logging(1001, string(TEXT, "x"))) == ["x"] * 1000 + [MARK]
    assert logged(logging(100_000, string(TEXT, "x"))) == ["x"] * 1000 + [MARK]
    assert logged(logging(1, string(TEXT, "é" * 8192))) == ["é" * 8192]
    assert logged(logging(1, string(TEXT, "x" + "é" * 8192))) == ["x" + "é" * 8191, MARK]
    assert logged(logging(1, string(TEXT, "x" * 300_000))) == ["x" * 16384, MARK]
    assert logged(logging(17, string(TEXT, "x" * 16384))) == ["x" * 16384] * 16 + [MARK]
    assert logged(logging(16, string(TEXT, "x" * 16384))) == ["x" * 16384] * 16


@pytest.mark.parametrize("end", ["(unreachable)", FOREVER, ABORT.format(0) + "(unreachable)"])
def test_what_was_logged_before_a_failure_is_kept(end: str) -> None:
    with loaded(module(f"(call $log (i32.const {TEXT})) {end}", string(TEXT, "so far"))) as guest:
        for _ in range(2):
            reply = send(guest, timeout_s=0.05)
            assert (reply.outcome, reply.logs) == (Outcome.ERROR, [LogLine("info", "so far")])


# -- loading and the channel -------------------------------------------------------------------------------------------


def test_load_errors() -> None:
    for source, reason in (
        ("(module", "expected `)`"),
        ('(module (memory (export "memory") 1) (func i32.add))', "type mismatch"),
        ('(module (memory 1) (memory (export "memory") 1))', "multiple memories"),
    ):
        with loaded(source) as guest:
            for _ in range(2):
                reply = send(guest)
                assert reply.outcome is Outcome.LOAD_ERROR and reason in reply.message, reply


BARE = f'(module {IMPORTS} (memory (export "memory") 1) {RUNTIME} '


@pytest.mark.parametrize(
    "source",
    [
        '(module (func (export "handle") (param i32) (result i32) (local.get 0)))',
        '(module (memory (export "memory") 1))',
        BARE + '(global (export "handle") i32 (i32.const 1)))',
        BARE + '(func (export "handle") (result i32) (i32.const 8)))',
        BARE + '(func (export "handle") (param i64) (result i32) (i32.const 8)))',
        BARE + '(func (export "handle") (param i32)))',
    ],
)
def test_modules_that_cannot_be_called_do_no_harm(source: str) -> None:
    failure(source)


def test_compiled_code_is_only_taken_as_what_it_is() -> None:
    for content in (b"", b"\0asm\1\0\0\0", b"\x7fELF" + b"\0" * 100):
        with loaded(ECHO, settings={"executable": content}) as guest:
            reply = send(guest)
            assert reply.outcome is Outcome.LOAD_ERROR and reply.reusable


def test_frames_may_arrive_in_any_pieces() -> None:
    with loaded(ECHO, chunk_bytes=7) as guest:
        for size in (0, 100, 70_000, 5):
            text = json.dumps("x" * size)
            assert send(guest, text).body.decode() == text


def test_what_stands_behind_a_call_stays_unread() -> None:
    # More than a moment's worth of log, so that the first entries leave while the call runs.
    body = f"(loop $more (call $log (i32.const {TEXT})) (br $more)) (unreachable)"
    with loaded(module(body, string(TEXT, "begun " * 2000))) as guest:
        assert guest.unread_behind(Call("id", b"{}", 10.0), 10.0) > 0


def test_the_end_of_the_channel_is_the_end_of_the_guest() -> None:
    with loaded(ECHO) as guest:
        assert send(guest).outcome is Outcome.OK
        assert guest.hang_up() == 0
