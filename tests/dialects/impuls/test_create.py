"""Creating functions: every rule, its message, and the order of checks (contract 2.2)."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

import pytest

from tests.api import UUID4, together, unique
from tests.dialects.impuls import rules
from tests.dialects.impuls.api import FULL_KEYS, FUNCTIONS, TIME, TRIVIAL, Api, refused
from tests.dialects.impuls.rules import Fields, short


def body(**fields: Any) -> Fields:
    return {"name": unique(), "runtime": "nodejs20", "handler": "index.handler", "code": TRIVIAL, **fields}


def test_the_whole_object_comes_back(api: Api) -> None:
    fields = body(description="Adds up", memory_mb=256, timeout_sec=60, environment={"KEY": "value"})
    before = time.time()
    response = api.post(fields)
    assert response.status_code == 201
    assert response.headers["content-type"].split(";")[0] == "application/json"
    created = response.json()
    assert {key: created[key] for key in fields} == fields
    assert set(created) >= FULL_KEYS
    assert UUID4.fullmatch(created["id"])
    assert TIME.fullmatch(created["created_at"])
    assert created["updated_at"] == created["created_at"]
    stamp = datetime.fromisoformat(created["created_at"]).timestamp()
    assert before - 0.001 <= stamp <= time.time()


def test_defaults(api: Api) -> None:
    created = api.post(body()).json()
    optional = {"description": "", "memory_mb": 128, "timeout_sec": 30, "environment": {}}
    assert {key: created[key] for key in optional} == optional


def test_null_counts_as_absent(api: Api) -> None:
    nothing = dict.fromkeys(("description", "memory_mb", "timeout_sec", "environment"))
    created = api.post(body(**nothing)).json()
    optional = {"description": "", "memory_mb": 128, "timeout_sec": 30, "environment": {}}
    assert {key: created[key] for key in optional} == optional
    for field in ("name", "runtime", "handler", "code"):
        refused(api.post(body(**{field: None})), 400, f"{field}: {field} is required")


def test_what_the_server_decides_and_what_it_does_not_know_is_ignored(api: Api) -> None:
    extra = {"id": 5, "created_at": "yesterday", "updated_at": [], "count": 1, "Name": "other", "state": {"deep": [None]}}
    response = api.post(body(**extra))
    assert response.status_code == 201
    assert UUID4.fullmatch(response.json()["id"])
    assert TIME.fullmatch(response.json()["created_at"])
    assert "state" not in response.json()


@pytest.mark.parametrize("field", ["name", "runtime", "handler", "code"])
def test_required(api: Api, field: str) -> None:
    without = body()
    del without[field]
    refused(api.post(without), 400, f"{field}: {field} is required")
    refused(api.post(body(**{field: ""})), 400, f"{field}: {field} is required")


def test_required_fields_are_asked_for_in_order(api: Api) -> None:
    given: Fields = {}
    for field, value in body().items():
        refused(api.post({**given, "timeout_sec": 0}), 400, f"{field}: {field} is required")
        given[field] = value
    refused(api.post({**given, "timeout_sec": 0}), 400, rules.TIMEOUT)
    refused(api.post({"name": "a_b", "runtime": ""}), 400, rules.NAME)
    refused(api.post({"name": 5, "runtime": 5}), 400, "name: must be a string")


@pytest.mark.parametrize("name", rules.BAD_NAMES, ids=short)
def test_bad_name(api: Api, name: str) -> None:
    refused(api.post(body(name=name)), 400, rules.NAME)


@pytest.mark.parametrize("name", rules.GOOD_NAMES, ids=short)
def test_good_name(api: Api, name: str) -> None:
    function = api.function(name=name)
    assert function() == "hi"
    assert function.get()["name"] == name


@pytest.mark.parametrize("name", rules.NOT_STRINGS, ids=short)
def test_a_name_is_a_string(api: Api, name: object) -> None:
    refused(api.post(body(name=name)), 400, "name: must be a string")


@pytest.mark.parametrize(("fields", "message"), rules.FIELD_RULES, ids=short)
def test_refused(api: Api, fields: Fields, message: str) -> None:
    wanted = body(**fields)
    refused(api.post(wanted), 400, message)
    assert api.send("GET", f"{FUNCTIONS}/{wanted['name']}").status_code == 404


@pytest.mark.parametrize("fields", rules.FIELDS_AT_THE_EDGE, ids=short)
def test_accepted(api: Api, fields: Fields) -> None:
    response = api.post(body(**fields))
    assert response.status_code == 201, response.text[:500]
    created = response.json()
    assert {key: created[key] for key in fields} == fields
    assert api.send("GET", f"{FUNCTIONS}/{created['name']}").json() == created


@pytest.mark.parametrize(
    "code", ["x" * (rules.CODE_BYTES + 1), "é" * (rules.CODE_BYTES // 2) + "x"], ids=["letters", "two bytes each"]
)
def test_code_too_large(api: Api, code: str) -> None:
    refused(api.post(body(code=code)), 413, rules.CODE_TOO_LARGE)
    refused(api.post(body(code=code, description=5)), 413, rules.CODE_TOO_LARGE)


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 5000, "1.5e0"], ids=short)
@pytest.mark.parametrize("field", ["memory_mb", "timeout_sec", "environment", "name"])
def test_monstrous_numbers(api: Api, field: str, number: str) -> None:
    text = json.dumps(body(**{field: "@"})).replace('"@"', number)
    refused(api.send("POST", FUNCTIONS, text), 400)


def test_code_is_not_compiled(api: Api) -> None:
    assert api.post(body(code="this is not JavaScript")).status_code == 201


def test_it_can_be_invoked_at_once(api: Api) -> None:
    for runtime, code in [("nodejs20", TRIVIAL), ("python311", "def handler(event, context): return 'hi'")]:
        assert api.function(code, runtime=runtime)() == "hi"


def test_a_name_is_used_once(api: Api) -> None:
    first = api.function()
    message = f"name: function '{first.name}' already exists"
    refused(api.post(body(name=first.name)), 400, message)
    assert first.get() == first.created
    refused(api.post(body(name=first.name, timeout_sec=0)), 400, rules.TIMEOUT)
    refused(api.post(body(name=first.name, code="x" * (rules.CODE_BYTES + 1))), 413, rules.CODE_TOO_LARGE)


def test_of_simultaneous_creates_one_wins(api: Api) -> None:
    for _ in range(3):
        name = unique("race")
        wanted = [body(name=name, description=str(number)) for number in range(16)]
        answers = together(api.post, wanted)
        won = [answer for answer in answers if answer.status_code == 201]
        assert len(won) == 1
        for answer in answers:
            if answer is not won[0]:
                refused(answer, 400, f"name: function '{name}' already exists")
        assert api.send("GET", f"{FUNCTIONS}/{name}").json() == won[0].json()


def test_ids_are_never_the_same(api: Api) -> None:
    made = together(lambda _: api.function().created["id"], range(20))
    assert len(set(made)) == 20
