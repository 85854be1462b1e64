"""Programming model of Node.js functions (contract 3.1 - 3.3)."""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest

from tests.api import UUID
from tests.dialects.impuls.api import Api, Function, envelope_of

RUNTIMES = ["nodejs18", "nodejs20", "nodejs22"]

WORKER = """
    const { Worker } = require('worker_threads');
    new Promise((go) => new Worker('require("worker_threads").parentPort.postMessage(6)', {eval: true}).on('message', go))
"""

# code, and what its handler answers to {"name": "Ada"}
FORMS: dict[str, tuple[str, Any]] = {
    "exports": ("exports.handler = async (event) => event.name", "Ada"),
    "module.exports": ("module.exports = { handler(event) { return event.name } }", "Ada"),
    "sync": ("exports.handler = (event) => event.name", "Ada"),
    "promise": ("exports.handler = () => new Promise((go) => setTimeout(go, 5, 'later'))", "later"),
    "thenable": ("exports.handler = () => ({then(go) { setTimeout(go, 5, 'later') }})", "later"),
    "no parameters": ("exports.handler = () => 'none'", "none"),
    "returns nothing": ("exports.handler = () => {}", None),
    "callback": ("exports.handler = (event, context, callback) => callback(null, event.name)", "Ada"),
    "callback later": ("exports.handler = (e, c, done) => { setTimeout(() => done(null, 'later'), 5) }", "later"),
    "callback undefined error": ("exports.handler = (e, c, done) => done(undefined, 1)", 1),
    "callback with nothing": ("exports.handler = (e, c, done) => done()", None),
    "first callback decides": ("exports.handler = (e, c, done) => { done(null, 1); done(null, 2); done(Error('x')) }", 1),
    "callback before the throw": ("exports.handler = (e, c, done) => { done(null, 1); throw new Error('late') }", 1),
    "async with callback": ("exports.handler = async (e, c, done) => { await 0; done(null, 'called') }", "called"),
    "async with unused callback": ("exports.handler = async (e, c, done) => 'returned'", "returned"),
    "value beside a callback": ("exports.handler = (e, c, done) => { setTimeout(done, 5, null, 'called'); return 5 }", "called"),
    "ES module": ("export const handler = async (event) => event.name", "Ada"),
    "ES module function": ("export function handler(event) { return event.name }", "Ada"),
    "ES module list": ("const run = () => 'listed'; export { run as handler }", "listed"),
    "static import": ("import { sep } from 'node:path'\nexport const handler = () => sep", "/"),
    "top-level await": ("const w = await Promise.resolve('awaited'); export const handler = () => w", "awaited"),
    "import.meta": ("export const handler = () => import.meta.url", "file:///var/task/index.mjs"),
    "import in CommonJS": ("exports.handler = async () => (await import('node:path')).sep", "/"),
    "words of a module": (
        "// export const x = 1\nconst t = `\nimport x\nexport default 1\n`; exports.handler = () => t.length",
        27,
    ),
    "await as a name": ("var await = 3; exports.handler = () => await", 3),
    "require": ("const { sep } = require('path'); exports.handler = () => sep", "/"),
    "strict": ("'use strict'; exports.handler = () => { try { free = 1 } catch { return 'strict' } }", "strict"),
    "sloppy": ("free = 4; exports.handler = () => free", 4),
    "file names": (
        "exports.handler = () => [typeof module, __filename, __dirname]",
        ["object", "/var/task/index.js", "/var/task"],
    ),
}
MODULE_KINDS = [
    *("exports", "callback later", "ES module", "static import", "top-level await", "import.meta", "import in CommonJS"),
    *("words of a module", "await as a name", "require", "strict", "sloppy", "file names"),
]

# code, handler, what it answers
PATHS: list[tuple[str, str, Any]] = [
    ("exports.newHandler = async () => 'new'", "main.newHandler", "new"),
    ("exports.api = {users: {create: () => 'made'}}", "app.api.users.create", "made"),
    ("export const api = { users: { create: () => 'made' } }", "index.api.users.create", "made"),
    ("export default () => 'default'", "index.default", "default"),
    ("exports.create = () => 'last'", "app.api.users.create", "last"),
    ("exports.api = {create: 5}; exports.create = () => 'last'", "app.api.create", "last"),
    ("exports.run = () => 'here'", "src/lib.v1/app.run", "here"),
]

BUILT_IN = """
    assert buffer child_process cluster console crypto dgram diagnostics_channel dns events fs fs/promises http http2 https
    inspector module net os path perf_hooks process punycode querystring readline repl stream stream/promises string_decoder
    timers timers/promises tls tty url util v8 vm worker_threads zlib
"""
GLOBALS = """
    fetch Headers Request Response FormData URL URLSearchParams TextEncoder TextDecoder AbortController AbortSignal Event
    EventTarget structuredClone Buffer setTimeout setInterval setImmediate clearTimeout queueMicrotask console process
    performance WebAssembly Blob BroadcastChannel MessageChannel ReadableStream WritableStream TransformStream atob btoa Intl
    CompressionStream SharedArrayBuffer Atomics WeakRef FinalizationRegistry globalThis global require module exports
"""


@pytest.mark.parametrize(("code", "answer"), FORMS.values(), ids=FORMS.keys())
def test_forms_of_handlers(api: Api, code: str, answer: Any) -> None:
    assert api.function(code)({"name": "Ada"}) == answer


@pytest.mark.parametrize(("code", "handler", "answer"), PATHS)
def test_the_handler_is_looked_up_by_its_path(api: Api, code: str, handler: str, answer: Any) -> None:
    assert api.function(code, handler=handler)() == answer


@pytest.mark.parametrize("runtime", ["nodejs18", "nodejs22"])
@pytest.mark.parametrize("form", MODULE_KINDS)
def test_module_kinds_are_told_apart_on_every_version(api: Api, runtime: str, form: str) -> None:
    code, answer = FORMS[form]
    assert api.function(code, runtime=runtime)({"name": "Ada"}) == answer


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_module_kind_is_one_or_the_other(api: Api, runtime: str) -> None:
    """No require in an ES module, no import declaration that CommonJS would have to swallow."""
    mixed = api.function("import 'node:fs'; export const handler = () => typeof require", runtime=runtime)
    assert mixed() == "undefined"
    assert "require is not defined" in api.function("export const handler = () => require('fs')", runtime=runtime).error()


@pytest.mark.parametrize(
    ("code", "handler", "path"),
    [
        ("exports.other = () => 1", "index.handler", "handler"),
        ("exports.handler = 5", "index.handler", "handler"),
        ("exports.handler = {}", "index.handler", "handler"),
        ("exports.api = {}", "app.api.users.create", "api.users.create"),
        ("module.exports = null", "index.handler", "handler"),
        ("", "index.handler", "handler"),
        ("export const other = 1", "index.handler", "handler"),
        ("exports.x = 1", "index.toString.nothing", "toString.nothing"),
    ],
)
def test_no_handler(api: Api, code: str, handler: str, path: str) -> None:
    function = api.function(code or ";", handler=handler)
    for _ in range(2):
        assert function.error() == f"Handler '{path}' is not a function"


def test_the_version_is_the_nearest_there_is(api: Api) -> None:
    """The id's own major where the server has it, else the nearest newer, else the nearest older."""
    ran = {runtime: int(api.node("return process.version", runtime=runtime)()[1:].split(".")[0]) for runtime in RUNTIMES}
    there = set(ran.values())
    for runtime, major in ran.items():
        wanted = int(runtime.removeprefix("nodejs"))
        newer = [one for one in there if one >= wanted]
        assert major == (min(newer) if newer else max(there)), ran


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_built_in_modules(api: Api, runtime: str) -> None:
    function = api.node(
        "process.noDeprecation = true; for (const name of event) { require(name); await import('node:' + name) }", runtime=runtime
    )
    assert function(BUILT_IN.split()) is None


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_globals(api: Api, runtime: str) -> None:
    function = api.node("return event.filter((name) => eval('typeof ' + name) === 'undefined')", runtime=runtime)
    assert function(GLOBALS.split()) == []


@pytest.mark.parametrize(
    "source",
    [
        "event instanceof Object && event.list instanceof Array && event.constructor === Object",
        "[] instanceof Array && ({}) instanceof Object && (() => 1) instanceof Function",
        "new Error('x') instanceof Error && (() => { try { null.x } catch (e) { return e instanceof TypeError } })()",
        "require('util').types.isDate(new Date()) && Buffer.from('x') instanceof Uint8Array",
        "globalThis === global && new Function('return this')() === globalThis",
        "!require('vm').isContext(globalThis)",
    ],
)
def test_the_ordinary_realm(api: Api, source: str) -> None:
    assert api.node(f"return {source}")({"list": []}) is True


def test_context(api: Api) -> None:
    function = api.node(
        "return {keys: Object.keys(context), plain: JSON.parse(JSON.stringify(context))}",
        memory_mb=192,
    )
    response = function.post({})
    id = response.headers["x-execution-id"]
    body = envelope_of(response)["body"]
    stream = body["plain"].pop("logStreamName")
    assert body["plain"] == {
        "functionName": function.name,
        "functionVersion": "$LATEST",
        "memoryLimitInMB": 192,
        "awsRequestId": id,
        "logGroupName": f"/impuls/{function.name}",
        "invokedFunctionArn": f"arn:impuls:function:{function.name}",
        "callbackWaitsForEmptyEventLoop": True,
    }
    assert set(body["keys"]) == {*body["plain"], "logStreamName", "getRemainingTimeInMillis"}
    day, _, tail = stream.partition("/")
    assert tail == id and UUID.fullmatch(id)
    today = datetime.datetime.now(datetime.UTC).date()
    assert datetime.date.fromisoformat(day) in (today, today - datetime.timedelta(days=1))


def test_remaining_time_falls_from_the_timeout(api: Api) -> None:
    function = api.node(
        "const left = context.getRemainingTimeInMillis, first = context.getRemainingTimeInMillis();"
        "await new Promise((go) => setTimeout(go, 50)); return [first, context.getRemainingTimeInMillis(), left()]",
        timeout_sec=7,
    )
    for _ in range(2):
        first, second, detached = function()
        assert 0 < detached <= second <= first - 45 and first <= 7000


def test_remaining_time_is_never_negative(api: Api) -> None:
    function = api.node("const now = Date.now; Date.now = () => now() + 1e9; return context.getRemainingTimeInMillis()")
    assert 0 <= function() <= 30000


def test_setting_callback_waits_has_no_effect(api: Api) -> None:
    set_it = "c.callbackWaitsForEmptyEventLoop = e.wait; setInterval(() => {}, 1000); done(null, 'now')"
    function = api.function(f"exports.handler = (e, c, done) => {{ {set_it} }}")
    assert [function({"wait": wait}) for wait in (False, True)] == ["now", "now"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("exports.handler = (e, c, done) => done('text')", "text"),
        ("exports.handler = (e, c, done) => done(new TypeError('wrong'), 'value')", "wrong"),
        ("exports.handler = (e, c, done) => { throw new Error('before') }", "before"),
        ("exports.handler = async (e, c, done) => { throw new Error('rejected') }", "rejected"),
        ("exports.handler = (e, c, done) => { setTimeout(done, 5, new Error('later')); return new Promise(() => {}) }", "later"),
        ("exports.handler = () => ({then(go, stop) { stop(new Error('thenable')) }})", "thenable"),
        ("export const handler = async () => { throw new Error('in a module') }", "in a module"),
    ],
)
def test_failing_forms(api: Api, code: str, message: str) -> None:
    assert api.function(code).error() == message


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("require('child_process').execFileSync(process.execPath, ['-p', '20 + 3']).toString()", "23\n"),
        ("new Set(Array.from({length: 100}, () => crypto.randomUUID())).size", 100),
        ("require('crypto').randomBytes(32).length", 32),
        ("require('zlib').gunzipSync(require('zlib').gzipSync('x')).toString()", "x"),
        ("Math.abs(require('fs').statSync('/tmp').mtimeMs) > 0", True),
        ("new Intl.DateTimeFormat('de').format(new Date(0))", "1.1.1970"),
        ("structuredClone(new Map([[1, 2]])).get(1)", 2),
        (WORKER, 6),
        ("WebAssembly.validate(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]))", True),
        ("new Date().getTimezoneOffset()", 0),
    ],
)
def test_the_runtime_works_normally(js: Function, source: str, expected: Any) -> None:
    assert js(source) == expected


def test_the_clock_is_right(js: Function) -> None:
    now = datetime.datetime.now(datetime.UTC).timestamp() * 1000
    assert abs(js("Date.now()") - now) < 60_000


def test_random_numbers_differ_between_sandboxes(api: Api) -> None:
    values = [api.node("return [Math.random(), crypto.randomUUID(), require('crypto').randomInt(2 ** 40)]")() for _ in range(4)]
    for column in zip(*values, strict=True):
        assert len(set(column)) == 4


def test_the_name_of_the_module_names_the_file_only(api: Api) -> None:
    for handler in (
        "../../../tmp/escape.handler",
        "/etc/cron.handler",
        "con fig.handler",
        "ünïcode.handler",
        ("m" * 240) + ".handler",
    ):
        function = api.function("exports.handler = () => __filename", handler=handler)
        assert re.fullmatch(r"/var/task/.+\.js", function()), handler
