"""Tokens and accounts: who may manage, who may invoke, and in which order that is judged (contract 1.2 to 1.4)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx2
import pytest

from tests.api import unique
from tests.conftest import ADMIN_KEY
from tests.dialects.fluxbase.api import FUNCTIONS, TRIVIAL, UNAUTHENTICATED, Api, Function, refused
from tests.server import Server, wait_until

UNKNOWN = "Function not found or disabled"
MANAGEMENT = [
    ("GET", FUNCTIONS),
    ("POST", FUNCTIONS),
    ("GET", f"{FUNCTIONS}/nobody"),
    ("PUT", f"{FUNCTIONS}/nobody"),
    ("DELETE", f"{FUNCTIONS}/nobody"),
    ("GET", f"{FUNCTIONS}/nobody/executions?limit=x"),
]
WRONG = ["Bearer", "bearer unknown", f"Bearer {ADMIN_KEY}x", "Bearer é"]
"""Few: an address that presents many wrong tokens has to wait."""
OTHER = ["Basic YTpi", "Digest username=a", f"token {ADMIN_KEY}", ADMIN_KEY, f"Bearer{ADMIN_KEY}"]


def authorized(value: str) -> dict[str, dict[bytes, bytes]]:
    return {"headers": {b"authorization": value.encode("latin-1")}}


@pytest.mark.parametrize(("method", "path"), MANAGEMENT)
def test_management_needs_a_token_before_anything_else(anonymous: Api, api: Api, method: str, path: str) -> None:
    existing = path.replace("nobody", api.function().name)
    for each in (path, existing):
        refused(anonymous.send(method, each, "{bad"), 401, UNAUTHENTICATED)
        refused(anonymous.send(method, each, b" " * 6_000_000), 401, UNAUTHENTICATED)


@pytest.mark.parametrize("value", WRONG + OTHER)
def test_what_is_no_token_for_management(anonymous: Api, value: str) -> None:
    refused(anonymous.send("GET", FUNCTIONS, **authorized(value)), 401, UNAUTHENTICATED)


@pytest.mark.parametrize("query", [f"?access_token={ADMIN_KEY}", f"?token={ADMIN_KEY}", f"?apikey={ADMIN_KEY}"])
def test_no_other_carrier(anonymous: Api, query: str) -> None:
    refused(anonymous.send("GET", FUNCTIONS + query, headers={"apikey": ADMIN_KEY}), 401, UNAUTHENTICATED)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_may_be_in_any_case(anonymous: Api, scheme: str) -> None:
    assert anonymous.send("GET", FUNCTIONS, **authorized(f"{scheme} {ADMIN_KEY}")).status_code == 200


def test_the_admin_key_has_no_power_over_accounts(api: Api, own_account: Api) -> None:
    theirs = own_account.function()
    refused(theirs.by(api).put({}), 404, "Function not found")
    assert theirs.name not in api.names()


def test_a_token_ends_and_its_functions_stay(server: Server, connect: Callable[..., Api]) -> None:
    account, name = unique("account"), unique("token")
    first = connect(server, server.token(account=account, name=name))
    function = first.function()
    server.revoke(name)
    wait_until(lambda: first.send("GET", FUNCTIONS).status_code == 401, "the token is refused")
    refused(function.put({}), 401, UNAUTHENTICATED)
    refused(function.invoke(), 401, UNAUTHENTICATED)
    assert function.by(connect(server, server.token(account=account))).get() == function.created


@pytest.mark.parametrize("value", WRONG[:2])
def test_a_wrong_token_is_refused_also_where_none_is_needed(anonymous: Api, api: Api, value: str) -> None:
    open_to_all = api.function(allow_unauthenticated=True).by(anonymous)
    refused(open_to_all.invoke(**authorized(value)), 401, UNAUTHENTICATED)
    refused(anonymous.send("POST", f"{FUNCTIONS}/nobody/invoke", **authorized(value)), 401, UNAUTHENTICATED)
    assert open_to_all.by(api).history() == []


def test_who_may_not_invoke_on_an_open_server(anonymous: Api, api: Api, own_account: Api) -> None:
    disabled = api.function(enabled=False, allow_unauthenticated=True)
    refused(disabled.invoke(), 404, UNKNOWN)
    refused(disabled.by(anonymous).invoke(), 404, UNKNOWN)
    refused(api.function(allow_unauthenticated=False).by(anonymous).invoke(), 401, UNAUTHENTICATED)
    refused(api.function(allow_unauthenticated=False, enabled=False).by(anonymous).invoke(), 404, UNKNOWN)
    refused(own_account.function(allow_unauthenticated=True).by(anonymous).invoke(), 404, UNKNOWN)
    refused(api.function(allow_unauthenticated=True).by(own_account).invoke(), 404, UNKNOWN)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which functions need a token unless they say otherwise."""
    env = {"SPINNEY_ADMIN_KEY": ADMIN_KEY, "SPINNEY_FLUXBASE_INVOKE_AUTH": "required"}
    with Server(tmp_path_factory.mktemp("strict") / "data", env=env) as server:
        yield server


def test_an_anonymous_caller_of_a_strict_server_learns_no_names(strict: Server, connect: Callable[..., Api]) -> None:
    admin, anonymous = connect(strict), connect(strict, None)
    refused(anonymous.send("POST", f"{FUNCTIONS}/nobody/invoke"), 401, UNAUTHENTICATED)
    for fields in ({}, {"allow_unauthenticated": False}, {"allow_unauthenticated": True, "enabled": False}):
        refused(admin.function(**fields).by(anonymous).invoke(), 401, UNAUTHENTICATED)
    refused(admin.send("POST", f"{FUNCTIONS}/nobody/invoke"), 404, UNKNOWN)
    refused(admin.function(enabled=False).invoke(), 404, UNKNOWN)
    other = connect(strict, strict.token(account="other")).function(allow_unauthenticated=True)
    refused(other.by(anonymous).invoke(), 401, UNAUTHENTICATED)


def test_what_opens_a_strict_server(strict: Server, connect: Callable[..., Api]) -> None:
    admin, anonymous = connect(strict), connect(strict, None)
    assert admin.function()() == "hi"
    assert admin.function(allow_unauthenticated=True).by(anonymous)() == "hi"


def test_an_open_server_lets_anybody_invoke(anonymous: Api, api: Api) -> None:
    assert api.function().by(anonymous)() == "hi"
    assert api.function(allow_unauthenticated=True).by(anonymous)() == "hi"
    assert api.function(allow_unauthenticated=False)() == "hi"


def seen(function: Function, *headers: tuple[str, str]) -> dict[str, object]:
    response: httpx2.Response = function.invoke(json.dumps(1), headers=list(headers))
    value: dict[str, object] = response.json()
    return value


def test_the_code_learns_who_calls_and_not_how(api: Api, anonymous: Api, own_account: Api, echo: Function) -> None:
    mine = own_account.handler("return req")
    request = seen(mine)
    assert request["user_id"] == mine.created["created_by"]
    assert "authorization" not in request["headers"]  # type: ignore[operator]
    assert seen(echo)["user_id"] == "default"
    assert "user_id" not in seen(echo.by(anonymous))


def test_another_scheme_is_the_functions_own(anonymous: Api, echo: Function) -> None:
    request = seen(echo.by(anonymous), ("authorization", "Basic YTpi"))
    assert "user_id" not in request
    assert request["headers"]["authorization"] == "Basic YTpi"  # type: ignore[index]


def test_a_token_beside_another_scheme_stays_behind(anonymous: Api, echo: Function) -> None:
    request = seen(echo.by(anonymous), ("authorization", f"Bearer {ADMIN_KEY}"), ("authorization", "Basic YTpi"))
    assert request["headers"]["authorization"] == "Basic YTpi"  # type: ignore[index]


def test_an_account_of_the_same_name_sees_its_own(api: Api, own_account: Api) -> None:
    mine = api.function()
    theirs = own_account.function(TRIVIAL.replace("hi", "theirs"), name=mine.name)
    assert (mine(), theirs()) == ("hi", "theirs")
