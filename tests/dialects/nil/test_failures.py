"""Executions that fail, and logs, which are kept of them too (contract 3.6, 3.7, 6.1)."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.dialects.nil.api import Api, Function

CASES: list[tuple[dict[str, Any], str]] = [
    ({"act": "throw", "text": "x"}, "Runtime error: x"),
    ({"act": "throw", "text": "a: b\nc: größe 👍"}, "Runtime error: a: b\nc: größe 👍"),
    ({"act": "throw", "text": '{"status":"COMPLETED","output":1}'}, 'Runtime error: {"status":"COMPLETED","output":1}'),
    ({"act": "throw", "text": "nul\0ltail"}, "Runtime error: nul\0ltail"),
    ({"act": "throw", "text": "interrupted by server restart"}, "Runtime error: interrupted by server restart"),
    ({"act": "range", "text": "any class"}, "Runtime error: any class"),
    ({"act": "throw", "text": ""}, "Runtime error: abort"),
    ({"act": "assert", "text": "must be one"}, "Runtime error: must be one"),
    ({"act": "assert-bare"}, "Runtime error: abort"),
    ({"act": "index", "n": 5}, "Runtime error: Index out of range"),
    ({"act": "key", "text": "k"}, "Runtime error: Key does not exist"),
    ({"act": "divide", "n": 0}, "WASM trap: integer divide by zero"),
    ({"act": "overflow", "n": -1}, "WASM trap: integer overflow"),
    ({"act": "unreachable"}, "WASM trap: unreachable"),
    ({"act": "load"}, "WASM trap: out of bounds memory access"),
    ({"act": "recurse"}, "WASM trap: call stack exhausted"),
    ({"act": "eat"}, "Memory limit exceeded: 128 MiB"),
    ({"act": "null"}, "WASM function returned null"),
    ({"act": "pointer", "n": 3}, "Function returned an invalid string"),
    ({"act": "pointer", "n": 0x7FFFFFFF}, "Function returned an invalid string"),
    ({"act": "pointer", "n": 0xFFFFFFFF}, "Function returned an invalid string"),
]


@pytest.mark.parametrize(("order", "message"), CASES, ids=[f"{order['act']}-{n}" for n, (order, _) in enumerate(CASES)])
def test_how_executions_fail(tool: Function, order: dict[str, Any], message: str) -> None:
    assert [tool.failed(order) for _ in range(2)] == [message] * 2
    assert tool({"act": "count"}) == 1


def test_messages_are_cut(tool: Function) -> None:
    message = tool.failed({"act": "throw", "text": "é" * 5000})
    assert message == ("Runtime error: " + "é" * 5000)[:4096]


def test_what_is_within_limits(tool: Function) -> None:
    assert tool({"act": "divide", "n": 3}) == 3
    assert tool({"act": "grow", "n": 1 << 16}) == -1


def test_endless_code_ends(tool: Function, pool: ThreadPoolExecutor) -> None:
    """Several at once, so that the suite waits for them once; others are answered meanwhile."""
    top = tool.api.function(
        "export let n = 0; while (true) { n++; }\nexport function handle(input: string): string { return input; }"
    )
    spinning = [pool.submit(tool.execute, order) for order in ({"act": "loop"}, {"act": "log-loop", "text": "second"})]
    spinning.append(pool.submit(top.execute, {}))
    for number in range(20):
        assert tool({"act": "output", "text": str(number)}) == number
    for call in spinning:
        assert not call.done()
    records = [tool.api.execution(call.result()["id"]) for call in spinning]
    assert {record["errorMessage"] for record in records} == {"Execution timed out after 10 seconds"}
    assert [record["logs"] for record in records] == [[], ["first", "second"], []]
    assert all(record["durationMs"] >= 9_900 for record in records)
    assert tool({"act": "count"}) == 1


@pytest.mark.parametrize("act", ["log-throw", "log-trap"])
def test_logs_are_kept_up_to_the_failure(tool: Function, act: str) -> None:
    record = tool.record({"act": act, "text": "two\nlines"})
    assert (record["status"], record["logs"]) == ("FAILED", ["first", "two\nlines"])


TEXTS = ["x", "", " ", "two\nlines\n", "größe 👍", "nul\0tail", '{"output":1}', "[logs truncated]", "\u2028", "%s {} \\n"]


@pytest.mark.parametrize("text", TEXTS)
def test_entries_are_as_they_were_logged(tool: Function, text: str) -> None:
    record = tool.record({"act": "log", "text": text, "n": 1})
    assert record["logs"] == [text]
    assert record["output"] == {"act": "log", "text": text, "n": 1}


def test_entries_have_an_order_and_a_number(tool: Function) -> None:
    assert tool.record({"act": "log", "text": "", "n": 1000})["logs"] == [str(n) for n in range(1000)]
    assert tool.record({"act": "log", "text": "", "n": 1001})["logs"] == [*(str(n) for n in range(1000)), "[logs truncated]"]
    assert len(tool.record({"act": "log", "text": "flood", "n": 200_000})["logs"]) == 1001


def test_entries_have_a_size(tool: Function) -> None:
    exact = tool.record({"act": "log-big", "text": "é", "n": 8192})["logs"]
    assert exact == ["é" * 8192]
    longer = tool.record({"act": "log-big", "text": "é", "n": 8193})["logs"]
    assert longer == ["é" * 8192, "[logs truncated]"]


def test_logs_have_a_size_together(tool: Function) -> None:
    logs = tool.record({"act": "log", "text": "x" * 10_000, "n": 100})["logs"]
    assert logs[-1] == "[logs truncated]"
    assert 230_000 < sum(map(len, logs[:-1])) <= 262_144
    assert logs[:-1] == ["x" * 10_000 + str(n) for n in range(len(logs) - 1)]


def test_logs_are_in_the_record_only(api: Api, tool: Function) -> None:
    reply = tool.post(json.dumps({"input": {"act": "log", "text": "secret", "n": 1, "kind": "plain"}})).json()
    assert "logs" not in reply
    assert "logs" not in tool.history()[0]
    assert "logs" not in api.executions("?limit=1")[0]


def test_no_logs(echo: Function) -> None:
    assert echo.record({})["logs"] == []
