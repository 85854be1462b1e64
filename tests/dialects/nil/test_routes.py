"""The mount, unknown paths, wrong methods, health, and the one form of all errors (contract 1.1, 1.4, 1.5, 2.9)."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.dialects.nil.api import ECHO, FUNCTIONS, JSON, NOBODY, Api, Function, refused, unsupported
from tests.server import Server
from tests.wire import Wire

LIMIT = 8388608
TOO_LARGE = f"Request body is too large (limit {LIMIT} bytes)"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND")
ROUTES = {
    "/functions": {"GET", "POST"},
    f"/functions/{NOBODY}": {"GET", "PUT", "DELETE"},
    f"/functions/{NOBODY}/execute": {"POST"},
    f"/functions/{NOBODY}/executions": {"GET"},
    "/executions": {"GET"},
    f"/executions/{NOBODY}": {"GET"},
    "/health": {"GET"},
}
WRONG = [(route, method) for route, allowed in ROUTES.items() for method in METHODS if method not in allowed]
NAMED = [
    ("GET", "/functions/{}"),
    ("PUT", "/functions/{}"),
    ("DELETE", "/functions/{}"),
    ("POST", "/functions/{}/execute"),
    ("GET", "/functions/{}/executions"),
    ("GET", "/executions/{}"),
]


def test_health(api: Api) -> None:
    response = api.send("GET", "/health")
    assert (response.status_code, response.content) == (200, b'{"status":"UP"}')


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nonexistent",
        "/Functions",
        "/functions/",
        f"/functions/{NOBODY}/",
        f"/functions/{NOBODY}/execute/",
        f"/functions/{NOBODY}/Execute",
        f"/functions/{NOBODY}/execute/x",
        "/functions//execute",
        "/executions/",
        f"/executions/{NOBODY}/x",
        "/health/",
        "/api/v1/functions",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_unknown_paths(api: Api, method: str, path: str) -> None:
    refused(api.send(method, path), 404, f"No endpoint: {method} {path}")


def test_paths_in_an_unusual_spelling(api: Api, echo: Function) -> None:
    assert api.send("POST", f"{echo.path}/%65xecute", '{"input": {"a": 1}}').json()["output"] == {"a": 1}
    assert api.send("GET", "/%68ealth").json() == {"status": "UP"}
    assert api.send("GET", f"/function%73/{echo.id}").json()["id"] == echo.id


def test_unknown_paths_are_told_as_they_were_meant(api: Api) -> None:
    refused(api.send("GET", "/a%20b%2Fc?d=e"), 404, "No endpoint: GET /a b/c")


@pytest.mark.parametrize(("route", "method"), WRONG)
def test_wrong_methods(api: Api, route: str, method: str) -> None:
    response = api.send(method, route)
    assert response.status_code == 405
    assert {name.strip() for name in response.headers["allow"].split(",")} == ROUTES[route]
    if method != "HEAD":
        refused(response, 405, f"Method {method} is not allowed")


@pytest.mark.parametrize(
    "given", ["x", "{" + NOBODY + "}", NOBODY.replace("-", ""), "urn:uuid:" + NOBODY, NOBODY[1:], NOBODY + "0", "é"]
)
@pytest.mark.parametrize(("method", "route"), NAMED)
def test_what_is_no_uuid(api: Api, method: str, route: str, given: str) -> None:
    refused(api.send(method, route.format(given)), 400, f"Invalid UUID format: {given}")
    refused(api.send(method, route.format(given), "{malformed", headers={}), 400, f"Invalid UUID format: {given}")


@pytest.mark.parametrize("given", ["a%2Fb", "%00", "%FF", "0%0A"])
def test_odd_characters_where_an_id_should_be(api: Api, given: str) -> None:
    for method, route in NAMED:
        assert refused(api.send(method, route.format(given)), 400).startswith("Invalid UUID format: ")


@pytest.mark.parametrize(("method", "route"), NAMED)
def test_what_is_not_there(api: Api, method: str, route: str) -> None:
    what = "Execution" if route.startswith("/executions") else "Function"
    body = '{"input": 1}' if method in ("PUT", "POST") else None
    refused(api.send(method, route.format(NOBODY), body), 404, f"{what} not found: {NOBODY}")
    other = NOBODY.replace("0", "a")
    refused(api.send(method, route.format(other.upper()), body), 404, f"{what} not found: {other}")


def test_ids_are_taken_in_either_case(api: Api, echo: Function) -> None:
    shouted = FUNCTIONS + "/" + echo.id.upper()
    assert api.send("GET", shouted).json() == echo.get()
    reply = api.send("POST", f"{shouted}/execute").json()
    assert (reply["status"], reply["functionId"]) == ("COMPLETED", echo.id)
    assert api.send("GET", f"/executions/{reply['id'].upper()}").json()["id"] == reply["id"]
    assert api.send("GET", f"{shouted}/executions").json()[0]["id"] == reply["id"]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "APPLICATION/JSON; charset=utf-8",
        "application/vnd.x+json",
        "application/problem+JSON;a=b",
        "application/json ;x",
    ],
)
def test_content_types_that_are_taken(api: Api, echo: Function, content_type: str) -> None:
    assert echo.post("{}", headers={"content-type": content_type}).status_code == 200
    refused(
        api.send("POST", FUNCTIONS, "{}", headers={"content-type": content_type}),
        415,
        unsupported("null"),
    )


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "text/json",
        "application/+json",
    ],
)
@pytest.mark.parametrize("body", ["{}", "{malformed"])
def test_content_types_that_are_not(api: Api, echo: Function, content_type: str, body: str) -> None:
    message = f"Content type '{content_type}' is not supported. Use application/json"
    headers = {"headers": {"content-type": content_type}}
    for method, path in (
        ("POST", FUNCTIONS),
        ("PUT", echo.path),
        ("POST", f"{echo.path}/execute"),
        ("PUT", f"{FUNCTIONS}/{NOBODY}"),
    ):
        refused(api.send(method, path, body, **headers), 415, message)


def test_no_content_type(api: Api, echo: Function) -> None:
    message = "Content type 'null' is not supported. Use application/json"
    for method, path in (("POST", FUNCTIONS), ("PUT", echo.path), ("POST", f"{echo.path}/execute")):
        refused(api.send(method, path, "{}", headers={}), 415, message)
    assert echo.post(None).status_code == 200
    assert refused(api.send("POST", FUNCTIONS), 400).startswith("Malformed JSON request body: ")


@pytest.mark.parametrize("body", ["", " ", "{", "{'a':1}", '{"a":NaN}', '{"a":1e400}', "{} x", "[" * 501 + "]" * 501, b'"\xff"'])
def test_malformed_bodies(api: Api, echo: Function, body: str | bytes) -> None:
    for method, path in (("POST", FUNCTIONS), ("PUT", echo.path), ("PUT", f"{FUNCTIONS}/{NOBODY}")):
        assert refused(api.send(method, path, body), 400).startswith("Malformed JSON request body: ")
    if body.strip():
        for path in (f"{echo.path}/execute", f"{FUNCTIONS}/{NOBODY}/execute"):
            assert refused(api.send("POST", path, body), 400).startswith("Malformed JSON request body: ")


@pytest.mark.parametrize("body", ["[]", '"x"', "1", "true", "[{}]"])
def test_bodies_that_are_no_objects(api: Api, echo: Function, body: str) -> None:
    for method, path in (("POST", FUNCTIONS), ("PUT", echo.path), ("POST", f"{echo.path}/execute")):
        refused(api.send(method, path, body), 400, "Request body must be a JSON object")
    refused(api.send("POST", FUNCTIONS, "null"), 400, "Request body must be a JSON object")


def test_bodies_that_are_too_large(api: Api, echo: Function) -> None:
    for method, path in (("POST", FUNCTIONS), ("PUT", echo.path), ("POST", f"{echo.path}/execute")):
        for body in (b" " * (LIMIT + 1), (part for part in [b" " * (LIMIT + 1)])):
            refused(api.send(method, path, body, headers={}), 413, TOO_LARGE)  # type: ignore[arg-type]
    history = len(echo.history())
    assert echo.post(b"{}" + b" " * (LIMIT - 2)).status_code == 200
    assert len(echo.history()) == history + 1


def test_a_length_that_is_too_large_is_refused_at_once(server: Server, echo: Function) -> None:
    for path in (FUNCTIONS, f"{echo.path}/execute"):
        for length in (LIMIT + 1, 10**12):
            with Wire(server.port) as wire:
                wire.head("POST", f"/nil{path}", content_length=length, content_type="application/json")
                answer = wire.answer()
                assert (answer.status, answer.json()["message"]) == (413, TOO_LARGE)


def test_a_connection_goes_on_behind_a_body_that_is_too_large(server: Server, echo: Function) -> None:
    with Wire(server.port) as wire:
        for _ in range(2):
            wire.head("POST", f"/nil{echo.path}/execute", content_length=LIMIT + 1, content_type="application/json")
            assert wire.answer().status == 413
            wire.send(b" " * (LIMIT + 1))
            wire.post(f"/nil{echo.path}/execute", b'{"input":{"a":1}}', content_type="application/json")
            assert wire.answer().json()["output"] == {"a": 1}


def test_chunked_bodies(server: Server, echo: Function) -> None:
    with Wire(server.port) as wire:
        wire.head("POST", f"/nil{echo.path}/execute", transfer_encoding="chunked", content_type="application/json")
        for part in (b'{"inp', b'ut":{"a":"', b"\xc3", b"\xa9", b'"}}', b""):
            wire.chunk(part)
        assert wire.answer().json()["output"] == {"a": "é"}
        wire.head("POST", f"/nil{FUNCTIONS}", transfer_encoding="chunked", content_type="application/json")
        for _ in range(9):
            wire.chunk(b" " * (1 << 20))
        wire.chunk(b"")
        assert wire.answer().status == 413


def test_no_cors(api: Api, echo: Function) -> None:
    origin = {"origin": "http://evil.example", **JSON}
    for response in (echo.post("{}", headers=origin), api.send("OPTIONS", FUNCTIONS, headers=origin)):
        assert not [name for name in response.headers if name.startswith("access-control-")]


def test_what_the_server_says_by_itself(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(f"GET /nil{FUNCTIONS} HTTP/1.1\r\nhost: x\r\nx: {'y' * 300_000}")
        answer = wire.answer().json()
        assert set(answer) == {"timestamp", "status", "error", "message"}
        assert (answer["status"], answer["message"]) == (431, "Request headers too large")


def test_the_root_serves_the_same(make_server: Callable[..., Server], connect: Callable[..., Api]) -> None:
    server = make_server("--root", "nil")
    root, mount = connect(server, mount=""), connect(server)
    function = root.function(ECHO)
    assert mount.items() == root.items() == [root.items()[0]]
    assert function({"a": 1}) == function.by(mount)({"a": 1}) == {"a": 1}
    assert root.send("GET", "/health").json() == {"status": "UP"}
    assert root.send("GET", "/healthz").json() == {"status": "ok"}
    refused(root.send("GET", "/nothing"), 404, "No endpoint: GET /nothing")
    refused(root.send("PATCH", FUNCTIONS), 405, "Method PATCH is not allowed")
    assert function.by(mount).delete().status_code == 204
    assert root.send("GET", FUNCTIONS).text == "[]"


def test_the_openapi_page(api: Api) -> None:
    described = api.send("GET", "/openapi.json").json()
    for route, methods in ROUTES.items():
        assert {method.upper() for method in described["paths"][route.replace(NOBODY, "{id}")]} == methods
    assert api.send("GET", "/docs").status_code == 200
    assert json.dumps(described)
