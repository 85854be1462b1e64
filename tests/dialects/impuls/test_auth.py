"""Tokens, accounts and the browser guard (contract 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx2
import pytest

from tests.api import unique
from tests.conftest import ADMIN_KEY
from tests.dialects.impuls.api import FUNCTIONS, TRIVIAL, Api, Function, refused
from tests.server import Server

GUARDED = [
    ("GET", FUNCTIONS),
    ("POST", FUNCTIONS),
    ("GET", f"{FUNCTIONS}/nobody"),
    ("PUT", f"{FUNCTIONS}/nobody"),
    ("DELETE", f"{FUNCTIONS}/nobody"),
    ("POST", f"{FUNCTIONS}/nobody/invoke"),
    ("GET", f"{FUNCTIONS}/nobody/executions"),
    ("GET", "/api/v1/executions/nobody"),
    ("GET", "/api/v1/vms"),
    ("DELETE", FUNCTIONS),
]


def refused_401(response: httpx2.Response, message: str) -> None:
    refused(response, 401, message)
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.fixture
def stranger(guarded_server: Server) -> Iterator[Api]:
    """A caller without credentials of a server that asks for them."""
    client = Api(guarded_server.url + "/impuls")
    yield client
    client.close()


def test_health_needs_no_token(stranger: Api) -> None:
    assert stranger.send("GET", "/health").json() == {"status": "healthy", "service": "impuls"}


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_everything_else_needs_one_before_any_other_check(stranger: Api, method: str, path: str) -> None:
    refused_401(stranger.send(method, path), "authentication required")


@pytest.mark.parametrize("header", ["Basic YTpi", "Digest username=a", "token abc", ADMIN_KEY])
def test_another_scheme_counts_as_no_token(stranger: Api, header: str) -> None:
    refused_401(stranger.send("GET", FUNCTIONS, headers={"authorization": header}), "authentication required")


@pytest.mark.parametrize("token", ["unknown", ADMIN_KEY + "x", ADMIN_KEY[:-1], "é" * 8, "a b"])
def test_an_unknown_token_is_refused(stranger: Api, token: str) -> None:
    value = f"Bearer {token}".encode("latin-1")
    refused_401(stranger.send("GET", FUNCTIONS, headers={b"authorization": value}), "invalid token")


def test_tokens_and_the_admin_key_open_the_door(guarded_server: Server, connect: Callable[..., Api]) -> None:
    admin = connect(guarded_server, ADMIN_KEY)
    default = connect(guarded_server, guarded_server.token())
    made = admin.function(name="by-the-admin")
    assert Function(default, made.created)() == "hi"


def test_the_scheme_may_be_in_any_case(stranger: Api) -> None:
    assert stranger.send("GET", FUNCTIONS, headers={"authorization": f"bearer {ADMIN_KEY}"}).status_code == 200


def test_a_browser_page_with_a_token_is_welcome(guarded_server: Server, connect: Callable[..., Api]) -> None:
    elsewhere = {"origin": "https://console.example", "host": "functions.example"}
    assert connect(guarded_server, ADMIN_KEY).send("GET", FUNCTIONS, headers=elsewhere).status_code == 200


def test_an_unknown_token_is_refused_on_an_open_bind_too(api: Api) -> None:
    refused_401(api.send("GET", FUNCTIONS, headers={"authorization": "Bearer unknown"}), "invalid token")
    refused_401(api.send("POST", FUNCTIONS, "{}", headers={"authorization": "Bearer unknown"}), "invalid token")


def test_an_open_bind_asks_for_nothing(api: Api) -> None:
    assert api.send("GET", FUNCTIONS).status_code == 200
    assert api.send("GET", FUNCTIONS, headers={"authorization": "Basic YTpi"}).status_code == 200


def test_the_admin_key_acts_on_the_default_account(server: Server, api: Api, connect: Callable[..., Api]) -> None:
    made = api.function()
    assert made.name in connect(server, ADMIN_KEY).names()


def test_accounts_do_not_see_each_other(server: Server, own_account: Api, connect: Callable[..., Api]) -> None:
    other = connect(server, server.token(account="somebody-else"))
    name = unique("shared-name")
    mine = own_account.node("return 'mine'", name=name)
    missing = f"function '{name}' not found"
    for method, path in [("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/invoke"), ("GET", "/executions")]:
        refused(other.send(method, mine.path + path, "{}"), 404, missing)
    assert name not in other.names()

    theirs = other.node("return 'theirs'", name=name)
    assert theirs.created["id"] != mine.created["id"]
    assert (mine(), theirs()) == ("mine", "theirs")
    assert theirs.delete().status_code == 200
    assert mine() == "mine"
    assert own_account.names() == [name]


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:{port}", "LOCALHOST", "app.localhost:1", "127.0.0.1", "127.9.8.7", "[::1]:8080"]
)
def test_loopback_names_pass_the_browser_guard(server: Server, api: Api, host: str) -> None:
    assert api.send("GET", FUNCTIONS, headers={"host": host.format(port=server.port)}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "elsewhere.example",
        "localhost.elsewhere.example",
        "notlocalhost",
        "10.0.0.1",
        "192.168.1.1:80",
        "127.0.0.1.elsewhere.example",
        "[fd00::1]",
    ],
)
def test_other_names_do_not(api: Api, host: str) -> None:
    refused_401(api.send("GET", FUNCTIONS, headers={"host": host}), "authentication required")
    refused_401(api.send("POST", FUNCTIONS, "{}", headers={"host": host}), "authentication required")


@pytest.mark.parametrize(
    ("origin", "host", "passes"),
    [
        ("http://localhost:8080", "localhost:8080", True),
        ("http://127.0.0.1:8080", "127.0.0.1:8080", True),
        ("http://LocalHost:8080", "localhost:8080", True),
        ("http://localhost", "localhost", True),
        ("http://localhost", "localhost:80", True),
        ("http://localhost:3000", "localhost:8080", False),
        ("http://localhost", "localhost:8080", False),
        ("http://127.0.0.1:8080", "localhost:8080", False),
        ("http://elsewhere.example", "localhost:8080", False),
        ("http://localhost:8080.elsewhere.example", "localhost:8080", False),
        ("null", "localhost:8080", False),
        ("", "localhost:8080", False),
        ("not a url", "localhost:8080", False),
    ],
)
def test_origin_must_equal_host(api: Api, origin: str, host: str, passes: bool) -> None:
    response = api.send("GET", FUNCTIONS, headers={"origin": origin, "host": host})
    if passes:
        assert response.status_code == 200
    else:
        refused_401(response, "authentication required")


def test_a_page_elsewhere_can_neither_create_nor_run(api: Api, echo: Function) -> None:
    page = {"origin": "http://elsewhere.example", "content-type": "text/plain"}
    name = unique("by-a-page")
    body = f'{{"name": "{name}", "runtime": "nodejs20", "handler": "index.handler", "code": "{TRIVIAL}"}}'
    refused_401(api.send("POST", FUNCTIONS, body, headers=page), "authentication required")
    refused_401(api.send("POST", f"{echo.path}/invoke", "{}", headers=page), "authentication required")
    refused_401(api.send("GET", "/api/v1/nothing", headers=page), "authentication required")
    assert name not in api.names()


def test_a_valid_token_lifts_the_guard(server: Server, connect: Callable[..., Api]) -> None:
    client = connect(server, server.token())
    elsewhere = {"origin": "http://elsewhere.example", "host": "elsewhere.example"}
    assert client.send("GET", FUNCTIONS, headers=elsewhere).status_code == 200


def test_the_server_makes_an_admin_key_when_none_is_set(make_server: Callable[..., Server], connect: Callable[..., Api]) -> None:
    server = make_server()
    key_file = server.data_dir / "admin.key"
    assert key_file.stat().st_mode & 0o777 == 0o600
    key = key_file.read_text().strip()
    assert key in server.log()
    assert connect(server, key).names() == []
    server.stop()
    printed = len(server.log())
    server.start()
    assert key_file.read_text().strip() == key
    assert key not in server.log()[printed:]
