"""Deleting functions (contract 2.6)."""

from __future__ import annotations

from tests.api import together, unique
from tests.dialects.impuls.api import FUNCTIONS, Api, refused


def test_delete(api: Api) -> None:
    name = unique("gone")
    function = api.function(name=name)
    assert function() == "hi"
    execution = function.executions()[0]["id"]
    response = function.delete()
    assert response.status_code == 200
    assert response.json() == {"message": "Function deleted successfully", "name": name}

    missing = f"function '{name}' not found"
    refused(function.api.send("GET", function.path), 404, missing)
    refused(function.put({}), 404, missing)
    refused(function.put({}, "PATCH"), 404, missing)
    refused(function.delete(), 404, missing)
    refused(function.post({}), 404, missing)
    refused(api.send("GET", f"{function.path}/executions"), 404, missing)
    refused(api.send("GET", f"/api/v1/executions/{execution}"), 404, f"execution '{execution}' not found")
    assert name not in api.names()


def test_the_name_is_free_again(api: Api) -> None:
    name = unique("again")
    first = api.node("globalThis.runs = (globalThis.runs ?? 0) + 1; return ['first', runs]", name=name)
    assert first() == ["first", 1]
    first.delete()
    second = api.node("globalThis.runs = (globalThis.runs ?? 0) + 1; return ['second', runs]", name=name)
    assert second() == ["second", 1]
    assert second.created["id"] != first.created["id"]
    assert second.created["created_at"] >= first.created["created_at"]
    assert [item["status"] for item in second.executions()] == ["success"]


def test_of_simultaneous_deletes_one_wins(api: Api) -> None:
    function = api.function()
    answers = together(lambda _: function.delete(), range(8))
    assert sorted(answer.status_code for answer in answers) == [200] + [404] * 7


def test_create_and_delete_in_turns(api: Api) -> None:
    name = unique("turns")
    for number in range(10):
        function = api.node(f"return {number}", name=name)
        assert function() == number
        assert function.delete().status_code == 200
    assert api.send("GET", f"{FUNCTIONS}/{name}").status_code == 404
