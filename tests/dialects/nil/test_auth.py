"""Tokens and accounts (contract 1.2)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import ADMIN_KEY
from tests.dialects.nil.api import ECHO, EXECUTIONS, FUNCTIONS, NOBODY, Api, Function, refused
from tests.server import Server

REQUIRED = "Authentication required: send a bearer token"
INVALID = "Invalid token"
ROUTES = [
    ("GET", FUNCTIONS),
    ("POST", FUNCTIONS),
    ("GET", f"{FUNCTIONS}/not-a-uuid"),
    ("PUT", f"{FUNCTIONS}/{NOBODY}"),
    ("DELETE", f"{FUNCTIONS}/{NOBODY}"),
    ("POST", f"{FUNCTIONS}/{NOBODY}/execute"),
    ("GET", f"{FUNCTIONS}/{NOBODY}/executions"),
    ("GET", EXECUTIONS + "?limit=x"),
    ("GET", f"{EXECUTIONS}/{NOBODY}"),
]
WRONG = ["Bearer", "Bearer unknown", f"Bearer {ADMIN_KEY}x", "Basic YTpi", ADMIN_KEY]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_guarded_server_wants_a_token_first(
    guarded_server: Server, connect: Callable[..., Api], method: str, path: str
) -> None:
    response = connect(guarded_server).send(method, path, "{malformed", headers={})
    refused(response, 401, REQUIRED)
    assert response.headers["www-authenticate"] == "Bearer"


def test_paths_and_methods_come_before_tokens(guarded_server: Server, connect: Callable[..., Api]) -> None:
    anonymous = connect(guarded_server)
    refused(anonymous.send("GET", "/nothing"), 404, "No endpoint: GET /nothing")
    refused(anonymous.send("PATCH", FUNCTIONS), 405, "Method PATCH is not allowed")


def test_health_needs_no_token(guarded_server: Server, connect: Callable[..., Api]) -> None:
    assert connect(guarded_server).send("GET", "/health").json() == {"status": "UP"}


def test_a_guarded_server_lets_tokens_in(guarded_server: Server, connect: Callable[..., Api]) -> None:
    function = connect(guarded_server, ADMIN_KEY).function()
    for token in (ADMIN_KEY, guarded_server.token()):
        assert function.by(connect(guarded_server, token))({"a": 1}) == {"a": 1}
    refused(function.by(connect(guarded_server)).post(), 401, REQUIRED)


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("path", [FUNCTIONS, "/health"])
def test_wrong_credentials_are_refused_on_loopback_too(api: Api, value: str, path: str) -> None:
    refused(api.send("GET", path, headers={"authorization": value}), 401, INVALID)


def test_wrong_credentials_execute_nothing(api: Api, echo: Function) -> None:
    before = echo.history()
    refused(echo.post(headers={"authorization": "Bearer unknown"}), 401, INVALID)
    assert echo.history() == before


def test_who_is_the_account_default(api: Api, admin: Api, server: Server, connect: Callable[..., Api], echo: Function) -> None:
    for client in (api, admin, connect(server, server.token())):
        assert echo.by(client).get()["id"] == echo.id
        assert echo.id in [item["id"] for item in client.items()]


def test_objects_of_another_account_are_not_there(api: Api, own_account: Api, admin: Api) -> None:
    mine, theirs = api.function(ECHO), own_account.function(ECHO)
    execution = mine.execute()["id"]
    missing = f"Function not found: {mine.id}"
    for other in (mine.by(own_account), theirs.by(admin)):
        missing = f"Function not found: {other.id}"
        refused(other.api.send("GET", other.path), 404, missing)
        refused(other.put({}), 404, missing)
        refused(other.delete(), 404, missing)
        refused(other.post(), 404, missing)
        refused(other.post(None, "?async=true"), 404, missing)
        refused(other.api.send("GET", f"{other.path}{EXECUTIONS}"), 404, missing)
    refused(own_account.send("GET", f"{EXECUTIONS}/{execution}"), 404, f"Execution not found: {execution}")
    assert [item["id"] for item in own_account.items()] == [theirs.id]
    assert own_account.executions() == []
    theirs({})
    assert [row["functionId"] for row in own_account.executions()] == [theirs.id]
    assert mine({}) == {}


def test_executions_of_other_apis_are_not_there(server: Server, api: Api, connect: Callable[..., Api]) -> None:
    impuls = connect(server, mount="/impuls")
    fields = (
        '{"name": "beside-nil", "runtime": "nodejs22", "handler": "index.handler", "code": "exports.handler = async () => 1"}'
    )
    assert impuls.send("POST", "/api/v1/functions", fields).status_code == 201
    id = impuls.send("POST", "/api/v1/functions/beside-nil/invoke").headers["x-execution-id"]
    refused(api.send("GET", f"{EXECUTIONS}/{id}"), 404, f"Execution not found: {id}")
    assert id not in [row["id"] for row in api.executions()]
