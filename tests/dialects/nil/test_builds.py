"""From source to module: states, diagnostics, imports, and modules that come compiled (contract 3.2 to 3.4, 4.1, 6.6)."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.api import together
from tests.dialects.nil.api import ECHO, Api, Function, refused
from tests.dialects.nil.sources import encoded
from tests.server import wait_until
from tests.unit.wat import module, string

NO_HANDLE = "Module must export function handle(input: string): string"


def states(function: Function) -> list[str]:
    """Every status that somebody sees who keeps asking until the end."""
    seen: list[str] = [function.created["status"]]

    def over() -> bool:
        status = function.get()["status"]
        if status != seen[-1]:
            seen.append(status)
        return status in ("READY", "FAILED")

    wait_until(over, "the build", 90)
    return seen


def test_every_state_is_seen(api: Api) -> None:
    good = api.submit(f"// slow enough\nimport {{ JSON }} from 'json-as';\n@json class A {{ a: i32 = 1; }}\n{ECHO}")
    assert states(good) == ["PENDING", "COMPILING", "READY"]
    bad = api.submit("import { JSON } from 'json-as';\n@json class A { a: nothing; }\nexport const a = JSON.parse<A>('')")
    assert states(bad) == ["PENDING", "COMPILING", "FAILED"]


def test_the_same_source_again(api: Api) -> None:
    source = ECHO + "// the same source again"
    api.function(source)
    assert states(api.submit(source))[-1] == "READY"
    assert api.fault("nothing(1)") == api.fault("nothing(1)")


def test_diagnostics(api: Api) -> None:
    fault = api.fault("export function handle(input: string): string {\n  return missing;\n}\n")
    assert fault.startswith("ERROR TS2304: Cannot find name 'missing'.")
    assert "└─ in module.ts(2,10)" in fault
    assert fault.endswith("FAILURE 1 compile error(s)")
    assert "\x1b" not in fault and "/" not in fault.replace("/*", "")


@pytest.mark.parametrize(
    "source",
    [
        'import { x } from "fs";\nexport const y = x;',
        'import { x } from "../../x";\nexport const y = x;',
        'import { x } from "/etc/passwd";\nexport const y = x;',
        'import { x } from "./main";\nexport const y = x;',
        'import { x } from "assemblyscript/std/assembly/index";\nexport const y = x;',
    ],
)
def test_nothing_else_resolves(api: Api, source: str) -> None:
    fault = api.fault(f"{source}\n{ECHO}")
    assert "ERROR TS6054: File '" in fault
    assert "root:" not in fault and "node_modules" not in fault


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("export function other(input: string): string { return input; }", NO_HANDLE),
        ("export function handle(a: i32, b: i32): i32 { return a + b; }", NO_HANDLE),
        ("export function handle(a: f64): f64 { return a; }", NO_HANDLE),
        ("export function handle(input: string): void {}", NO_HANDLE),
        ("export const handle: i32 = 1;", NO_HANDLE),
        (
            f'@external("env", "process.exit") declare function exit(code: i32): void;\nexit(1);\n{ECHO}',
            "Unsupported import env.process.exit",
        ),
        (
            f'@external("wasi_snapshot_preview1", "fd_write") declare function w(a: i32): i32;\nw(1);\n{ECHO}',
            "Unsupported import wasi_snapshot_preview1.fd_write",
        ),
        (
            f'@external("env", "console.log") declare function l(a: f64): void;\nl(1);\n{ECHO}',
            "Unsupported import env.console.log",
        ),
    ],
)
def test_modules_that_are_refused(api: Api, source: str, message: str) -> None:
    assert api.fault(source) == message


def test_other_ways_to_export_a_handler(api: Api) -> None:
    function = api.function("function impl(input: string): string { return input; }\nexport { impl as handle };")
    assert function({"a": 1}) == {"a": 1}
    number = api.function("export function handle(a: i32): i32 { return a - 1; }")
    assert number.failed({}) == "Function returned an invalid string"


def test_a_source_that_crashes_the_compiler(api: Api) -> None:
    source = "class A<T> { next: A<A<T>> | null = null; }\nlet a = new A<i32>();\na.next;\n" + ECHO
    fault = api.fault(source)
    assert fault.startswith(("Compiler crashed: ", "ERROR "))
    assert "node_modules" not in fault and "/opt/" not in fault
    assert api.function(ECHO + "// after a crash")({"a": 1}) == {"a": 1}


def test_builds_carry_nothing_over(api: Api) -> None:
    def make(field: str) -> Function:
        return api.submit(
            f'import {{ JSON }} from "json-as";\n@json class Same {{ {field}: i32 = 0; }}\n'
            "export function handle(input: string): string { return JSON.stringify(JSON.parse<Same>(input)); }"
        )

    fields = ["alpha", "beta", "gamma"]
    functions = together(make, fields)
    for function, field in zip(functions, fields, strict=True):
        function.until("READY")
        assert function({field: 7}) == {field: 7}


# -- modules that come compiled ----------------------------------------------------------------------------------------

ANSWER = module("(call $log (i32.const 16)) (i32.const 16)", string(16, "42"))


def test_a_module(api: Api) -> None:
    wasm = encoded(ANSWER)
    function = api.function(language="WASM", wasm=wasm, source="not looked at")
    whole = function.get()
    assert (whole["language"], whole["source"], whole["status"]) == ("wasm", None, "READY")
    assert function.record({})["logs"] == ["42"]
    updated = function.update(None, language="wasm", wasm=wasm, name="other")
    assert (updated["status"], updated["name"]) == ("READY", "other")
    assert function.update(ECHO)["status"] == "PENDING"
    assert function.until("READY")["source"] == ECHO
    assert function({"a": 1}) == {"a": 1}
    assert function.update(None, language="wasm", wasm=wasm)["source"] is None
    function.until("READY")
    assert function({}) == 42


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ANSWER.replace('"handle"', '"other"'), NO_HANDLE),
        (ANSWER.replace('(export "handle") (param', '(export "handle") (param i32) (param'), NO_HANDLE),
        (
            ANSWER.replace("(module", '(module (import "env" "process.exit" (func (param i32)))'),
            "Unsupported import env.process.exit",
        ),
        (
            ANSWER.replace("(module", '(module (import "env" "console.log" (func (param i64)))'),
            "Unsupported import env.console.log",
        ),
        (ANSWER.replace('"memory") 1', '"memory") 2049'), "Module needs more memory than the limit of 128 MiB"),
        (ANSWER.replace('(export "memory")', ""), "Module must export memory"),
        (ANSWER.replace('"__pin"', '"pin"'), "Module must export __pin"),
    ],
)
def test_modules_are_checked(api: Api, text: str, message: str) -> None:
    assert api.fault(None, language="wasm", wasm=encoded(text)) == message


@pytest.mark.parametrize("content", [b"x", b"\0asm", b"\0asm\1\0\0\0\xff", ANSWER.encode(), b"\x7fELF" + b"\0" * 200])
def test_what_is_no_module(api: Api, content: bytes) -> None:
    fault = api.fault(None, language="wasm", wasm=base64.b64encode(content).decode())
    assert fault.startswith("Invalid WebAssembly module: ")
    assert len(fault) > len("Invalid WebAssembly module: ") and "/opt/" not in fault


LARGE = base64.b64encode(b"\0" * (4194304 + 1)).decode()


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({}, 400, "wasm is required"),
        ({"wasm": None}, 400, "wasm is required"),
        ({"wasm": ""}, 400, "wasm is required"),
        ({"wasm": 5}, 400, "wasm must be a string"),
        ({"wasm": "x"}, 400, "wasm must be base64"),
        ({"wasm": "AGFzbQ"}, 400, "wasm must be base64"),
        ({"wasm": "AGFz\nbQE="}, 400, "wasm must be base64"),
        ({"wasm": "é==="}, 400, "wasm must be base64"),
        ({"wasm": LARGE}, 413, "wasm is too large: 4194305 bytes (limit 4194304)"),
        ({"wasm": "x", "name": ""}, 400, "name is required"),
    ],
)
def test_rules_of_a_module(api: Api, fields: dict[str, Any], status: int, message: str) -> None:
    refused(api.post({"name": "f", "language": "wasm", **fields}), status, message)
