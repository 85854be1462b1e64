"""The Node.js guest in detail, as a bare process (Impuls contract 3.2, 3.3, 3.5, 3.6)."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from typing import Any

import pytest
from tests.unit.guests import call, loaded_guest

from spinney.model import Call, Function, LogLine, Outcome, Reply, Rights, Version
from spinney.ports import Launch, Limits
from spinney.runtimes.node import NodeRuntime
from spinney.testing.guest_process import GuestProcess

RUNTIME = NodeRuntime()
VERSIONS = sorted(RUNTIME.installed())


def loaded(source: str, id: str = "nodejs20", **options: Any) -> AbstractContextManager[GuestProcess]:
    return loaded_guest(RUNTIME, id, source, **options)


def run(source: str, id: str = "nodejs20", event: Any = None, **options: Any) -> Reply:
    with loaded(source, id, **options) as guest:
        return call(guest, event)


def value(reply: Reply) -> Any:
    assert reply.outcome is Outcome.OK, reply
    return json.loads(reply.body)


# -- module kinds ------------------------------------------------------------------------------------------------------

COMMONJS = {
    "plain": "exports.handler = () => 'cjs'",
    "module.exports": "module.exports = { handler: () => 'cjs' }",
    "words in strings": "// import x from 'y'\nconst s = `\nexport default 1\n`; exports.handler = () => 'cjs' // await",
    "await as a name": "const await = (x) => x; exports.handler = () => await ('cjs')",
    "dynamic import": "exports.handler = async () => (await import('node:path')).sep && 'cjs'",
    "shebang": "#!/usr/bin/env node\nexports.handler = () => 'cjs'",
    "byte order mark": "\ufeffexports.handler = () => 'cjs'",
    "sloppy": "undeclared = 'cjs'; exports.handler = () => undeclared",
    "return at the top": "exports.handler = () => 'cjs'; return",
}
MODULES = {
    "export": "export const handler = () => 'esm'",
    "import": "import path, { sep } from 'node:path'; export function handler() { return 'esm' }",
    "export list": "const handler = () => 'esm'; export { handler }",
    "top-level await": "const v = await Promise.resolve('esm'); export const handler = () => v",
    "await import": "const { join } = await import('path'); export const handler = () => join('esm')",
    "for await": "let v; for await (v of ['esm']); export const handler = () => v",
    "meta before export": "const url = import.meta.url; export const handler = () => url.endsWith('/index.mjs') && 'esm'",
    "names of CommonJS": "const require = 1, module = 2, __dirname = 3; export const handler = () => 'esm'",
    "create require": "import { createRequire } from 'module'; const require = createRequire(import.meta.url);\n"
    "export const handler = () => require('path').join('esm')",
    "shebang": "#!/usr/bin/env node\nexport const handler = () => 'esm'",
    "strict": "export const handler = () => { try { undeclared = 1 } catch { return 'esm' } }",
}


@pytest.mark.parametrize("id", VERSIONS)
def test_every_version_tells_modules_apart_alike(id: str) -> None:
    for kind, sources in (("cjs", COMMONJS), ("esm", MODULES)):
        for name, source in sources.items():
            reply = run(source, id)
            assert (reply.body, reply.logs) == (f'"{kind}"'.encode(), []), (name, reply)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("exports.handler = () => import.meta", "Cannot use 'import.meta' outside a module"),
        ("const require = 1; exports.handler = () => 1", "Identifier 'require' has already been declared"),
        ("exports.handler = () => {", "Unexpected end of input"),
        ("import 'fs'; export const handler = () => {", "Unexpected end of input"),
        ("export const handler = }", "Unexpected token '}'"),
        ("throw 'text'", "text"),
        ("await Promise.reject(new Error('awaited')); export {}", "awaited"),
        ("require('no-such')", "Cannot find module 'no-such'"),
    ],
)
def test_load_errors(source: str, message: str) -> None:
    reply = run(source)
    assert (reply.outcome, reply.message.split("\n")[0], reply.logs) == (Outcome.LOAD_ERROR, message, [])


def test_a_source_that_does_not_compile_is_answered_again() -> None:
    with loaded("exports.handler = (") as guest:
        assert [call(guest).outcome for _ in range(2)] == [Outcome.LOAD_ERROR] * 2


def test_what_the_code_sees_of_its_place() -> None:
    source = """
        exports.handler = (event) => [
            __filename, __dirname, process.cwd(), module.filename, module.exports === exports,
            require('path') === require('node:path'), event instanceof Object, [] instanceof Array,
            Object.keys(require.cache), process.argv.length,
        ]
    """
    with loaded(source, handler="src/main.handler") as guest:
        where = str(guest.directory)
        file = f"{where}/main.js"
        assert value(call(guest, {})) == [file, where, where, file, True, True, True, True, [file], 2]


def test_inherited_names_are_no_handlers() -> None:
    for handler in ("index.toString", "index.api.constructor", "index.__proto__", "index.api.none.at.all"):
        assert run("exports.api = {}", handler=handler).outcome is Outcome.NO_HANDLER
    source = "class Api { own = 7; get() { return this.own } } exports.api = new Api()"
    assert value(run(source, handler="index.api.get")) == 7


# -- calling -----------------------------------------------------------------------------------------------------------

LATER = "new Promise((go) => setTimeout(go, 50, 'late'))"
MUCH_LATER = "new Promise((go) => setTimeout(go, 9000))"
WITH_CALLBACK = {
    "(e, c, done) => done(null, 1)": 1,
    "(e, c, done) => { setTimeout(done, 1, undefined, 2) }": 2,
    "(e, c, done) => { done(null, 1); done(null, 2); throw new Error('late') }": 1,
    "(e, c, done) => done()": None,
    "async (e, c, done) => 3": 3,
    "async (e, c, done) => { setTimeout(done, 1, null, 4) }": 4,
    "(e, c, done) => { setTimeout(done, 1, null, 5); return 'ignored' }": 5,
    f"(e, c, done) => {{ done(null, 6); return {LATER} }}": 6,
    "(e, c) => 7": 7,
    "(...all) => all.length": 3,
    "() => ({ then(go) { go(8) } })": 8,
}


@pytest.mark.parametrize(("handler", "expected"), WITH_CALLBACK.items(), ids=WITH_CALLBACK.keys())
def test_what_counts_as_the_value(handler: str, expected: Any) -> None:
    assert value(run(f"exports.handler = {handler}")) == expected


THROWN = {
    "'text'": "text",
    "new TypeError('bad')": "bad",
    "new RangeError()": "RangeError",
    "{message: 'mine'}": "mine",
    "{message: ''}": "{ message: '' }",
    "{a: [1, {b: {c: {}}}]}": "{ a: [ 1, { b: [Object] } ] }",
    "undefined": "undefined",
    "null": "null",
    "42n": "42n",
    "Symbol('s')": "Symbol(s)",
    "new Proxy({}, {get() { throw 1 }})": "unknown error",
    "Object.create(null)": "[Object: null prototype] {}",
}


@pytest.mark.parametrize(("thrown", "message"), THROWN.items(), ids=THROWN.keys())
def test_messages_of_what_is_thrown(thrown: str, message: str) -> None:
    with loaded(
        f"exports.handler = (how, c) => {{ if (how === 'throw') throw {thrown}; return Promise.reject({thrown}) }}"
    ) as guest:
        for how in ("throw", "reject"):
            reply = call(guest, how)
            assert (reply.outcome, reply.message, reply.reusable) == (Outcome.ERROR, message, True)


@pytest.mark.parametrize("id", VERSIONS)
def test_errors_that_nobody_catches_fail_the_running_call(id: str) -> None:
    for fail in (
        "setTimeout(() => { throw new Error('behind') }, 1)",
        "setImmediate(() => { throw 'behind' })",
        "process.nextTick(() => { throw new Error('behind') })",
        "queueMicrotask(() => { throw new Error('behind') })",
        "Promise.reject(new Error('behind'))",
        "(async () => { await null; throw { message: 'behind' } })()",
        "require('fs').stat('/', () => { throw new Error('behind') })",
        "setTimeout(() => new (require('events'))().emit('error', new Error('behind')), 1)",
    ):
        reply = run(f"exports.handler = () => {{ {fail}; return {MUCH_LATER} }}", id)
        assert (reply.outcome, reply.message, reply.reusable) == (Outcome.ERROR, "behind", False), fail


def test_handled_rejections_are_fine() -> None:
    source = f"exports.handler = async () => {{ Promise.reject(1).catch(() => 0); return {LATER} }}"
    assert value(run(source)) == "late"


def test_a_stack_overflow_is_an_ordinary_error() -> None:
    with loaded("const f = () => f() + 1; exports.handler = (e) => e ? f() : 'fine'") as guest:
        assert call(guest, 1).message == "Maximum call stack size exceeded"
        assert value(call(guest, 0)) == "fine"


# -- values ------------------------------------------------------------------------------------------------------------


def test_values_follow_json_stringify() -> None:
    source = (
        "exports.handler = () => ({ d: new Date(0), u: undefined, n: NaN, f() {}, j: { toJSON: () => 'own' }, s: 'a\\ud83d' })"
    )
    assert run(source).body == rb'{"d":"1970-01-01T00:00:00.000Z","n":null,"j":"own","s":"a\ud83d"}'


def test_reasons_for_values_without_json() -> None:
    for made, reason in (
        ("1n", "Do not know how to serialize a BigInt"),
        ("(() => { const a = {}; a.a = a; return a })()", "Converting circular structure to JSON"),
        ("({ toJSON() { throw new Error('no') } })", "no"),
    ):
        reply = run(f"exports.handler = () => {made}")
        assert reply.outcome is Outcome.BAD_RESULT and reply.message.startswith(reason)


def test_brackets_in_strings_are_no_levels() -> None:
    text = json.dumps('[{"\\[' * 2000)
    assert value(run("exports.handler = (e) => [[e]]", event=json.loads(text))) == [[json.loads(text)]]
    assert len(value(run("exports.handler = () => Array(5000).fill([{}])"))) == 5000


def test_frames_may_arrive_in_any_pieces() -> None:
    with loaded("exports.handler = (e) => e.length", chunk_bytes=7) as guest:
        assert [value(call(guest, "x" * size)) for size in (0, 100, 70_000, 5)] == [0, 100, 70_000, 5]


# -- logs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", VERSIONS)
def test_console_methods(id: str) -> None:
    source = """
        exports.handler = () => {
            console.log('%s=%d', 'a', 1, { b: [1, 'c'] });
            console.info();
            console.debug('two\\nlines');
            console.dir({ a: { b: { c: {} } } });
            console.warn('w');
            console.assert(1 === 2, 'no');
            console.error(new Map([[1, 2]]));
            console.count('n');
            console.group('G');
            console.log('in\\nside');
            console.group();
            console.error('deep');
            console.groupEnd();
            console.groupEnd();
            console.table([[1]]);
        };
    """
    *logs, table = run(source, id).logs
    assert logs == [
        LogLine("info", "a=1 { b: [ 1, 'c' ] }"),
        LogLine("info", ""),
        LogLine("info", "two\nlines"),
        LogLine("info", "{ a: { b: { c: {} } } }"),
        LogLine("warn", "w"),
        LogLine("warn", "Assertion failed: no"),
        LogLine("error", "Map(1) { 1 => 2 }"),
        LogLine("info", "n: 1"),
        LogLine("info", "G"),
        LogLine("info", "  in\n  side"),
        LogLine("error", "    deep"),
    ]
    assert table.level == "info" and table.text.startswith("┌") and table.text.endswith("┘")


def test_trace_is_an_error_with_the_place() -> None:
    (line,) = run("exports.handler = () => { console.trace('here') }").logs
    assert line.level == "error" and line.text.startswith("Trace: here\n    at exports.handler (/")


def test_groups_left_open_end_with_their_call() -> None:
    with loaded("exports.handler = () => { console.log('x'); console.group('g') }") as guest:
        for _ in range(2):
            assert call(guest).logs == [LogLine("info", "x"), LogLine("info", "g")]


def test_nothing_is_lost_at_an_exit() -> None:
    source = "exports.handler = () => { process.stdout.write('x'.repeat(200000) + '\\n'); console.log('last'); process.exit(5) }"
    reply = run(source)
    assert reply.exit_code == 5 and sorted(len(line.text) for line in reply.logs) == [4, 200_000]


def test_streams_tell_what_they_are() -> None:
    source = "exports.handler = () => [process.stdout.fd, process.stderr.fd, process.stdout.isTTY, process.stdout.writable]"
    assert value(run(source)) == [1, 2, None, True]


# -- surroundings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", VERSIONS)
def test_child_processes_do_not_get_the_channel(id: str) -> None:
    source = "exports.handler = () => require('child_process').execSync('readlink /proc/self/fd/3 || echo none').toString()"
    assert "socket" not in value(run(source, id))


def test_the_environment_object_may_be_replaced_or_used_by_children() -> None:
    source = """
        const { execSync } = require('child_process');
        exports.handler = (event) => {
            const seen = [process.env.A ?? null, execSync('echo "$HOME"').toString().trim()];
            if (event === 1) { process.env.A = 5; process.env.HOME = '/x'; } else process.env = { A: 'own' };
            return [...seen, process.env.A, execSync('echo "$A"').toString().trim()];
        };
    """
    with loaded(source) as guest:
        assert value(call(guest, 1)) == [None, "/tmp", "5", "5"]
        assert value(call(guest, 2)) == [None, "/tmp", "own", "own"]
        assert value(call(guest, 1)) == [None, "/tmp", "5", "5"]


PATCHES = {
    "JSON": "JSON.stringify = JSON.parse = () => { throw 1 }",
    "iteration": "Array.prototype[Symbol.iterator] = null; Array.prototype.push = null",
    "promises": "Promise.prototype.then = null; globalThis.Promise = null",
    "fs": "const fs = require('fs'); fs.writeSync = fs.readSync = fs.readFileSync = null",
    "calls": "Function.prototype.call = null; Reflect.apply = null",
    "clocks": "Date.now = null; performance.now = null; globalThis.Date = null; Math.floor = null",
    "timers": "globalThis.setImmediate = globalThis.setTimeout = null",
    "buffers": "Buffer.prototype.utf8Write = Buffer.prototype.utf8Slice = Buffer.allocUnsafeSlow = Buffer.byteLength = null",
    "strings": "String.prototype.slice = String.prototype.indexOf = null",
    "prototypes": "Object.prototype.get = Object.prototype.then2 = 5; Object.prototype.statusCode = 404",
    "process": "process.exit = process.on = process.emit = process.reallyExit = () => 0; process.removeAllListeners()",
    "console": "console.log = () => 0; globalThis.console = null",
    "storage": "const { AsyncLocalStorage: S } = require('async_hooks'); S.prototype.run = S.prototype.getStore = null",
}


@pytest.mark.parametrize("patch", PATCHES.values(), ids=PATCHES.keys())
def test_patched_builtins_do_not_break_answers(patch: str) -> None:
    with loaded(f"exports.handler = async (event) => {{ if (event === 0) {{ {patch} }} return 'mine' }}") as guest:
        assert [value(call(guest, event)) for event in range(3)] == ["mine"] * 3


def test_a_full_heap_is_the_memory_limit() -> None:
    launch = RUNTIME.launch("nodejs20", Rights())
    argv = tuple(argument.replace("=4096", "=40") for argument in launch.argv)
    guest = GuestProcess(Launch(key="small", argv=argv, mounts=launch.mounts))
    try:
        source = "exports.handler = () => { const all = []; for (;;) all.push(new Array(1000).fill(all.length)) }"
        function = Function(id="f", account_id="a", dialect="unit", name="f", version_id="v", created_at=0.0, updated_at=0.0)
        version = Version(id="v", function_id="f", number=1, runtime="x", handler="index.handler", source=source, created_at=0.0)
        guest.load(RUNTIME.load(function, version, Limits()))
        reply = call(guest)
    finally:
        guest.end()
    assert reply.outcome is Outcome.EXITED and reply.exit_code is not None
    assert RUNTIME.explain(reply.exit_code, [line.text for line in reply.logs]) is Outcome.OUT_OF_MEMORY
    assert RUNTIME.explain(134, ["Aborted"]) is Outcome.EXITED


def test_a_guest_ends_with_its_channel_whatever_runs_in_it() -> None:
    source = "process.on('exit', () => { for (;;); }); exports.handler = () => { setInterval(() => {}, 0) }"
    with loaded(source) as guest:
        assert value(call(guest)) is None
        assert guest.hang_up() == 0


@pytest.mark.parametrize("id", VERSIONS)
def test_what_stands_behind_a_call_stays_unread(id: str) -> None:
    with loaded("exports.handler = () => { console.log('begun'); for (;;); }", id) as guest:
        assert guest.unread_behind(Call("id", b"{}", 10.0), 10.0) > 0


@pytest.mark.parametrize("id", VERSIONS)
def test_nothing_is_run_behind_an_answer_that_makes_it_unfit(id: str) -> None:
    with loaded("exports.handler = () => { Promise.reject(new Error('late')); return new Promise(() => {}) }", id) as guest:
        assert not call(guest).reusable
        assert guest.unread_behind_the_end(Call("id", b"{}", 10.0)) > 0
