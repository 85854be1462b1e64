"""Mount, health, unknown routes, wrong methods, unknown functions (contract 1, 2.1, 2.4)."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.api import unique
from tests.dialects.impuls.api import FUNCTIONS, TRIVIAL, Api, Function, refused
from tests.server import Server
from tests.wire import Wire

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
ROUTES = {
    "/health": {"GET"},
    FUNCTIONS: {"GET", "POST"},
    f"{FUNCTIONS}/nobody": {"GET", "PUT", "PATCH", "DELETE"},
    f"{FUNCTIONS}/nobody/invoke": {"POST"},
    f"{FUNCTIONS}/nobody/executions": {"GET"},
    "/api/v1/executions/7b0c1a52-0d4e-4c6f-9d5e-0a1b2c3d4e5f": {"GET"},
}
WRONG = [(route, method) for route, allowed in ROUTES.items() for method in METHODS if method not in allowed]


def test_health(api: Api) -> None:
    response = api.send("GET", "/health")
    assert response.status_code == 200
    assert response.headers["content-type"].split(";")[0] == "application/json"
    assert response.json() == {"status": "healthy", "service": "impuls"}


@pytest.mark.parametrize(
    "headers",
    [{"authorization": "Bearer nobody-knows-this"}, {"origin": "http://elsewhere.example"}, {"host": "elsewhere.example"}],
    ids=lambda headers: next(iter(headers)),
)
def test_health_is_always_open(api: Api, headers: dict[str, str]) -> None:
    assert api.send("GET", "/health", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/api",
        "/api/v1",
        "/api/v2/functions",
        "/api/v1/function",
        "/api/v1/vms",
        "/api/v1/vms/abc",
        "/api/v1/functions/a/b",
        "/api/v1/functions/a/invoke/b",
        "/api/v1/executions",
        "/API/v1/functions",
        "/healthy",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_unknown_route(api: Api, method: str, path: str) -> None:
    refused(api.send(method, path), 404, "not found")


@pytest.mark.parametrize("path", ["/health/", "/api/v1/functions/", "/api/v1/functions//invoke", "/api/v1//functions"])
def test_a_stray_slash_is_not_redirected(api: Api, path: str) -> None:
    refused(api.send("POST", path), 404)


@pytest.mark.parametrize(("route", "method"), WRONG)
def test_wrong_method(api: Api, route: str, method: str) -> None:
    response = api.send(method, route)
    assert response.status_code == 405
    assert {name.strip() for name in response.headers["allow"].split(",")} == ROUTES[route]
    if method != "HEAD":
        refused(response, 405, "method not allowed")


def test_a_preflight_gets_no_permission(api: Api) -> None:
    ask = {"origin": "http://localhost:3000", "access-control-request-method": "POST", "host": "localhost:3000"}
    response = api.send("OPTIONS", FUNCTIONS, headers=ask)
    refused(response, 405, "method not allowed")
    assert not [name for name in response.headers if name.startswith("access-control-")]


def test_an_unheard_of_method(api: Api) -> None:
    refused(api.send("PROPFIND", FUNCTIONS), 405, "method not allowed")


def each_route_with_a_name(api: Api, segment: str, named: str) -> None:
    message = f"function '{named}' not found"
    path = f"{FUNCTIONS}/{segment}"
    refused(api.send("GET", path), 404, message)
    refused(api.send("PUT", path, "{}"), 404, message)
    refused(api.send("PATCH", path, "{}"), 404, message)
    refused(api.send("DELETE", path), 404, message)
    refused(api.send("POST", f"{path}/invoke", "{}"), 404, message)
    refused(api.send("GET", f"{path}/executions"), 404, message)


@pytest.mark.parametrize(
    ("segment", "named"),
    [
        ("no-such-function", "no-such-function"),
        ("caf%C3%A9", "café"),
        ("two%20words", "two words"),
        ("a%2Fb", "a/b"),
        ("..%2F..%2Fetc%2Fpasswd", "../../etc/passwd"),
        ("100%25", "100%"),
        ("nul%00", "nul\0"),
        ("line%0A", "line\n"),
        ("a'b%22c", "a'b\"c"),
        ("x" * 300, "x" * 300),
    ],
)
def test_unknown_function(api: Api, segment: str, named: str) -> None:
    each_route_with_a_name(api, segment, named)


def test_a_name_that_is_not_utf8(api: Api) -> None:
    refused(api.send("GET", f"{FUNCTIONS}/%ff%fe"), 404)


def test_a_name_of_dots(api: Api, server: Server) -> None:
    for path in ("/impuls/api/v1/functions/..", "/impuls/api/v1/functions/../../../../etc/passwd", "/impuls/../etc/passwd"):
        with Wire(server.port) as wire:
            wire.head("GET", path)
            assert wire.answer().status == 404


def test_names_are_case_sensitive(api: Api) -> None:
    name = unique("Mixed-Case")
    api.function(name=name)
    assert api.send("GET", f"{FUNCTIONS}/{name}").status_code == 200
    refused(api.send("GET", f"{FUNCTIONS}/{name.lower()}"), 404, f"function '{name.lower()}' not found")


def test_the_function_is_looked_up_before_the_body_is_judged(api: Api) -> None:
    missing = "function 'nobody' not found"
    bodies: list[tuple[bytes, dict[str, str]]] = [
        (b"{not json", {}),
        (b"x" * (6 * 1024 * 1024 + 1), {}),
        (b"{}", {"content-encoding": "gzip"}),
    ]
    for body, headers in bodies:
        refused(api.send("POST", f"{FUNCTIONS}/nobody/invoke", body, headers=headers), 404, missing)
        refused(api.send("PUT", f"{FUNCTIONS}/nobody", body, headers=headers), 404, missing)


def test_malformed_http_does_not_disturb_the_server(server: Server, api: Api) -> None:
    for garbage in (b"\0\1\2\3\r\n\r\n", b"GET\r\n\r\n", b"POST /impuls/health HTTP/1.1\r\nContent-Length: many\r\n\r\n"):
        with Wire(server.port) as wire:
            wire.send(garbage)
            assert wire.answer().status == 400
            assert wire.closed()
    assert api.send("GET", "/health").status_code == 200


def test_function_routes_serve_root_as_well_as_the_mount(make_server: Callable[..., Server], connect: Callable[..., Api]) -> None:
    server = make_server("--root", "impuls")
    root, mounted = connect(server, mount=""), connect(server)
    assert root.send("GET", "/health").json() == {"status": "healthy", "service": "impuls"}
    assert root.send("GET", "/healthz").json()["status"] == "ok"
    refused(root.send("GET", "/nothing"), 404, "not found")
    refused(root.send("POST", "/health"), 405, "method not allowed")

    created = root.function(TRIVIAL, name="at-root")
    assert created() == "hi"
    assert mounted.names() == ["at-root"]
    assert Function(mounted, created.created)() == "hi"
    assert mounted.send("DELETE", created.path).status_code == 200
    refused(root.send("GET", created.path), 404, "function 'at-root' not found")


def test_without_root_the_routes_are_at_the_mount_only(server: Server, connect: Callable[..., Api]) -> None:
    bare = connect(server, mount="")
    assert bare.send("GET", "/healthz").json()["status"] == "ok"
    assert bare.send("GET", "/health").status_code == 404
    assert bare.send("POST", FUNCTIONS, json.dumps({"name": "x"})).status_code == 404
