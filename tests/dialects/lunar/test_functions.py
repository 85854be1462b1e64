"""Creating, listing, reading, changing and deleting functions (contract 2.5)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api import together
from tests.dialects.lunar.api import ID, NOBODY, TRIVIAL, Api, done, is_function, refused

BIG_CODE = TRIVIAL + "-" * (1048576 - len(TRIVIAL))
LONG_NAME = "ü" * 50


def test_a_new_function(api: Api) -> None:
    body = {"name": " Hello, 世界 ", "description": "greets", "code": TRIVIAL, "unknown": 1}
    created = is_function(done(api.request("POST", "/api/functions", body)))
    version = created.pop("active_version")
    at = created.pop("created_at")
    assert version == {
        "id": f"ver_{created['id']}_v1",
        "function_id": created["id"],
        "version": 1,
        "code": TRIVIAL,
        "created_at": at,
        "is_active": True,
    }
    assert created == {
        "id": created["id"],
        "name": " Hello, 世界 ",
        "description": "greets",
        "env_vars": {},
        "disabled": False,
        "cron_status": "paused",
        "save_response": False,
        "updated_at": at,
        "scoped_data": None,
        "global_data": None,
    }


def test_ids_grow_with_time(api: Api) -> None:
    ids = [api.function().id for _ in range(3)]
    assert all(ID.fullmatch(id) for id in ids)
    assert [id[:7] for id in ids] == sorted(id[:7] for id in ids)
    assert int(ids[0][:7], 32) == api.get(f"/api/functions/{ids[0]}")["created_at"]


def test_names_may_repeat_and_code_may_be_broken(api: Api) -> None:
    assert api.function("this is not Lua", name="twin").id != api.function(name="twin").id


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "name: name cannot be empty"),
        ({"name": " \u2003\n", "code": "x"}, "name: name cannot be empty"),
        ({"name": "n" * 101, "code": ""}, "name: name cannot be longer than 100 characters"),
        ({"name": LONG_NAME + "x", "code": "x"}, "name: name cannot be longer than 100 characters"),
        ({"name": "n", "description": "é" * 251, "code": ""}, "description: description cannot be longer than 500 characters"),
        ({"name": "n"}, "code: code cannot be empty"),
        ({"name": "n", "code": "\t\n"}, "code: code cannot be empty"),
        ({"name": "n", "code": BIG_CODE + "-"}, "code: code cannot be longer than 1048576 bytes"),
    ],
)
def test_what_create_refuses(api: Api, fields: dict[str, Any], message: str) -> None:
    refused(api.request("POST", "/api/functions", fields), 400, message)


def test_the_longest_of_everything(api: Api) -> None:
    function = api.function(BIG_CODE, name=f"  {LONG_NAME}  ", description="d" * 500)
    assert function.get()["active_version"]["code"] == BIG_CODE
    assert function.get()["name"] == f"  {LONG_NAME}  "


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "x", "[]", "7", '"x"', "{", '{"name":"n","code":"c"} x', "{'name':'n'}", b"\xff", '{"name":"\\ud800"}'),
        *('{"name":7,"code":"c"}', '{"name":"n","code":["c"]}', '{"name":"n","code":"c","description":true}'),
    ],
)
def test_bodies_that_are_no_request(api: Api, text: str | bytes) -> None:
    refused(api.send("POST", "/api/functions", text), 400, "Invalid request body")


def test_null_is_as_good_as_nothing(api: Api) -> None:
    refused(api.send("POST", "/api/functions", "null"), 400, "name: name cannot be empty")
    created = done(api.request("POST", "/api/functions", {"name": "n", "code": TRIVIAL, "description": None}))
    assert "description" not in created
    refused(
        api.send("PUT", f"/api/functions/{created['id']}", "null"), 400, "request: at least one field must be provided for update"
    )


def test_the_list_is_newest_first_and_paged(own_account: Api) -> None:
    assert own_account.get("/api/functions") == {"functions": [], "pagination": {"total": 0, "limit": 20, "offset": 0}}
    ids = [own_account.function().id for _ in range(5)][::-1]
    for query, expected, used in (
        ("", ids, (20, 0)),
        ("?limit=2&offset=1", ids[1:3], (2, 1)),
        ("?limit=0&offset=-1", ids, (20, 0)),
        ("?limit=x&offset=9", [], (20, 9)),
        ("?limit=1000", ids, (100, 0)),
        ("?limit=99999999999999999999&offset=1.5", ids, (20, 0)),
    ):
        page = own_account.get(f"/api/functions{query}")
        assert [is_function(one)["id"] for one in page["functions"]] == expected
        assert page["pagination"] == {"total": 5, "limit": used[0], "offset": used[1]}
    item = own_account.get("/api/functions")["functions"][0]
    assert (item["env_vars"], item["scoped_data"], item["global_data"]) == ({}, None, None)
    assert item["active_version"]["code"] == TRIVIAL


def test_one_function_has_its_entries(own_account: Api) -> None:
    found = own_account.function().get()
    assert (found["env_vars"], found["scoped_data"], found["global_data"]) == ({}, {}, {})


def test_an_update_of_everything(api: Api) -> None:
    function = api.function()
    wanted = {
        "name": "renamed",
        "description": "",
        "disabled": True,
        "retention_days": 30,
        "cron_schedule": "0 3 * * *",
        "cron_status": "active",
        "save_response": True,
    }
    before = function.get()
    function.update(**wanted, code="-- 2")
    after = function.get()
    assert {name: after[name] for name in wanted} == wanted
    assert (after["active_version"]["version"], after["active_version"]["code"]) == (2, "-- 2")
    assert after["created_at"] == before["created_at"]
    function.update(cron_schedule="", cron_status="paused")
    assert "cron_schedule" not in function.get()


def test_what_is_not_named_stays_and_makes_no_version(api: Api) -> None:
    function = api.function(description="d", retention_days=365)
    function.update(name="other")
    after = function.get()
    assert (after["name"], after["description"], after["retention_days"]) == ("other", "d", 365)
    assert after["active_version"]["version"] == 1


def test_equal_code_makes_a_version_all_the_same(api: Api) -> None:
    function = api.function()
    function.update(code=TRIVIAL)
    assert [one["version"] for one in function.versions()] == [2, 1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "request: at least one field must be provided for update"),
        ({"nonsense": 1}, "request: at least one field must be provided for update"),
        ({"name": "", "code": ""}, "name: name cannot be empty"),
        ({"code": " ", "retention_days": 8}, "code: code cannot be empty"),
        ({"retention_days": 8, "cron_status": "x"}, "retention_days: retention_days must be one of: [7 15 30 365]"),
        (
            {"cron_status": "x", "cron_schedule": "invalid"},
            "cron_schedule: invalid cron expression: expected exactly 5 fields, found 1: [invalid]",
        ),
        ({"cron_status": "x"}, "cron_status: cron_status must be one of: [active paused]"),
        ({"cron_status": ""}, "cron_status: cron_status must be one of: [active paused]"),
    ],
)
def test_what_an_update_refuses(api: Api, fields: dict[str, Any], message: str) -> None:
    function = api.function()
    refused(function.put(fields), 400, message)
    refused(api.request("PUT", f"/api/functions/{NOBODY}", fields), 400, message)
    assert function.get() == {**function.created, "scoped_data": {}, "global_data": function.get()["global_data"]}


@pytest.mark.parametrize("field", ['"retention_days":7.0', '"retention_days":"7"', '"disabled":1', '"retention_days":true'])
def test_wrong_types_in_an_update(api: Api, field: str) -> None:
    refused(api.send("PUT", api.function().path, f"{{{field}}}"), 400, "Invalid request body")


def test_a_faulty_update_changes_nothing(api: Api) -> None:
    function = api.function()
    refused(function.put({"code": "-- new", "cron_status": "x"}), 400, "cron_status: cron_status must be one of: [active paused]")
    assert function.get()["active_version"]["version"] == 1


def test_delete(api: Api) -> None:
    function = api.function()
    response = function.run()
    assert done(function.delete(), 204) is None
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/versions"), ("GET", "/executions"), ("GET", "/next-run")):
        refused(api.send(method, function.path + path), 404, "Function not found")
    refused(function.put({"name": "x"}), 404, "Function not found")
    refused(function.run(), 404, "Function not found")
    for rest in ("", "/logs", "/ai-requests", "/email-requests"):
        refused(api.send("GET", f"/api/executions/{response.headers['x-execution-id']}{rest}"), 404, "Execution not found")


def test_other_accounts_see_nothing(api: Api, own_account: Api) -> None:
    mine = api.function()
    theirs = mine.by(own_account)
    response = mine.run()
    execution = response.headers["x-execution-id"]
    for method, path, body in (
        ("GET", "", None),
        ("PUT", "", {"name": "x"}),
        ("DELETE", "", None),
        ("PUT", "/env", {"env_vars": {}}),
        ("POST", "/kv", {"kv": {}}),
        ("GET", "/next-run", None),
        ("GET", "/versions", None),
        ("GET", "/executions", None),
    ):
        refused(own_account.request(method, mine.path + path, body), 404, "Function not found")
    refused(theirs.activate(1), 404, "Version not found")
    refused(theirs.delete_version(1), 404, "Version not found")
    refused(own_account.send("GET", f"{mine.path}/versions/1"), 404, "Version not found")
    refused(own_account.send("GET", f"{mine.path}/diff/1/1"), 404, "Version v1 not found")
    refused(own_account.send("GET", f"/api/executions/{execution}"), 404, "Execution not found")
    assert theirs.run().text == "hi"
    assert mine.get()["name"] == mine.created["name"]


def test_simultaneous_updates_lose_nothing(api: Api) -> None:
    function = api.function()
    changes: list[dict[str, Any]] = [
        *({"code": f"-- {n}"} for n in range(8)),
        {"name": "new"},
        {"description": "told"},
        {"retention_days": 15},
        {"save_response": True},
    ]
    together(lambda change: function.update(**change), changes)
    after = function.get()
    assert (after["name"], after["description"], after["retention_days"], after["save_response"]) == ("new", "told", 15, True)
    versions = function.versions("?limit=100")
    assert [one["version"] for one in versions] == list(range(9, 0, -1))
    assert [one["version"] for one in versions if one["is_active"]] == [9]
    assert {one["code"] for one in versions} == {TRIVIAL, *(f"-- {n}" for n in range(8))}


def test_odd_characters_come_back(api: Api) -> None:
    odd = 'a\u0000b\u2028"\\\u007f<&>\U0001f600'
    function = api.function(f"-- {odd}", name=odd, description=odd)
    found = function.get()
    assert (found["name"], found["description"], found["active_version"]["code"]) == (odd, odd, f"-- {odd}")
    assert json.loads(api.send("GET", function.path).content) == found
