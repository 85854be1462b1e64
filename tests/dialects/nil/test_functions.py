"""Registering, listing, updating and deleting functions (contract 2.1 to 2.5)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api import together
from tests.dialects.nil.api import ECHO, EXECUTIONS, FUNCTIONS, JSON, NOBODY, Api, Function, refused, unsupported

MIB = 1048576
GOOD: dict[str, Any] = {"name": "f", "language": "assemblyscript", "source": ECHO}
NAME_REQUIRED, SOURCE_REQUIRED = "name is required", "source is required"
TWO = "export function handle(input: string): string { return '2'; }"


RULES = [
    ({}, 415, unsupported("null")),
    ({**GOOD, "language": None}, 415, unsupported("null")),
    ({**GOOD, "language": "COBOL"}, 415, unsupported("COBOL")),
    ({"language": "größe\n", "name": ""}, 415, unsupported("größe\n")),
    ({**GOOD, "language": ""}, 415, unsupported("")),
    ({**GOOD, "language": " assemblyscript"}, 415, unsupported(" assemblyscript")),
    ({**GOOD, "language": 4.50}, 415, unsupported("4.5")),
    ({**GOOD, "language": True}, 415, unsupported("true")),
    ({**GOOD, "language": {"a": ["é", None]}}, 415, unsupported('{"a":["é",null]}')),
    ({"language": "AssemblyScript"}, 400, NAME_REQUIRED),
    ({**GOOD, "name": None, "source": 5}, 400, NAME_REQUIRED),
    ({**GOOD, "name": ""}, 400, NAME_REQUIRED),
    ({**GOOD, "name": " \t\u2003"}, 400, NAME_REQUIRED),
    ({**GOOD, "name": 5, "source": ""}, 400, "name must be a string"),
    ({**GOOD, "name": ["f"]}, 400, "name must be a string"),
    ({**GOOD, "name": "x" * 256, "source": ""}, 400, "name must be at most 255 characters"),
    ({**GOOD, "source": None}, 400, SOURCE_REQUIRED),
    ({"name": "f", "language": "assemblyscript", "description": 5}, 400, SOURCE_REQUIRED),
    ({**GOOD, "source": " \n"}, 400, SOURCE_REQUIRED),
    ({**GOOD, "source": 1}, 400, "source must be a string"),
    ({**GOOD, "source": {}}, 400, "source must be a string"),
    ({**GOOD, "source": "é" * (MIB // 2) + "x", "description": 1}, 413, f"source is too large: {MIB + 1} bytes (limit {MIB})"),
    ({**GOOD, "description": 5}, 400, "description must be a string"),
    ({**GOOD, "description": []}, 400, "description must be a string"),
]


@pytest.mark.parametrize(("fields", "status", "message"), RULES)
def test_rules_of_a_function(api: Api, echo: Function, fields: dict[str, Any], status: int, message: str) -> None:
    before = echo.get()
    refused(api.post(fields), status, message)
    refused(echo.put(fields), status, message)
    assert echo.get() == before


def test_a_language_is_shown_as_it_was_sent(api: Api) -> None:
    body = '{"language": [ 1.50, 123456789012345678901234567890, "\\u00e9" ]}'
    refused(api.send("POST", FUNCTIONS, body), 415, unsupported('[1.50,123456789012345678901234567890,"é"]'))


def test_a_function_from_its_first_moment(own_account: Api) -> None:
    function = own_account.submit(
        description="Any text", id=NOBODY, status="READY", createdAt="1999-01-01T00:00:00.000Z", extra=[1]
    )
    assert function.id != NOBODY
    assert function.created["createdAt"] > "2000"
    whole = function.until("READY")
    assert (whole["name"], whole["description"], whole["language"], whole["source"]) == ("f", "Any text", "assemblyscript", ECHO)
    assert whole["updatedAt"] > whole["createdAt"] == function.created["createdAt"]
    assert own_account.items() == [{**function.created, "status": "READY"}]


def test_languages_in_any_case(api: Api) -> None:
    function = api.function(language="AssemblyScript")
    assert function.get()["language"] == "assemblyscript"
    assert function({"a": 1}) == {"a": 1}


@pytest.mark.parametrize(
    "name", ["f", "x" * 255, "👍" * 255, "größe 日本", " a ", "a\0b", "'; DROP TABLE functions; --", "\u202e\uffff"]
)
def test_names_are_labels(api: Api, name: str) -> None:
    made = [api.submit(name=name, description=name) for _ in range(2)]
    assert made[0].id != made[1].id
    assert [one.get()["name"] for one in made] == [name] * 2
    assert made[0].get()["description"] == name
    assert {one.id for one in made} <= {item["id"] for item in api.items() if item["name"] == name}


def test_lone_surrogates_are_replaced(api: Api) -> None:
    body = json.dumps({**GOOD, "name": "a\ud800", "description": "\udfffb", "source": ECHO + "//\ud83d"})
    response = api.send("POST", FUNCTIONS, body)
    whole = Function(api, response.json()).until("READY")
    assert (whole["name"], whole["description"], whole["source"]) == ("a\ufffd", "\ufffdb", ECHO + "//\ufffd")


@pytest.mark.parametrize(
    "source", [ECHO + "// größe 日本 👍 \u2028\x7f\r\n\t", "\ufeff" + ECHO, ECHO + "\0", "\n\n  " + ECHO + "\n" * 5]
)
def test_sources_are_returned_as_they_were_sent(api: Api, source: str) -> None:
    assert api.submit(source).get()["source"] == source


def test_the_largest_source(api: Api) -> None:
    source = ECHO + "//" + "é" * ((MIB - len(ECHO) - 2) // 2)
    assert api.submit(source + "x" * (MIB - len(source.encode()))).get()["source"].startswith(ECHO)


def test_a_list_is_newest_first(own_account: Api) -> None:
    assert own_account.send("GET", FUNCTIONS).text == "[]"
    made = [own_account.submit(name=str(number)) for number in range(5)]
    made[0].update(name="an update does not move it")
    items = own_account.items()
    assert [item["id"] for item in items] == [one.id for one in reversed(made)]
    assert items[-1]["name"] == "an update does not move it"


def test_an_update_of_labels_keeps_the_artifact(api: Api) -> None:
    function = api.function(description="first")
    before = function.get()
    updated = function.update(name="other", language="ASSEMBLYSCRIPT")
    assert updated == {**before, "name": "other", "description": None, "updatedAt": updated["updatedAt"]}
    assert updated["updatedAt"] > before["updatedAt"]
    assert function.get() == updated
    assert function({"a": 1}) == {"a": 1}
    for key in ("name", "source", "language"):
        fields = {**GOOD, "source": ECHO}
        del fields[key]
        assert function.put(fields).status_code in (400, 415)
    assert function.get() == updated


def test_an_update_of_the_source_is_a_new_revision(api: Api) -> None:
    function = api.function()
    before = function.get()
    updated = function.update(TWO)
    assert updated == {**before, "source": TWO, "status": "PENDING", "updatedAt": updated["updatedAt"]}
    ready = function.until("READY")
    assert ready["updatedAt"] > updated["updatedAt"] > before["updatedAt"]
    assert function({}) == 2
    function.update(ECHO)
    function.until("READY")
    assert function({"again": 1}) == {"again": 1}


def test_a_failed_function_stays_failed_until_its_source_changes(api: Api) -> None:
    function = api.submit("nope")
    failed = function.until("FAILED")
    updated = function.update("nope", name="other")
    assert (updated["status"], updated["compileError"]) == ("FAILED", failed["compileError"])
    assert function.update(ECHO)["compileError"] is None
    function.until("READY")
    assert function({}) == {}


def test_an_update_ignores_what_is_not_its(api: Api) -> None:
    function = api.function()
    before = function.get()
    updated = function.update(id=NOBODY, createdAt="x", status="FAILED", compileError="x", updatedAt=1, __proto__={})
    assert updated == {**before, "updatedAt": updated["updatedAt"]}


def test_delete(api: Api) -> None:
    function = api.function()
    execution = function.execute()["id"]
    gone = function.delete()
    assert (gone.status_code, gone.content) == (204, b"")
    assert "content-type" not in gone.headers
    missing = f"Function not found: {function.id}"
    refused(function.delete(), 404, missing)
    refused(api.send("GET", function.path), 404, missing)
    refused(function.put(GOOD), 404, missing)
    refused(function.post(), 404, missing)
    refused(api.send("GET", f"{function.path}{EXECUTIONS}"), 404, missing)
    refused(api.send("GET", f"{EXECUTIONS}/{execution}"), 404, f"Execution not found: {execution}")
    assert function.id not in {item["id"] for item in api.items()}
    assert execution not in {row["id"] for row in api.executions()}


def test_of_many_deletes_one_wins(api: Api) -> None:
    function = api.submit()
    assert sorted(one.status_code for one in together(lambda _: function.delete(), range(8))) == [204] + [404] * 7


def test_the_function_is_looked_up_before_its_fields_and_after_the_body(api: Api) -> None:
    path = f"{FUNCTIONS}/{NOBODY}"
    refused(api.send("PUT", path, "{}"), 404, f"Function not found: {NOBODY}")
    assert refused(api.send("PUT", path, "{"), 400).startswith("Malformed")
    refused(api.send("PUT", path, "{}", headers={"content-type": "x/y"}), 415)
    refused(api.send("PUT", path, b" " * (8 * MIB + 1), headers=JSON), 413)
