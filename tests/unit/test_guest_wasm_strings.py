"""Strings and JSON between the WebAssembly guest and modules as AssemblyScript makes them (NIL contract 1.3 and 3.5)."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.unit.wat import ECHO, RUNTIME, TEXT, failure, loaded, module, send, string

from spinney.model import Outcome
from spinney.testing.guest_process import GuestProcess


@pytest.fixture(scope="module")
def echo() -> Iterator[GuestProcess]:
    with loaded(ECHO) as guest:
        yield guest


PAIR = "\U0001f30d"
RIGHT = (
    '{"a":5,"t":"é"}',
    "42",
    '"text"',
    "null",
    "true",
    "[1]",
    "15.0",
    " [1 , 2]\t\r\n",
    f'"{PAIR} \uffff \u2028"',
    '"\\ud83c\\udf0d \\u0000 \\\\ud800 \\" \\/"',
    "9" * 5000,
    "-0.0e-400",
    '{"a":1,"a":2}',
    "[" * 500 + "]" * 500,
    '[{"":' * 250 + "0" + "}]" * 250,
    '"' + "[" * 501 + '"',
)


@pytest.mark.parametrize("text", RIGHT, ids=range(len(RIGHT)))
def test_json_comes_back_as_it_is(echo: GuestProcess, text: str) -> None:
    reply = send(echo, text)
    assert reply.outcome is Outcome.OK, reply
    assert reply.body.decode() == text.replace("\\ud83c\\udf0d", PAIR)


WRONG = (
    "",
    " ",
    "hello",
    "NaN",
    "-Infinity",
    "{'a':1}",
    "[1,]",
    "1 2",
    "01",
    "+1",
    "1.",
    '"\n"',
    '"\\x"',
    '"',
    "1e400",
    "-1e999",
)
DEEP = ("[" * 501 + "]" * 501, "[" * 100_000 + "]" * 100_000, '{"a":' * 501 + "1" + "}" * 501, "[" * 100_000)


@pytest.mark.parametrize("text", WRONG + DEEP, ids=range(len(WRONG + DEEP)))
def test_what_is_not_strict_json_is_refused(echo: GuestProcess, text: str) -> None:
    reply = send(echo, text)
    assert (reply.outcome, reply.message, reply.reusable) == (Outcome.ERROR, "Function returned invalid JSON", True)


HALVES = (
    ("\ud83d", "\ufffd"),
    ("\ude00", "\ufffd"),
    ("\\ud83d", "\ufffd"),
    ("\\uDE00", "\ufffd"),
    ("\ud83d\\ude00", "\U0001f600"),
    ("\\ud83d\ude00", "\U0001f600"),
    ("\ude00\ud83d", "\ufffd\ufffd"),
    ("\\ud83d\\ud83d\ude00", "\ufffd\U0001f600"),
    ("\\\\ud83d", "\\\\ud83d"),
    ("\\\\\\ud83d", "\\\\\ufffd"),
    ("\\ud83dx", "\ufffdx"),
    ("\ud83d\\n", "\ufffd\\n"),
)


@pytest.mark.parametrize(("text", "shown"), HALVES, ids=range(len(HALVES)))
def test_halves_of_pairs_are_joined_or_replaced(text: str, shown: str) -> None:
    with loaded(module(f"(i32.const {TEXT})", string(TEXT, f'{{"{text}":"{text}"}}'))) as guest:
        reply = send(guest)
    assert (reply.outcome, reply.body.decode()) == (Outcome.OK, f'{{"{shown}":"{shown}"}}')


BAD_POINTERS = {
    "odd length": string(TEXT, "ab", size=3),
    "wrong class": string(TEXT, "ab", class_id=1),
    "too long": string(TEXT, "ab", size=65536 - TEXT + 2),
    "endless": string(TEXT, "ab", size=0xFFFF_FFFE),
}


@pytest.mark.parametrize("field", BAD_POINTERS.values(), ids=BAD_POINTERS.keys())
def test_what_is_no_string_is_refused(field: str) -> None:
    assert failure(module(f"(i32.const {TEXT})", field)) == "Function returned an invalid string"


@pytest.mark.parametrize("pointer", [1, 4, 7, 65535, 65537, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFF0, 0xFFFF_FFFF])
def test_pointers_that_point_nowhere(pointer: int) -> None:
    assert failure(module(f"(i32.const {pointer})")) == "Function returned an invalid string"


def test_no_string_at_all() -> None:
    assert failure(module("(i32.const 0)")) == "WASM function returned null"


def test_a_string_may_end_where_memory_ends() -> None:
    with loaded(module("(i32.const 65532)", string(65532, "42"))) as guest:
        assert send(guest).body == b"42"


def test_the_place_for_the_input_may_be_anywhere_but_outside() -> None:
    runtime = RUNTIME.replace("(local.get $at))", "(i32.const 0x{:x}))")
    for place in (65530, 0xFFFF_FFF0):
        source = f'(module (memory (export "memory") 1) {runtime.replace("0x{:x}", str(place))}'
        assert failure(f'{source} (func (export "handle") (param i32) (result i32) (local.get 0)))') == (
            "WASM trap: out of bounds memory access"
        )


def fill(size: int) -> str:
    """A module that answers a number of so many bytes of UTF-16."""
    return module(
        f"""(local.set $p (call $new (i32.const {size}) (i32.const 2))) (local.set $n (local.get $p))
        (loop $more (i64.store (local.get $n) (i64.const 0x0031003100310031))
          (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 8)))
            (i32.add (local.get $p) (i32.const {size})))))
        (local.get $p)"""
    )


def test_outputs_up_to_their_limit() -> None:
    with loaded(fill(10_000_000)) as guest:
        assert send(guest).body == b"1" * 5_000_000
    assert failure(fill(10_000_002)) == "Output too large: 10000002 bytes (limit 10000000)"


def test_inputs_may_be_larger_than_memory_is_at_first(echo: GuestProcess) -> None:
    text = json.dumps("x" * 3_000_000)
    assert send(echo, text).body.decode() == text
