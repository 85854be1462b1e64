"""Runs by HTTP: what a function sees and what its caller gets (contract 3.1, 3.2)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import ADMIN_KEY
from tests.dialects.lunar.api import CORS, NOBODY, TRIVIAL, Api, Function, done, has_cors, refused
from tests.dialects.lunar.test_credentials import login
from tests.server import Server
from tests.wire import Wire

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
OURS = ("x-function-id", "x-function-version-id", "x-execution-id", "x-execution-duration-ms")


def seen(echo: Function, method: str = "POST", path: str = "", body: str | bytes | None = None, **options: Any) -> dict[str, Any]:
    """The event of one run."""
    event: dict[str, Any] = echo.run(body, method, path, **options).json()["event"]
    return event


# -- what it sees ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_method(echo: Function, method: str) -> None:
    event = seen(echo, method, "/users/7?a=1")
    assert (event["method"], event["path"], event["relativePath"]) == (method, f"/fn/{echo.id}/users/7", "/users/7")


@pytest.mark.parametrize(
    ("path", "relative"),
    [
        ("", "/"),
        ("/", "/"),
        ("/a/", "/a/"),
        ("//a//b", "//a//b"),
        ("/a%20b/%C3%A9%2Fc", "/a b/é/c"),
        ("/./../x", "/./../x"),
        ("/fn/x", "/fn/x"),
        ("/%", "/%"),
    ],
)
def test_paths(server: Server, echo: Function, path: str, relative: str) -> None:
    with Wire(server.port) as wire:  # an ordinary client would tidy them up
        wire.post(f"/lunar/fn/{echo.id}{path}", b"")
        event = wire.answer().json()["event"]
    assert event["relativePath"] == relative
    assert event["path"] == f"/fn/{echo.id}" + (relative if path else "")


def test_queries(echo: Function) -> None:
    event = seen(echo, path="?a=1&b=x+y%20z&a=2&flag&=no&%C3%A9=%26&&c=a=b")
    assert event["query"] == {"a": "1", "b": "x y z", "flag": "", "": "no", "é": "&", "c": "a=b"}
    assert event["multiValueQuery"]["a"] == ["1", "2"]


def test_headers(server: Server, api: Api) -> None:
    code = """return { body = json.encode({ headers = event.headers, all = event.multiValueHeaders,
        found = { event.headers["x-ONE"], event.headers["content-type"], tostring(event.headers["host"]) } }) }"""
    function = api.handler(code)
    with Wire(server.port) as wire:
        wire.send(f"POST /lunar/fn/{function.id} HTTP/1.1\r\nhost: h\r\nX-one: 1\r\nx-ONE: 2\r\ncontent-TYPE: text/x\r\n")
        wire.send("x-trigger: cron\r\nX-Cron-Schedule: x\r\ncontent-length: 0\r\n\r\n")
        told = wire.answer().json()
    assert told["headers"] == {"X-One": "1", "Content-Type": "text/x", "Content-Length": "0"}
    assert told["all"]["X-One"] == ["1", "2"]
    assert told["found"] == ["1", "text/x", "nil"]


def test_bodies_are_bytes(api: Api) -> None:
    function = api.handler("return { body = json.encode({ #event.body, base64.encode(event.body) }) }")
    for body in (b"", b"\0\xff\r\n", bytes(range(256)) * 4000):
        assert function.run(body).json() == [len(body), base64.b64encode(body).decode()]


def test_the_context(server: Server, echo: Function) -> None:
    response = echo.run(headers={"x-request-id": "my-id"})
    ctx = response.json()["ctx"]
    assert abs(ctx.pop("startedAt") - echo.execution(response)["created_at"]) < 60
    assert ctx == {
        "executionId": response.headers["x-execution-id"],
        "functionId": echo.id,
        "functionName": echo.created["name"],
        "version": "1",
        "requestId": "my-id",
        "baseUrl": f"{server.url}/lunar",
    }
    for bad in ("a b", "x" * 129, "é".encode()):
        response = echo.run(headers={"x-request-id": bad})  # type: ignore[dict-item]
        assert response.json()["ctx"]["requestId"] == response.headers["x-execution-id"]


def test_no_credential_of_ours_gets_in(server: Server, anonymous: Api, echo: Function) -> None:
    session, token = login(anonymous), server.token()
    for secret in (ADMIN_KEY, token, session):
        for header in (f"Bearer {secret}", f"bearer  {secret}", secret, f"Basic {secret}"):
            assert "Authorization" not in seen(echo.by(anonymous), headers={"authorization": header})["headers"]
    for header in ("Bearer theirs", f"Bearer {ADMIN_KEY}x", "Basic dTpw"):
        assert seen(echo.by(anonymous), headers={"authorization": header})["headers"]["Authorization"] == header
    for cookie, kept in (
        (f"auth_token={session}", None),
        (f"a=1; auth_token={session}; b=2", "a=1; b=2"),
        ("auth_token=x;auth_token = y ;c=auth_token", "c=auth_token"),
        ("my_auth_token=1", "my_auth_token=1"),
    ):
        event = seen(echo.by(anonymous), headers={"cookie": cookie})
        assert event["headers"].get("Cookie") == kept
        assert session not in json.dumps(event)


# -- what comes back -------------------------------------------------------------------------------------------------------


def test_an_answer(api: Api) -> None:
    function = api.handler("""return { statusCode = 201, body = "done", headers = {
        ["content-type"] = "text/plain", ["X-Number"] = 1.5, ["Set-Cookie"] = { "a=1", "b=2" }, ["X-Odd"] = true } }""")
    response = has_cors(function.run())
    assert (response.status_code, response.text, response.headers["content-type"]) == (201, "done", "text/plain")
    assert (response.headers["x-number"], response.headers["x-odd"]) == ("1.5", "")
    assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]
    execution = function.execution(response)
    assert {name: response.headers[name] for name in OURS} == {
        "x-function-id": function.id,
        "x-function-version-id": function.version_id(1),
        "x-execution-id": execution["id"],
        "x-execution-duration-ms": str(execution["duration_ms"]),
    }


@pytest.mark.parametrize(
    ("returned", "status", "body", "kind"),
    [
        ("{}", 200, "", "application/json"),
        ("{ statusCode = 0, body = 12 }", 200, "12", "application/json"),
        ("{ statusCode = '404', body = 'x' }", 404, "x", "application/json"),
        ("{ statusCode = 299.9, body = {} }", 299, "", "application/json"),
        ("{ statusCode = 'x' }", 200, "", "application/json"),
        ("{ statusCode = 204, body = 'gone' }", 204, "", "application/json"),
        ("{ statusCode = 599 }", 599, "", "application/json"),
        ("{ headers = { ['CONTENT-type'] = 'a/b' } }, 'more'", 200, "", "a/b"),
        ("{ body = base64.encode('a\\0b'), isBase64Encoded = true }", 200, "a\0b", "application/json"),
    ],
)
def test_answers(lua: Function, returned: str, status: int, body: str, kind: str) -> None:
    response = lua.run(f"return {returned}")
    assert (response.status_code, response.text, response.headers["content-type"]) == (status, body, kind)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("nil", "Error: handler did not return a table"),
        ("'text'", "Error: handler did not return a table"),
        ("{ statusCode = 1000 }", "Error: invalid statusCode 1000 (must be between 200 and 599)"),
        ("{ statusCode = 199 }", "Error: invalid statusCode 199 (must be between 200 and 599)"),
        ("{ statusCode = -1 }", "Error: invalid statusCode -1 (must be between 200 and 599)"),
        ("{ body = '!', isBase64Encoded = 1 }", "Error: body is not valid base64"),
        ("{ body = string.rep('x', 16777217) }", "Error: response body larger than 16777216 bytes"),
    ],
)
def test_answers_that_are_none(lua: Function, returned: str, message: str) -> None:
    assert lua.failed(f"return {returned}").partition("\n")[0] == message


def test_the_largest_body(api: Api) -> None:
    function = api.handler("return { body = event.body }")
    body = b"x" * 16777216
    response = function.run(body)
    assert response.status_code == 200 and response.content == body
    refused(function.run(body + b"x"), 413, "Request body too large")
    assert api.get(f"{function.path}/executions")["pagination"]["total"] == 1


def test_headers_cannot_forge(lua: Function) -> None:
    response = lua.run("""return { headers = {
        ["X-Execution-Id"] = "forged", ["x-function-id"] = "forged", ["Content-Length"] = "1", ["Transfer-Encoding"] = "chunked",
        Connection = "close", ["Keep-Alive"] = "x", Upgrade = "h2c", Trailer = "x", ["X-Split"] = "a\\r\\nX-Forged: 1\\0",
        ["Bad Name"] = "1",
        ["X:Y"] = "1", [""] = "1",
        ["Set-Cookie"] = { "auth_token=1", "  auth_token = x; Path=/", "=auth_token=2", "auth_token", "ok=1" },
        ["X-Bytes"] = "\\255" }, body = "12345" }""")
    assert response.text == "12345"
    assert response.headers["x-split"] == "a  X-Forged: 1"  # a client strips the space that was a NUL
    assert response.headers.get_list("set-cookie") == ["ok=1"]
    names = {name.lower() for name in response.headers}
    assert names == {*CORS, *OURS, "date", "content-type", "content-length", "set-cookie", "x-split", "x-bytes"}
    assert "forged" not in (response.headers["x-execution-id"], response.headers["x-function-id"])


def test_cors_may_be_replaced(lua: Function) -> None:
    response = lua.run("return { headers = { ['access-control-allow-origin'] = 'https://a', ['Access-Control-Max-Age'] = '9' } }")
    assert response.headers.get_list("access-control-allow-origin") == ["https://a"]
    assert response.headers["access-control-max-age"] == "9"
    assert response.headers["access-control-allow-methods"] == CORS["access-control-allow-methods"]


def test_a_page_cannot_act_as_who_is_logged_in(anonymous: Api, api: Api) -> None:
    function = api.handler("return { headers = { ['Content-Security-Policy'] = \"default-src 'self'\" } }").by(anonymous)
    assert function.run().headers.get_list("content-security-policy") == ["default-src 'self'"]
    session = login(anonymous)
    policies = function.run(headers={"cookie": f"auth_token={session}"}).headers.get_list("content-security-policy")
    assert policies == ["default-src 'self'", "sandbox allow-scripts allow-forms allow-popups allow-modals"]
    assert len(function.run(headers={"cookie": "auth_token=x"}).headers.get_list("content-security-policy")) == 1


def test_head(server: Server, api: Api) -> None:
    function = api.handler("return { headers = { ['X-Method'] = event.method }, body = 'body' }")
    with Wire(server.port) as wire:
        for _ in range(3):  # over one connection, where equal heads may go the short way
            wire.head("HEAD", f"/lunar/fn/{function.id}", content_length=0)
            status, headers = wire.answer_head()
            assert (status, headers["x-method"], headers["content-length"]) == (200, "HEAD", "4")


def test_functions_that_do_not_run(api: Api, anonymous: Api) -> None:
    refused(anonymous.send("POST", f"/fn/{NOBODY}/x", "{}"), 404, "Function not found")
    function = api.function()
    function.update(disabled=True)
    response = refused(function.by(anonymous).run(), 403, "Function is disabled")
    assert not any(name in response.headers for name in OURS)
    assert function.executions() == []
    function.update(disabled=False)
    assert function.by(anonymous).run().text == "hi"


def test_runs_need_no_credential_in_any_account(own_account: Api, anonymous: Api) -> None:
    assert own_account.function().by(anonymous).run(headers={"authorization": "Bearer wrong"}).text == "hi"


def test_nothing_survives_into_the_next_run(api: Api) -> None:
    function = api.function("""count = (count or 0) + 1
        function handler() json.evil = 1 string.evil = 1 getmetatable("").__index = nil return { body = tostring(count) } end""")
    assert {function.run().text for _ in range(10)} == {"1"}


def test_errors_for_humans(api: Api) -> None:
    message = api.function("function handler(ctx, event)\n  local user = nil\n  return { body = user.name }\nend").failed()
    head, _, rest = message.partition("\n\n[CODE]\n")
    assert head.startswith("Error at line 3: attempt to index local 'user' (a nil value)")
    excerpt, _, tip = rest.partition("\n[/CODE]\n\n")
    assert excerpt.splitlines() == [
        "    1 | function handler(ctx, event)",
        "    2 |   local user = nil",
        ">   3 |   return { body = user.name }",
        "    4 | end",
    ]
    assert tip.startswith("[TIP] A value is nil")
    assert api.function("local function handler() end").failed().startswith("Error: handler function not found in Lua code")
    assert "/" not in api.handler("error({ code = 7 })").failed().partition("\n")[0]


def test_at_the_root(make_server: Callable[..., Server], connect: Callable[..., Api]) -> None:
    server = make_server("--root", "lunar", env={"SPINNEY_ADMIN_KEY": ADMIN_KEY, "EXECUTION_TIMEOUT": "junk"})
    api = connect(server, mount="")
    function = api.handler(
        "return { body = json.encode({ ctx.baseUrl, event.path, event.relativePath, router.path('/x'), router.url('/') }) }"
    )
    url = f"{server.url}/fn/{function.id}"
    expected = [server.url, f"/fn/{function.id}/a", "/a", f"/fn/{function.id}/x", url + "/"]
    assert function.run(path="/a").json() == expected
    assert function.by(connect(server)).run(path="/a").json() == expected


def test_base_url_and_time_limit_by_their_own_names(make_server: Callable[..., Server], connect: Callable[..., Api]) -> None:
    names = {"BASE_URL": "https://example.test/base/", "EXECUTION_TIMEOUT": "1", "TZ": "Asia/Kolkata"}
    api = connect(make_server(env={"SPINNEY_ADMIN_KEY": ADMIN_KEY, **names}))
    function = api.handler("return { body = json.encode({ ctx.baseUrl, router.path('/x'), time.format(0, '15:04 -0700') }) }")
    assert function() == ["https://example.test/base", f"/base/fn/{function.id}/x", "05:30 +0530"]
    function.update(cron_schedule="0 12 * * *", cron_status="active")
    assert (api.get(f"{function.path}/next-run")["next_run"] + 19800) % 86400 == 12 * 3600
    asked = done(api.send("POST", "/api/auth/device-request"))
    assert asked["approval_url"].startswith("https://example.test/base/#!/device-approve/")
    loop = api.function("function handler() while true do pcall(string.rep, 'x', 1) end end")
    other = api.function(TRIVIAL)
    assert loop.failed() == "Execution timed out after 1s"
    assert other.run().text == "hi"
