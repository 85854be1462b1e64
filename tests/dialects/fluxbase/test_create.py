"""Creating functions: defaults, rules, and the order in which they refuse (contract 2.1)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.api import together, unique
from tests.dialects.fluxbase.api import FULL_KEYS, FUNCTIONS, TRIVIAL, Api, is_function, refused
from tests.server import Server

MIB = 1048576
MALFORMED = "Invalid request body"
TOO_LONG = "Function name too long (max 64 characters)"
CHARACTERS = "Function name must contain only letters, numbers, hyphens, and underscores"


@pytest.fixture(scope="module")
def elsewhere(server: Server) -> Iterator[Api]:
    """An account in which no other module makes functions."""
    client = Api(server.url + "/fluxbase", server.token(account="fluxbase-create"))
    yield client
    client.close()


def test_defaults(elsewhere: Api) -> None:
    name = unique()
    response = elsewhere.post({"name": name, "code": TRIVIAL})
    assert response.status_code == 201
    created = is_function(response.json())
    assert created["updated_at"] == created["created_at"]
    assert {key: created[key] for key in FULL_KEYS - {"id", "created_at", "updated_at", "created_by"}} == {
        "name": name,
        "code": TRIVIAL,
        "description": None,
        "version": 1,
        "enabled": False,
        "timeout_seconds": 30,
        "memory_limit_mb": 128,
        "allow_net": True,
        "allow_env": True,
        "allow_read": False,
        "allow_write": False,
        "allow_unauthenticated": None,
        "cron_schedule": None,
    }


def test_every_field(api: Api) -> None:
    fields: dict[str, Any] = {
        "name": unique("Every_field-"),
        "code": "// größe \0 \u2028\nexport const handler = async (req: Request): Promise<number> => 1",
        "description": 'any "text"\n\0',
        "enabled": True,
        "timeout_seconds": 300,
        "memory_limit_mb": 1024,
        "allow_net": False,
        "allow_env": False,
        "allow_read": True,
        "allow_write": True,
        "allow_unauthenticated": False,
        "cron_schedule": "0 9 * * MON-FRI",
    }
    created = api.post(fields).json()
    assert {key: created[key] for key in fields} == fields
    assert (created["version"], created["created_by"]) == (1, "default")
    assert api.send("GET", f"{FUNCTIONS}/{fields['name']}").json() == created


def test_null_is_as_good_as_absent(api: Api) -> None:
    optional = FULL_KEYS - {"name", "code", "id", "version", "created_at", "updated_at", "created_by"}
    plain = api.post({"name": unique(), "code": TRIVIAL}).json()
    nulls = api.post({"name": unique(), "code": TRIVIAL, **dict.fromkeys(optional)}).json()
    assert {key: plain[key] for key in optional} == {key: nulls[key] for key in optional}


def test_unknown_fields_are_ignored(api: Api) -> None:
    mine = {"id": "x", "version": 9, "created_at": 1, "created_by": "me", "runtime": "deno", "verify_jwt": True, "namespace": 7}
    created = api.function(**mine).created
    assert (created["version"], created["created_by"]) == (1, "default")
    assert "runtime" not in created


def test_an_empty_schedule_is_none(api: Api) -> None:
    assert api.function(cron_schedule="").created["cron_schedule"] is None


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/json; charset=x"])
def test_the_content_type_does_not_matter(api: Api, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    response = api.send("POST", FUNCTIONS, json.dumps({"name": unique(), "code": TRIVIAL}), headers=headers)
    assert response.status_code == 201


@pytest.mark.parametrize("name", ["a", "A", "0", "-", "_", "a-b_C9", "x" * 64, "Stream", "shared-1"])
def test_good_names(elsewhere: Api, name: str) -> None:
    assert elsewhere.post({"name": name, "code": TRIVIAL}).status_code == 201


@pytest.mark.parametrize("name", ["a b", "a.b", "a/b", "é", "名", "a\n", "\0", "٣", "..", "a%20b", "-\u200b"])
def test_names_of_other_characters(api: Api, name: str) -> None:
    refused(api.post({"name": name, "code": TRIVIAL}), 400, CHARACTERS)


@pytest.mark.parametrize("name", ["x" * 65, "é" * 65, "x" * 100_000])
def test_long_names(api: Api, name: str) -> None:
    refused(api.post({"name": name, "code": TRIVIAL}), 400, TOO_LONG)


@pytest.mark.parametrize("name", ["stream", "shared"])
def test_reserved_names(api: Api, name: str) -> None:
    refused(api.post({"name": name, "code": TRIVIAL}), 400, f"Function name '{name}' is reserved")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, "Function name is required"),
        ({"name": None, "code": ""}, "Function name is required"),
        ({"name": "", "code": TRIVIAL}, "Function name is required"),
        ({"name": "a b"}, CHARACTERS),
        ({"name": "ok", "timeout_seconds": 0}, "Function code is required"),
        ({"name": "ok", "code": None}, "Function code is required"),
        ({"name": "ok", "code": ""}, "Function code is required"),
        ({"name": "ok", "code": "x" * (MIB + 1)}, "Function code too large (max 1048576 bytes)"),
        ({"name": "ok", "code": "é" * (MIB // 2) + "x"}, "Function code too large (max 1048576 bytes)"),
        *(
            (
                {"name": "ok", "code": "1", "timeout_seconds": value, "memory_limit_mb": 1},
                "timeout_seconds must be between 1 and 300",
            )
            for value in (0, 301, -1, 10**30)
        ),
        *(
            (
                {"name": "ok", "code": "1", "memory_limit_mb": value, "cron_schedule": "x"},
                "memory_limit_mb must be between 64 and 1024",
            )
            for value in (0, 63, 1025, -128)
        ),
        ({"name": "ok", "code": "1", "cron_schedule": "x"}, "Invalid cron schedule"),
        ({"name": "ok", "code": "1", "cron_schedule": "60 * * * *"}, "Invalid cron schedule"),
        ({"name": "ok", "code": "1", "cron_schedule": " "}, "Invalid cron schedule"),
    ],
)
def test_the_first_broken_rule_answers(elsewhere: Api, fields: dict[str, Any], error: str) -> None:
    before = elsewhere.items()
    refused(elsewhere.post(fields), 400, error)
    assert elsewhere.items() == before


@pytest.mark.parametrize(
    ("field", "values"),
    [
        *((field, (1, True, [], {})) for field in ("name", "code", "description", "cron_schedule")),
        *((field, ("30", 1.5, 30.0, True, [])) for field in ("timeout_seconds", "memory_limit_mb")),
        *((field, ("true", "yes", 1, 0, {})) for field in ("enabled", "allow_net", "allow_env", "allow_read", "allow_write")),
        ("allow_unauthenticated", ("true", 1)),
    ],
)
def test_wrong_types(api: Api, field: str, values: tuple[object, ...]) -> None:
    for value in values:
        refusal = refused(api.post({"name": "", field: value}), 400, MALFORMED)
        assert refusal["details"].startswith(f"{field}: must be ")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"   ",
        b"{",
        b"{'a': 1}",
        b'{"a": 1,}',
        b"[]",
        b'"x"',
        b"null",
        b"NaN",
        b'{"a": NaN}',
        b"{} {}",
        b"\xff",
        b'{"a": "\xff"}',
        b'{"name": "\\ud800"}',
        b"[" * 100_000,
        b"\xef\xbb\xbf{}",
    ],
)
def test_bodies_that_are_no_object(api: Api, text: bytes) -> None:
    assert refused(api.send("POST", FUNCTIONS, text), 400, MALFORMED)["details"]


def test_the_largest_code(api: Api) -> None:
    code = "//" + "é" * ((MIB - 2) // 2)
    assert api.function(code).get()["code"] == code


def test_a_body_that_is_too_large(api: Api) -> None:
    body = json.dumps({"name": unique(), "code": TRIVIAL})
    refused(api.send("POST", FUNCTIONS, body + " " * (5 * MIB)), 413, "Request body too large")
    assert api.send("POST", FUNCTIONS, body + " " * (5 * MIB - len(body))).status_code == 201


def test_faulty_code_is_kept_as_it_is(api: Api) -> None:
    code = "async function handler(req) { ... }"
    assert api.function(code).get()["code"] == code


def test_a_name_is_taken(api: Api) -> None:
    first = api.function()
    refused(api.post({"name": first.name, "code": "2"}), 409, "Function with this name already exists")
    assert first.get() == first.created
    refused(api.post({"name": first.name, "code": "2", "timeout_seconds": 0}), 400, "timeout_seconds must be between 1 and 300")


def test_of_many_at_once_one_is_created(elsewhere: Api) -> None:
    name = unique()
    statuses = together(lambda _: elsewhere.post({"name": name, "code": TRIVIAL}).status_code, range(16))
    assert sorted(statuses) == [201] + [409] * 15
    assert elsewhere.names().count(name) == 1


def test_created_by_is_the_account(server: Server, elsewhere: Api, connect: Callable[..., Api]) -> None:
    mine = elsewhere.function().created["created_by"]
    assert mine != "default"
    assert elsewhere.function().created["created_by"] == mine
    assert connect(server, server.token()).function().created["created_by"] == "default"
