"""Many at once, updates and deletes in the middle, restarts (contract 3.6, 5, traps 4, 5)."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any

import httpx2
import pytest

from tests.api import together
from tests.dialects.nil.api import ECHO, EXECUTIONS, Api, Function, refused
from tests.processes import find_below
from tests.server import Server, wait_until
from tests.wire import Wire

INTERRUPTED = "Execution interrupted by server restart"
SLOW = """import { JSON } from "json-as";
@json class Slow { a: i32 = 1; }
export function handle(input: string): string { return "%s"; }"""


def answers(number: int) -> str:
    """A source that answers with a number."""
    return f"export function handle(input: string): string {{ return '{number}'; }}"


def begin(pool: ThreadPoolExecutor, function: Function, value: object = None) -> Future[dict[str, Any]]:
    """Start an execution that takes a while, and return once it runs."""
    before = len(function.history())
    call = pool.submit(lambda: function.post(json.dumps({"input": value})).json())
    wait_until(lambda: call.done() or len(function.history()) > before, "the execution runs")
    assert not call.done(), call.result()
    return call


def test_fifty_at_once_are_all_right(tool: Function) -> None:
    def run(number: int) -> tuple[Any, ...]:
        act = ("log", "throw", "output", "divide")[number % 4]
        record = tool.record({"act": act, "text": str(number), "n": number % 2})
        return record["output"], record["errorMessage"], record["logs"]

    for number, (output, error, logs) in enumerate(together(run, range(50))):
        match number % 4:
            case 0:
                assert (output, error, logs) == ({"act": "log", "text": str(number), "n": 0}, None, [])
            case 1:
                assert (output, error, logs) == (None, f"Runtime error: {number}", [])
            case 2:
                assert (output, error, logs) == (number, None, [])
            case 3:
                assert (output, error, logs) == (10, None, [])


def test_eight_run_at_the_same_time(api: Api) -> None:
    function = api.waiter(7000)
    records = together(function.record, [{"n": number} for number in range(8)])
    spans = [[datetime.fromisoformat(record[key]) for key in ("startedAt", "completedAt")] for record in records]
    assert max(start for start, _ in spans) < min(end for _, end in spans)


def test_endless_loops_hold_up_nobody(api: Api, pool: ThreadPoolExecutor) -> None:
    stuck, neighbour = api.waiter(1 << 30), api.function()
    calls = [pool.submit(stuck.failed, {}) for _ in range(6)]
    for number in range(20):
        assert neighbour({"n": number}) == {"n": number}
        assert neighbour.update(name=str(number))["status"] == "READY"
    assert not any(call.done() for call in calls)
    assert {call.result() for call in calls} == {"Execution timed out after 10 seconds"}


@pytest.fixture(scope="module")
def narrow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which executions of one function have to wait for each other."""
    with Server(tmp_path_factory.mktemp("narrow") / "data", env={"SPINNEY_POOL_SANDBOXES_PER_FUNCTION": "1"}) as server:
        yield server


def test_waiting_does_not_count_and_keeps_its_order(
    narrow_server: Server, connect: Callable[..., Api], pool: ThreadPoolExecutor
) -> None:
    api = connect(narrow_server)
    function = api.waiter(300)
    first = begin(pool, function)
    wires = [Wire(narrow_server.port) for _ in range(8)]
    for wire in wires:
        wire.post(f"/nil{function.path}/execute", b"{}", content_type="application/json")
        assert api.items()  # an answer to a later request shows that the earlier one was read
    replies = [wire.answer().json() for wire in wires]
    for wire in wires:
        wire.close()
    assert first.result()["output"] == {}
    records = [api.execution(reply["id"]) for reply in replies]
    starts = [record["startedAt"] for record in records]
    assert starts == sorted(starts)
    assert all(record["durationMs"] < 1200 for record in records)
    assert starts[-1] > records[-1]["createdAt"]


def test_a_thousand_wait_and_no_more(narrow_server: Server, connect: Callable[..., Api], pool: ThreadPoolExecutor) -> None:
    function = connect(narrow_server).waiter(5)
    stuck = connect(narrow_server).waiter(4000)
    first = begin(pool, stuck)
    wires = [Wire(narrow_server.port) for _ in range(1003)]
    try:
        for wire in wires:
            wire.post(f"/nil{stuck.path}/execute", b"{}", content_type="application/json")
        refusals = [wire.answer() for wire in wires[1000:]]
    finally:
        for wire in wires:
            wire.close()
    assert not first.done()
    for answer in refusals:
        assert (answer.status, answer.json()["message"]) == (503, "Too many executions are waiting")
        assert answer.headers["retry-after"] == "1"
    assert len(stuck.history()) == 1
    assert function({"others": "run"}) == {"others": "run"}
    assert stuck.delete().status_code == 204


def test_a_sandbox_that_dies(make_server: Callable[..., Server], connect: Callable[..., Api], pool: ThreadPoolExecutor) -> None:
    """The execution in it is run once more; one whose second sandbox dies too has failed."""
    server = make_server()
    brief, endless = connect(server).waiter(2000), connect(server).waiter(1 << 30)

    def end_sandboxes(function: Function) -> None:
        started = function.history()[0]["startedAt"]
        for pid in find_below(server.pid, "wasm/main.py"):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: function.history()[0]["startedAt"] != started or function.history()[0]["completedAt"], "what follows")

    call = begin(pool, brief, {"n": 1})
    end_sandboxes(brief)
    reply = call.result()
    assert (reply["status"], reply["output"]) == ("COMPLETED", {"n": 1})
    call = begin(pool, endless)
    end_sandboxes(endless)
    end_sandboxes(endless)
    reply = call.result()
    assert (reply["status"], reply["errorMessage"]) == ("FAILED", "Execution sandbox failed")
    assert brief({}) == {}


def test_an_update_leaves_running_executions_alone(api: Api, pool: ThreadPoolExecutor) -> None:
    function = api.waiter(3000)
    running = begin(pool, function, {"old": 1})
    function.update(answers(1))
    assert function.until("READY")["source"] == answers(1)
    assert function({}) == 1
    assert running.result()["output"] == {"old": 1}
    assert [row["status"] for row in function.history()] == ["COMPLETED"] * 2


def test_between_the_update_and_its_artifact_nothing_runs(api: Api) -> None:
    function = api.function()
    function.update(SLOW % 7)
    codes = []
    while (response := function.post('{"input": {}}')).status_code == 400:
        codes.append(refused(response, 400))
    assert codes and {code.rpartition(" ")[2] for code in codes} <= {"PENDING", "COMPILING"}
    assert response.json()["output"] == 7


def test_the_last_of_many_updates_wins(api: Api) -> None:
    function = api.submit(SLOW % 0)
    for number in range(1, 6):
        function.update(SLOW % number if number % 2 else answers(number))
        assert function.get()["source"] in (SLOW % number, answers(number))
    assert function.until("READY")["source"] == SLOW % 5
    assert function({}) == 5


def test_ready_is_never_shown_with_the_artifact_of_another_source(api: Api) -> None:
    function = api.function(answers(0))
    for number in [1, 2, 1, 3, 2, 1]:
        function.update(answers(number))
        function.until("READY")
        assert together(lambda _: function({}), range(3)) == [number] * 3


def test_simultaneous_updates_are_whole(api: Api) -> None:
    function = api.function(answers(0))
    together(lambda number: function.update(answers(number % 3), name=str(number)), range(12))
    whole = function.until("READY")
    assert whole["source"] == answers(int(whole["name"]) % 3)
    assert function({}) == int(whole["name"]) % 3


def test_a_delete_leaves_running_executions_alone(api: Api, pool: ThreadPoolExecutor) -> None:
    function = api.waiter(1500)
    running = begin(pool, function, {"still": 1})
    id = function.history()[0]["id"]
    assert function.delete().status_code == 204
    assert not running.done()
    refused(function.post(), 404)
    reply = running.result()
    assert (reply["id"], reply["status"], reply["output"]) == (id, "COMPLETED", {"still": 1})
    refused(api.send("GET", f"{EXECUTIONS}/{id}"), 404, f"Execution not found: {id}")


def test_a_delete_while_it_is_compiled(api: Api) -> None:
    made = [api.submit(SLOW % number) for number in range(100, 103)]
    for function in made:
        assert function.delete().status_code == 204
    after = api.function(SLOW % 104)
    assert after({}) == 104
    for function in made:
        refused(api.send("GET", function.path), 404)
    assert not {function.id for function in made} & {item["id"] for item in api.items()}


def test_what_was_acknowledged_survives_a_kill(make_server: Callable[..., Server], connect: Callable[..., Api]) -> None:
    server = make_server()
    api = connect(server)
    ready, failed, deleted = api.waiter(0), api.submit("nope"), api.waiter(1)
    failed.until("FAILED")
    done = [ready.execute({"n": n}) for n in range(3)]
    deleted.delete()
    waiting = [api.submit(answers(number)) for number in range(200, 202)]
    before = [api.execution(reply["id"]) for reply in done]
    views = [ready.get(), failed.get()]
    server.restart_after_kill()
    assert ready.get()["status"] == "READY"
    assert ready({"after": 1}) == {"after": 1}
    assert [ready.get(), failed.get()] == views
    assert [api.execution(reply["id"]) for reply in done] == before
    assert [row["id"] for row in ready.history()][1:] == [reply["id"] for reply in reversed(done)]
    refused(api.send("GET", deleted.path), 404)
    assert [item["id"] for item in api.items()] == [one.id for one in [*reversed(waiting), failed, ready]]
    for number, function in enumerate(waiting, 200):
        function.until("READY")
        assert function({}) == number


def test_a_ready_function_is_not_compiled_again(make_server: Callable[..., Server], connect: Callable[..., Api]) -> None:
    server = make_server()
    function = connect(server).function()
    whole = function.get()
    assert server.stop() == 0
    server.start()
    assert function.get() == whole
    assert function({"a": 1}) == {"a": 1}
    assert whole == function.get()


def test_executions_that_a_kill_cuts_off(
    make_server: Callable[..., Server], connect: Callable[..., Api], pool: ThreadPoolExecutor
) -> None:
    server = make_server()
    api = connect(server)
    function = api.waiter(8000)
    order = {"text": "größe"}
    cut_off = pool.submit(function.post, json.dumps({"input": order}))
    wait_until(function.history, "it runs")
    (sync,) = (row["id"] for row in function.history())
    later = [function.later(order) for _ in range(8)]
    wait_until(lambda: sum(row["status"] == "RUNNING" for row in function.history()) == 9, "all run")
    pending = [function.later({"n": n}) for n in range(3)]
    server.restart_after_kill()
    assert isinstance(cut_off.exception(), httpx2.TransportError)
    for id in (sync, *later):
        record = api.execution(id)
        assert (record["status"], record["errorMessage"], record["input"]) == ("FAILED", INTERRUPTED, order)
        assert record["logs"] == []
    assert [function.over(id)["output"] for id in pending] == [{"n": n} for n in range(3)]
    assert [row["id"] for row in function.history()] == [*pending[::-1], *later[::-1], sync]


def test_a_kill_while_executions_come_and_go(
    make_server: Callable[..., Server], connect: Callable[..., Api], pool: ThreadPoolExecutor
) -> None:
    """Every one that was answered is there with its answer; every other that is there was interrupted."""
    server = make_server()
    api = connect(server)
    function = api.waiter(0)
    answered: dict[str, Any] = {}

    def execute_until_it_ends(client: Api, worker: int) -> None:
        one, number = function.by(client), 0
        while True:
            try:
                reply = one.post(json.dumps({"input": {"n": [worker, number]}})).json()
            except httpx2.TransportError:
                return
            answered[reply["id"]] = reply
            number += 1

    workers = [pool.submit(execute_until_it_ends, connect(server), worker) for worker in range(4)]
    wait_until(lambda: len(answered) > 400, "executions")
    server.kill()
    for worker in workers:
        worker.result()
    server.start()
    rows = {row["id"]: row["status"] for row in function.history()}
    assert {id: rows.get(id) for id in answered} == dict.fromkeys(answered, "COMPLETED")
    others = [api.execution(id) for id in rows if id not in answered]
    assert len(others) <= 4
    assert all(one["status"] == "COMPLETED" or one["errorMessage"] == INTERRUPTED for one in others)
    for id in list(answered)[:: max(1, len(answered) // 20)]:
        assert api.execution(id)["output"] == answered[id]["output"]


def test_sigterm_lets_executions_finish(
    make_server: Callable[..., Server], connect: Callable[..., Api], pool: ThreadPoolExecutor
) -> None:
    server = make_server()
    api = connect(server)
    function = api.waiter(1500)
    building = [api.submit(answers(number)) for number in range(300, 302)]
    running = begin(pool, function, {"last": 1})
    server.terminate()
    wait_until(lambda: not server.healthy(), "no new requests are taken")
    assert running.result()["output"] == {"last": 1}
    assert server.wait() == 0
    server.start()
    assert [row["status"] for row in function.history()] == ["COMPLETED"]
    for number, one in enumerate(building, 300):
        one.until("READY")
        assert one({}) == number


def test_sigterm_does_not_wait_for_ever(
    make_server: Callable[..., Server], connect: Callable[..., Api], pool: ThreadPoolExecutor
) -> None:
    server = make_server(env={"SPINNEY_DRAIN_S": "0.5"})
    function = connect(server).waiter(1 << 30)
    running = pool.submit(function.post)
    wait_until(function.history, "it runs")
    assert server.stop() == 0
    refused(running.result(), 503, "The server is shutting down")
    server.start()
    (row,) = function.history()
    assert (row["status"], function.api.execution(row["id"])["errorMessage"]) == ("FAILED", INTERRUPTED)


def test_builds_begin_in_order_of_arrival(own_account: Api) -> None:
    functions = [own_account.submit(f"{ECHO}// {id(own_account)} {number}") for number in range(12)]
    seen: list[list[str]] = []

    def over() -> bool:
        seen.append([item["status"] for item in reversed(own_account.items())])
        return not {"PENDING", "COMPILING"} & set(seen[-1])

    wait_until(over, "all are built", 90)
    for statuses in seen:
        begun = [status != "PENDING" for status in statuses]
        assert begun == sorted(begun, reverse=True)
        assert statuses.count("COMPILING") <= 2
    assert [function({}) for function in functions] == [{}] * 12
