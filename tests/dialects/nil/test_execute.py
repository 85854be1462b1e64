"""Executing: what the code gets, what comes back, and what is refused (contract 2.6, 3.1, 3.2, 3.5)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.dialects.nil.api import NOBODY, Api, Function, refused
from tests.dialects.nil.sources import SUM
from tests.server import Server
from tests.wire import Wire

NOT_OBJECT = "Input must be a JSON object"


@pytest.mark.parametrize("body", [None, "", " ", "null", "{}", '{"input": null}', '{"other": 1}', '{"input":{}}'])
def test_no_input_is_an_empty_object(echo: Function, api: Api, body: str | None) -> None:
    reply = echo.reply(body)
    assert (reply["status"], reply["output"]) == ("COMPLETED", {})
    assert api.execution(reply["id"])["input"] == {}


@pytest.mark.parametrize("value", ["text", "", 42, 0, 1.5, True, False, [], [1, 2], [{}]])
def test_inputs_that_are_no_objects(echo: Function, value: object) -> None:
    before = echo.history()
    refused(echo.post(json.dumps({"input": value})), 400, NOT_OBJECT)
    refused(echo.post(json.dumps({"input": value}, indent=1), "?async=true"), 400, NOT_OBJECT)
    assert echo.history() == before


def test_the_order_of_refusals(api: Api, echo: Function) -> None:
    missing = f"/functions/{NOBODY}/execute"
    failed = api.submit("nope")
    failed.until("FAILED")
    not_ready = f"Function {failed.id} is not ready for execution. Current status: FAILED"
    for query in ("", "?async=true"):
        refused(api.send("POST", missing + query, '{"input": 1}'), 404, f"Function not found: {NOBODY}")
        refused(failed.post('{"input": 1}', query), 400, not_ready)
        refused(failed.post(None, query), 400, not_ready)
        assert refused(failed.post('{"input":', query), 400).startswith("Malformed JSON request body: ")
        refused(failed.post('{"input": 1}', query, headers={"content-type": "text/plain"}), 415)
        refused(echo.post('{"input": 1}', query), 400, NOT_OBJECT)
    assert failed.history() == []


SEEN = [
    ('{"a":5,"t":"é"}', '{"a":5,"t":"é"}'),
    ('{ "b" : [ 1 , 2 ] ,\n"a" : "x  y" }', '{"b":[1,2],"a":"x  y"}'),
    (r'{"t":"\u00e9\ud83d\udc4d\u0041"}', '{"t":"é👍A"}'),
    (
        '{"n":[1.50,1e5,-0.0,123456789012345678901234567890,0.1000]}',
        '{"n":[1.50,1e5,-0.0,123456789012345678901234567890,0.1000]}',
    ),
    ('{"z":1,"a":2,"z":3}', '{"z":3,"a":2}'),
    (r'{"t":"\ud800","\udc00":1}', '{"t":"\ufffd","\ufffd":1}'),
    (r'{"t":"\"\\\n\u0000\u001f"}', r'{"t":"\"\\\n\u0000\u001f"}'),
    ('{"text":"' + "größe 👍\u2028 " * 5000 + '"}', None),
    ('{"list":[' + "1," * 50_000 + "1.50]}", None),
]


@pytest.mark.parametrize(("sent", "seen"), SEEN, ids=range(len(SEEN)))
def test_the_text_that_the_code_gets(api: Api, echo: Function, sent: str, seen: str | None) -> None:
    response = echo.post(f'{{"input":{sent}}}')
    expected = sent if seen is None else seen
    assert f'"output":{expected},"errorMessage":null' in response.text
    record = api.send("GET", f"/executions/{response.json()['id']}").text
    assert f'"input":{expected},"output":{expected},' in record


def test_over_one_connection(server: Server, echo: Function) -> None:
    with Wire(server.port) as wire:
        for number in range(6):
            wire.post(f"/nil{echo.path}/execute", b'{"input": {"n": %d}}' % number, content_type="application/json")
            assert wire.answer().json()["output"] == {"n": number}
        wire.post(f"/nil{echo.path}/execute", b'{"input": [', content_type="application/json")
        assert wire.answer().status == 400
        wire.post(f"/nil{echo.path}/execute", b"{}", content_type="text/plain")
        assert wire.answer().status == 415


OUTPUTS = [
    "42",
    '"text"',
    "null",
    "true",
    "[1]",
    "15.0",
    ' {"a" : 1}\n',
    "-0",
    "123456789012345678901234567890",
    '"\\u00e9"',
    "1e308",
]


@pytest.mark.parametrize("text", OUTPUTS)
def test_any_json_is_an_output(tool: Function, text: str) -> None:
    reply = tool.execute({"act": "output", "text": text})
    assert (reply["status"], reply["output"]) == ("COMPLETED", json.loads(text))


NOT_JSON = ["", " ", "hello", "NaN", "{'a':1}", "[1,]", "1 2", "01", "1e400", '"\n"', "undefined", '{"a":1}}', "\ufeff1"]


@pytest.mark.parametrize("text", NOT_JSON)
def test_what_is_no_json_is_no_output(tool: Function, text: str) -> None:
    assert tool.failed({"act": "output", "text": text}) == "Function returned invalid JSON"


@pytest.mark.parametrize(
    ("text", "value"),
    [(r'"\ud800"', "\ufffd"), (r'"\ud83d\udc4d"', "👍"), (r'"\udfff\ud83dx"', "\ufffd\ufffdx"), (r'{"\ud800":1}', {"\ufffd": 1})],
)
def test_lone_surrogates_in_outputs(tool: Function, text: str, value: object) -> None:
    assert tool({"act": "output", "text": text}) == value


def test_deep_outputs(tool: Function) -> None:
    assert json.dumps(tool({"act": "nest", "n": 500})) == "[" * 500 + "]" * 500
    assert tool.failed({"act": "nest", "n": 501}) == "Function returned invalid JSON"
    assert tool.failed({"act": "nest", "n": 50_000}) == "Function returned invalid JSON"


def test_deep_inputs(echo: Function) -> None:
    body = '{"input":' + '{"a":' * 498 + "[]" + "}" * 498 + "}"
    assert f'"output":{body[9:-1]},' in echo.post(body).text
    assert refused(echo.post('{"input":{"a":' + body + "}}"), 400).startswith("Malformed JSON request body: ")


def test_large_inputs_and_outputs(echo: Function, tool: Function) -> None:
    text = "größe👍" * 300_000
    assert echo({"text": text}) == {"text": text}
    assert tool({"act": "repeat", "text": "x", "n": 4_999_998}) == "x" * 4_999_998
    message = "Output too large: 10000002 bytes (limit 10000000)"
    assert tool.failed({"act": "repeat", "text": "x", "n": 4_999_999}) == message


def test_the_sum_of_two_numbers(api: Api) -> None:
    function = api.function(SUM)
    assert function({"a": 5, "b": 3}) == {"sum": 8}
    assert function.failed({"a": 5}) == "Runtime error: Key does not exist"


def test_nothing_survives_into_another_execution(tool: Function) -> None:
    assert [tool({"act": "count"}) for _ in range(5)] == [1] * 5
    randoms = [tuple(tool({"act": "random"})) for _ in range(5)]
    assert len({number for pair in randoms for number in pair}) == 10


def test_the_clock(tool: Function) -> None:
    record = tool.record({"act": "now"})
    assert record["output"] / 1000 == pytest.approx(_seconds(record["startedAt"]), abs=5)


def _seconds(time: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(time).timestamp()


def test_top_level_code_runs_each_time(api: Api) -> None:
    function = api.function(
        "let text = ''; for (let i = 0; i < 3; i++) { text += i.toString(); console.log('top ' + i.toString()); }\n"
        "export function handle(input: string): string { console.log('handle'); return '\"' + text + '\"'; }"
    )
    for _ in range(2):
        record = function.record({})
        assert (record["output"], record["logs"]) == ("012", ["top 0", "top 1", "top 2", "handle"])


def test_strings_come_back_unchanged(api: Api) -> None:
    function = api.function(
        'import { JSON } from "json-as";\n@json class Note { text: string = ""; }\n'
        "export function handle(input: string): string { return JSON.stringify(JSON.parse<Note>(input)); }"
    )
    texts = ["Hello, 🌍!", "\u0001\u001f\x7f", 'a"b\\c', "\uffff\\u00", "é\n\t\0👍\u2028", "日本" * 1000]
    assert [function({"text": text}) for text in texts] == [{"text": text} for text in texts]


def test_the_record_of_an_execution(api: Api, echo: Function) -> None:
    reply = echo.execute({"a": 1})
    record: dict[str, Any] = api.execution(reply["id"])
    assert (record["input"], record["output"], record["logs"]) == ({"a": 1}, {"a": 1}, [])
    row = echo.history()[0]
    assert row == {key: record[key] for key in row}
    row = api.executions("?limit=1")[0]
    assert row == {key: record[key] for key in row}
