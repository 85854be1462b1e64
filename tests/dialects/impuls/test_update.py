"""Updating functions (contract 2.5)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api import unique
from tests.dialects.impuls import rules
from tests.dialects.impuls.api import FULL_KEYS, TIME, Api, Function, refused
from tests.dialects.impuls.rules import Fields, short

BEFORE: Fields = {
    "description": "before",
    "runtime": "nodejs20",
    "handler": "index.handler",
    "code": "exports.handler = async () => 'before'; exports.other = async () => 'other'",
    "memory_mb": 128,
    "timeout_sec": 30,
    "environment": {"OLD": "1", "KEPT": "2"},
}
AFTER: Fields = {
    "description": "after",
    "runtime": "nodejs18",
    "handler": "main.other",
    "code": "exports.handler = async () => 'after'",
    "memory_mb": 256,
    "timeout_sec": 60,
    "environment": {"NEW": "3"},
}


@pytest.fixture(params=["PUT", "PATCH"])
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def function(api: Api) -> Function:
    return api.function(**BEFORE)


def changed(before: Fields, after: Fields) -> Fields:
    """The fields that differ, without ``updated_at``, which always must."""
    assert set(after) >= FULL_KEYS
    assert TIME.fullmatch(after["updated_at"])
    assert after["updated_at"] > before["updated_at"]
    return {key: after[key] for key in FULL_KEYS if after[key] != before[key] and key != "updated_at"}


@pytest.mark.parametrize("field", AFTER)
def test_one_field(function: Function, method: str, field: str) -> None:
    updated = function.update(method, **{field: AFTER[field]})
    assert changed(function.created, updated) == {field: AFTER[field]}
    assert function.get() == updated


def test_all_fields(function: Function, method: str) -> None:
    updated = function.update(method, **AFTER)
    assert changed(function.created, updated) == AFTER


def test_nothing_still_counts_as_an_update(function: Function, method: str) -> None:
    before = function.created
    for _ in range(10):
        updated = function.update(method)
        assert changed(before, updated) == {}
        before = updated


def test_null_and_unknown_fields_change_nothing(function: Function, method: str) -> None:
    nothing = {**dict.fromkeys([*AFTER, "id", "name"]), "unknown": 5, "created_at": "never", "updated_at": 7}
    assert changed(function.created, function.update(method, **nothing)) == {}


def test_clearing(function: Function, method: str) -> None:
    updated = function.update(method, description="", environment={})
    assert changed(function.created, updated) == {"description": "", "environment": {}}


def test_the_object_from_get_can_be_sent_back(function: Function, method: str) -> None:
    got = function.get()
    assert changed(got, function.update(method, **{**got, "memory_mb": 192})) == {"memory_mb": 192}


def test_name_and_id_cannot_change(function: Function, method: str) -> None:
    identity = {"name": function.name, "id": function.created["id"]}
    assert changed(function.created, function.update(method, **identity)) == {}
    for value in (unique(), function.name.upper(), ""):
        refused(function.put({**identity, "name": value}, method), 400, "name: cannot be changed")
    for value in ("550e8400-e29b-41d4-a716-446655440000", function.created["id"].upper(), ""):
        refused(function.put({**identity, "id": value}, method), 400, "id: cannot be changed")


def test_name_then_id_then_the_fields(function: Function, method: str) -> None:
    wrong: Fields = {"name": "other", "id": "other", "runtime": 5}
    refused(function.put(wrong, method), 400, "name: cannot be changed")
    del wrong["name"]
    refused(function.put(wrong, method), 400, "id: cannot be changed")
    del wrong["id"]
    refused(function.put(wrong, method), 400, "runtime: must be a string")


@pytest.fixture(scope="module")
def target(api: Api) -> Function:
    return api.function(**BEFORE)


@pytest.mark.parametrize(("fields", "message"), rules.FIELD_RULES, ids=short)
def test_refused(target: Function, fields: Fields, message: str) -> None:
    """A refused update changes nothing, not even what was right in it."""
    before = target.get()
    refused(target.put({"description": "also", **fields}), 400, message)
    assert target.get() == before


def test_code_too_large(target: Function, method: str) -> None:
    before = target.get()
    refused(target.put({"code": "x" * (rules.CODE_BYTES + 1)}, method), 413, rules.CODE_TOO_LARGE)
    assert target.get() == before


@pytest.mark.parametrize("fields", rules.FIELDS_AT_THE_EDGE, ids=short)
def test_accepted(target: Function, fields: Fields) -> None:
    updated = target.update(**fields)
    assert {key: updated[key] for key in fields} == fields
    assert target.get() == updated


SEE: dict[str, Any] = {
    "code": "exports.handler = async (event, context) => [1, process.env.KEY ?? null, context.memoryLimitInMB, __filename];"
    "exports.second = async () => 'second'"
}


def test_the_next_invocation_sees_each_change(api: Api) -> None:
    function = api.function(**SEE)
    assert function() == [1, None, 128, "/var/task/index.js"]
    function.update(environment={"KEY": "a"})
    assert function() == [1, "a", 128, "/var/task/index.js"]
    function.update(memory_mb=192)
    assert function() == [1, "a", 192, "/var/task/index.js"]
    function.update(code=SEE["code"].replace("[1", "[2"))
    assert function() == [2, "a", 192, "/var/task/index.js"]
    function.update(handler="main.handler")
    assert function() == [2, "a", 192, "/var/task/main.js"]
    function.update(handler="main.second")
    assert function() == "second"
    function.update(runtime="python311", code="import os\ndef second(event, context): return os.environ['KEY']")
    assert function() == "a"


def test_a_new_timeout_holds(api: Api) -> None:
    function = api.node("await new Promise(() => {})")
    function.update(timeout_sec=1)
    assert function.error() == "function execution timed out after 1 seconds"
