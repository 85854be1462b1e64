"""What is kept of runs: rows, logs, masks, and which of them go (contract 2.8, 3.3, 3.12)."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.dialects.lunar.api import ID, NOBODY, Api, Function, done, refused
from tests.server import wait_until

REDACTED = "[REDACTED]"


def event_of(function: Function, *arguments: Any, **options: Any) -> dict[str, Any]:
    """The event as the record of one run keeps it."""
    event: dict[str, Any] = json.loads(function.execution(function.run(*arguments, **options))["event_json"])
    assert list(event) == ["method", "path", "relativePath", "headers", "body", "query"]
    return event


def test_the_row_of_a_run(api: Api) -> None:
    function = api.function()
    execution = function.execution(function.run('{"b": [1, "x"], "a": 1.5}', path="/p?q=1"))
    assert ID.fullmatch(execution["id"]) and execution["duration_ms"] >= 0
    event = json.loads(execution.pop("event_json"))
    assert (event["method"], event["path"], event["relativePath"]) == ("POST", f"/fn/{function.id}/p", "/p")
    assert (event["body"], event["query"]) == ('{"a":1.5,"b":[1,"x"]}', {"q": "1"})
    assert execution == {
        "id": execution["id"],
        "function_id": function.id,
        "function_version_id": function.version_id(1),
        "status": "success",
        "duration_ms": execution["duration_ms"],
        "trigger": "http",
        "created_at": execution["created_at"],
    }


def test_a_status_of_400_is_an_error_without_a_message(lua: Function) -> None:
    response = lua.run("return { statusCode = 400, body = 'no' }")
    assert response.text == "no"
    execution = lua.execution(response)
    assert (execution["status"], "error_message" in execution, lua.logs(response)) == ("error", False, [])


def test_executions_are_listed_newest_first(api: Api) -> None:
    function = api.handler("return { body = 'x' }", save_response=True)
    assert api.get(f"{function.path}/executions") == {"executions": [], "pagination": {"total": 0, "limit": 20, "offset": 0}}
    ids = [function.run().headers["x-execution-id"] for _ in range(5)][::-1]
    listed = function.executions()
    assert [one["id"] for one in listed] == ids
    assert all("response_json" not in one and "event_json" in one for one in listed)
    page = api.get(f"{function.path}/executions?limit=2&offset=1")
    assert [one["id"] for one in page["executions"]] == ids[1:3]
    assert page["pagination"] == {"total": 5, "limit": 2, "offset": 1}


def test_responses_are_kept_when_wanted(api: Api) -> None:
    function = api.handler("""return { headers = { ["X-Auth"] = "s", ["x-plain"] = "p" }, body = event.body }""")
    assert "response_json" not in function.execution(function.run("{}"))
    function.update(save_response=True)
    kept = json.loads(function.execution(function.run('{"token": "t", "a": 1}'))["response_json"])
    assert list(kept) == ["statusCode", "headers", "body", "isBase64Encoded"]
    assert kept["headers"] == {"X-Auth": REDACTED, "X-Plain": "p", "Content-Type": "application/json"}
    assert (kept["body"], kept["isBase64Encoded"]) == ('{"a":1,"token":"[REDACTED]"}', False)
    kept = json.loads(function.execution(function.run("é" * 600000))["response_json"])
    assert kept["body"] == "é" * 524288 + "\n[TRUNCATED - Response exceeded 1MB]"
    failing = api.function("function handler() error('x') end", save_response=True)
    assert "response_json" not in failing.execution(failing.run())


def test_a_run_can_be_seen_before_it_is_over(api: Api) -> None:
    function = api.handler("kv.set('id', ctx.executionId) time.sleep(1000) return { body = 'x' }")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(function.run, "event")
        wait_until(lambda: function.get()["scoped_data"], "the run")
        id = function.get()["scoped_data"]["id"]
        found = api.get(f"/api/executions/{id}")
        assert (found["status"], "duration_ms" in found, json.loads(found["event_json"])["body"]) == ("pending", False, "event")
        assert api.get(f"/api/executions/{id}/logs")["logs"] == []
        assert [(one["id"], one["status"]) for one in function.executions()] == [(id, "pending")]
        assert running.result().headers["x-execution-id"] == id
    assert api.get(f"/api/executions/{id}")["status"] == "success"


def test_logs(lua: Function) -> None:
    before = int(time.time())
    response = lua.run("""log.debug("d") log.info(1e15) print("a", nil, true, 0.1) log.warn("w") log.error("e\\nf") return {}""")
    page = lua.api.get(f"/api/executions/{response.headers['x-execution-id']}/logs?limit=4&offset=1")
    assert page["id"] == response.headers["x-execution-id"] and page["status"] == "success"
    assert [(row["level"], row["message"]) for row in page["logs"]] == [
        ("info", "1000000000000000"),
        ("info", "a\tnil\ttrue\t0.1"),
        ("warn", "w"),
        ("error", "e\nf"),
    ]
    assert all(set(row) == {"level", "message", "created_at"} and before <= row["created_at"] for row in page["logs"])
    assert page["pagination"] == {"total": 5, "limit": 4, "offset": 1}


def test_rows_tell_when_they_were_written(lua: Function) -> None:
    rows = lua.logs(lua.run("log.info('a') time.sleep(2100) log.info('b') return {}"))
    assert 2 <= rows[1]["created_at"] - rows[0]["created_at"] <= 30


def test_logs_have_a_limit(lua: Function) -> None:
    response = lua.run("for n = 1, 10500 do print(n) end error('x')")
    page = lua.api.get(f"/api/executions/{response.headers['x-execution-id']}/logs?limit=3&offset=9999")
    assert page["pagination"]["total"] == 10002
    assert [row["message"] for row in page["logs"]][:2] == ["10000", "Log limit reached; further messages dropped"]
    assert (page["logs"][1]["level"], page["logs"][2]["level"]) == ("warn", "error")
    long = lua.logs(lua.run("log.info(string.rep('x', 70000)) return {}"))[0]["message"]
    assert long == "x" * 65536 + " [TRUNCATED]"


def test_odd_bytes_do_not_break_lists(lua: Function) -> None:
    response = lua.run(b"log.info('\xff\xed\xa0\x80\\0') error('\xfe')", path="/%FF?%FF=%FE", headers={"x-odd": b"\xff"})  # type: ignore[dict-item]
    assert lua.logs(response)[0]["message"] == "\ufffd\ufffd\ufffd\ufffd\u0000"
    event = json.loads(lua.execution(response)["event_json"])
    assert event["relativePath"] == "/\ufffd" and event["query"] == {"\ufffd": "\ufffd"} and event["headers"]["X-Odd"] == "\ufffd"
    assert lua.executions("?limit=1")[0]["id"] == response.headers["x-execution-id"]


def test_masks_of_headers_and_queries(api: Api) -> None:
    function = api.function()
    secret = ("authorization", "x-api-key", "My-Token", "X-Secret-Thing", "password", "authX", "monkey")
    event = event_of(function, headers={**dict.fromkeys(secret, "Basic s"), "cookie": "a=b", "x-plain": "p"})
    canonical = {"-".join(part.capitalize() for part in name.split("-")) for name in secret}
    assert {name for name, value in event["headers"].items() if value == REDACTED} == {*canonical, "Cookie"}
    assert event["headers"]["X-Plain"] == "p"
    event = event_of(function, path="?api_key=1&ACCESS_TOKEN=2&author=3&monkey=4&plain=5")
    assert event["query"] == {**dict.fromkeys(("api_key", "ACCESS_TOKEN", "author", "monkey"), REDACTED), "plain": "5"}


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ('{"b":1,"a":{"Password":"x","token_id":"x","auth-x":[1],"tokens":"kept","completion_tokens":5}}', None),
        ("password=x", "password=x"),
        ('["secret", {"secret": {"deep": 1}}]', '["secret",{"secret":"[REDACTED]"}]'),
        ('{"password":"x"} ', '{"password":"[REDACTED]"}'),
        ('{"password":"x"', '{"password":"x"'),
        ("", ""),
    ],
)
def test_masks_of_bodies(api: Api, body: str, kept: str | None) -> None:
    hidden = dict.fromkeys(("Password", "auth-x", "token_id"), REDACTED)
    masked = json.dumps(
        {"a": {**hidden, "completion_tokens": 5, "tokens": "kept"}, "b": 1}, sort_keys=True, separators=(",", ":")
    )
    assert event_of(api.function(), body)["body"] == (masked if kept is None else kept)


def test_masks_of_logs_and_messages(lua: Function) -> None:
    jwt = "eyJhbGciOiJI.eyJzdWIi.c2ln-_"
    texts = {
        f"jwt {jwt}!": f"jwt {REDACTED}!",
        "send Bearer  abc.def-1 now": f"send {REDACTED} now",
        "api_key=abcdefghijklmno": REDACTED,
        "API-Key: abcdefghijklmno,": f"{REDACTED},",
        "key abcdefghijklmn": "key abcdefghijklmn",
        "password = 1234567890": REDACTED,
        "token 123456789": "token 123456789",
        "AKIAABCDEFGHIJKLMNOP": REDACTED,
    }
    response = lua.run(
        "for _, text in ipairs(json.decode([==[" + json.dumps(list(texts)) + "]==])) do log.info(text) end return {}"
    )
    assert [row["message"] for row in lua.logs(response)] == list(texts.values())
    assert lua.failed(f"error('{jwt}', 0)").startswith(f"Error: {REDACTED}")


def test_large_events_are_cut(api: Api) -> None:
    assert event_of(api.function(), "x" * 3000000)["body"] == "x" * 1048576 + "\n[TRUNCATED - Request exceeded 1MB]"


def test_unknown_executions(api: Api) -> None:
    for id in (NOBODY, "x", "0" * 400):
        for rest in ("", "/logs", "/ai-requests", "/email-requests"):
            refused(api.send("GET", f"/api/executions/{id}{rest}"), 404, "Execution not found")


def test_runs_that_asked_nobody(lua: Function) -> None:
    id = lua.run("return {}").headers["x-execution-id"]
    for rest, key in (("ai-requests", "ai_requests"), ("email-requests", "email_requests")):
        page = {key: [], "pagination": {"total": 0, "limit": 20, "offset": 0}}
        assert lua.api.get(f"/api/executions/{id}/{rest}") == page


def test_requests_of_runs(api: Api) -> None:
    function = api.handler("""
        local _, one = ai.chat({ provider = "openai", model = "m", messages = {{ role = "user", content = "hi" }} })
        local _, two = email.send({ from = "a@b.c", to = "x@y.z", subject = "s", text = "t" })
        return { body = json.encode({ one, two }) }""")
    response = function.run()
    assert response.json() == ["OPENAI_API_KEY not set in function environment", "RESEND_API_KEY not set in function environment"]
    base = f"/api/executions/{response.headers['x-execution-id']}"
    (asked,) = api.get(f"{base}/ai-requests")["ai_requests"]
    assert ID.fullmatch(asked.pop("id")) and asked.pop("duration_ms") >= 0 and asked.pop("created_at")
    assert asked == {
        "execution_id": response.headers["x-execution-id"],
        "provider": "openai",
        "model": "m",
        "endpoint": "",
        "request_json": "",
        "status": "error",
        "error_message": "OPENAI_API_KEY not set in function environment",
    }
    (sent,) = api.get(f"{base}/email-requests")["email_requests"]
    assert (sent["from"], sent["to"], sent["has_text"], sent["has_html"]) == ("a@b.c", ["x@y.z"], True, False)
    assert done(function.delete(), 204) is None
