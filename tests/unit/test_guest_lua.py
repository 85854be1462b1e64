"""The Lua guest: how it calls, what a program sees of its request, what becomes of its answer (Lunar contract 3.1 to 3.5)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.lua import META, program, run, value

from spinney.model import Call, LogLine, Outcome, Reply

ECHO = "function handler(ctx, event) return { body = event.body } end"


def head(reply: Reply) -> Any:
    assert reply.outcome is Outcome.OK, reply
    return json.loads(reply.meta)


def answer(lines: str, *arguments: Any, **meta: Any) -> Any:
    """What a handler with these lines puts into its body as JSON."""
    return value(run(f"function handler(ctx, event)\n{lines}\nend", *arguments, **meta))


# -- the request -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_bytes", [0, 1000])
def test_bodies_are_bytes(chunk_bytes: int) -> None:
    with program(ECHO, chunk_bytes=chunk_bytes) as loaded:
        for body in (b"", b"{}", bytes(range(256)) * 40, b"x" * 3_000_000):
            reply = loaded.call(body)
            assert (reply.outcome, reply.body == body) == (Outcome.OK, True)


def test_the_context() -> None:
    lines = "return { body = json.encode({ ctx, type(ctx.startedAt), type(ctx.version) }) }"
    context, *types = answer(lines, id="e7")
    assert context.pop("startedAt") > 1_600_000_000
    assert context == {
        "executionId": "e7",
        "functionId": "f1",
        "functionName": "hello",
        "version": "3",
        "requestId": "e7",
        "baseUrl": "http://localhost:8080/lunar",
    }
    assert types == ["number", "string"]
    assert answer("return { body = json.encode(ctx.requestId) }", ctx={**META["ctx"], "requestId": "mine"}) == "mine"


def test_the_event() -> None:
    event = answer(
        "return { body = json.encode(event) }",
        '"b"',
        method="PUT",
        path="/fn/f1/ü",
        relativePath="/ü",
        headers=[["Accept", "a"], ["X-Two", "1"], ["X-Two", "2"]],
        query=[["a", "1"], ["b", ""], ["a", "2"]],
    )
    assert event == {
        "method": "PUT",
        "path": "/fn/f1/\ufffd",  # one byte a character
        "relativePath": "/\ufffd",
        "body": '"b"',
        "headers": {"Accept": "a", "X-Two": "1"},
        "multiValueHeaders": {"Accept": ["a"], "X-Two": ["1", "2"]},
        "query": {"a": "1", "b": ""},
        "multiValueQuery": {"a": ["1", "2"], "b": [""]},
    }


def test_a_request_without_fields() -> None:
    with program("function handler(ctx, event) return { body = json.encode({ ctx, event }) } end") as loaded:
        context, event = value(loaded.guest.invoke(Call("e1", b"x", 10.0), 10.0))
    assert context["executionId"] == "e1" and event["body"] == "x" and event["headers"] == {}


def test_headers_are_found_in_any_case_and_have_one() -> None:
    lines = """
        local names = {}
        for name in pairs(event.headers) do names[#names + 1] = name end
        local h, all = event.headers, event.multiValueHeaders
        local none = h[1] == nil and h["x-none"] == nil and event.query.A == nil
        return { body = json.encode({ h["content-type"], h["CONTENT-TYPE"], all["content-TYPE"], names, none }) }
    """
    found = answer(lines, headers=[["Content-Type", "a/b"]], query=[["a", "1"]])
    assert found == ["a/b", "a/b", ["a/b"], ["Content-Type"], True]


# -- the response ------------------------------------------------------------------------------------------------------

STATUSES = {
    "nil": 200,
    "0": 200,
    "''": 200,
    "'x'": 200,
    "true": 200,
    "{}": 200,
    "0/0": 200,
    "201": 201,
    "'404'": 404,
    "404.9": 404,
    "'500.5'": 500,
    "200": 200,
    "599": 599,
    "599.9": 599,
}


def test_status_codes() -> None:
    with program("function handler(ctx, event) return { statusCode = loadstring('return ' .. event.body)() } end") as loaded:
        assert {code: head(loaded.call(code))["status"] for code in STATUSES} == STATUSES
        for code, shown in {"1000": "1000", "199": "199", "-5.5": "-5", "'600'": "600", "1/0": "+Inf", "1e300": "1e+300"}.items():
            reply = loaded.call(code)
            message = f"invalid statusCode {shown} (must be between 200 and 599)"
            assert (reply.outcome, reply.message, reply.reusable) == (Outcome.BAD_RESULT, message, True)


BODIES = {"'text'": b"text", "'\\0\\255'": b"\0\xff", "5": b"5", "1e15": b"1000000000000000", "nil": b"", "{}": b"", "true": b""}


def test_bodies_are_strings_or_numbers() -> None:
    with program("function handler(ctx, event) return { body = loadstring('return ' .. event.body)() } end") as loaded:
        assert {text: loaded.call(text).body for text in BODIES} == BODIES


def test_headers_of_the_response() -> None:
    reply = run("""
        function handler()
          return { headers = {
            A = "x", B = 2, C = { "1", 2, true }, D = true, E = {}, [1] = "x",
            ["F\\r\\n"] = "a\\r\\nb\\0c", G = "\\255",
          } }
        end
    """)
    assert sorted(map(tuple, head(reply)["headers"])) == [
        ("A", "x"),
        ("B", "2"),
        ("C", ""),
        ("C", "1"),
        ("C", "2"),
        ("D", ""),
        ("F  ", "a  b c"),
        ("G", "\xff"),
    ]
    for other in ("nil", "5", "'text'", "{}"):
        assert head(run(f"function handler() return {{ headers = {other} }} end")) == {"status": 200, "headers": []}


def test_thousands_of_headers() -> None:
    reply = run("function handler() local h = {} for i = 1, 20000 do h['X' .. i] = i end return { headers = h } end")
    assert len(head(reply)["headers"]) == 20000


def test_base64_is_left_to_who_sends_it() -> None:
    with program(
        "function handler(c, e) return { body = 'aGk=', isBase64Encoded = loadstring('return ' .. e.body)() } end"
    ) as loaded:
        for text, said in {"true": True, "1": True, "''": True, "false": None, "nil": None}.items():
            reply = loaded.call(text)
            assert reply.body == b"aGk=" and head(reply).get("isBase64Encoded") == said


def test_the_largest_body_and_one_byte_more() -> None:
    with program("function handler(ctx, event) return { body = ('x'):rep(tonumber(event.body)) } end") as loaded:
        assert len(loaded.call("6291456").body) == 6291456
        assert loaded.call("6291457").outcome is Outcome.RESULT_TOO_LARGE
        assert loaded.call("3").body == b"xxx"


@pytest.mark.parametrize("result", ["", "nil", "5", "'text'", "handler", "nil, {}"])
def test_what_is_no_response(result: str) -> None:
    reply = run(f"function handler() return {result} end")
    assert (reply.outcome, reply.message) == (Outcome.BAD_RESULT, "handler did not return a table")


def test_only_the_first_value_counts() -> None:
    assert run("function handler() return { body = 'first' }, { body = 'second' } end").body == b"first"


# -- programs that fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source", ["", "local function handler() end", "handler = {}", "handler = setmetatable({}, {__call = print})"]
)
def test_without_a_handler(source: str) -> None:
    reply = run(source)
    assert (reply.outcome, reply.message) == (Outcome.NO_HANDLER, "handler function not found in Lua code")
    assert reply.reusable


SYNTAX = {
    "x = = 1": "<string>:1: unexpected symbol near '='",
    "function handler()": "<string>:1: 'end' expected near '<eof>'",
    "\n\nreturn 'x": "<string>:3: unfinished string near '<eof>'",
    "\x1bLJ\x02": "attempt to load chunk with wrong mode",
}


@pytest.mark.parametrize("source", SYNTAX)
def test_programs_that_do_not_compile_fail_each_call(source: str) -> None:
    with program(source) as loaded:
        for _ in range(2):
            reply = loaded.call()
            assert (reply.outcome, reply.message, reply.reusable) == (Outcome.ERROR, SYNTAX[source], True)


ERRORS = {
    "error('boom')": "<string>:2: boom",
    "error('boom', 0)": "boom",
    "error('boom', 2)": "boom",
    "error()": "nil",
    "error(nil)": "nil",
    "error(5)": "<string>:2: 5",
    "error(true)": "true",
    "error({ code = 1, [2] = 3 })": '{"code":1}',
    "error(setmetatable({}, { __tostring = function() return 'told' end }))": "told",
    "error(setmetatable({}, { __tostring = function() error('x') end }))": "table",
    "error(setmetatable({}, { __tostring = function() return {} end }))": "table",
    "error(setmetatable({ 1 }, { __metatable = 5 }))": "[1]",
    "local t = {} t.t = t error(t)": "table",
    "error(print)": "function",
    "error(newproxy())": "userdata",
    "error(coroutine.create(print))": "thread",
    "local user = nil; return user.name": "<string>:2: attempt to index local 'user' (a nil value)",
    "nothing()": "<string>:2: attempt to call global 'nothing' (a nil value)",
    "return #5": "<string>:2: attempt to get length of a number value",
    "local x = kv.get()": "<string>:2: bad argument #1 to get (string expected, got nil)",
    "string.rep()": "<string>:2: bad argument #1 to 'rep' (string expected, got no value)",
    "return { statusCode = setmetatable({}, {}) } .. ''": "<string>:2: attempt to concatenate a table value",
}


@pytest.mark.parametrize("line", ERRORS)
def test_errors_are_their_message(line: str) -> None:
    reply = run(f"function handler()\n{line}\nend")
    assert (reply.outcome, reply.reusable) == (Outcome.ERROR, True)
    assert reply.message.partition("\nstack traceback:")[0] == ERRORS[line]


def test_traces_name_only_the_program() -> None:
    reply = run("local function deep()\n  json.encode()\nend\nfunction handler()\n  local ok = deep()\n  return ok\nend\n")
    assert reply.message == (
        "<string>:2: bad argument #1 to encode (value expected)\nstack traceback:"
        "\n\t<string>:2: in function 'deep'\n\t<string>:5: in function <<string>:4>"
    )
    top = run("local x = 1\nerror('top')")
    assert top.message == "<string>:2: top\nstack traceback:\n\t<string>:2: in main chunk" and top.reusable


def test_an_answer_whose_fields_fail() -> None:
    reply = run("function handler() return setmetatable({}, { __index = function() error('no field') end }) end")
    assert (reply.outcome, reply.message.partition("\n")[0]) == (Outcome.ERROR, "<string>:1: no field")


# -- each call its own state -------------------------------------------------------------------------------------------


def test_nothing_survives_a_call() -> None:
    source = """
        local found = { count, json.mine, string.mine, ("").mine, package.loaded.mine, require("math").mine, kv.get == nil }
        count, json.mine, string.mine, package.loaded.mine, math.mine, kv.get = 1, 1, 1, 1, 1, nil
        getmetatable("").__index = { mine = 1 }
        local names = 0
        for name in pairs(found) do names = names + 1 end
        collectgarbage("stop")
        function handler() return { body = names } end
        setfenv(0, {})
    """
    with program(source) as loaded:
        assert [loaded.call().body for _ in range(5)] == [b"1"] * 5  # kv.get == nil is false, the others are nil


def test_math_random_differs_from_call_to_call() -> None:
    with program("function handler() return { body = math.random(1, 2 ^ 31) } end") as loaded:
        assert len({loaded.call().body for _ in range(20)}) > 15


def test_the_state_of_a_call_is_gone_before_its_answer() -> None:
    finalizer = """
        function handler()
          local proxy = newproxy(true)
          getmetatable(proxy).__gc = function() log.info("late"); print("late"); json.encode(1); error("late") end
          keep = proxy
          return { body = "ok" }
        end
    """
    with program(finalizer) as loaded:
        for _ in range(3):
            reply = loaded.call()
            assert (reply.body, list(reply.logs), reply.reusable) == (b"ok", [], True)


def test_memory_does_not_grow_from_call_to_call() -> None:
    with program("function handler() local t = {} for i = 1, 20000 do t[i] = { i } end return { body = #t } end") as loaded:
        for _ in range(20):
            loaded.call()
        before = loaded.guest.memory_bytes()
        for _ in range(200):
            assert loaded.call().body == b"20000"
        assert loaded.guest.memory_bytes() < before + (4 << 20)


# -- the log -----------------------------------------------------------------------------------------------------------


def test_levels() -> None:
    reply = run("""
        log.debug("d") log.info(1e15) log.warn("w\\nw") log.error("\\255")
        print("a", 1, nil, 0.1, true, setmetatable({}, { __tostring = function() return "T" end }))
        print()
        function handler() return {} end
    """)
    assert list(reply.logs) == [
        LogLine("debug", "d"),
        LogLine("info", "1000000000000000"),
        LogLine("warn", "w\nw"),
        LogLine("error", "\ufffd"),
        LogLine("info", "a\t1\tnil\t0.1\ttrue\tT"),
        LogLine("info", ""),
    ]


def test_long_messages_are_cut() -> None:
    reply = run("function handler() log.info(('x'):rep(65536)) log.info(('x'):rep(65537)) return {} end")
    assert [line.text for line in reply.logs] == ["x" * 65536, "x" * 65536 + " [TRUNCATED]"]


def test_the_row_behind_the_last_says_so() -> None:
    with program("function handler() for i = 1, 10005 do log.info(i) end return {} end") as loaded:
        for _ in range(2):
            logs = loaded.call().logs
            assert len(logs) == 10001
            assert logs[9999] == LogLine("info", "10000")
            assert logs[-1] == LogLine("warn", "Log limit reached; further messages dropped")


def test_a_log_of_many_bytes_ends_too() -> None:
    logs = run("function handler() for i = 1, 400 do log.info(('x'):rep(65536)) end return {} end").logs
    assert 250 < len(logs) < 260 and logs[-1].text == "Log limit reached; further messages dropped"


def test_what_is_printed_goes_nowhere_else() -> None:
    reply = run("print('{\"ok\":true}') function handler() return {} end")
    assert list(reply.logs) == [LogLine("info", '{"ok":true}')]


# -- the guest's end of the channel ------------------------------------------------------------------------------------


def test_it_reads_one_call_at_a_time() -> None:
    with program(
        "function handler() log.info('begun') local t = os.clock() while os.clock() < t + 0.3 do end return {} end"
    ) as loaded:
        assert loaded.guest.unread_behind(Call("e1", b"body", 10.0), 10.0) > 0


def test_it_ends_with_the_channel() -> None:
    with program(ECHO) as loaded:
        loaded.call()
        assert loaded.guest.hang_up() == 0


def test_time_zones_come_with_the_function() -> None:
    with program(
        "function handler() return { body = time.format(0, '15:04 MST') } end", environment={"TZ": "Asia/Tokyo"}
    ) as loaded:
        assert loaded.call().body == b"09:00 JST"
