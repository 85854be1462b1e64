"""Versions: made, listed, activated, deleted, compared (contract 2.7, 5)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.api import together
from tests.dialects.lunar.api import NOBODY, Api, Function, done, refused
from tests.server import wait_until

NO_VERSION = "Version not found"


def answering(text: str) -> str:
    return f"function handler() return {{ body = '{text}' }} end"


@pytest.fixture
def function(api: Api) -> Function:
    """Three versions, the last active; each answers with its number."""
    made = api.function(answering("1"))
    made.update(code=answering("2"))
    made.update(code=answering("3"))
    return made


def test_versions_are_listed_newest_first(function: Function) -> None:
    assert [(one["version"], one["is_active"]) for one in function.versions()] == [(3, True), (2, False), (1, False)]
    page = function.api.get(f"{function.path}/versions?limit=1&offset=1")
    assert [one["version"] for one in page["versions"]] == [2]
    assert page["pagination"] == {"total": 3, "limit": 1, "offset": 1}
    assert function.api.get(f"{function.path}/versions/2") == page["versions"][0]


@pytest.mark.parametrize("number", ["x", "1.0", "", "ver_1", "1" * 30, "%31x"])
def test_numbers_that_are_none(function: Function, number: str) -> None:
    response = function.api.send("GET", f"{function.path}/versions/{number}")
    if number:
        refused(response, 400, "Invalid version number")
    else:
        assert (response.status_code, response.text) == (404, "404 page not found\n")


@pytest.mark.parametrize("number", ["0", "-1", "4", "4294967297", "999999999999999999"])
def test_numbers_that_nothing_has(function: Function, number: str) -> None:
    refused(function.api.send("GET", f"{function.path}/versions/{number}"), 404, NO_VERSION)
    refused(function.api.send("GET", f"/api/functions/{NOBODY}/versions/{number}"), 404, NO_VERSION)


def test_activating_takes_effect_for_the_next_run(function: Function) -> None:
    assert function.run().text == "3"
    for number in (1, 2, 3, 1, 1):
        assert done(function.activate(number)) is None
        response = function.run()
        assert (response.text, response.headers["x-function-version-id"]) == (str(number), function.version_id(number))
    assert function.get()["active_version"]["version"] == 1
    function.update(code=answering("4"))
    assert next((one["version"], one["is_active"]) for one in function.versions()) == (4, True)


def test_deleted_numbers_do_not_come_back(function: Function) -> None:
    done(function.activate(1))
    done(function.delete_version(3), 204)
    done(function.delete_version(2), 204)
    assert [one["version"] for one in function.versions()] == [1]
    refused(function.activate(3), 404, NO_VERSION)
    refused(function.delete_version(3), 404, NO_VERSION)
    refused(function.delete_version(1), 400, "Cannot delete active version")
    function.update(code=answering("4"))
    assert [one["version"] for one in function.versions()] == [4, 1]
    assert function.run().text == "4"


def test_executions_go_with_their_version(function: Function) -> None:
    old = [function.run().headers["x-execution-id"] for _ in range(3)]
    done(function.activate(1))
    kept = function.run().headers["x-execution-id"]
    done(function.delete_version(3), 204)
    assert [one["id"] for one in function.executions()] == [kept]
    assert function.api.get(f"{function.path}/executions")["pagination"]["total"] == 1
    for id in old:
        refused(function.api.send("GET", f"/api/executions/{id}"), 404, "Execution not found")


def test_versions_of_others(api: Api, function: Function) -> None:
    other = api.function()
    other.update(code="-- 2")
    for id in (other.version_id(1), other.version_id(9), "x", "ver_", f"ver_{other.id}_v01", f"ver_{other.id}"):
        refused(api.send("POST", f"{function.path}/versions/{id}/activate"), 404, NO_VERSION)
        refused(api.send("DELETE", f"{function.path}/versions/{id}"), 404, NO_VERSION)
    assert [one["version"] for one in other.versions()] == [2, 1]
    assert function.get()["active_version"]["version"] == 3


def test_a_run_keeps_its_version(api: Api) -> None:
    code = "function handler() kv.set('begun', 'yes') time.sleep(1000) return { body = mine() } end function mine() return %d end"
    function = api.function(code % 1)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(function.run)
        wait_until(lambda: function.get()["scoped_data"], "the run")
        function.update(code=answering("2"))
        assert function.run().text == "2"
        response = running.result()
    assert (response.text, response.headers["x-function-version-id"]) == ("1", function.version_id(1))
    assert function.execution(response)["function_version_id"] == function.version_id(1)


def test_simultaneous_activations_leave_one_active(function: Function) -> None:
    together(lambda n: done(function.activate(n % 3 + 1)), range(12))
    active = [one for one in function.versions() if one["is_active"]]
    assert len(active) == 1
    assert function.run().text == str(active[0]["version"]) == str(function.get()["active_version"]["version"])


def test_the_difference_of_two_versions(api: Api) -> None:
    function = api.function("a\n\nb\nc\n")
    function.update(code="a\n\nB\nc\n\nd")
    assert api.get(f"{function.path}/diff/1/2") == {
        "old_version": 1,
        "new_version": 2,
        "diff": [
            {"line_type": "unchanged", "old_line": 1, "new_line": 1, "content": "a"},
            {"line_type": "unchanged", "old_line": 2, "new_line": 2, "content": ""},
            {"line_type": "removed", "old_line": 3, "content": "b"},
            {"line_type": "added", "new_line": 3, "content": "B"},
            {"line_type": "unchanged", "old_line": 4, "new_line": 4, "content": "c"},
            {"line_type": "added", "new_line": 5, "content": ""},
            {"line_type": "added", "new_line": 6, "content": "d"},
        ],
    }
    assert {line["line_type"] for line in api.get(f"{function.path}/diff/2/2")["diff"]} == {"unchanged"}
    for path, status, message in (
        ("x/y", 400, "Invalid version number v1"),
        ("1/y", 400, "Invalid version number v2"),
        ("7/8", 404, "Version v1 not found"),
        ("1/8", 404, "Version v2 not found"),
    ):
        refused(api.send("GET", f"{function.path}/diff/{path}"), status, message)
