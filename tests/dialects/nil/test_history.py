"""Histories, of a function and of an account, and executions that run later (contract 2.7, 2.8, 4.2, 6.2 to 6.4)."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.api import together
from tests.dialects.nil.api import EXECUTIONS, Api, refused
from tests.dialects.nil.sources import TOOL
from tests.server import wait_until


def test_a_history_is_newest_first(api: Api) -> None:
    function = api.function(TOOL)
    assert function.history() == []
    ids = [function.execute({"act": act})["id"] for act in ("count", "throw", "count", "unreachable")]
    rows = function.history()
    assert [row["id"] for row in rows] == ids[::-1]
    assert [row["status"] for row in rows] == ["FAILED", "COMPLETED", "FAILED", "COMPLETED"]
    assert [{key: api.execution(row["id"])[key] for key in row} for row in rows] == rows


def test_an_execution_while_it_runs(api: Api, pool: ThreadPoolExecutor) -> None:
    function = api.function(TOOL)
    order = {"act": "wait", "n": 1500.0, "text": "done"}
    running = pool.submit(function.execute, order)
    wait_until(function.history, "the execution is seen")
    (row,) = function.history()
    assert (row["status"], row["completedAt"]) == ("RUNNING", None)
    record = api.execution(row["id"])
    assert (record["status"], record["input"], record["output"], record["logs"]) == ("RUNNING", order, None, [])
    assert [one["id"] for one in api.executions("?status=RUNNING")] == [row["id"]]
    assert not running.done()
    reply = running.result()
    (after,) = function.history()
    assert (after["id"], after["status"], after["startedAt"]) == (reply["id"], "COMPLETED", row["startedAt"])
    assert api.execution(row["id"])["createdAt"] == record["createdAt"] == reply["createdAt"]
    assert api.execution(row["id"])["durationMs"] >= 1500


def test_a_long_history(own_account: Api) -> None:
    function = own_account.function()
    together(lambda n: [function.post(json.dumps({"input": {"n": [n, k]}})) for k in range(150)], range(8))
    rows = function.history()
    assert len(rows) == len({row["id"] for row in rows}) == 1200
    assert {row["status"] for row in rows} == {"COMPLETED"}
    created = [row["id"][:13] for row in rows]
    assert created == sorted(created, reverse=True)


def test_the_accounts_history(own_account: Api) -> None:
    assert own_account.send("GET", EXECUTIONS).text == "[]"
    functions = [own_account.function(TOOL) for _ in range(3)]
    made = [(one.id, one.execute({"act": "count" if n else "throw"})["id"]) for n in range(3) for one in functions]
    rows = own_account.executions()
    assert [(row["functionId"], row["id"]) for row in rows] == made[::-1]
    assert own_account.executions("?limit=2&offset=3") == rows[3:5]
    assert own_account.executions("?offset=8&limit=1000") == rows[8:]
    assert own_account.executions("?offset=9") == []
    assert own_account.executions("?offset=999999999999999999999999") == []
    assert own_account.executions("?status=FAILED") == rows[6:]
    assert own_account.executions("?status=COMPLETED&limit=1&offset=5") == [rows[5]]
    assert own_account.executions("?status=PENDING") == own_account.executions("?status=RUNNING") == []
    assert own_account.executions("?unknown=1") == rows
    functions[0].delete()
    assert own_account.executions() == [row for row in rows if row["functionId"] != functions[0].id]


def test_an_account_sees_a_hundred_unless_it_asks(own_account: Api) -> None:
    function = own_account.function()
    for _ in range(110):
        function.post()
    rows = own_account.executions("?limit=1000")
    assert (len(rows), own_account.executions()) == (110, rows[:100])


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("limit=1.5", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("offset=-1", "offset"),
        ("offset=x", "offset"),
        ("status=running", "status"),
        ("status=READY", "status"),
        ("status=", "status"),
    ],
)
def test_parameters_out_of_range(api: Api, query: str, name: str) -> None:
    assert refused(api.send("GET", f"{EXECUTIONS}?{query}"), 400).startswith(f"{name} must be ")


def test_an_execution_later(api: Api) -> None:
    function = api.function(TOOL)
    id = function.later({"act": "log", "text": "later", "n": 1})
    record = function.over(id)
    assert (record["status"], record["logs"]) == ("COMPLETED", ["later"])
    assert record["input"] == record["output"] == {"act": "log", "text": "later", "n": 1}
    failed = function.over(function.later({"act": "throw", "text": "x"}))
    assert (failed["status"], failed["errorMessage"]) == ("FAILED", "Runtime error: x")
    assert [row["id"] for row in function.history()] == [failed["id"], id]
    assert function.over(function.later())["input"] == {}


@pytest.mark.parametrize(
    ("query", "status"), [("?async=true", 202), ("?async=TRUE", 202), ("?async=1", 202), ("?async=false", 200), ("?x=true", 200)]
)
def test_what_asks_for_later(api: Api, query: str, status: int) -> None:
    function = api.function()
    assert function.post("{}", query).status_code == status


def test_from_pending_to_the_end(api: Api) -> None:
    function = api.function(TOOL)
    ids = [function.later({"act": "wait", "n": 700, "text": str(n)}) for n in range(12)]
    seen: dict[str, list[str]] = {id: [] for id in ids}

    def look() -> bool:
        for row in function.history():
            if row["status"] not in seen[row["id"]]:
                seen[row["id"]].append(row["status"])
        return all(statuses[-1:] == ["COMPLETED"] for statuses in seen.values())

    wait_until(look, "all have run", 60)
    order = ["PENDING", "RUNNING", "COMPLETED"]
    assert all(statuses == [one for one in order if one in statuses] for statuses in seen.values())
    assert {status for statuses in seen.values() for status in statuses} == set(order)
    assert [row["id"] for row in function.history()] == ids[::-1]
    assert [api.execution(id)["output"] for id in ids] == [str(n) for n in range(12)]


def test_those_that_wait_are_shown_where_they_were_asked_for(api: Api) -> None:
    function = api.function(TOOL)
    ids = [function.later({"act": "wait", "n": 400}) for _ in range(20)]
    wait_until(lambda: {"PENDING", "RUNNING"} <= {row["status"] for row in function.history()}, "some run")
    rows = function.history()
    assert [row["id"] for row in rows] == ids[::-1]
    pending = [row for row in rows if row["status"] == "PENDING"]
    for row in pending:
        assert row["startedAt"] is row["completedAt"] is None
    if pending:
        record = api.execution(pending[0]["id"])
        assert record["input"] == {"act": "wait", "n": 400}
    for id in ids:
        function.over(id)


def test_later_means_the_revision_of_now(api: Api) -> None:
    function = api.function(TOOL)
    ids = [function.later({"act": "wait", "n": 300, "text": "old"}) for _ in range(16)]
    function.update("export function handle(input: string): string { return '\"new\"'; }")
    function.until("READY")
    assert function({}) == "new"
    assert {function.over(id)["output"] for id in ids} == {"old"}


def test_a_deleted_function_runs_nothing_later(api: Api) -> None:
    function = api.function(TOOL)
    ids = [function.later({"act": "wait", "n": 300}) for _ in range(16)]
    assert function.delete().status_code == 204
    for id in ids:
        refused(api.send("GET", f"{EXECUTIONS}/{id}"), 404)
