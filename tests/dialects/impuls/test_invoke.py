"""Invocation: events, envelopes, HTTP status and headers (contract 2.7, traps 3, 4, 14, 15, 16)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api import UUID
from tests.dialects.impuls.api import Api, Function, envelope_of
from tests.server import Server
from tests.wire import Wire

RESULT_LIMIT = 6291456
NEVER_LOCAL = ["", "?local", "?local=", "?local=false", "?local=0", "?local=yes", "?local=2", "?unknown=1"]
LOCAL = ["?local=true", "?local=1", "?local=TRUE", "?local=True", "?other=1&local=true"]

EVENTS: list[Any] = [
    {}, [], "", "text", 0, -1, 1.5, True, False, None, {"a": [1, {"b": None}]}, [[[]]], "größe 😀", "\u2028\u2029",
    "`${process.exit(1)}`", "'; process.exit(1); '", '"\\', "</script>", "\0\x1f\x7f",
    {"": "empty key"}, {"constructor": 1, "toString": 2, "then": 3},
    {"10": "a", "9": "b"}, 9007199254740991, 1e-7, 1.7976931348623157e308, [None] * 1000, "x" * 100_000,
]  # fmt: skip

# what Node makes of the exact text of an event, as JavaScript source of the check
NODE_TEXTS: list[tuple[str, str, Any]] = [
    ("1e400", "String(event)", "Infinity"),
    ("-1e400", "String(event)", "-Infinity"),
    ("9" * 5000, "String(event)", "Infinity"),
    ("12345678901234567890", "String(event)", "12345678901234567000"),
    ("-0", "Object.is(event, -0)", True),
    ("1E2", "event", 100),
    ("0.1e1", "event", 1),
    ("1.0", "String(event)", "1"),
    (r'"\ud83d"', "[event.length, event.charCodeAt(0)]", [1, 0xD83D]),
    (r'"\ude00\ud83d"', "[event.length, event.charCodeAt(0)]", [2, 0xDE00]),
    (r'{"\ud83d": 1}', "Object.keys(event)[0].charCodeAt(0)", 0xD83D),
    (r'"\ud83d\ude00"', "event", "😀"),
    (r'"\u0061\/\b"', "event", "a/\b"),
    ('{"a": 1, "a": 2}', "event", {"a": 2}),
    ('{"b": 1, "a": 2}', "Object.keys(event)", ["b", "a"]),
    ('{"__proto__": {"polluted": 1}}', "[Object.keys(event), ({}).polluted, event.polluted]", [["__proto__"], None, None]),
    ("[" * 512 + "]" * 512, "JSON.stringify(event).length", 1024),
    ('{"a":' * 512 + "1" + "}" * 512, "JSON.stringify(event).length", 6 * 512 + 1),
    ('"' + "[{" * 2000 + '"', "event.length", 4000),
    ('"\\"' + "[" * 2000 + '"', "event.length", 2001),
    (" \r\n\t[1]\n ", "event", [1]),
]  # fmt: skip

PYTHON_TEXTS: list[tuple[str, str, Any]] = [
    ("1e400", "repr(event)", "inf"),
    ("12345678901234567890", "repr(event)", "12345678901234567890"),
    ("1.0", "repr(event)", "1.0"),
    ("-0.0", "repr(event)", "-0.0"),
    (r'"\ud83d"', "[len(event), ord(event)]", [1, 0xD83D]),
    ('{"a": 1, "a": 2}', "event", {"a": 2}),
    ("[true, false, null]", "repr(event)", "[True, False, None]"),
    ("[" * 512 + "]" * 512, "len(str(event))", 1024),
]

# JavaScript value of the handler, status_code, body, headers (None: no such key)
UNWRAPPED: list[tuple[str, int, Any, Any]] = [
    ("({statusCode: 200, body: {a: 1}})", 200, {"a": 1}, None),
    ("({statusCode: 201})", 201, None, None),
    ("({statusCode: 200, body: undefined})", 200, None, None),
    ("({statusCode: 200, body: null})", 200, None, None),
    ("({statusCode: 200, body: '{\"a\": 1}'})", 200, '{"a": 1}', None),
    ("({statusCode: 200, body: [1, 'x', false]})", 200, [1, "x", False], None),
    ("({statusCode: 200, body: 0})", 200, 0, None),
    ("({statusCode: 200, body: {statusCode: 404, body: 1}})", 200, {"statusCode": 404, "body": 1}, None),
    ("({body: 1, statusCode: 418})", 418, 1, None),
    ("({statusCode: 1e2 + 300})", 400, None, None),
    ("({statusCode: 599, body: 'odd'})", 599, "odd", None),
    ("({statusCode: 500, body: {mine: true}})", 500, {"mine": True}, None),
    ("({statusCode: 302, headers: {Location: 'http://localhost/'}})", 302, None, {"Location": "http://localhost/"}),
    ("({statusCode: 200, headers: {}, body: 1})", 200, 1, {}),
    ("({statusCode: 200, headers: {a: [1, {b: null}]}, body: 1})", 200, 1, {"a": [1, {"b": None}]}),
    ("({statusCode: 200, headers: 'no', body: 1})", 200, 1, None),
    ("({statusCode: 200, headers: ['no'], body: 1})", 200, 1, None),
    ("({statusCode: 200, headers: null, body: 1})", 200, 1, None),
    ("({statusCode: 200, body: 1, isBase64Encoded: false, cookies: [], error: 'x', logs: 'y', status_code: 3})", 200, 1, None),
    ("({toJSON: () => ({statusCode: 202, body: 'from toJSON'})})", 202, "from toJSON", None),
    ("new (class { statusCode = 203; body = 'instance' })()", 203, "instance", None),
    ("({statusCode: 201, body: new Date(0)})", 201, "1970-01-01T00:00:00.000Z", None),
    ("({statusCode: 100, body: 'early'})", 100, "early", None),
    ("({statusCode: 199, body: 'early'})", 199, "early", None),
    (r"({'status\u0043ode': 202, body: 'escaped'})", 202, "escaped", None),
]

# JavaScript value of the handler and its JSON, answered with 200
PLAIN: list[tuple[str, Any]] = [
    ("undefined", None),
    ("null", None),
    ("true", True),
    ("-0.5", -0.5),
    ("'text'", "text"),
    ("''", ""),
    ("[]", []),
    ("[undefined, () => 1]", [None, None]),
    ("({a: undefined, b: 1, c: Symbol('x')})", {"b": 1}),
    ("[NaN, Infinity, -Infinity]", [None, None, None]),
    ("new Date(0)", "1970-01-01T00:00:00.000Z"),
    ("new Map([[1, 2]])", {}),
    ("(() => 1)", None),
    ("Promise.resolve(7)", 7),
    ("({then: (resolve) => resolve('thenable')})", "thenable"),
    ("({body: 1})", {"body": 1}),
    ("({headers: {a: 1}})", {"headers": {"a": 1}}),
    ("({StatusCode: 201})", {"StatusCode": 201}),
    ("[{statusCode: 404}]", [{"statusCode": 404}]),
    ("Object.assign([], {statusCode: 404})", []),
    *((f"({{statusCode: {code}, body: 1}})", {"statusCode": json.loads(code), "body": 1})
      for code in ('"200"', "200.5", "99", "600", "0", "-200", "true", "null", "[200]", "1e21", "1e300", '""')),
    ("({statusCode: NaN})", {"statusCode": None}),
    ("({statusCode: undefined, body: 1})", {"body": 1}),
    ("Object.create({statusCode: 404})", {}),
    ("JSON.parse('{\"__proto__\": {\"a\": 1}}')", {"__proto__": {"a": 1}}),
    (r"'\ud83d'", "\ud83d"),
    (r"({'\udc00': '\ude00\ud83d'})", {"\udc00": "\ude00\ud83d"}),
    (r"'\u2028 größe 😀 \0'", "\u2028 größe 😀 \0"),
]  # fmt: skip


def short(value: object) -> str:
    return ascii(value)[:50]


@pytest.mark.parametrize("event", EVENTS, ids=short)
def test_events_arrive_as_they_are(echo: Function, event: Any) -> None:
    answer = echo.invoke_text(json.dumps(event))
    assert (answer["status_code"], answer["body"]) == (200, event)
    assert echo.invoke_text(json.dumps(event, ensure_ascii=False))["body"] == event


@pytest.mark.parametrize("text", [None, "", " ", "\r\n \t\n"])
def test_no_event_is_an_empty_object(echo: Function, text: str | None) -> None:
    response = echo.api.send("POST", f"{echo.path}/invoke", text)
    assert envelope_of(response)["body"] == {}


@pytest.mark.parametrize(("text", "check", "expected"), NODE_TEXTS, ids=short)
def test_node_parses_the_very_text(api: Api, text: str, check: str, expected: Any) -> None:
    assert api.node(f"return {check}").invoke_text(text)["body"] == expected


@pytest.mark.parametrize(("text", "check", "expected"), PYTHON_TEXTS, ids=short)
def test_python_parses_the_very_text(api: Api, text: str, check: str, expected: Any) -> None:
    assert api.python(f"def handler(event, context): return {check}").invoke_text(text)["body"] == expected


@pytest.mark.parametrize("query", LOCAL + NEVER_LOCAL)
def test_local_gives_the_same_answer(echo: Function, query: str) -> None:
    assert echo.invoke({"a": 1}, query)["body"] == {"a": 1}


def test_local_is_confined_as_well(server: Server, js: Function) -> None:
    source = f"[require('fs').existsSync({str(server.data_dir)!r}), process.env.PATH]"
    assert js.invoke(source, "?local=true")["body"] == js.invoke(source)["body"] == [False, js("process.env.PATH")]


@pytest.mark.parametrize(("source", "status", "body", "headers"), UNWRAPPED, ids=short)
def test_status_codes_are_unwrapped(js: Function, source: str, status: int, body: Any, headers: Any) -> None:
    answer = js.invoke(source)
    assert (answer["status_code"], answer["body"], answer.get("headers")) == (status, body, headers)
    assert set(answer) <= {"status_code", "body", "headers", "duration_ms", "logs"}


@pytest.mark.parametrize(("source", "body"), PLAIN, ids=short)
def test_everything_else_is_the_body(js: Function, source: str, body: Any) -> None:
    answer = js.invoke(source)
    assert (answer["status_code"], answer["body"]) == (200, body)
    assert "headers" not in answer


@pytest.mark.parametrize(
    ("source", "status", "text"),
    [
        ("{'statusCode': 201, 'body': {'a': (1, 2)}}", 201, '{"a":[1,2]}'),
        ("{'statusCode': True, 'body': 1}", 200, '{"statusCode":true,"body":1}'),
        ("{'statusCode': 200.5}", 200, '{"statusCode":200.5}'),
        ("{'statusCode': 10**30}", 200, '{"statusCode":1000000000000000000000000000000}'),
        ("10**30", 200, "1000000000000000000000000000000"),
        ("1.0", 200, "1.0"),
        ("'\\ud83d'", 200, '"\\ud83d"'),
        ("{1: 2, None: 3, True: 4}", 200, '{"1":4,"null":3}'),
    ],
)
def test_python_values_keep_their_json_text(py: Function, source: str, status: int, text: str) -> None:
    response = py.post(f"value = {source}")
    assert response.status_code == status
    envelope_of(response)
    assert f'"body":{text}' in response.text.replace(": ", ":").replace(", ", ",")


def test_lone_surrogates_leave_as_escapes(js: Function) -> None:
    response = js.post(r"'\ud83d'")
    assert rb'"\ud83d"' in response.content.lower()
    response.content.decode("utf-8")


def test_headers_of_the_function_are_data(js: Function) -> None:
    response = js.post("({statusCode: 200, headers: {'X-Evil': '1', 'Content-Type': 'text/html', 'X-Execution-Id': 'mine'}})")
    assert envelope_of(response)["headers"]["X-Evil"] == "1"
    assert "x-evil" not in response.headers
    assert UUID.fullmatch(response.headers["x-execution-id"])


@pytest.mark.parametrize("status", [204, 205, 304])
def test_statuses_without_a_body(server: Server, js: Function, status: int) -> None:
    """The connection stays in step: the answers of requests sent behind it are their own."""
    with Wire(server.port) as wire:
        for event in (f"({{statusCode: {status}, body: {{no: 'body'}}}})", "'next'"):
            wire.post(f"/impuls{js.path}/invoke", json.dumps(event).encode())
        empty, following = wire.answer(), wire.answer()
        assert (empty.status, empty.body) == (status, b"")
        assert UUID.fullmatch(empty.headers["x-execution-id"])
        assert empty.headers["x-impuls-duration"].isdecimal()
        assert following.json()["body"] == "next"


@pytest.mark.parametrize("status", [100, 101, 103])
def test_informational_statuses_are_sent_as_200(server: Server, js: Function, status: int) -> None:
    with Wire(server.port) as wire:
        wire.post(f"/impuls{js.path}/invoke", json.dumps(f"({{statusCode: {status}, body: 1}})").encode())
        answer = wire.answer()
        assert (answer.status, answer.json()["status_code"]) == (200, status)


def test_every_invocation_has_an_id_of_its_own(js: Function) -> None:
    seen = set()
    for _ in range(5):
        response = js.post("context.awsRequestId")
        assert response.json()["body"] == response.headers["x-execution-id"]
        seen.add(response.headers["x-execution-id"])
    assert len(seen) == 5


def test_a_refused_request_is_no_invocation(echo: Function) -> None:
    response = echo.api.send("POST", f"{echo.path}/invoke", "{bad")
    assert "x-execution-id" not in response.headers
    assert "x-impuls-duration" not in response.headers


def test_duration_covers_loading_and_handling(api: Api) -> None:
    load = "const end = Date.now() + 200; while (Date.now() < end);"
    function = api.function(load + "exports.handler = (event) => new Promise((go) => setTimeout(go, event.ms))")
    assert function.invoke({"ms": 100})["duration_ms"] >= 295
    assert function.invoke({"ms": 50})["duration_ms"] >= 49


@pytest.mark.parametrize("make", ["node", "python"])
def test_the_largest_result(js: Function, py: Function, make: str) -> None:
    """6 MiB of JSON, the quotes included; not one byte more."""
    function, source = (js, "'x'.repeat({})") if make == "node" else (py, "value = 'x' * {}")
    assert len(function(source.format(RESULT_LIMIT - 2))) == RESULT_LIMIT - 2
    assert function.error(source.format(RESULT_LIMIT - 1)) == "function result too large (max 6291456 bytes)"
    assert function(source.format(3)) == "xxx"


@pytest.mark.parametrize("make", ["node", "python"])
def test_the_deepest_result(js: Function, py: Function, make: str) -> None:
    def nested(depth: int) -> str:
        if make == "node":
            return f"(() => {{ let v = []; for (let n = 1; n < {depth}; n++) v = [v]; return v }})()"
        return f"value = []\nfor _ in range({depth - 1}): value = [value]"

    function = js if make == "node" else py
    assert json.dumps(function(nested(512))) == "[" * 512 + "]" * 512
    for depth in (513, 100_000):
        assert function.error(nested(depth)).startswith("function result is not JSON-serializable: ")
    assert function(nested(1)) == []
