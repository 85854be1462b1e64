"""Invoking over HTTP: requests arrive whole, replies leave as they are, the history knows of both (contract 2.6, 3.3, 3.4)."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tests.api import UUID
from tests.dialects.fluxbase.api import Api, Function, refused
from tests.server import Server
from tests.wire import Answer, Wire

MIB = 1048576
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
HOSTILE_TEXTS = {
    "quotes": "'\"`\\",
    "templates": "${process.exit(1)} #{1} {{1}} %s %d",
    "a script's end": "</script><!-- --> */ //",
    "line separators": "\u2028\u2029\r\n\t\x0b",
    "emoji": "👩‍👩‍👧 größe 日本語",
    "NUL": "a\0b",
    "forged results": '__RESULT__::{"status":200,"body":"forged"}\n',
    "a prototype": '{"__proto__": {"polluted": 1}}',
    "not JSON": "{nope",
}


@pytest.fixture(scope="module")
def bounce(api: Api) -> Function:
    """Gives the body back, byte for byte."""
    return api.handler("return new Response(await req.bytes(), { headers: { 'content-type': 'x/y' } })")


@pytest.mark.parametrize("method", METHODS)
def test_every_method(echo: Function, method: str) -> None:
    body = "" if method == "GET" else "x"
    request = echo.invoke(body, method).json()
    assert (request["method"], request["body"]) == (method, body)


def test_the_url_is_the_one_that_was_asked_for(server: Server, echo: Function) -> None:
    path = f"/fluxbase{echo.path}/invoke"
    request = echo.invoke(query="?a=1&a=2&b=%20x%2F&c").json()
    assert request["url"] == f"{server.url}{path}?a=1&a=2&b=%20x%2F&c"
    assert request["params"] == {"a": "2", "b": " x/", "c": ""}
    assert echo.invoke(headers={"host": "functions.example:81"}).json()["url"] == f"http://functions.example:81{path}"
    for nonsense in ("a b", "x/../y", "300.1.1.1", "a:99999", "évil"):
        sent = {b"host": nonsense.encode()}
        assert echo.invoke(headers=sent).json()["url"] == f"{server.url}{path}"


def test_a_name_that_was_sent_encoded(server: Server, echo: Function) -> None:
    encoded = f"/fluxbase/api/v1/functions/{''.join(f'%{ord(c):02X}' for c in echo.name)}/invoke"
    with Wire(server.port) as wire:
        wire.post(encoded + "?%zz", b"x")
        assert wire.answer().json()["url"] == f"http://localhost{encoded}?%zz"


def test_headers_as_they_came(echo: Function) -> None:
    sent = [("X-One", "1"), ("X-Many", "a"), ("x-many", "b"), ("Cookie", "a=1"), ("Cookie", "b=2"), ("X-Empty", "")]
    headers = echo.invoke("body", headers=sent).json()["headers"]
    expected = {"x-one": "1", "x-many": "a, b", "cookie": "a=1; b=2", "x-empty": "", "content-length": "4"}
    assert {name: headers[name] for name in expected} == expected
    assert "authorization" not in headers


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS.keys())
def test_bodies_are_never_source_text(echo: Function, bounce: Function, text: str) -> None:
    assert echo.invoke(text.encode()).json()["body"] == text
    assert bounce.invoke(text.encode()).content == text.encode()
    assert echo.invoke(json.dumps({text: text})).json()["body"] == json.dumps({text: text})


@pytest.mark.parametrize("size", [0, 1, 65536, MIB + 1, 10 * MIB])
def test_bytes_pass_both_ways(bounce: Function, size: int) -> None:
    body = random.Random(size).randbytes(size)
    response = bounce.invoke(body)
    assert response.content == body
    assert response.headers["content-type"] == "x/y"


def test_an_encoded_body_is_the_functions_to_decode(bounce: Function) -> None:
    assert bounce.invoke(b"\x1f\x8b\0", headers={"content-encoding": "gzip"}).content == b"\x1f\x8b\0"


def test_chunked_bodies(server: Server, bounce: Function) -> None:
    path = f"/fluxbase{bounce.path}/invoke"
    with Wire(server.port) as wire:
        for _ in range(2):
            wire.head("POST", path, transfer_encoding="chunked")
            for part in (b"ab\xff", b"\0" * 100_000, b""):
                wire.chunk(part)
            assert wire.answer().body == b"ab\xff" + b"\0" * 100_000
        wire.head("POST", path, transfer_encoding="chunked")
        for _ in range(11):
            wire.chunk(b"x" * MIB)
        wire.chunk(b"")
        assert wire.answer()[::2] == (413, b'{"error":"Request body too large"}')


def test_a_body_that_is_too_large_leaves_no_row(api: Api) -> None:
    function = api.function()
    refused(function.invoke(b"x" * (10 * MIB + 1)), 413, "Request body too large")
    assert function.history() == []


def test_the_length_is_the_bodys_own_also_over_one_connection(server: Server, echo: Function) -> None:
    path = f"/fluxbase{echo.path}/invoke"
    with Wire(server.port) as wire:
        for body in (b"a", b"bcd", b"", b"x" * 1000, b"a"):
            wire.post(path, body)
            request = wire.answer().json()
            assert (request["body"], request["headers"]["content-length"]) == (body.decode(), str(len(body)))


def replied(function: Function, value: object) -> Answer:
    """What a client gets, header by header, when the function returns what this JavaScript expression says."""
    response = function.invoke(json.dumps(value))
    return Answer(response.status_code, dict(response.headers), response.content)


@pytest.mark.parametrize(
    ("returned", "status", "content_type", "body"),
    [
        ("({status: 201, body: 'plain'})", 201, "text/plain; charset=utf-8", b"plain"),
        ("({status: 200, body: '{\"a\": 1}'})", 200, "application/json", b'{"a": 1}'),
        ("({status: 200, body: ' [1]\\n'})", 200, "application/json", b" [1]\n"),
        ("({status: 200, body: '1'})", 200, "text/plain; charset=utf-8", b"1"),
        ("({status: '404', body: {a: [1]}})", 404, "application/json", b'{"a":[1]}'),
        ("({status: 400, headers: {'Content-Type': 'a/b'}, body: 'x'})", 400, "a/b", b"x"),
        ("({status: 500, body: new Uint8Array([0, 255])})", 500, "application/octet-stream", b"\0\xff"),
        ("({status: 299})", 299, None, b""),
        ("({status: 599, body: null})", 599, None, b""),
        ("({status: 'ok', body: 1})", 200, "application/json", b'{"status":"ok","body":1}'),
        ("({a: 1})", 200, "application/json", b'{"a":1}'),
        ("'text'", 200, "application/json", b'"text"'),
        ("null", 200, "application/json", b"null"),
        ("undefined", 200, "application/json", b"null"),
        ("0", 200, "application/json", b"0"),
        ("new Response('x', {status: 202})", 202, "text/plain;charset=UTF-8", b"x"),
        ("Response.json({a: 1}, {status: 418})", 418, "application/json", b'{"a":1}'),
        ("new Response(null, {status: 301, headers: {location: 'https://a.example/'}})", 301, None, b""),
    ],
)
def test_replies(js: Function, returned: str, status: int, content_type: str | None, body: bytes) -> None:
    answer = replied(js, returned)
    assert (answer.status, answer.headers.get("content-type"), answer.body) == (status, content_type, body)
    row = js.row(answer.headers["x-execution-id"])
    assert (row["status"], row["status_code"], row["error_message"]) == ("success", status, None)
    assert row["result"] == (body.decode(errors="replace") or None)


@pytest.mark.parametrize("status", [204, 205, 304])
@pytest.mark.parametrize("again", [False, True], ids=["once", "repeated"])
def test_replies_without_a_body(server: Server, js: Function, status: int, again: bool) -> None:
    with Wire(server.port) as wire:
        for _ in range(1 + again):
            wire.post(
                f"/fluxbase{js.path}/invoke", json.dumps(f"({{status: {status}, headers: {{a: 'b'}}, body: 'x'}})").encode()
            )
            answer = wire.answer()
            assert (answer.status, answer.headers["a"], answer.body) == (status, "b", b"")
            assert answer.headers.get("content-length", "0") == "0"
    assert js.history("?limit=1")[0]["result"] is None


def test_a_redirect_is_the_callers_to_follow(js: Function) -> None:
    answer = replied(js, "({status: 302, headers: {location: 'http://127.0.0.1:1/'}})")
    assert (answer.status, answer.headers["location"]) == (302, "http://127.0.0.1:1/")


@pytest.mark.parametrize(
    "returned",
    [
        "({status: 200, headers: {'set-cookie': ['a=1', 'b=2']}, body: ''})",
        "new Response('', {headers: [['set-cookie', 'a=1'], ['set-cookie', 'b=2']]})",
    ],
)
def test_cookies_stay_apart(js: Function, returned: str) -> None:
    assert js.invoke(json.dumps(returned)).headers.get_list("set-cookie") == ["a=1", "b=2"]


def test_headers_that_are_not_the_functions(js: Function) -> None:
    names = ["connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer", "proxy-authenticate", "content-length"]
    headers = dict.fromkeys(names, "chunked") | {"X-Execution-Id": "forged", "x-own": "mine"}
    answer = js.invoke(json.dumps(f"({{status: 200, headers: {json.dumps(headers)}, body: 'whole'}})"))
    assert (answer.text, answer.headers["x-own"], answer.headers["content-length"]) == ("whole", "mine", "5")
    assert UUID.fullmatch(answer.headers["x-execution-id"])
    assert not set(names[:-1]) & set(answer.headers)


@pytest.mark.parametrize("value", ["a\\r\\nx-evil: 1", "a\\nx-evil: 1", "a\\rb", "\\0", "a\\r\\n\\r\\n<html>"])
@pytest.mark.parametrize(
    "form", ["({status: 200, headers: {x: '%s'}, body: ''})", "({status: 200, headers: {'%s': 'x'}, body: ''})"]
)
def test_no_header_is_smuggled(server: Server, js: Function, value: str, form: str) -> None:
    with Wire(server.port) as wire:
        wire.post(f"/fluxbase{js.path}/invoke", json.dumps(form % value).encode())
        answer = wire.answer()
    assert answer.status == 500 and "x-evil" not in answer.headers
    assert answer.json()["message"].startswith("TypeError: Invalid header")


@pytest.mark.parametrize("status", ["199", "600", "100", "0", "-200", "200.5", "NaN", "Infinity", "999", "'700'"])
def test_statuses_that_are_none(js: Function, status: str) -> None:
    assert js.failed(f"({{status: {status}, body: 'x'}})") == f"RangeError: Invalid response status: {status.strip(chr(39))}"


def test_a_reply_of_ten_mebibytes_and_one_byte_more(js: Function) -> None:
    fits = js.invoke(json.dumps("new Response(new Uint8Array(10485760).fill(65))"))
    assert (fits.status_code, len(fits.content)) == (200, 10 * MIB)
    assert js.failed("new Response(new Uint8Array(10485761))") == "RangeError: Function response too large (max 10485760 bytes)"


@pytest.mark.parametrize(("length", "kept"), [(262144, 262144), (262145, 262144)])
def test_what_is_kept_of_a_result(js: Function, length: int, kept: int) -> None:
    response = js.invoke(json.dumps(f"new Response('x'.repeat({length}))"))
    assert len(response.content) == length
    truncated = "\n[OUTPUT TRUNCATED: exceeded 262144 bytes limit]" if length > kept else ""
    assert js.row(response.headers["x-execution-id"])["result"] == "x" * kept + truncated


def test_a_result_is_cut_between_characters(js: Function) -> None:
    row = js.row(js.invoke(json.dumps("new Response('x' + '€'.repeat(100000))")).headers["x-execution-id"])
    text, _, last = row["result"].rpartition("\n")
    assert (text, last) == ("x" + "€" * 87381, "[OUTPUT TRUNCATED: exceeded 262144 bytes limit]")


def test_a_result_that_is_no_text(js: Function) -> None:
    response = js.invoke(json.dumps("new Response(new Uint8Array([104, 255, 105]))"))
    assert js.row(response.headers["x-execution-id"])["result"] == "h\ufffdi"


def test_what_a_run_knows_of_itself(server: Server, api: Api) -> None:
    names = ("FLUXBASE_URL", "FLUXBASE_FUNCTION_NAME", "FLUXBASE_EXECUTION_ID", "SPINNEY_ADMIN_KEY")
    function = api.handler(f"return {json.dumps(names)}.map((name) => Deno.env.get(name) ?? null)")
    for _ in range(2):
        response = function.invoke()
        assert response.json() == [server.url + "/fluxbase", function.name, response.headers["x-execution-id"], None]


def test_logs_are_a_runs_own(api: Api) -> None:
    function = api.handler("console.log('got', req.body); console.error('two\\nlines'); return 1")
    assert [function.logs(n) for n in (1, 2)] == [f"console.log: got {n}\nconsole.error: two\nlines" for n in (1, 2)]
    assert api.function().logs() == ""


def test_logs_are_kept_of_failures_and_timeouts_too(api: Api) -> None:
    function = api.handler("console.warn('before'); if (req.body == 1) throw new Error('x'); while (true);", timeout_seconds=1)
    assert function.failed(1) == "Error: x"
    assert function.failed(2, 408, "Function execution timeout") == "Function exceeded timeout limit of 1 seconds"
    assert [row["logs"] for row in function.history()] == ["console.warn: before"] * 2


def test_logs_have_a_limit(api: Api) -> None:
    function = api.handler("for (let n = 0; n < 5000; n++) console.log('x'.repeat(100)); return 1")
    logs = function.logs()
    text, _, last = logs.rpartition("\n")
    assert (len(text), last) == (262144, "[OUTPUT TRUNCATED: exceeded 262144 bytes limit]")


def test_output_cannot_forge_or_break_a_reply(api: Api) -> None:
    function = api.handler(
        """const forged = '__RESULT__::{"status":200,"body":"forged"}';
        console.log(forged); Deno.stdout.writeSync(new TextEncoder().encode(forged + '\\n' + '\\0'.repeat(300000)));
        return 'true'"""
    )
    assert function() == "true"
    assert function.history()[0]["logs"].startswith("console.log: __RESULT__::")


def failure_cases() -> list[Any]:
    return [
        ("throw new Error('x')", "Error: x"),
        ("throw new class Own extends TypeError { name = 'Own' }('y')", "Own: y"),
        ("throw 'text'", "text"),
        ("throw {a: 1}", '{"a":1}'),
        ("throw null", "null"),
        ("return someVariable", "ReferenceError: someVariable is not defined"),
        ("const f = () => f(); f()", "RangeError: Maximum call stack size exceeded"),
        ("Deno.exit(3)", "Error: Function exited with code 3"),
        ("setTimeout(() => { throw new Error('later') }); await new Promise(() => {})", "Error: later"),
        ("Promise.reject(new Error('floating')); await new Promise((go) => setTimeout(go, 1000))", "Error: floating"),
    ]


@pytest.mark.parametrize(("body", "message"), failure_cases())
def test_failures(api: Api, body: str, message: str) -> None:
    function = api.handler(body, timeout_seconds=10)
    assert [function.failed() for _ in range(2)] == [message] * 2


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("async function handler(req) { ... }", "SyntaxError: "),
        ("throw new TypeError('at load')", "TypeError: at load"),
        ("// export default handler\nconst text = 'export default'", "Error: No handler function found. Export a 'handler', "),
    ],
)
def test_code_that_cannot_run(api: Api, code: str, message: str) -> None:
    assert api.function(code).failed().startswith(message)


def test_too_much_memory(api: Api) -> None:
    function = api.handler("const all = []; for (;;) all.push(new Uint8Array(1e7).fill(1))", memory_limit_mb=64)
    assert function.failed() == "Error: Function exceeded memory limit of 64 MB"
