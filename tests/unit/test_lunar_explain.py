"""Error messages for the people who write Lua functions (Lunar contract 3.13)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.lua import Evaluator, evaluator, run

from spinney.dialects.lunar.explain import explain

SOURCE = "function handler(ctx, event)\n  local user = nil\n  return { body = user.name }\nend"

CODE = """
[CODE]
    1 | function handler(ctx, event)
    2 |   local user = nil
>   3 |   return { body = user.name }
    4 | end
[/CODE]
"""


@pytest.fixture(scope="module")
def lua() -> Iterator[Evaluator]:
    with evaluator() as guest:
        yield guest


def test_the_whole_of_a_message() -> None:
    fault = run(SOURCE).message
    assert explain(fault, SOURCE) == (
        "Error at line 3: attempt to index local 'user' (a nil value)\n" + CODE + "\n[TIP] A value is nil here."
        "\n  • Look for a misspelled name, a field that was never set, or a call that found nothing."
        "\n  • Ask first: if value ~= nil then ... end, or give a default: local t = value or {}"
    )


MISTAKES = {
    "local user = nil; return user.name": "nil",
    "return ('x'):rep(2).y.z": "nil",
    "return (5).name": "not a table",
    "local ok = true; ok.x = 1": "not a table",
    "missing()": "does not exist",
    "json.dump({})": "does not exist",
    "ctx:missing()": "does not exist",
    "local x = kv.get()": "argument",
    "table.insert(nil, 1)": "argument",
    "x = = 1": "syntax",
    "if then": "syntax",
    "local 5 = x": "syntax",
    "x = 5x": "syntax",
    "x = '\\q": "syntax",
    "if true then": "end",
    "local s = 'x": "string",
    "local s = [[x": "string",
    "local n = nil + 1": "arithmetic",
    "local n = {} * 2": "arithmetic",
    "local s = 'a' .. nil": "concatenate",
    "local b = 1 < 'a'": "compare",
    "local b = {} < {}": "compare",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_each_mistake_has_one_tip(lua: Evaluator, line: str) -> None:
    message = explain(lua.call(line).message, line)
    assert message.count("[TIP]") == 1
    assert MISTAKES[line] in message.partition("[TIP] ")[2].partition("\n")[0]
    assert message.partition("[TIP] ")[2].count("\n  • ") >= 2


def test_a_missing_end_is_at_the_end_of_the_file() -> None:
    source = "function handler()\n  return {}\n"
    assert explain(run(source).message, source) == (
        "Error at line 3: 'end' expected (to close 'function' at line 1) near '<eof>'\n"
        "\n[CODE]\n    1 | function handler()\n    2 |   return {}\n>   3 | \n[/CODE]\n"
        "\n[TIP] A block has no end.\n  • Each function, if, for and while needs its own end."
        "\n  • The message names the line where the open block begins, when that is another one."
    )


def test_bad_returns() -> None:
    message = explain(run("function handler() return 5 end").message, "")
    assert message.startswith("Error: handler did not return a table\n\n[TIP] The handler must return a table.\n  • ")


def test_no_handler() -> None:
    message = explain(run("local function handler() end").message, "local function handler() end")
    assert message.startswith(
        "Error: handler function not found in Lua code\n\n[TIP] The code must define a global function named handler."
    )


RAISED = {
    "error('boom')": "Error at line 1: boom",
    "error('boom', 0)": "Error: boom",
    "error({ code = 1 })": 'Error: {"code":1}',
    "error()": "Error: nil",
    "error('there is no end near here')": "Error at line 1: there is no end near here",
    "error('<string>:7: mine', 0)": "Error at line 7: mine",
}


@pytest.mark.parametrize("line", RAISED)
def test_errors_that_a_program_raises_have_no_tip(lua: Evaluator, line: str) -> None:
    message = explain(lua.call(line).message, line)
    assert message.partition("\n")[0] == RAISED[line] and "[TIP]" not in message
    assert ("[CODE]" in message) == RAISED[line].startswith("Error at line 1")


@pytest.mark.parametrize("message", ["invalid statusCode 1000 (must be between 200 and 599)", "body is not valid base64"])
def test_plain_messages_stay_plain(message: str) -> None:
    assert explain(message, SOURCE) == f"Error: {message}"


def test_the_way_there_is_shown_when_there_was_one() -> None:
    source = "local function deep()\n  error('x')\nend\nfunction handler()\n  local r = deep()\n  return r\nend\n"
    trace = "\n\t<string>:2: in function 'deep'\n\t<string>:5: in function <<string>:4>\n"
    assert explain(run(source).message, source).startswith(f"Error at line 2: x\nstack traceback:{trace}\n[CODE]\n")


def test_excerpts_at_the_edges() -> None:
    lines = [f"line {number}" for number in range(1, 1201)]
    source = "\r\n".join(lines)
    assert explain("<string>:1: x", source).endswith("[CODE]\n>   1 | line 1\n    2 | line 2\n    3 | line 3\n[/CODE]")
    assert explain("<string>:1200: x", source).endswith(
        "[CODE]\n  1198 | line 1198\n  1199 | line 1199\n> 1200 | line 1200\n[/CODE]"
    )
    assert explain("<string>:1201: x", source) == "Error at line 1201: x"
    assert explain("<string>:0: x", source) == "Error at line 0: x"
    assert len(explain("<string>:1: x", "y" * 100_000)) < 1000


def test_where_the_library_is_is_nobodys_business() -> None:
    assert explain("[lua]:0: stack overflow", SOURCE) == "Error: stack overflow"
