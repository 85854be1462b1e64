"""The Deno guest in detail, as a bare process (Fluxbase contract 3)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from spinney.model import Call, Function, LogLine, Outcome, Reply, Rights, Version
from spinney.ports import Launch, Limits
from spinney.runtimes.deno import DenoRuntime
from spinney.testing.guest_process import GuestProcess

RUNTIME = DenoRuntime()
FUNCTION = Function(id="f", account_id="a", dialect="unit", name="f", version_id="v", created_at=0.0, updated_at=0.0)
EVERYTHING = Rights(net=True, env=True, read=True, write=True)
NOTHING = Rights(net=False, env=False, read=False, write=False)
URL = "http://127.0.0.1:8080/fluxbase/api/v1/functions/f/invoke"
ID = "0d1f4a35-8e0c-4a5c-9f66-0b6a1c7b7a10"


class Guest:
    """A guest with a function in it."""

    def __init__(self, process: GuestProcess) -> None:
        self.process = process

    def call(self, body: bytes | str = b"", *, id: str = ID, timeout_s: float = 20.0, **meta: Any) -> Reply:
        """Call it with a request; ``meta`` are fields of its head."""
        head = {"method": "POST", "url": URL, "headers": [], **meta}
        data = body.encode() if isinstance(body, str) else body
        return self.process.invoke(Call(id, data, timeout_s, json.dumps(head).encode()), timeout_s)

    def value(self, body: bytes | str = b"", **meta: Any) -> Any:
        """What it answers as JSON; fails when it does not."""
        reply = self.call(body, **meta)
        assert reply.outcome is Outcome.OK, reply
        return json.loads(reply.body)


@contextmanager
def loaded(
    source: str, rights: Rights = EVERYTHING, limits: Limits | None = None, chunk_bytes: int = 0, **fields: Any
) -> Iterator[Guest]:
    """``fields`` are further ones of the version; ``chunk_bytes`` cuts what is sent to the guest into pieces."""
    version = Version(id="v", function_id="f", number=1, runtime="deno", handler="", source=source, created_at=0.0, **fields)
    process = GuestProcess(RUNTIME.launch("deno", rights), chunk_bytes=chunk_bytes)
    try:
        process.load(RUNTIME.load(FUNCTION, version, limits or Limits()))
        yield Guest(process)
    finally:
        process.end()


def run(source: str, body: bytes | str = b"", *, rights: Rights = EVERYTHING, **meta: Any) -> Reply:
    with loaded(source, rights) as guest:
        return guest.call(body, **meta)


def value(source: str, body: bytes | str = b"", *, rights: Rights = EVERYTHING, **meta: Any) -> Any:
    with loaded(source, rights) as guest:
        return guest.value(body, **meta)


def head_of(reply: Reply) -> Any:
    """Status and headers of a reply, as the channel carries them."""
    assert reply.outcome is Outcome.OK, reply
    usual = {"status": 200, "headers": [["content-type", "application/json"]]}
    head = json.loads(reply.meta) if reply.meta else usual
    return [head["status"], head["headers"]]


# -- modules and handlers (3.1, 3.2) -----------------------------------------------------------------------------------

HANDLERS = {
    "async function": "async function handler(req) { return 1 }",
    "function": "function handler(req) { return 1 }",
    "arrow": "const handler = async (req) => 1",
    "let": "let handler; handler = () => 1",
    "exported": "export async function handler(req) { return 1 }",
    "export list": "const handler = () => 1; export { handler }",
    "renamed": "const other = () => 1; export { other as handler }",
    "exported const": "export const handler = (req) => 1",
    "default function": "export default async function (req) { return 1 }",
    "default arrow": "export default (req) => 1",
    "default fetch": "export default { one: 1, async fetch(req) { return this.one } }",
    "default class": "class App { #one = 1; fetch() { return this.#one } }\nexport default new App()",
    "main": "function main() { return 1 }",
    "exported main": "export const main = () => 1",
    "handler before default": "export const handler = () => 1; export default () => 2",
    "default before handler": "const handler = () => 2; export default () => 1",
    "handler before main": "const main = () => 2, handler = () => 1",
    "default of no use": "export default 5; function handler() { return 1 }",
    "no end of line": "const handler = () => 1 // export default () => 2",
    "words in strings": "const s = `\nexport default () => 2\n`; /* function handler() {} */ export const main = () => 1",
    "names of the wrapper": "const Request = 1, Response = 1, request = 1, result = 1, source = 1; const handler = () => Request",
    "TypeScript": "interface A { a: number }\nexport const handler = <T,>(r: Request, one = 1 as number): T => one as any",
    "swallowed": "function handler() { return 1 } // \\",
    "enum": "enum E { One = 1 }\nfunction handler(): number { return E.One }",
    "const enum": "const enum E { One = 1 }\nexport default () => E.One",
    "namespace": "namespace N { export const one: number = 1 }\nexport default () => N.one",
    "parameter property": "class A { constructor(private one = 1) {} f() { return this.one } }\nexport default () => new A().f()",
    "satisfies": "export default { fetch: () => 1 } satisfies { fetch(): number }",
    "abstract": "abstract class A { abstract f() }\nclass B extends A { f() { return 1 } }\nexport default () => new B().f()",
    "type errors": "const one: string = 1; export default (): boolean => one",
    "imported type": "import { IncomingMessage } from 'node:http';\nexport default (r: IncomingMessage) => 1",
    "imported type and more": "import { Foo, sep } from 'node:path';\nexport default (r: Foo): number => sep.length",
    "comparisons that look generic": "const f = (...a) => a.length, a = 1, b = 2, c = 3; export default () => f(a<b, c>(b)) - 1",
    "top-level await": "const one = await Promise.resolve(1); export default () => one",
    "node module": "import { Buffer } from 'node:buffer'; export default () => Buffer.from('a').length",
    "bare node module": "import { sep } from 'path'; export default () => sep.length",
    "data module": "import one from 'data:application/json,1' with { type: 'json' }; export default () => one",
    "shebang": "#!/usr/bin/env deno\nexport default () => 1",
    "byte order mark": "\ufeffexport default () => 1",
    "carriage returns": "// comment\r\nexport default () => 1 // end\r\n",
    "line separator": "const s = '\u2028'; export default () => s.length",
    "decorators": "const d = (t: any, c: any) => {}\n@d class A {}\nexport default () => 1",
}


@pytest.mark.parametrize("source", HANDLERS.values(), ids=HANDLERS.keys())
def test_handlers_are_found_by_the_modules_bindings(source: str) -> None:
    with loaded(source) as guest:
        assert [guest.value(), guest.value()] == [1, 1]


@pytest.mark.parametrize(
    "source",
    [
        "// export default () => 1",
        "const s = 'function handler() {}'",
        "/* export const handler = () => 1 */",
        "export const handler = 5; export default {}",
        "globalThis.handler = () => 1",
        "export type handler = string; interface main {}",
        "{ function handler() {} }",
        "",
    ],
)
def test_what_only_looks_like_a_handler(source: str) -> None:
    reply = run(source)
    message = "Error: No handler function found. Export a 'handler', 'default', or 'main' function."
    assert (reply.outcome, reply.message) == (Outcome.NO_HANDLER, message)


def test_a_global_of_the_same_name_stays_and_does_not_count() -> None:
    source = "globalThis.handler = () => 'global'; function main() { return [typeof handler, globalThis.handler()] }"
    assert value(source) == ["function", "global"]


@pytest.mark.parametrize(
    "source",
    [
        "export default () => {",
        "const handler = () => 1; let handler",
        "export default () => { return `",
        "function handler() {} /* never closed",
        "const handler = () =>",
        "if (true)",
        "const x: = 1",
        "export const handler = }",
        "async function handler(req) { ... }",
        "import { nothing } from 'node:path'; export default () => nothing",
        "return 1",
        "const handler = () => 1; @",
    ],
)
def test_syntax_errors(source: str) -> None:
    reply = run(source)
    assert reply.outcome is Outcome.LOAD_ERROR and not reply.reusable
    assert reply.message.startswith("SyntaxError: ") and "blob:" not in reply.message and "\n" not in reply.message


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("throw new TypeError('at load')", "TypeError: at load"),
        ("throw 'text'", "text"),
        ("await Promise.reject({ a: 1 })", '{"a":1}'),
        ("JSON.parse('{')", "SyntaxError: Expected property name or '}' in JSON at position 1 (line 1 column 2)"),
        ("class Mine extends Error { name = 'Mine' }\nthrow new Mine('x')", "Mine: x"),
        ("undeclared", "ReferenceError: undeclared is not defined"),
    ],
)
def test_code_that_throws_while_it_loads(source: str, message: str) -> None:
    reply = run(f"console.log('once'); {source}")
    assert (reply.outcome, reply.message) == (Outcome.LOAD_ERROR, message)
    assert reply.logs == [LogLine("info", "console.log: once")], "it ran once"


@pytest.mark.parametrize(
    "specifier", ["npm:left-pad@1.3.0", "jsr:@std/assert@1", "https://deno.land/std/x.ts", "./other.ts", "lodash", "node:nothing"]
)
@pytest.mark.parametrize("how", ["import '{}'; export default () => 1", "\n\nimport * as x from '{}';\nexport default () => x"])
def test_imports_that_there_are_not_are_named(specifier: str, how: str) -> None:
    reply = run(how.format(specifier))
    assert reply.outcome is Outcome.LOAD_ERROR
    assert specifier in reply.message and "blob:" not in reply.message and "\x1b" not in reply.message


def test_positions_in_stacks_are_those_of_the_source() -> None:
    for types, line in (("", 3), (": string", 3)):
        source = f"const text{types} = 'x';\n\nexport default () => {{ throw Object.assign(new Error(text), {{ s: 1 }}) }}"
        with loaded(source + "\n") as guest:
            assert guest.call().message == "Error: x"
        catching = f"const t{types} = 'x';\n\nexport default () => new Error(t).stack"
        stack = value(catching)
        assert f":{line}:" in stack and "/guests/" not in stack


# -- requests (3.3) ----------------------------------------------------------------------------------------------------

HEADERS = [
    ["host", "example.com"],
    ["x-list", "a"],
    ["cookie", "a=1"],
    ["x-list", "b"],
    ["cookie", "b=2"],
    ["__proto__", "data"],
    ["content-type", "application/json"],
]


def test_a_request_is_plain_data() -> None:
    source = "export default (r) => [JSON.stringify(r), Object.keys(r), { ...r }, JSON.stringify(structuredClone({ ...r }))]"
    text, keys, spread, cloned = value(source, '{"a":1}', user_id="u", url=f"{URL}?a=1&b=%20%C3%BC&a=2&c", headers=HEADERS)
    assert keys == ["method", "url", "headers", "body", "params", "user_id"]
    assert json.loads(text) == json.loads(cloned) == spread
    assert spread == {
        "method": "POST",
        "url": f"{URL}?a=1&b=%20%C3%BC&a=2&c",
        "headers": {
            "host": "example.com",
            "x-list": "a, b",
            "cookie": "a=1; b=2",
            "__proto__": "data",
            "content-type": "application/json",
        },
        "body": '{"a":1}',
        "user_id": "u",
        "params": {"a": "2", "b": " ü", "c": ""},
    }


def test_an_anonymous_request_has_no_user() -> None:
    assert value("export default (r) => ['user_id' in r, r.body, r.params, r.method]", method="GET") == [False, "", {}, "GET"]


def test_headers_have_methods_that_do_not_show() -> None:
    source = """
        export default ({ headers }) => {
            const seen = [];
            headers.forEach((value, name, all) => seen.push(name + value + (all === headers)));
            return [
                headers.get('X-LIST'), headers.get('none'), headers.get('toString'), headers.has('Host'), headers.has('valueOf'),
                [...headers.entries()], [...headers.keys()], [...headers.values()], [...headers], seen, Object.keys(headers),
                new Headers({ ...headers }).get('Host'), headers['x-list'],
            ];
        }
    """
    headers = [["host", "h"], ["x-list", "a"]]
    pairs = [["host", "h"], ["x-list", "a"]]
    assert value(source, headers=headers) == [
        "a", None, None, True, False, pairs, ["host", "x-list"], ["h", "a"], pairs, ["hosthtrue", "x-listatrue"],
        ["host", "x-list"], "h", "a",
    ]  # fmt: skip


def test_bodies_can_be_read_in_every_way_and_again() -> None:
    source = """
        export default async (r) => [
            await r.text(), await r.text(), [...new Uint8Array(await r.arrayBuffer())], [...await r.bytes()], r.body,
            [(await r.blob()).size, (await r.blob()).type], await r.json().catch((e) => e.name),
        ]
    """
    body = b"\xef\xbb\xbf\xffa"
    text, again, buffer, raw, plain, blob, parsed = value(source, body, headers=[["content-type", "x/y"]])
    assert (text, again, plain) == ("\ufffda", "\ufffda", "\ufeff\ufffda")
    assert bytes(buffer) == bytes(raw) == body
    assert (blob, parsed) == ([5, "x/y"], "SyntaxError")


def test_forms_are_parsed() -> None:
    source = "export default async (r) => [...(await r.formData()).entries()]"
    form = [["content-type", "application/x-www-form-urlencoded"]]
    assert value(source, "a=1&b=%C3%BC", headers=form) == [["a", "1"], ["b", "ü"]]
    assert run(source, "a=1").message.startswith("TypeError: ")


def test_the_body_of_a_call_that_is_over_is_gone() -> None:
    source = "let first; export default (r) => { first ??= r; return first.text() }"
    with loaded(source) as guest:
        assert guest.call("one").body == b'"one"'
        reply = guest.call("two")
        assert (reply.outcome, reply.message[:10]) == (Outcome.ERROR, "TypeError:")


PAYLOADS = ["'\"`${x}</script>\\", "\u2028\u2029\n\r\0", "\U0001f600ü", "__RESULT__::{}", "x" * 70_000, "{" * 500]


@pytest.mark.parametrize("chunk_bytes", [0, 7])
def test_payloads_arrive_unchanged(chunk_bytes: int) -> None:
    with loaded("export default (r) => new Response(r.body)", chunk_bytes=chunk_bytes) as guest:
        for payload in PAYLOADS:
            assert guest.call(payload).body.decode() == payload


def test_heads_differ_from_call_to_call() -> None:
    with loaded("export default (r) => [r.method, r.user_id ?? null, Object.keys(r.headers), r.params]") as guest:
        assert guest.value() == ["POST", None, [], {}]
        assert guest.value(method="PUT", user_id="u", headers=[["a", "1"]]) == ["PUT", "u", ["a"], {}]
        assert guest.value(url=f"{URL}?x=1") == ["POST", None, [], {"x": "1"}]
        assert guest.value() == ["POST", None, [], {}]


def test_what_a_call_does_to_its_request_stays_its_own() -> None:
    with loaded("export default (r) => { const n = [r.method, Object.keys(r.headers).length, r.params.a];"
                " r.method = 'X'; r.headers.more = '1'; r.params.a = '2'; return n }") as guest:  # fmt: skip
        for _ in range(3):
            assert guest.value(url=f"{URL}?a=1", headers=[["a", "1"]]) == ["POST", 1, "1"]


# -- replies (3.4) -----------------------------------------------------------------------------------------------------

JSON_TYPE = ["content-type", "application/json"]
TEXT_TYPE = ["content-type", "text/plain; charset=utf-8"]
BYTES_TYPE = ["content-type", "application/octet-stream"]

REPLIES: dict[str, tuple[str, list[Any], bytes]] = {
    "object": ("({ a: 1 })", [200, [JSON_TYPE]], b'{"a":1}'),
    "array": ("[1, 'ü']", [200, [JSON_TYPE]], '[1,"ü"]'.encode()),
    "string": ("'text'", [200, [JSON_TYPE]], b'"text"'),
    "number": ("5", [200, [JSON_TYPE]], b"5"),
    "undefined": ("undefined", [200, [JSON_TYPE]], b"null"),
    "null": ("null", [200, [JSON_TYPE]], b"null"),
    "function": ("() => 1", [200, [JSON_TYPE]], b"null"),
    "lone surrogate": ("'\\ud83d'", [200, [JSON_TYPE]], b'"\\ud83d"'),
    "status that is none": ("({ status: 'ok' })", [200, [JSON_TYPE]], b'{"status":"ok"}'),
    "status that is true": ("({ status: true })", [200, [JSON_TYPE]], b'{"status":true}'),
    "toJSON": ("({ toJSON: () => 'own' })", [200, [JSON_TYPE]], b'"own"'),
    "reference": (
        "({ status: 201, headers: { 'Content-Type': 'Text/X', 'X-A': 1 }, body: 'b' })",
        [201, [["content-type", "Text/X"], ["x-a", "1"]]],
        b"b",
    ),
    "digits": ("({ status: '404', body: 'b' })", [404, [TEXT_TYPE]], b"b"),
    "JSON text": ("({ status: 200, body: ' {\"a\":1}' })", [200, [JSON_TYPE]], b' {"a":1}'),
    "almost JSON": ("({ status: 200, body: '{a}' })", [200, [TEXT_TYPE]], b"{a}"),
    "JSON string": ("({ status: 200, body: '\"a\"' })", [200, [TEXT_TYPE]], b'"a"'),
    "object body": ("({ status: 200, body: { a: 1 } })", [200, [JSON_TYPE]], b'{"a":1}'),
    "number body": ("({ status: 200, body: 5 })", [200, [TEXT_TYPE]], b"5"),
    "no body": ("({ status: 200 })", [200, []], b""),
    "null body": ("({ status: 599, body: null, headers: null })", [599, []], b""),
    "bytes": ("({ status: 200, body: new Uint8Array([0, 255]) })", [200, [BYTES_TYPE]], b"\0\xff"),
    "part of a buffer": ("({ status: 200, body: new Uint8Array([1, 2, 3]).subarray(1, 2) })", [200, [BYTES_TYPE]], b"\2"),
    "buffer": ("({ status: 200, body: new Uint8Array([7]).buffer })", [200, [BYTES_TYPE]], b"\7"),
    "node buffer": ("({ status: 200, body: Buffer.from('b') })", [200, [BYTES_TYPE]], b"b"),
    "repeated header": ("({ status: 200, headers: { 'Set-Cookie': ['a=1', 'b=2'] } })",
                        [200, [["set-cookie", "a=1"], ["set-cookie", "b=2"]]], b""),
    "Headers": ("({ status: 200, headers: new Headers([['a', '1'], ['set-cookie', 'x'], ['set-cookie', 'y']]) })",
                [200, [["a", "1"], ["set-cookie", "x"], ["set-cookie", "y"]]], b""),
    "dropped headers": ("({ status: 200, headers: { Connection: 1, 'Keep-Alive': 1, 'transfer-encoding': 1, keep: 1 } })",
                        [200, [["keep", "1"]]], b""),
    "more of them": ("({ status: 200, headers: { upgrade: 1, te: 1, trailer: 1, 'Proxy-Foo': 1, 'Content-Length': 9 } })",
                     [200, []], b""),
    "latin header": ("({ status: 200, headers: { a: ' \\u00fc ' } })", [200, [["a", "ü"]]], b""),
    "204": ("({ status: 204, body: 'x', headers: { a: 1 } })", [204, [["a", "1"], TEXT_TYPE]], b""),
    "304": ("new Response(null, { status: 304, headers: { etag: 'x' } })", [304, [["etag", "x"]]], b""),
    "Response": ("new Response('ü', { status: 418, headers: [['set-cookie', 'a'], ['set-cookie', 'b']] })",
                 [418, [["content-type", "text/plain;charset=UTF-8"], ["set-cookie", "a"], ["set-cookie", "b"]]], "ü".encode()),
    "Response.json": ("Response.json({ a: 1 })", [200, [JSON_TYPE]], b'{"a":1}'),
    "bytes in a Response": ("new Response(new Uint8Array([0, 255]))", [200, []], b"\0\xff"),
    "stream": ("new Response(ReadableStream.from([new Uint8Array([1]), new Uint8Array([2])]))",
               [200, []], b"\1\2"),
    "redirect": ("Response.redirect('http://example.com/', 302)", [302, [["location", "http://example.com/"]]], b""),
    "empty Response": ("new Response(null)", [200, []], b""),
    "promise": ("Promise.resolve({ status: 201 })", [201, []], b""),
    "thenable": ("({ then(go) { go(8) } })", [200, [JSON_TYPE]], b"8"),
}  # fmt: skip


def test_replies() -> None:
    cases = ",\n".join(f"() => ({made})" for made, _, _ in REPLIES.values())
    with loaded(f"const cases = [{cases}]; export default (r) => cases[+r.body]()") as guest:
        for number, (name, (_, head, body)) in enumerate(REPLIES.items()):
            reply = guest.call(str(number))
            assert (head_of(reply), reply.body) == (head, body), name


FAILURES = {
    "({ status: 999 })": "RangeError: Invalid response status: 999",
    "({ status: 199 })": "RangeError: Invalid response status: 199",
    "({ status: 200.5 })": "RangeError: Invalid response status: 200.5",
    "({ status: NaN })": "RangeError: Invalid response status: NaN",
    "({ status: '0' })": "RangeError: Invalid response status: 0",
    "Response.error()": "RangeError: Invalid response status: 0",
    "[1n]": "TypeError: Do not know how to serialize a BigInt",
    "({ status: 200, body: { a: 1n } })": "TypeError: Do not know how to serialize a BigInt",
    "(() => { const a = {}; a.a = a; return a })()": "TypeError: Converting circular structure to JSON",
    "({ status: 200, headers: { 'a b': 1 } })": "TypeError: Invalid header",
    "({ status: 200, headers: { '': 1 } })": "TypeError: Invalid header",
    "({ status: 200, headers: { a: 'x\\r\\nset-cookie: y' } })": "TypeError: Invalid header",
    "({ status: 200, headers: { a: 'x\\n' } })": "TypeError: Invalid header",
    "({ status: 200, headers: { a: ['x', 'y\\0'] } })": "TypeError: Invalid header",
    "({ status: 200, headers: { a: '\\u20ac' } })": "TypeError: Invalid header",
    "({ status: 200, headers: { 'a\\nb': 1 } })": "TypeError: Invalid header",
    "({ get status() { throw new Error('own') } })": "Error: own",
    "({ toJSON() { throw new Error('own') } })": "Error: own",
    "new Response(new ReadableStream({ start(c) { c.error(new Error('torn')) } }))": "Error: torn",
}


def test_results_that_are_none() -> None:
    cases = ",\n".join(f"() => ({made})" for made in FAILURES)
    with loaded(f"const cases = [{cases}]; export default (r) => cases[+r.body]()") as guest:
        for number, (made, message) in enumerate(FAILURES.items()):
            reply = guest.call(str(number))
            assert (reply.outcome, reply.reusable) == (Outcome.BAD_RESULT, True), made
            assert reply.message.startswith(message), made


def test_the_largest_reply_and_one_byte_more() -> None:
    limits = Limits(result_bytes=1000)
    made = (
        "'x'.repeat(n - 2)",
        "new Response('x'.repeat(n))",
        "({ status: 200, body: new Uint8Array(n) })",
        "'ü'.repeat(n / 2 - 1)",
    )
    for value_of in made:
        with loaded(f"export default (r) => {{ const n = +r.body; return {value_of} }}", limits=limits) as guest:
            assert len(guest.call("1000").body) == 1000
            reply = guest.call("1002")
            message = "RangeError: Function response too large (max 1000 bytes)"
            assert (reply.outcome, reply.message, reply.reusable) == (Outcome.RESULT_TOO_LARGE, message, True)


# -- logs (3.5) --------------------------------------------------------------------------------------------------------


def test_console_methods() -> None:
    source = """
        export default (r) => {
            console.log('%s=%d', 'a', 1, { b: [1, 'c'] });
            console.log('%c red', 'color: red', "a");
            console.info();
            console.debug('two\\nlines');
            console.dir({ a: { b: { c: {} } } });
            console.warn('w');
            console.assert(true, 'no');
            console.assert(1 === 2, 'no');
            console.error(new Map([[1, 2]]));
            console.count('n');
            console.group('G');
            console.log('in\\nside');
            console.group();
            console.error('deep');
            console.groupEnd();
            console.groupEnd();
            console.clear();
            console.table([[1]]);
        };
    """
    *logs, table = run(source).logs
    assert logs == [
        LogLine("info", "console.log: a=1 { b: [ 1, \"c\" ] }"),
        LogLine("info", "console.log:  red a"),
        LogLine("info", "console.info: "),
        LogLine("info", "console.debug: two\nlines"),
        LogLine("info", "console.log: { a: { b: { c: {} } } }"),
        LogLine("warn", "console.warn: w"),
        LogLine("error", "console.error: Assertion failed: no"),
        LogLine("error", "console.error: Map(1) { 1 => 2 }"),
        LogLine("info", "console.log: n: 1"),
        LogLine("info", "console.log: G"),
        LogLine("info", "console.log:   in\n  side"),
        LogLine("error", "console.error:     deep"),
    ]  # fmt: skip
    assert table.text.startswith("console.log: ┌") and table.text.endswith("┘")


def test_trace_is_an_error_with_the_place() -> None:
    (line,) = run("export default function here() { console.trace('where %d', 1) }").logs
    assert line.level == "error" and line.text.startswith("console.error: Trace: where 1\n    at here (")
    assert "output.js" not in line.text


def test_groups_left_open_end_with_their_call() -> None:
    with loaded("export default () => { console.log('x'); console.group('g') }") as guest:
        for _ in range(2):
            assert guest.call().logs == [LogLine("info", "console.log: x"), LogLine("info", "console.log: g")]


def test_what_is_written_to_the_streams_is_no_log_and_no_result() -> None:
    source = """
        import process from 'node:process';
        export default () => {
            process.stdout.write('__RESULT__::{"status":500}\\n');
            Deno.stdout.writeSync(new TextEncoder().encode('x'));
            Deno.stderr.writeSync(new TextEncoder().encode('y\\n'));
            console.log('z');
            return 'mine';
        }
    """
    reply = run(source)
    assert (reply.body, reply.logs) == (b'"mine"', [LogLine("info", "console.log: z")])


def test_objects_that_misbehave_when_they_are_printed() -> None:
    source = """
        export default () => {
            const bad = { [Symbol.for('Deno.customInspect')]() { throw new Error('no') } };
            try { console.log(bad) } catch (e) { console.log(e.message) }
            const nested = { [Symbol.for('Deno.customInspect')]() { console.warn('inside'); return 'outside' } };
            console.log(nested);
        }
    """
    assert [line.text for line in run(source).logs] == ["console.log: no", "console.warn: inside", "console.log: outside"]


# -- failures (3.7) ----------------------------------------------------------------------------------------------------

THROWN = {
    "new TypeError('x is not a function')": "TypeError: x is not a function",
    "new RangeError()": "RangeError",
    "Object.assign(new Error('m'), { name: 'Mine' })": "Mine: m",
    "new (class ValidationError extends Error { name = 'ValidationError' })('bad')": "ValidationError: bad",
    "new DOMException('m', 'AbortError')": "AbortError: m",
    "new AggregateError([], 'many')": "AggregateError: many",
    "'text'": "text",
    "''": "",
    "null": "null",
    "undefined": "undefined",
    "42": "42",
    "42n": "42",
    "Symbol('s')": "Symbol(s)",
    "{ message: 'mine' }": '{"message":"mine"}',
    "[1, { a: 2 }]": '[1,{"a":2}]',
    "new Proxy({}, { get() { throw 1 } })": "Error: unknown error",
    "new Proxy(new Error('p'), {})": "Error: p",
}


def test_messages_of_what_is_thrown() -> None:
    cases = ",\n".join(f"() => ({made})" for made in THROWN)
    source = f"const cases = [{cases}]; export default ({{ body, method }}) => {{"
    with loaded(source + " if (method === 'PUT') throw cases[+body](); return Promise.reject(cases[+body]()) }") as guest:
        for number, (made, message) in enumerate(THROWN.items()):
            for method in ("PUT", "POST"):
                reply = guest.call(str(number), method=method)
                assert (reply.outcome, reply.message, reply.reusable) == (Outcome.ERROR, message, True), made


MUCH_LATER = "new Promise((go) => setTimeout(go, 15000))"
NEVER = "new Promise(() => 0)"
BEHIND = {
    "timer": f"setTimeout(() => {{ throw new Error('behind') }}, 1); return {MUCH_LATER}",
    "immediate": f"setImmediate(() => {{ throw new Error('behind') }}); return {NEVER}",
    "microtask": f"queueMicrotask(() => {{ throw new Error('behind') }}); return {NEVER}",
    "tick": f"process.nextTick(() => {{ throw new Error('behind') }}); return {NEVER}",
    "floating promise": f"Promise.reject(new Error('behind')); return {NEVER}",
    "floating function": f"(async () => {{ await null; throw new Error('behind') }})(); return {MUCH_LATER}",
    "floating beside a reply": "Promise.reject(new Error('behind')); return 1",
    "event": f"const t = new EventTarget(); t.addEventListener('x', () => {{ throw new Error('behind') }});"
    f" t.dispatchEvent(new Event('x')); return {NEVER}",
    "reported": f"reportError(new Error('behind')); return {NEVER}",
}


@pytest.mark.parametrize("code", BEHIND.values(), ids=BEHIND.keys())
def test_errors_that_nobody_catches_fail_the_running_call(code: str) -> None:
    reply = run(f"export default () => {{ {code} }}")
    assert (reply.outcome, reply.message, reply.reusable) == (Outcome.ERROR, "Error: behind", False)


def test_errors_behind_the_loading_count_as_well() -> None:
    reply = run("Promise.reject(new Error('behind')); await new Promise(() => 0)")
    assert (reply.outcome, reply.message) == (Outcome.ERROR, "Error: behind")


def test_handled_rejections_are_fine() -> None:
    assert value("export default async () => { const p = Promise.reject(1); p.catch(() => 0); return 2 }") == 2


@pytest.mark.parametrize(
    "listen",
    [
        "addEventListener('unhandledrejection', (e) => e.preventDefault())",
        "globalThis.onunhandledrejection = (e) => e.preventDefault()",
    ],
)
def test_a_function_may_look_after_its_own_rejections(listen: str) -> None:
    with loaded(f"{listen}; export default () => {{ Promise.reject(new Error('mine')); return 1 }}") as guest:
        assert [guest.value(), guest.value()] == [1, 1]


@pytest.mark.parametrize(
    "leave", ["Deno.exit(7)", "process.exit(7)", "process.reallyExit(7)", "(await import('node:process')).exit(7)"]
)
def test_exits_are_failures(leave: str) -> None:
    for source in (
        f"export default async () => {{ console.log('last'); {leave} }}",
        f"console.log('last'); {leave}",
        f"export default () => {{ console.log('last'); setTimeout(async () => {{ {leave} }}, 1); return {NEVER} }}",
    ):
        reply = run(source)
        assert (reply.outcome, reply.message) == (Outcome.ERROR, "Error: Function exited with code 7")
        assert (reply.logs, reply.reusable) == ([LogLine("info", "console.log: last")], False)


def test_a_stack_overflow_is_an_ordinary_error() -> None:
    with loaded("const f = () => f() + 1; export default (r) => r.body ? f() : 'fine'") as guest:
        reply = guest.call("1")
        assert (reply.message, reply.reusable) == ("RangeError: Maximum call stack size exceeded", True)
        assert guest.value() == "fine"


def test_what_never_settles_runs_into_its_timeout() -> None:
    for source in (f"export default () => {NEVER}", f"await {NEVER}", "export default () => { for (;;); }", "for (;;);"):
        with loaded(source) as guest:
            assert guest.call(timeout_s=0.5).outcome is Outcome.TIMEOUT


def test_a_full_heap_is_the_memory_limit() -> None:
    launch = RUNTIME.launch("deno", NOTHING)
    argv = tuple(argument.replace("=4096", "=40") for argument in launch.argv)
    guest = GuestProcess(Launch(key="small", argv=argv, mounts=launch.mounts, environment=launch.environment))
    try:
        source = "export default () => { const all = []; for (;;) all.push(new Array(1000).fill(all.length)) }"
        version = Version(id="v", function_id="f", number=1, runtime="deno", handler="", source=source, created_at=0.0)
        guest.load(RUNTIME.load(FUNCTION, version, Limits()))
        reply = Guest(guest).call()
    finally:
        guest.end()
    assert reply.outcome is Outcome.EXITED and reply.exit_code is not None
    assert RUNTIME.explain(reply.exit_code, ()) is Outcome.OUT_OF_MEMORY
    assert RUNTIME.explain(137, ()) is RUNTIME.explain(1, ()) is Outcome.EXITED


# -- what is left over (3.8, 3.9) --------------------------------------------------------------------------------------


def test_timers_of_a_call_end_with_it() -> None:
    source = """
        export default async (r) => {
            if (r.body) {
                setTimeout(() => { console.log('late'); Deno.exit(1) }, 1);
                setInterval(() => { console.log('late'); throw new Error('late') }, 1);
                setImmediate(() => console.log('late'));
                AbortSignal.timeout(1).onabort = () => console.log('late');
                const cleared = setTimeout(() => console.log('late'), 0);
                clearTimeout(cleared);
                return 1;
            }
            await new Promise((go) => setTimeout(go, 30));
            return 2;
        }
    """
    with loaded(source) as guest:
        for body, expected in (("x", b"1"), ("", b"2"), ("x", b"1"), ("", b"2")):
            reply = guest.call(body)
            assert (reply.body, reply.logs, reply.reusable) == (expected, [], True)


@pytest.mark.parametrize(
    "leave",
    [
        "crypto.subtle.digest('SHA-256', new Uint8Array(1 << 27)).then(() => console.log('late'))",
        "import('node:timers/promises').then((t) => t.setTimeout(5)).then(() => console.log('late')); await null; await null",
        "new Worker(URL.createObjectURL(new Blob(['for (;;);'])), { type: 'module' })",
        "new MessageChannel().port1.onmessage = () => 0",
        "Deno.listen({ port: 0 }).accept()",
    ],
)
def test_what_cannot_be_stopped_ends_the_sandbox(leave: str) -> None:
    reply = run(f"export default async () => {{ {leave}; await null; return 1 }}")
    assert (reply.outcome, reply.body, reply.reusable) == (Outcome.OK, b"1", False)


def test_work_that_was_waited_for_leaves_nothing() -> None:
    source = """
        export default async () => {
            await Promise.race([new Promise((go) => setTimeout(go, 1)), new Promise((go) => setTimeout(go, 60000))]);
            await crypto.subtle.digest('SHA-256', new Uint8Array(9));
            await (await fetch('data:,x', { signal: AbortSignal.timeout(60000) })).text();
            await Deno.writeTextFile('x', 'y');
            return await Deno.readTextFile('x');
        }
    """
    with loaded(source) as guest:
        for _ in range(3):
            reply = guest.call()
            assert (reply.body, reply.reusable) == (b'"y"', True)


def test_timers_are_still_what_they_were() -> None:
    source = """
        import { promisify } from 'node:util';
        export default async () => {
            const order = [];
            await promisify(setTimeout)(1);
            await new Promise((go) => {
                const interval = setInterval((a, b) => {
                    if (order.push(a + b) === 2) go(clearInterval(interval));
                }, 1, 1, 2);
            });
            const t = setTimeout(() => order.push('never'), 1);
            clearTimeout(+t);
            await new Promise((go) => setImmediate(go));
            try { setTimeout('text') } catch (e) { order.push(e.name) }
            try { await fetch('data:,x', { signal: AbortSignal.abort() }) } catch (e) { order.push(e.name) }
            const signal = AbortSignal.timeout(1);
            await new Promise((go) => { signal.onabort = go });
            return [...order, signal.reason.name, setTimeout.name, setTimeout.length];
        }
    """
    assert value(source) == [3, 3, "TypeError", "AbortError", "TimeoutError", "setTimeout", 2]


def test_modules_keep_their_state() -> None:
    with loaded("let calls = 0; globalThis.kept ??= 0; export default () => [++calls, ++globalThis.kept]") as guest:
        assert [guest.value() for _ in range(3)] == [[n, n] for n in (1, 2, 3)]


def test_the_environment_is_put_back() -> None:
    source = """
        import process, { env } from 'node:process';
        export default (r) => {
            const seen = { ...Deno.env.toObject() };
            if (r.body === '1') { Deno.env.set('A', 'x'); Deno.env.delete('HOME'); Deno.env.set('NEW', 'x') }
            if (r.body === '2') { process.env.A = 'x'; delete process.env.HOME; env.NEW = 'x' }
            if (r.body === '3') for (let i = 0; i < 5000; i++) Deno.env.set('V' + i, 'x'.repeat(100));
            if (r.body === '4') { Deno.env.delete('FLUXBASE_EXECUTION_ID'); Deno.env.set('FLUXBASE_NAME', '') }
            return seen;
        }
    """
    with loaded(source, environment={"A": "1", "ÜMLAUT": "ü=", "FLUXBASE_NAME": "f"}) as guest:
        for number in "1234512345":
            id = f"0d1f4a35-8e0c-4a5c-9f66-00000000000{number}"
            seen = guest.value(number, id=id)
            assert seen.pop("FLUXBASE_EXECUTION_ID") == id
            assert {"A": "1", "ÜMLAUT": "ü=", "FLUXBASE_NAME": "f", "HOME": "/tmp"}.items() <= seen.items()
            assert seen.keys() <= {"A", "ÜMLAUT", "FLUXBASE_NAME", "HOME", "PATH", "TMPDIR", "LANG", "TZ", "_"}


def test_an_environment_that_is_too_large() -> None:
    with loaded("export default () => 1", environment={"BIG": "x" * 300_000}) as guest:
        assert guest.call().outcome is Outcome.EXITED


def test_storage_is_there() -> None:
    source = """
        export default () => {
            localStorage.setItem('a', 1);
            localStorage.b = 2;
            sessionStorage.setItem('a', 3);
            const seen = [localStorage.length, localStorage.a, localStorage.getItem('b'), localStorage.getItem('c'),
                          { ...localStorage }, 'a' in localStorage, localStorage.key(0), localStorage instanceof Storage];
            delete localStorage.a;
            localStorage.removeItem('b');
            return [...seen, localStorage.length];
        }
    """
    with loaded(source, NOTHING) as guest:
        for _ in range(2):
            assert guest.value() == [2, "1", "2", None, {"a": "1", "b": "2"}, True, "a", True, 0]


# -- code that patches what the guest uses -----------------------------------------------------------------------------

PATCHES = {
    "JSON": "JSON.stringify = JSON.parse = () => { throw 1 }",
    "lists": "Array.prototype.push = Array.prototype.map = Array.prototype.forEach = Array.isArray = null",
    "promises": "Promise.prototype.then = null; globalThis.Promise = null",
    "calls": "Function.prototype.call = Function.prototype.apply = null; Reflect.apply = null",
    "timers": "globalThis.setImmediate = globalThis.setTimeout = null",
    "bytes": "Uint8Array.prototype.set = Uint8Array.prototype.subarray = null; globalThis.Uint8Array = null",
    "texts": "TextEncoder.prototype.encodeInto = TextEncoder.prototype.encode = TextDecoder.prototype.decode = null",
    "strings": "String.prototype.slice = String.prototype.indexOf = String.prototype.replace = null",
    "prototypes": "Object.prototype.outcome = Object.prototype.meta = 5; Object.prototype.status = 404",
    "setters": "for (const n of ['body', 'meta', 'outcome', 'number', 'kind'])"
    " Object.defineProperty(Object.prototype, n, { set() { throw 1 }, get() { return 7 } })",
    "sets": "Set.prototype.add = Set.prototype.forEach = Set.prototype.clear = null",
    "process": "process.exit = process.on = process.emit = () => 0; Deno.exit = null; globalThis.process = null",
    "events": "globalThis.addEventListener = globalThis.dispatchEvent = null; EventTarget.prototype.dispatchEvent = null",
    "console": "console.log = () => 0; globalThis.console = null",
    "responses": "globalThis.Response = null",
    "numbers": "Number.isInteger = null; globalThis.Number = globalThis.String = null",
    "Deno": "Deno.exit = Deno.env = Deno.permissions = Deno.refTimer = Deno.unrefTimer = Deno.version = null",
    "storage": "const { AsyncLocalStorage: S } = await import('node:async_hooks'); S.prototype.run = S.prototype.getStore = null",
}


@pytest.mark.parametrize("patch", PATCHES.values(), ids=PATCHES.keys())
def test_patched_builtins_do_not_break_answers(patch: str) -> None:
    source = f"export default async (r) => {{ if (r.body === '0') {{ {patch} }} setTimeout?.(() => 0, 9); return 'mine' }}"
    with loaded(source) as guest:
        assert [guest.value(str(number), headers=[["a", str(number)]]) for number in range(3)] == ["mine"] * 3


def test_the_guests_own_modules_give_nothing_away() -> None:
    guest_files = RUNTIME.launch("deno", NOTHING).mounts[0].source
    source = """
        const [base, attempt] = [BASE, (work) => work().then((r) => r, (e) => `${e.name}: ${e.message}`)];
        const load = (name) => import(`file://${base}/${name}.js`);
        export default () => Promise.all([
            attempt(async () => (await load('channel')).openChannel()),
            attempt(async () => (await load('captured')).takeInternals()),
            attempt(async () => (await load('environment')).openEnvironment()),
            attempt(async () => Object.keys(await load('main'))),
            attempt(async () => { (await load('failure')).outcomes.UNUSABLE = 0 }),
            attempt(async () => [typeof Deno.internal, Object.getOwnPropertySymbols(Deno).length]),
            attempt(async () => Deno.readTextFile(`${base}/main.js`)),
        ])
    """.replace("BASE", json.dumps(guest_files))
    *given, changed, internals, text = value(source, rights=NOTHING)
    assert given == ["TypeError: This belongs to the runtime"] * 3 + [[]]
    assert changed.startswith("TypeError: Cannot assign to read only") and internals == ["undefined", 0]
    assert text.startswith("NotCapable: Requires read access")


def test_a_guest_ends_with_its_channel() -> None:
    with loaded("addEventListener('unload', () => { for (;;); }); export default () => { setInterval(() => {}, 0) }") as guest:
        assert guest.value() is None
        assert guest.process.hang_up() == 0


def test_what_stands_behind_a_call_stays_unread() -> None:
    with loaded("export default () => { console.log('begun'); for (;;); }") as guest:
        assert guest.process.unread_behind(Call("id", b"{}", 10.0), 10.0) > 0


@pytest.mark.parametrize(
    "end",
    ["Promise.reject(new Error('late'))", "Deno.exit(1)", "setInterval(() => 0, 1); Deno.listen({ port: 0 }).accept(); return 1"],
)
def test_nothing_is_run_behind_an_answer_that_makes_it_unfit(end: str) -> None:
    with loaded(f"export default () => {{ {end}; return {NEVER} }}") as guest:
        assert not guest.call().reusable
        assert guest.process.unread_behind_the_end(Call("id", b"{}", 10.0)) > 0
        assert guest.process.hang_up() == 0


# -- the launch --------------------------------------------------------------------------------------------------------


def test_stems_differ_by_rights_only() -> None:
    everything, nothing = RUNTIME.launch("deno", EVERYTHING), RUNTIME.launch("deno", NOTHING)
    assert {"--allow-net", "--allow-env", "--allow-read=/tmp", "--allow-write=/tmp", "--no-prompt"} <= set(everything.argv)
    granted = {flag for flag in nothing.argv if flag.startswith("--allow-")}
    assert granted == {"--allow-ffi", "--allow-env=FLUXBASE_*,SPINNEY_*"}
    assert everything.key == nothing.key and everything != nothing


def test_memory_has_room_for_garbage_but_not_for_half_as_much_again() -> None:
    for memory_mb in (64, 128, 1024):
        version = Version(
            id="v", function_id="f", number=1, runtime="deno", handler="", source="", created_at=0.0, memory_mb=memory_mb
        )
        limits = RUNTIME.load(FUNCTION, version, Limits()).limits
        assert memory_mb + 24 <= limits.memory_mb < 1.5 * memory_mb + 16


def test_a_source_with_lone_surrogates_can_be_sent() -> None:
    with loaded("export default () => '\ud83d'.length") as guest:
        assert guest.value() == 1
