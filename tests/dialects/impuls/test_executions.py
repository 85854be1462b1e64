"""The history of executions and asynchronous invocation (contract 6)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.api import UUID, together, unique
from tests.dialects.impuls.api import TIME, TRIVIAL, Api, Function, refused
from tests.processes import find_processes, new_name
from tests.server import Server, wait_until

ANSWER = "if (event.throw) throw new Error('boom'); if (event.hang) while (true); console.log('said'); return event.value ?? null"
FINISHED = {"success", "error", "timeout"}


@pytest.fixture
def function(api: Api) -> Function:
    return api.node(ANSWER, timeout_sec=1)


def invoke_async(function: Function, event: object = None, value: str = "true") -> str:
    response = function.post(event, f"?async={value}")
    assert response.status_code == 202, response.text
    id = response.json()["execution_id"]
    assert UUID.fullmatch(id)
    return str(id)


def execution(api: Api, id: str) -> dict[str, Any]:
    response = api.send("GET", f"/api/v1/executions/{id}")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    assert found["id"] == id
    assert (found["finished_at"] is None) == (found["status"] not in FINISHED)
    return found


def finished(api: Api, id: str) -> dict[str, Any]:
    wait_until(lambda: execution(api, id)["status"] in FINISHED, "the execution finishes")
    return execution(api, id)


def test_no_executions_yet(function: Function) -> None:
    response = function.api.send("GET", f"{function.path}/executions")
    assert response.status_code == 200
    assert response.json() == {"executions": [], "count": 0}


def test_success_is_in_the_history_when_it_is_answered(function: Function) -> None:
    response = function.post({"value": 1})
    (item,) = function.executions()
    assert TIME.fullmatch(item.pop("started_at"))
    assert item == {
        "id": response.headers["x-execution-id"],
        "status": "success",
        "status_code": 200,
        "duration_ms": response.json()["duration_ms"],
        "trigger": "http",
        "logs": "[INFO] said",
    }


def test_failures_and_timeouts(function: Function) -> None:
    function.error({"throw": True})
    function.error({"hang": True})
    hung, thrown = function.executions()
    for item, status, error in ((thrown, "error", "boom"), (hung, "timeout", "function execution timed out after 1 seconds")):
        assert (item["status"], item["error"], item["status_code"]) == (status, error, 500)
        assert item["logs"] == f"[ERROR] {error}"
    assert hung["duration_ms"] >= 990


@pytest.mark.parametrize("status", [404, 500, 204])
def test_success_whatever_the_status_code(function: Function, status: int) -> None:
    function.post({"value": {"statusCode": status}})
    (item,) = function.executions()
    assert (item["status"], item["status_code"]) == ("success", status)
    assert "error" not in item


def test_refused_requests_leave_no_trace(function: Function) -> None:
    function.api.send("POST", f"{function.path}/invoke", "{bad")
    function.api.send("GET", f"{function.path}/invoke")
    assert function.executions() == []


def test_pages_newest_first(function: Function) -> None:
    ids = [function.post({"value": n}).headers["x-execution-id"] for n in range(7)][::-1]
    assert [item["id"] for item in function.executions()] == ids
    assert [item["id"] for item in function.executions("?limit=3")] == ids[:3]
    assert [item["id"] for item in function.executions("?limit=3&offset=5")] == ids[5:]
    assert [item["id"] for item in function.executions("?offset=2")] == ids[2:]
    assert function.executions("?offset=7") == []
    assert len(function.executions("?limit=1000&offset=0&unknown=1")) == 7


def test_fifty_by_default(function: Function) -> None:
    together(lambda n: [function({"value": n}) for _ in range(11)], range(5))
    assert len(function.executions()) == 50
    assert len(function.executions("?limit=1000")) == 55


def test_filtered_by_status(function: Function) -> None:
    function({"value": 1})
    function.error({"throw": True})
    function.error({"hang": True})
    for status in FINISHED:
        assert [item["status"] for item in function.executions(f"?status={status}")] == [status]
    for status in ("queued", "running"):
        assert function.executions(f"?status={status}") == []


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "abc", "1.5", "", "99999999999999999999"])
def test_bad_limit(function: Function, limit: str) -> None:
    refused(function.api.send("GET", f"{function.path}/executions?limit={limit}"), 400, "limit: must be between 1 and 1000")


@pytest.mark.parametrize(
    ("query", "field"), [("offset=-1", "offset"), ("offset=x", "offset"), ("offset=1.5", "offset"), ("status=done", "status")]
)
def test_bad_offset_or_status(function: Function, query: str, field: str) -> None:
    assert refused(function.api.send("GET", f"{function.path}/executions?{query}"), 400).startswith(f"{field}: must be ")


def test_the_last_thousand_are_kept(function: Function) -> None:
    together(lambda n: [function({"value": n}) for _ in range(130)], range(8))
    assert len(function.executions("?limit=1000")) == 1000


@pytest.mark.parametrize("value", ["true", "1", "TRUE", "True"])
def test_async(function: Function, value: str) -> None:
    found = finished(
        function.api, invoke_async(function, {"value": {"statusCode": 201, "body": [1], "headers": {"a": "b"}}}, value)
    )
    assert (found["function"], found["trigger"], found["status"]) == (function.name, "async", "success")
    assert (found["status_code"], found["body"], found["headers"]) == (201, [1], {"a": "b"})
    assert found["logs"] == "[INFO] said"
    assert TIME.fullmatch(found["started_at"]) and TIME.fullmatch(found["finished_at"])
    assert found["finished_at"] >= found["started_at"]
    assert [item["id"] for item in function.executions()] == [found["id"]]


@pytest.mark.parametrize("value", ["false", "0", "yes", ""])
def test_other_values_are_not_async(function: Function, value: str) -> None:
    assert function.invoke({"value": 1}, f"?async={value}")["body"] == 1


def test_async_failures(function: Function) -> None:
    found = finished(function.api, invoke_async(function, {"throw": True}))
    assert (found["status"], found["error"], found["status_code"]) == ("error", "boom", 500)
    assert "body" not in found
    found = finished(function.api, invoke_async(function, {"hang": True}))
    assert (found["status"], found["error"]) == ("timeout", "function execution timed out after 1 seconds")


def test_async_events_are_exact_and_may_be_absent(api: Api) -> None:
    function = api.node("return [typeof event, String(event.n), context.awsRequestId]")
    found = finished(api, invoke_async(function))
    assert found["body"] == ["object", "undefined", found["id"]]
    response = api.send("POST", f"{function.path}/invoke?async=1", '{"n": 1e400}')
    assert finished(api, response.json()["execution_id"])["body"][1] == "Infinity"


def test_async_requests_are_checked_as_any(function: Function) -> None:
    response = function.api.send("POST", f"{function.path}/invoke?async=true", "{bad")
    assert refused(response, 400).startswith("Invalid request body: ")
    refused(function.api.send("POST", "/api/v1/functions/nobody/invoke?async=true", "{}"), 404, "function 'nobody' not found")
    assert function.executions() == []


def test_a_synchronous_execution_by_id(function: Function) -> None:
    id = function.post({"value": "v"}).headers["x-execution-id"]
    found = execution(function.api, id)
    assert (found["trigger"], found["status"], found["body"], found["function"]) == ("http", "success", "v", function.name)
    assert "headers" not in found or found["headers"] is None


def test_running_and_queued_are_seen(api: Api) -> None:
    function = api.node("process.title = event; await new Promise((go) => setTimeout(go, 700))")
    name = new_name()
    id = invoke_async(function, name)
    wait_until(lambda: find_processes(name), "the handler runs")
    assert execution(api, id)["status"] == "running"
    assert [item["id"] for item in function.executions("?status=running")] == [id]
    assert finished(api, id)["status"] == "success"


@pytest.mark.parametrize("id", ["7b0c1a52-0d4e-4c6f-9d5e-0a1b2c3d4e5f", "nonsense", "caf%C3%A9"])
def test_unknown_execution(api: Api, id: str) -> None:
    refused(api.send("GET", f"/api/v1/executions/{id}"), 404, f"execution '{id.replace('%C3%A9', 'é')}' not found")


def test_executions_belong_to_their_account(api: Api, own_account: Api) -> None:
    theirs = own_account.function(TRIVIAL, name=unique("theirs"))
    id = theirs.post({}).headers["x-execution-id"]
    refused(api.send("GET", f"/api/v1/executions/{id}"), 404, f"execution '{id}' not found")
    refused(api.send("GET", f"{theirs.path}/executions"), 404, f"function '{theirs.name}' not found")
    assert execution(own_account, id)["status"] == "success"


def test_every_answered_call_survives_a_kill(make_server: Callable[..., Server], connect: Callable[..., Api]) -> None:
    server = make_server()
    function = connect(server).node("console.log(event); return event")
    answered = together(lambda n: [function.post(n).headers["x-execution-id"] for _ in range(10)], range(8))
    server.restart_after_kill()
    kept = [item["id"] for item in function.executions("?limit=1000")]
    assert sorted(kept) == sorted(id for ids in answered for id in ids)


def test_accepted_events_survive_a_kill_and_run_once(make_server: Callable[..., Server], connect: Callable[..., Api]) -> None:
    """Those that had begun are not run again; those that had not are."""
    server = make_server(env={"SPINNEY_POOL_SANDBOXES_PER_FUNCTION": "1"})
    api = connect(server)
    function = api.node(
        "if (event.name) { process.title = event.name; await new Promise((go) => setTimeout(go, 60000)) } return event.n"
    )
    name = new_name()
    begun = invoke_async(function, {"name": name})
    wait_until(lambda: find_processes(name), "the first one runs")
    waiting = [invoke_async(function, {"n": n}) for n in range(5)]
    server.restart_after_kill()
    assert [finished(api, id)["body"] for id in waiting] == list(range(5))
    cut_off = finished(api, begun)
    assert cut_off["status"] == "error" and isinstance(cut_off["error"], str)
    assert not find_processes(name)
    assert sorted(item["id"] for item in function.executions()) == sorted([begun, *waiting])


def test_queued_events_of_a_deleted_function_are_dropped(api: Api) -> None:
    function = api.node("await new Promise((go) => setTimeout(go, 100))")
    ids = [invoke_async(function, {}) for _ in range(5)]
    assert function.delete().status_code == 200
    for id in ids:
        refused(api.send("GET", f"/api/v1/executions/{id}"), 404)


def test_many_async_events(api: Api) -> None:
    function = api.node("return event.n * 2")
    ids = together(lambda n: invoke_async(function, {"n": n}), range(40))
    assert [finished(api, id)["body"] for id in ids] == [n * 2 for n in range(40)]
    assert json.dumps(sorted(item["id"] for item in function.executions())) == json.dumps(sorted(ids))
