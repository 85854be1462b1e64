"""Who may call: keys, tokens, sessions, devices (contract 1.3, 2.2 to 2.4)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from tests.api import together
from tests.conftest import ADMIN_KEY
from tests.dialects.lunar.api import ID, NOBODY, Api, done, has_cors, refused
from tests.server import Server

REQUIRED = "Authentication required"
HEX = re.compile(r"[0-9a-f]{64}")
SESSION = re.compile(r"auth_token=([0-9a-f]{64}); Path=/; Max-Age=86400; HttpOnly; SameSite=Strict")
CLEARED = "auth_token=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"
UNKNOWN = "Device code not found or expired"
MANAGEMENT = [
    *(("GET", path) for path in ("/api/tokens", "/api/functions", "/api/functions/x", "/api/functions/x/next-run")),
    *(("GET", f"/api/functions/x/{rest}") for rest in ("versions", "versions/1", "diff/1/2", "executions")),
    *(("GET", f"/api/executions/x{rest}") for rest in ("", "/logs", "/ai-requests", "/email-requests")),
    *(("POST", path) for path in ("/api/tokens", "/api/tokens/x/revoke", "/api/functions", "/api/functions/x/kv")),
    *(("PUT", "/api/functions/x"), ("PUT", "/api/functions/x/env"), ("DELETE", "/api/functions/x")),
    *(("POST", "/api/functions/x/versions/y/activate"), ("DELETE", "/api/functions/x/versions/y")),
    *(("GET", "/api/auth/device-approve"), ("POST", "/api/auth/device-approve")),
]


def login(api: Api) -> str:
    """A new session's id."""
    response = api.request("POST", "/api/auth/login", {"apiKey": ADMIN_KEY})
    assert done(response) == {"success": True}
    found = SESSION.fullmatch(response.headers["set-cookie"])
    api.http.cookies.clear()
    assert found
    return found[1]


def by_cookie(api: Api, cookie: str) -> int:
    """The status of a management request with this Cookie header."""
    return api.send("GET", "/api/tokens", headers={"cookie": cookie}).status_code


@pytest.mark.parametrize(("method", "path"), MANAGEMENT)
def test_management_needs_a_credential(anonymous: Api, method: str, path: str) -> None:
    refused(anonymous.send(method, path, "not JSON"), 401, REQUIRED)


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", f"Basic {ADMIN_KEY}", ADMIN_KEY, f"Bearer {ADMIN_KEY}x"])
def test_headers_that_open_nothing(anonymous: Api, header: str) -> None:
    refused(anonymous.send("GET", "/api/tokens", headers={"authorization": header}), 401, REQUIRED)


def test_tokens_of_the_command_line(server: Server, connect: Callable[..., Api], api: Api) -> None:
    token = server.token(name="from-the-command-line")
    client = connect(server, token)
    listed = done(client.send("GET", "/api/tokens"))["tokens"]
    found = next(one for one in listed if one["name"] == "from-the-command-line")
    assert set(found) == {"id", "name", "created_at", "last_used", "revoked"} and ID.fullmatch(found["id"])
    assert found["revoked"] is False and abs(found["last_used"] - found["created_at"]) < 60
    assert done(api.send("POST", f"/api/tokens/{found['id']}/revoke")) == {"success": True}
    refused(client.send("GET", "/api/tokens"), 401, REQUIRED)
    assert done(api.send("POST", f"/api/tokens/{found['id']}/revoke")) == {"success": True}
    assert next(one for one in api.get("/api/tokens")["tokens"] if one["id"] == found["id"])["revoked"] is True


def test_tokens_are_made_and_shown_once(server: Server, own_account: Api, connect: Callable[..., Api]) -> None:
    made = done(own_account.request("POST", "/api/tokens", {"name": " ci "}))
    assert set(made) == {"id", "name", "created_at", "revoked", "token"} and HEX.fullmatch(made["token"])
    assert (made["name"], made["revoked"]) == (" ci ", False)
    assert connect(server, made["token"]).get("/api/functions")["functions"] == []
    listed = own_account.get("/api/tokens")["tokens"]
    assert [one["name"] for one in listed] == [" ci ", "test"]
    assert "token" not in listed[0]
    assert {one["name"] for one in connect(server, made["token"]).get("/api/tokens")["tokens"]} == {" ci ", "test"}


def test_tokens_of_others(own_account: Api, api: Api) -> None:
    mine = own_account.get("/api/tokens")["tokens"][0]["id"]
    assert mine not in {one["id"] for one in api.get("/api/tokens")["tokens"]}
    for id in (mine, NOBODY, "x"):
        refused(api.send("POST", f"/api/tokens/{id}/revoke"), 404, "Token not found")
    assert own_account.get("/api/tokens")["tokens"][0]["revoked"] is False


@pytest.mark.parametrize(
    ("name", "message"),
    [(None, "cannot be empty"), (" \n", "cannot be empty"), ("é" * 51, "cannot be longer than 100 characters")],
)
def test_names_of_tokens(api: Api, name: str | None, message: str) -> None:
    refused(api.request("POST", "/api/tokens", {"name": name}), 400, f"name: name {message}")


def test_a_session_from_login_to_logout(anonymous: Api) -> None:
    session = login(anonymous)
    cookie = f"a=b; auth_token={session}; c=d"
    assert by_cookie(anonymous, cookie) == 200
    assert anonymous.send("GET", "/api/tokens", headers={"cookie": cookie, "authorization": "Bearer wrong"}).status_code == 200
    wrong = {"cookie": "auth_token=stale", "authorization": f"Bearer {ADMIN_KEY}"}
    assert anonymous.send("GET", "/api/tokens", headers=wrong).status_code == 200
    response = anonymous.send("POST", "/api/auth/logout", headers={"cookie": cookie})
    assert (done(response), response.headers["set-cookie"]) == ({"success": True}, CLEARED)
    assert by_cookie(anonymous, cookie) == 401
    assert done(anonymous.send("POST", "/api/auth/logout")) == {"success": True}


def test_keys_and_tokens_are_no_cookies(server: Server, anonymous: Api) -> None:
    for value in (ADMIN_KEY, server.token(), "", '"'):
        assert by_cookie(anonymous, f"auth_token={value}") == 401
    assert anonymous.send("GET", "/api/tokens", headers={"authorization": f"Bearer {login(anonymous)}"}).status_code == 401


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"apiKey": "wrong"}, 401, "Invalid API key"),
        ({}, 401, "Invalid API key"),
        ({"apiKey": ADMIN_KEY + " "}, 401, "Invalid API key"),
        ({"apiKey": 7}, 400, "Invalid request body"),
        ([], 400, "Invalid request body"),
    ],
)
def test_logins_that_fail(anonymous: Api, body: object, status: int, message: str) -> None:
    response = has_cors(anonymous.request("POST", "/api/auth/login", body))
    assert (response.status_code, response.json()) == (status, {"success": False, "error": message})
    assert "set-cookie" not in response.headers


def test_only_the_admin_key_logs_in(server: Server, anonymous: Api) -> None:
    assert anonymous.request("POST", "/api/auth/login", {"apiKey": server.token()}).status_code == 401


def test_cookies_are_secure_behind_https(anonymous: Api) -> None:
    body = {"apiKey": ADMIN_KEY}
    response = anonymous.request("POST", "/api/auth/login", body, headers={"x-forwarded-proto": "https"})
    assert response.headers["set-cookie"].endswith("; SameSite=Strict; Secure")


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with rate limits."""
    with Server(tmp_path_factory.mktemp("strict") / "data", env={"SPINNEY_ADMIN_KEY": ADMIN_KEY}) as server:
        yield server


def test_guessing_keys_ends_soon(strict: Server, connect: Callable[..., Api]) -> None:
    client = connect(strict, None)
    statuses = together(lambda n: client.request("POST", "/api/auth/login", {"apiKey": f"guess {n}"}).status_code, range(40))
    assert sorted(statuses) == [401] * 20 + [429] * 20
    response = client.request("POST", "/api/auth/login", {"apiKey": ADMIN_KEY})
    assert (response.status_code, response.json()) == (429, {"success": False, "error": "Too many attempts"})
    assert 0 < int(response.headers["retry-after"]) <= 60
    assert connect(strict).get("/api/functions")["functions"] == []


def test_sessions_and_tokens_survive_a_crash_and_end_with_the_key(
    make_server: Callable[..., Server], connect: Callable[..., Api]
) -> None:
    server = make_server(env={"SPINNEY_ADMIN_KEY": ADMIN_KEY})
    client, admin = connect(server, None), connect(server)
    token = done(admin.request("POST", "/api/tokens", {"name": "t"}))["token"]
    kept, ended = login(client), login(client)
    client.send("POST", "/api/auth/logout", headers={"cookie": f"auth_token={ended}"})
    device = done(client.send("POST", "/api/auth/device-request"))["device_code"]
    server.restart_after_kill()
    assert (by_cookie(client, f"auth_token={kept}"), by_cookie(client, f"auth_token={ended}")) == (200, 401)
    assert connect(server, token).send("GET", "/api/tokens").status_code == 200
    refused(client.send("GET", f"/api/auth/device-token?code={device}"), 404, UNKNOWN)
    server.stop()
    server.environment["SPINNEY_ADMIN_KEY"] = "another-key-" + ADMIN_KEY
    server.start()
    assert by_cookie(client, f"auth_token={kept}") == 401
    assert connect(server, token).send("GET", "/api/tokens").status_code == 200


# -- devices ---------------------------------------------------------------------------------------------------------------


def test_a_device_gets_its_token_once(server: Server, own_account: Api, anonymous: Api, connect: Callable[..., Api]) -> None:
    asked = done(anonymous.send("POST", "/api/auth/device-request", "whatever"))
    code = asked["device_code"]
    assert HEX.fullmatch(code) and re.fullmatch("[A-HJ-NP-Z2-9]{8}", asked["user_code"])
    assert asked == {
        "device_code": code,
        "user_code": asked["user_code"],
        "approval_url": f"{server.url}/lunar/#!/device-approve/{code}",
        "expires_in": 300,
        "interval": 5,
    }
    poll = f"/api/auth/device-token?code={code}"
    assert done(anonymous.send("GET", poll)) == {"status": "pending"}
    shown = own_account.get(f"/api/auth/device-approve?code={code}")
    assert set(shown) == {"device_code", "user_code", "status", "expires_at"} and shown["status"] == "pending"
    allow = {"device_code": code, "action": "allow"}
    allowed = together(lambda _: own_account.request("POST", "/api/auth/device-approve", allow).status_code, range(8))
    assert sorted(allowed) == [200] + [404] * 7
    assert own_account.get(f"/api/auth/device-approve?code={code}")["status"] == "approved"
    answers = [response for response in together(lambda _: anonymous.send("GET", poll), range(8)) if response.status_code == 200]
    assert len(answers) == 1
    assert set(done(answers[0])) == {"status", "token"} and HEX.fullmatch(answers[0].json()["token"])
    refused(anonymous.send("GET", poll), 404, UNKNOWN)
    refused(own_account.request("POST", "/api/auth/device-approve", allow), 404, UNKNOWN)
    device = connect(server, answers[0].json()["token"])
    assert [one["name"] for one in device.get("/api/tokens")["tokens"]] == [f"CLI ({asked['user_code']})", "test"]


def test_a_denied_device(api: Api, anonymous: Api) -> None:
    code = done(anonymous.send("POST", "/api/auth/device-request"))["device_code"]
    assert done(api.request("POST", "/api/auth/device-approve", {"device_code": code, "action": "deny"})) == {"success": True}
    for _ in range(2):
        assert done(anonymous.send("GET", f"/api/auth/device-token?code={code}")) == {"status": "denied"}
    refused(api.request("POST", "/api/auth/device-approve", {"device_code": code, "action": "allow"}), 404, UNKNOWN)


def test_faulty_device_requests(api: Api, anonymous: Api) -> None:
    for client, path in ((anonymous, "device-token"), (api, "device-approve")):
        refused(client.send("GET", f"/api/auth/{path}"), 400, "Missing code parameter")
        refused(client.send("GET", f"/api/auth/{path}?code="), 400, "Missing code parameter")
        refused(client.send("GET", f"/api/auth/{path}?code=x"), 404, UNKNOWN)
    for body, status, message in (
        ("x", 400, "Invalid request body"),
        ({"action": "allow"}, 400, "Missing device_code"),
        ({"device_code": "x"}, 400, "Invalid action, must be 'allow' or 'deny'"),
        ({"device_code": "x", "action": "ALLOW"}, 400, "Invalid action, must be 'allow' or 'deny'"),
        ({"device_code": "x", "action": "allow"}, 404, UNKNOWN),
    ):
        refused(api.request("POST", "/api/auth/device-approve", body), status, message)


def test_only_so_many_devices_ask(strict: Server, connect: Callable[..., Api]) -> None:
    client = connect(strict, None)
    statuses = [client.send("POST", "/api/auth/device-request").status_code for _ in range(1001)]
    assert statuses == [200] * 1000 + [429]
    refused(client.send("POST", "/api/auth/device-request"), 429, "Too many pending device requests")
