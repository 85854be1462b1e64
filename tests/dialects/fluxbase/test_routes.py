"""The mount, unknown paths, wrong methods, and what an answer always looks like (contract 1.1, 1.6)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import ADMIN_KEY
from tests.dialects.fluxbase.api import FUNCTIONS, Api, refused
from tests.server import Server
from tests.wire import Wire

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND")
ROUTES = {
    FUNCTIONS: {"GET", "POST"},
    f"{FUNCTIONS}/nobody": {"GET", "PUT", "DELETE"},
    f"{FUNCTIONS}/nobody/invoke": {"GET", "POST", "PUT", "PATCH", "DELETE"},
    f"{FUNCTIONS}/nobody/executions": {"GET"},
}
WRONG = [(route, method) for route, allowed in ROUTES.items() for method in METHODS if method not in allowed]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/health",
        "/api",
        "/api/v1",
        "/api/v2/functions",
        "/API/v1/functions",
        f"{FUNCTIONS}/a/b",
        f"{FUNCTIONS}/",
        "/api/v1//functions",
        f"{FUNCTIONS}/a/invoke/b",
        f"{FUNCTIONS}/a/",
        f"{FUNCTIONS}//invoke",
        f"{FUNCTIONS}/a/scheduled",
        f"{FUNCTIONS}/a/executions/1",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_unknown_paths_need_no_token(anonymous: Api, method: str, path: str) -> None:
    refused(anonymous.send(method, path), 404, "Not found")


@pytest.mark.parametrize(("route", "method"), WRONG)
def test_wrong_methods_need_no_token(anonymous: Api, route: str, method: str) -> None:
    response = anonymous.send(method, route)
    assert response.status_code == 405
    assert {name.strip() for name in response.headers["allow"].split(",")} == ROUTES[route]
    if method != "HEAD":
        refused(response, 405, "Method not allowed")


def test_the_root_serves_the_same(make_server: Callable[..., Server], connect: Callable[..., Api]) -> None:
    server = make_server("--root", "fluxbase")
    key = (server.data_dir / "admin.key").read_text().strip()
    root, mount = connect(server, key, mount=""), connect(server, key)
    function = root.function()
    assert mount.names() == root.names() == [function.name]
    refused(connect(server, None, mount="").send("GET", "/nothing"), 404, "Not found")
    assert function.by(mount).delete().status_code == 204
    assert root.names() == []


def test_a_server_that_is_known_by_another_name(make_server: Callable[..., Server], connect: Callable[..., Api]) -> None:
    public = {"SPINNEY_PUBLIC_URL": "https://functions.example/base/", "SPINNEY_ADMIN_KEY": ADMIN_KEY}
    function = connect(make_server(env=public)).handler("return [Deno.env.get('FLUXBASE_URL'), req.url]")
    path = f"{function.path}/invoke"
    assert function.invoke(headers={"host": "a.example"}).json() == [
        "https://functions.example/base/fluxbase",
        f"https://a.example/fluxbase{path}",
    ]


def test_what_the_server_says_by_itself(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(f"GET /fluxbase{FUNCTIONS} HTTP/1.1\r\nhost: x\r\nx: {'y' * 300_000}")
        assert wire.answer().json() == {"error": "Request headers too large"}


def test_the_openapi_page(anonymous: Api) -> None:
    described = anonymous.send("GET", "/openapi.json").json()
    for route, methods in ROUTES.items():
        assert {method.upper() for method in described["paths"][route.replace("nobody", "{name}")]} == methods
    assert anonymous.send("GET", "/docs").status_code == 200
