"""Failures of functions (contract 3.6, traps 13, 14)."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from spinney.runtimes.node import find_programs
from tests.api import together
from tests.dialects.impuls.api import Api, Function
from tests.processes import find_processes, new_name
from tests.server import Server, wait_until

THROWN: list[tuple[str, str]] = [
    ("throw new Error('boom')", "boom"),
    ("throw 'text'", "text"),
    ("throw ''", ""),
    ("throw {message: 'in an object'}", "in an object"),
    ("throw new TypeError('type')", "type"),
    ("throw new Error()", "Error"),
    ("throw new RangeError('')", "RangeError"),
    ("throw Object.assign(new Error(''), {name: 'Custom'})", "Custom"),
    ("throw new (class Mine extends Error { get name() { return 'Mine' } })()", "Mine"),
    ("throw 42", "42"),
    ("throw null", "null"),
    ("throw undefined", "undefined"),
    ("throw false", "false"),
    ("throw {a: 1}", "{ a: 1 }"),
    ("throw {message: ''}", "{ message: '' }"),
    ("throw {message: 5}", "{ message: 5 }"),
    ("throw [1, 'x']", "[ 1, 'x' ]"),
    ("throw 10n", "10n"),
    ("throw Symbol('s')", "Symbol(s)"),
    ("throw new Error('größe 😀\\nsecond line')", "größe 😀\nsecond line"),
    ("throw new Error('x'.repeat(1000))", "x" * 1000),
    ("Promise.reject(new Error('rejected'))", "rejected"),
    ("Promise.reject()", "undefined"),
    ("null.name", "Cannot read properties of null (reading 'name')"),
    ("undefinedName", "undefinedName is not defined"),
    ("(function f() { f() })()", "Maximum call stack size exceeded"),
    ("require('no-such-module').x", "Cannot find module 'no-such-module'"),
]

RAISED: list[tuple[str, str]] = [
    ("raise ValueError('boom')", "boom"),
    ("raise ValueError()", "ValueError"),
    ("raise ValueError('')", "ValueError"),
    ("raise KeyError('key')", "'key'"),
    ("class Mine(Exception): pass\nraise Mine", "Mine"),
    ("raise RuntimeError('a', 1)", "('a', 1)"),
    ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ("raise BaseException('base')", "base"),
    ("raise StopIteration", "StopIteration"),
    ("raise GeneratorExit", "GeneratorExit"),
    ("import asyncio\nraise asyncio.CancelledError", "CancelledError"),
    ("1 / 0", "division by zero"),
    ("assert False", "AssertionError"),
    ("raise ExceptionGroup('group', [ValueError(1)])", "group (1 sub-exception)"),
    ("import nothing_of_that_name", "No module named 'nothing_of_that_name'"),
]

LOADING: list[tuple[str, str, str]] = [
    ("nodejs20", "throw new Error('at the top')", "at the top"),
    ("nodejs20", "throw 'text'", "text"),
    ("nodejs20", "require('no-such-module')", "Cannot find module 'no-such-module'"),
    ("nodejs20", "export const handler = () => 1; throw new Error('in a module')", "in a module"),
    ("nodejs20", "await Promise.reject(new Error('awaited')); export const handler = 1", "awaited"),
    ("nodejs20", "exports.handler = () => {", "Unexpected end of input"),
    ("nodejs20", "export const handler = (", ""),
    ("nodejs20", "import { nothing } from 'node:fs'; export const handler = nothing", "nothing"),
    ("nodejs20", "import 'left-pad'", "left-pad"),
    ("nodejs20", "undefinedName()", "undefinedName is not defined"),
    ("nodejs18", "exports.handler = () => {", "Unexpected end of input"),
    ("nodejs22", "exports.handler = () => {", "Unexpected end of input"),
    ("python311", "raise ValueError('at the top')", "at the top"),
    ("python311", "raise ValueError", "ValueError"),
    ("python311", "import nothing_of_that_name", "No module named 'nothing_of_that_name'"),
    ("python311", "def handler(event, context:", ""),
    ("python311", "def handler(event, context):\nreturn 1", "expected an indented block"),
    ("python311", "x = '\0'", ""),
]

# runtime, body of the handler, exit code
EXITS: list[tuple[str, str, int]] = [
    ("nodejs20", "process.exit(3)", 3),
    ("nodejs20", "process.exit()", 0),
    ("nodejs20", "process.exit(0)", 0),
    ("nodejs20", "process.exitCode = 7; process.exit()", 7),
    ("nodejs20", "setTimeout(() => process.exit(4), 5); await new Promise(() => {})", 4),
    ("nodejs20", "process.reallyExit(9)", 9),
    ("nodejs20", "process.kill(process.pid, 'SIGKILL'); await new Promise(() => {})", 137),
    ("nodejs20", "process.kill(process.pid, 'SIGTERM'); await new Promise(() => {})", 143),
    ("nodejs20", "process.abort()", 134),
    ("python311", "import sys; sys.exit(3)", 3),
    ("python311", "import sys; sys.exit()", 0),
    ("python311", "import sys; sys.exit('reason')", 1),
    ("python311", "raise SystemExit(5)", 5),
    ("python311", "import os; os._exit(6)", 6),
    ("python311", "import os; os.abort()", 134),
    ("python311", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137),
    ("python311", "import ctypes; ctypes.string_at(0)", 139),
]

NEVER: list[tuple[str, str]] = [
    ("nodejs20", "exports.handler = () => new Promise(() => {})"),
    ("nodejs20", "exports.handler = () => { while (true); }"),
    ("nodejs20", "exports.handler = (event, context, callback) => {}"),
    ("nodejs20", "exports.handler = async () => { for (;;) await null }"),
    ("nodejs20", "while (true);"),
    ("nodejs20", "export const handler = 1; await new Promise(() => {})"),
    ("nodejs20", "exports.handler = () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)"),
    ("nodejs20", "process.on('SIGTERM', () => {}); exports.handler = () => require('child_process').execSync('sleep 100')"),
    ("python311", "def handler(event, context):\n    while True: pass"),
    ("python311", "import time\ndef handler(event, context): time.sleep(100)"),
    ("python311", "import asyncio\nasync def handler(event, context): await asyncio.Future()"),
    ("python311", "while True: pass"),
]

MEMORY: list[tuple[str, str]] = [
    ("nodejs20", "const all = []; for (;;) all.push(new Array(1000).fill(Math.random()))"),
    ("nodejs20", "const all = []; for (;;) all.push(Buffer.alloc(10_000_000, 1))"),
    ("nodejs20", "let s = 'x'; const all = []; for (let n = 0; ; n++) all.push((s + n).repeat(100000).split(''))"),
    ("python311", "all = []\n    while True: all.append(bytearray(b'x' * 10_000_000))"),
    ("python311", "raise MemoryError"),
    ("python311", "return 'x' * 10 ** 15"),
]


def of(api: Api, runtime: str, body: str, **fields: object) -> Function:
    """A function of either language with this handler body."""
    if runtime.startswith("node"):
        return api.node(body, runtime=runtime, **fields)
    return api.python(f"def handler(event, context):\n    {body}", **fields)


@pytest.mark.parametrize(("source", "message"), THROWN)
def test_thrown_values(js: Function, source: str, message: str) -> None:
    assert js.error(source).split("\nRequire stack:")[0] == message


@pytest.mark.parametrize(("source", "message"), RAISED)
def test_raised_exceptions(py: Function, source: str, message: str) -> None:
    assert py.error(source) == message


def test_pythons_recursion_error(py: Function) -> None:
    assert "recursion" in py.error("def f(): f()\nf()")


def test_no_stack_trace_in_the_envelope(js: Function, py: Function) -> None:
    for function, source in ((js, "throw new Error('boom')"), (py, "raise ValueError('boom')")):
        response = function.post(source)
        assert "/var/task" not in response.text and "    at " not in response.text and "Traceback" not in response.text


@pytest.mark.parametrize(("runtime", "code", "message"), LOADING)
def test_code_that_does_not_load(api: Api, runtime: str, code: str, message: str) -> None:
    function = api.function(code, runtime=runtime)
    for _ in range(2):
        error = function.error()
        assert error.startswith("Failed to load function: ") and len(error) > len("Failed to load function: ")
        assert message in error


def test_loading_is_tried_again(api: Api) -> None:
    """A repaired function works at once; the failure sticks to nothing but its version."""
    function = api.function("throw new Error('broken')")
    assert function.error() == "Failed to load function: broken"
    function.update(code="exports.handler = () => 'repaired'")
    assert function() == "repaired"


@pytest.mark.parametrize(("runtime", "body", "exit_code"), EXITS)
def test_exits(api: Api, runtime: str, body: str, exit_code: int) -> None:
    function = of(api, runtime, f"if (event === 1) return 'fine'; {body}" if runtime == "nodejs20" else body)
    assert function.error() == f"function exited before returning (exit code {exit_code})"
    if runtime == "nodejs20":
        assert function(1) == "fine"


@pytest.mark.parametrize(("runtime", "code"), [("nodejs20", "process.exit(5)"), ("python311", "import sys; sys.exit(5)")])
def test_an_exit_while_loading(api: Api, runtime: str, code: str) -> None:
    assert api.function(code, runtime=runtime).error() == "function exited before returning (exit code 5)"


def test_timeouts(api: Api) -> None:
    """All at once, so that a dozen one-second waits cost little more than one."""
    functions = [api.function(code, runtime=runtime, timeout_sec=1) for runtime, code in NEVER]
    envelopes = together(Function.invoke, functions)
    assert [answer.get("error") for answer in envelopes] == ["function execution timed out after 1 seconds"] * len(NEVER)
    assert min(answer["duration_ms"] for answer in envelopes) >= 990


def test_a_timeout_of_two(api: Api) -> None:
    function = api.node("if (event === 1) return 'fine'; console.log('kept'); await new Promise(() => {})", timeout_sec=2)
    answer = function.invoke(0)
    assert answer["error"] == "function execution timed out after 2 seconds"
    assert answer["logs"] == "[INFO] kept\n[ERROR] function execution timed out after 2 seconds"
    assert function(1) == "fine"


def test_a_timeout_ends_every_process_of_the_sandbox(api: Api) -> None:
    mark = new_name()
    function = api.node(
        """
        const deaf = 'process.on("SIGTERM", () => {}); setTimeout(() => {}, 1e6)';
        const options = {detached: true, stdio: 'ignore'};
        require('child_process').spawn(process.execPath, ['-e', deaf, event], options).unref();
        await new Promise(() => {});
        """,
        timeout_sec=2,
        memory_mb=256,
    )
    seen: list[bool] = []

    def watch(_: int) -> None:
        wait_until(lambda: find_processes(mark), "the child process starts")
        seen.append(True)

    def call(_: int) -> None:
        assert function.error(mark) == "function execution timed out after 2 seconds"
        assert not find_processes(mark)

    together(lambda work: work(0), [watch, call])
    assert seen == [True]


@pytest.mark.parametrize(("runtime", "body"), MEMORY)
def test_memory(api: Api, runtime: str, body: str) -> None:
    ending = of(
        api,
        runtime,
        body if runtime != "nodejs20" else f"if (event === 1) return 'fine'; console.log('kept'); {body}",
        memory_mb=96,
    )
    answer = ending.invoke()
    assert answer["error"] == "function exceeded its memory limit of 96 MB"
    if runtime == "nodejs20":
        assert answer["logs"].startswith("[INFO] kept\n")
        assert ending(1) == "fine"


@pytest.mark.parametrize(
    "source",
    [
        "10n",
        "({a: [1n]})",
        "(() => { const a = {}; a.a = a; return a })()",
        "({toJSON() { throw new Error('no') }})",
        "({get a() { throw 1 }})",
    ],
)
def test_values_without_json(js: Function, source: str) -> None:
    error = js.error(source)
    assert error.startswith("function result is not JSON-serializable: ")
    assert "\n    at " not in error and len(error) > len("function result is not JSON-serializable: ")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("setTimeout(() => { throw new Error('in a timer') }, 5)", "in a timer"),
        ("setImmediate(() => null.x)", "Cannot read properties of null (reading 'x')"),
        ("process.nextTick(() => { throw 'text' })", "text"),
        ("Promise.reject(new Error('unhandled'))", "unhandled"),
        ("(async () => { throw {message: 'object'} })()", "object"),
        ("require('fs').readFile('/nowhere', () => { throw new Error('in a callback') })", "in a callback"),
    ],
)
def test_an_uncaught_exception_replaces_the_process(api: Api, body: str, message: str) -> None:
    function = api.node(
        "globalThis.runs = (globalThis.runs ?? 0) + 1; if (event === 1) return runs; console.log('kept');"
        f"{body}; await new Promise((go) => setTimeout(go, 20000))"
    )
    answer = function.invoke(0)
    assert (answer["error"], answer["logs"]) == (message, f"[INFO] kept\n[ERROR] {message}")
    assert function(1) == 1


def test_a_handled_rejection_is_none(api: Api) -> None:
    function = api.node("const p = Promise.reject(new Error('handled')); p.catch(() => {}); await null; return 'fine'")
    assert function() == "fine"


def test_what_an_earlier_invocation_left_over_fails_no_later_one(api: Api) -> None:
    for left in (
        "setTimeout(() => { throw new Error('left over') }, 20)",
        "setTimeout(() => Promise.reject(new Error('left over')), 20)",
        "setImmediate(() => null.x)",
    ):
        later = "await new Promise((go) => setTimeout(go, 120)); return 'later'"
        function = api.node(f"if (event === 0) {{ {left}; return 'left' }} {later}")
        for _ in range(2):
            assert function(0) == "left"
            answer = function.invoke(1)
            assert (answer.get("body"), answer["logs"]) == ("later", "")


def test_the_logs_before_a_kill_are_kept(js: Function) -> None:
    before = "console.log('a'); console.error('b');"
    killed, aborted = (f"[ERROR] function exited before returning (exit code {code})" for code in (137, 134))
    assert js.logs(f"{before} process.kill(process.pid, 'SIGKILL'); while (true);") == f"[INFO] a\n[ERROR] b\n{killed}"
    # Node.js itself writes a stack trace before it aborts
    assert re.fullmatch(rf"\[INFO\] a\n\[ERROR\] b\n(\[WARN\] .*\n)*{re.escape(aborted)}", js.logs(f"{before} process.abort()"))


def test_no_capacity(make_server: Callable[..., Server], connect: Callable[..., Api]) -> None:
    """One sandbox, room for one more call: of three, one does not fit. And waiting ends, too."""
    settings = {
        "SPINNEY_POOL_SANDBOXES_PER_FUNCTION": "1",
        "SPINNEY_POOL_QUEUE_PER_FUNCTION": "1",
        "SPINNEY_POOL_QUEUE_WAIT_S": "0.5",
    }
    api = connect(make_server(env=settings))
    function = api.node("await new Promise((go) => setTimeout(go, event.ms)); return 'done'")
    function({"ms": 0})
    answers = together(lambda _: function.invoke({"ms": 300}), range(3))
    assert sorted(answer.get("error", "done") for answer in answers) == ["done", "done", "no capacity to run the function"]
    answers = together(lambda _: function.invoke({"ms": 2000}), range(2))
    assert sorted(answer.get("error", "done") for answer in answers) == ["done", "no capacity to run the function"]
    assert function({"ms": 0}) == "done"


def test_a_language_that_the_server_lacks(make_server: Callable[..., Server], connect: Callable[..., Api]) -> None:
    """A server in a mount namespace of its own, in which every Node.js is an empty file."""
    hide = " && ".join(f"mount --bind /dev/null {program}" for program in find_programs().values())
    api = connect(make_server(prefix=["unshare", "--mount", "sh", "-euc", f'{hide} && exec "$@"', "sh"]))
    for runtime in ("nodejs18", "nodejs20", "nodejs22"):
        assert api.function(runtime=runtime).error() == f"runtime '{runtime}' is not available on this server"
    assert api.python("def handler(event, context): return 'there'")() == "there"


def test_a_sandbox_that_cannot_be_started(
    make_server: Callable[..., Server], connect: Callable[..., Api], tmp_path: Path
) -> None:
    """A container runtime that fails for a while: the call says so without a host path, and later ones work again."""
    broken, runc = tmp_path / "broken", tmp_path / "runc"
    runc.write_text(
        f'#!/bin/sh\nif [ -e {broken} ] && [ "$1" != --version ]; then exit 1; fi\nexec {shutil.which("runc")} "$@"\n'
    )
    runc.chmod(0o755)
    server = make_server(env={"SPINNEY_SANDBOX_RUNTIME": str(runc), "SPINNEY_POOL_STEMS_MIN": "0"})
    api = connect(server)
    broken.touch()
    error = api.node("return 'started'").error()
    broken.unlink()
    assert re.fullmatch(r"function could not be started: .+", error)
    assert str(tmp_path) not in error and str(server.data_dir) not in error
    assert api.node("return 'started'")() == "started"
