"""Invocations on a WebSocket (contract 2.10): frames, statuses, data, who may call, and ends."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connect_socket

from tests.conftest import ADMIN_KEY
from tests.dialects.fluxbase.api import FUNCTIONS, UNAUTHENTICATED, Api, Function, refused
from tests.server import Server, wait_until

STREAM = f"{FUNCTIONS}/stream"
REPLY_S = 60.0

Open = Callable[..., "Stream"]


class Stream:
    """A client of the stream: sends calls, reads frames."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def send(self, function: Function | str, payload: str | None = None, id: str | None = None) -> None:
        """One call; ``payload`` and ``id`` are JSON texts."""
        members = [f'"function":{json.dumps(function if isinstance(function, str) else function.name)}']
        members += [f'"payload":{payload}'] if payload is not None else []
        members += [f'"id":{id}'] if id is not None else []
        self.socket.send("{" + ",".join(members) + "}")

    def text(self) -> str:
        """The next frame as it came."""
        frame = self.socket.recv(timeout=REPLY_S)
        assert isinstance(frame, str)
        return frame

    def frame(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.text())
        return value

    def call(self, function: Function | str, payload: str | None = None, id: str | None = None) -> dict[str, Any]:
        """One call and the frame that answers it."""
        self.send(function, payload, id)
        return self.frame()

    def close_code(self) -> int | None:
        """Read to the end; the code with which the server closed."""
        with pytest.raises(ConnectionClosed):
            while True:
                self.socket.recv(timeout=REPLY_S)
        return self.socket.close_code


@pytest.fixture
def open_stream() -> Iterator[Open]:
    """Open a stream: ``open_stream(server, token)``."""
    with ExitStack() as stack:

        def make(
            server: Server, token: str | None = ADMIN_KEY, *, mount: str = "/fluxbase", query: str = "", **headers: str
        ) -> Stream:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            if token is not None:
                given["authorization"] = f"Bearer {token}"
            url = f"{server.url.replace('http', 'ws', 1)}{mount}{STREAM}{query}"
            socket = connect_socket(url, additional_headers=given, proxy=None, max_size=None, open_timeout=60)
            return Stream(stack.enter_context(socket))

        yield make


@pytest.fixture
def stream(server: Server, open_stream: Open) -> Stream:
    return open_stream(server)


@pytest.fixture(scope="session")
def reply(api: Api) -> Function:
    """Answers with the status, type and base64 body that it is told."""
    code = """
        const { status = 200, type, body } = await req.json();
        const bytes = body === undefined ? null : Uint8Array.from(atob(body), (c) => c.charCodeAt(0));
        return new Response(bytes, { status, headers: type ? { "content-type": type } : {} });
    """
    return api.handler(code)


def told(body: bytes | None = None, type: str = "", status: int = 200) -> str:
    """A payload for ``reply``."""
    return json.dumps({"status": status, "type": type} | ({} if body is None else {"body": base64.b64encode(body).decode()}))


# -- frames ------------------------------------------------------------------------------------------------------------


def test_a_call_and_its_row(stream: Stream, api: Api) -> None:
    function = api.handler("console.log('hi'); return await req.json()")
    frame = stream.call(function, '{"a":[1,"ü"]}', '"one"')
    row = function.row(frame["execution_id"])
    assert frame == {"id": "one", "status": 200, "data": {"a": [1, "ü"]}, "execution_id": row["id"]}
    assert (row["trigger_type"], row["status"], row["logs"]) == ("http", "success", "console.log: hi")


@pytest.mark.parametrize("id", ['"x"', '""', '"\\u00fc\\u0000"', "0", "-1", "1.0", "1e3", "123456789012345678901234567890"])
def test_ids_come_back_unchanged(stream: Stream, echo: Function, id: str) -> None:
    for function in (echo, "no-such-function"):
        stream.send(function, id=id)
        assert stream.text().startswith(f'{{"id":{id},"status":')


def test_without_an_id_there_is_none(stream: Stream, echo: Function) -> None:
    assert set(stream.call(echo)) == {"status", "data", "execution_id"}
    assert set(stream.call("no-such-function")) == {"status", "error", "execution_id"}


PAYLOADS = [
    *("null", "0", "1.50", "12345678901234567890", '""', "[]", "{}", '{"b":1,"a":2,"b":3}', "[1, 2]", '"</script>`${1}\\\\"'),
    *('"\\u2028\\u0000"', '"\u2028\U0001f600"', '"\\ud83d"', '{"\\udc00":["\\ud83d",1.5]}'),
]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_the_payload_is_the_body(stream: Stream, echo: Function, payload: str) -> None:
    body = stream.call(echo, payload)["data"]["body"]
    assert body == payload or (r"\u" in payload and json.loads(body) == json.loads(payload))


def test_without_a_payload_the_body_is_an_empty_object(stream: Stream, echo: Function) -> None:
    assert stream.call(echo)["data"]["body"] == "{}"


def test_what_the_function_sees(server: Server, open_stream: Open, echo: Function) -> None:
    stream = open_stream(server, query="?x=1", x_own="yes", cookie="a=b", content_type="text/plain")
    seen = stream.call(echo, "[1]")["data"]
    assert (seen["method"], seen["body"], seen["params"]) == ("POST", "[1]", {})
    assert seen["url"] == f"{server.url}/fluxbase{echo.path}/invoke"
    assert seen["user_id"] == echo.created["created_by"]
    headers = seen["headers"]
    assert (headers["x-own"], headers["cookie"], headers["content-type"]) == ("yes", "a=b", "application/json")
    assert headers["host"] == f"127.0.0.1:{server.port}"
    assert set(headers) <= {"host", "x-own", "cookie", "content-type", "user-agent", "accept", "accept-encoding"}


@pytest.mark.parametrize(
    ("body", "type", "data"),
    [
        (b'{"a": [1, null]}', "application/json", {"a": [1, None]}),
        (b" [1]\n", "Application/JSON; charset=utf-8", [1]),
        (b'"\\ud800"', "application/json", "\ud800"),
        (b'{"title":1}', "application/problem+json", {"title": 1}),
        (b"{broken", "application/json", "{broken"),
        (b"[1] [2]", "application/json", "[1] [2]"),
        (b'{"a":1}', "text/plain", '{"a":1}'),
        ('\u2028"\\\0ü'.encode(), "text/html", '\u2028"\\\0ü'),
        (b"", "application/json", None),
        (None, "", None),
    ],
)
def test_data(stream: Stream, reply: Function, body: bytes | None, type: str, data: object) -> None:
    frame = stream.call(reply, told(body, type))
    assert (frame["status"], frame["data"]) == (200, data)
    assert set(frame) == {"status", "data", "execution_id"}


@pytest.mark.parametrize("type", ["application/octet-stream", "application/json", "text/plain"])
def test_bytes_that_are_no_text(stream: Stream, reply: Function, type: str) -> None:
    frame = stream.call(reply, told(b"\0\xff\xfe", type))
    assert (frame["data"], frame["encoding"]) == (base64.b64encode(b"\0\xff\xfe").decode(), "base64")


def test_frames_as_large_as_allowed_and_no_larger(stream: Stream, api: Api) -> None:
    length = api.handler("return (await req.text()).length", memory_limit_mb=256)
    room = 10485760 - len(json.dumps({"function": length.name, "payload": ""}, separators=(",", ":")))
    assert stream.call(length, json.dumps("x" * room))["data"] == room + 2
    with pytest.raises(ConnectionClosed):
        stream.send(length, json.dumps("x" * (room + 1)))
        stream.text()
    assert stream.socket.close_code == 1009


def test_the_largest_replies(stream: Stream, api: Api) -> None:
    largest = api.handler("return new Response('\\0'.repeat(await req.json()))", memory_limit_mb=256)
    assert stream.call(largest, "10485760")["data"] == "\0" * 10485760  # as JSON six times as long
    assert stream.call(largest, "10485761")["message"] == "RangeError: Function response too large (max 10485760 bytes)"


# -- statuses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [201, 204, 302, 400, 404, 500, 599])
def test_a_reply_of_any_status_has_data(stream: Stream, reply: Function, status: int) -> None:
    body = None if status == 204 else b"said"
    frame = stream.call(reply, told(body, "text/plain", status))
    assert (frame["status"], frame["data"]) == (status, None if body is None else "said")
    assert "error" not in frame


def test_failures_and_timeouts(stream: Stream, api: Api) -> None:
    failing = api.function("export default () => { throw new TypeError('no') }")
    frame = stream.call(failing, id="1")
    id = failing.history()[0]["id"]
    failed = {"error": "Function execution failed", "message": "TypeError: no", "function": failing.name, "execution_id": id}
    assert frame == {"id": 1, "status": 500, **failed}
    endless = api.function("export default () => { for (;;); }", timeout_seconds=1)
    frame = stream.call(endless, id="2")
    assert (frame["status"], frame["error"]) == (408, "Function execution timeout")
    assert frame["message"] == "Function exceeded timeout limit of 1 seconds"
    assert frame["function"] == endless.name
    assert endless.row(frame["execution_id"])["status"] == "timeout"


def test_unknown_and_disabled(stream: Stream, api: Api) -> None:
    disabled = api.function(enabled=False)
    for function in (disabled, "no-such-function", "stream", "", "a/b", "\udc00"):
        frame = stream.call(function, id="1")
        assert frame == {"id": 1, "status": 404, "error": "Function not found or disabled", "execution_id": None}


UNUSABLE = ["", "nonsense", "{", '{"function":"f"} {}', '{"function":NaN}', "[]", '"f"', "null", "{}", '{"function":1}']
SURROGATES = ['["\\ud800"]', '{"function":"\\ud800","id":1e999}', '{"function":"f","payload":["\\ud800",NaN]}']
WRONG_IDS = ["null", "true", "[]", "{}"]


@pytest.mark.parametrize(
    "text", [*UNUSABLE, *SURROGATES, '{"function":"f","payload":}', '{"payload":' + "[" * 5000 + "]" * 5000 + "}", b"{}"]
)
def test_unusable_frames(stream: Stream, echo: Function, text: str | bytes) -> None:
    stream.socket.send(text)
    frame = stream.frame()
    assert set(frame) == {"status", "error", "message", "execution_id"}
    assert (frame["status"], frame["error"], frame["execution_id"]) == (400, "Invalid message", None)
    assert frame["message"]
    assert stream.call(echo)["status"] == 200, "the connection stays open"


@pytest.mark.parametrize("id", WRONG_IDS)
def test_ids_of_another_type(stream: Stream, echo: Function, id: str) -> None:
    frame = stream.call(echo, id=id)
    assert (frame["status"], "id" in frame) == (400, False)


def test_an_unusable_frame_with_an_id_keeps_it(stream: Stream) -> None:
    stream.socket.send('{"id":"mine"}')
    assert stream.frame()["id"] == "mine"


def test_rate_limits_count_each_frame(make_server: Callable[..., Server], connect: Callable[..., Api], open_stream: Open) -> None:
    server = make_server(env={"SPINNEY_ADMIN_KEY": ADMIN_KEY, "SPINNEY_FLUXBASE_RATE_INVOKES": "3"})
    function = connect(server).function("export default () => 1")
    stream = open_stream(server)
    assert stream.call("no-such-function")["status"] == 404
    assert function.invoke().status_code == 200
    for number in range(4):
        stream.send(function, id=str(number))
    frames = [stream.frame() for _ in range(4)]
    assert sorted(frame["status"] for frame in frames) == [200, 200, 429, 429]
    for frame in (frame for frame in frames if frame["status"] == 429):
        assert set(frame) == {"id", "status", "error", "retry_after", "execution_id"}
        assert (frame["error"], frame["execution_id"]) == ("Rate limit exceeded", None)
        assert type(frame["retry_after"]) is int and 1 <= frame["retry_after"] <= 60
    refused(function.invoke(), 429, "Rate limit exceeded")
    assert len(function.history()) == 3


# -- who may call ----------------------------------------------------------------------------------------------------------


def refused_upgrade(open_stream: Open, server: Server, token: str | None = None, query: str = "") -> None:
    with pytest.raises(InvalidStatus) as caught:
        open_stream(server, token, query=query)
    response = caught.value.response
    assert response.status_code == 401
    assert json.loads(response.body or b"") == {"error": UNAUTHENTICATED}
    assert response.headers["content-type"] == "application/json"
    assert response.headers["www-authenticate"] == "Bearer"


def test_tokens_that_are_presented_must_be_valid(server: Server, open_stream: Open) -> None:
    refused_upgrade(open_stream, server, "wrong")
    refused_upgrade(open_stream, server, "")
    refused_upgrade(open_stream, server, query="?access_token=wrong")
    refused_upgrade(open_stream, server, query="?access_token=")
    refused_upgrade(open_stream, server, query="?a=1&access_token")


def test_a_token_in_the_query(server: Server, open_stream: Open, echo: Function) -> None:
    seen = open_stream(server, None, query=f"?access_token={ADMIN_KEY}").call(echo)["data"]
    assert seen["user_id"] == echo.created["created_by"]
    assert ADMIN_KEY not in json.dumps(seen)


def test_a_token_of_another_account_finds_nothing(server: Server, open_stream: Open, own_account: Api, echo: Function) -> None:
    token = own_account.http.headers["authorization"].removeprefix("Bearer ")
    assert open_stream(server, token).call(echo)["status"] == 404


def test_anonymous_calls_are_judged_one_by_one(server: Server, open_stream: Open, api: Api) -> None:
    anyone = api.handler("return req", allow_unauthenticated=True)
    unsaid, closed = api.handler("return 1"), api.handler("return 1", allow_unauthenticated=False)
    stream = open_stream(server, None, authorization="Basic abc")
    seen = stream.call(anyone)["data"]
    assert "user_id" not in seen
    assert seen["headers"]["authorization"] == "Basic abc"
    assert stream.call(unsaid)["status"] == 200
    assert stream.call(closed, id="5") == {"id": 5, "status": 401, "error": UNAUTHENTICATED, "execution_id": None}
    assert closed.history() == []


def test_where_tokens_are_required(make_server: Callable[..., Server], connect: Callable[..., Api], open_stream: Open) -> None:
    server = make_server(env={"SPINNEY_ADMIN_KEY": ADMIN_KEY, "SPINNEY_FLUXBASE_INVOKE_AUTH": "required"})
    api = connect(server)
    stream = open_stream(server, None)
    assert stream.call(api.handler("return 1"))["status"] == 401
    assert stream.call("no-such-function")["status"] == 401
    assert stream.call(api.handler("return 1", allow_unauthenticated=True))["data"] == 1


def test_a_token_that_is_revoked_ends_its_calls(server: Server, open_stream: Open, api: Api) -> None:
    function = api.handler("return 1", allow_unauthenticated=True)
    stream = open_stream(server, server.token(name="short-lived"))
    assert stream.call(function)["status"] == 200
    server.revoke("short-lived")
    wait_until(lambda: stream.call(function)["status"] == 401, "the server notices")
    assert stream.call(function)["error"] == UNAUTHENTICATED


# -- requests that are none ------------------------------------------------------------------------------------------------


def test_without_an_upgrade(anonymous: Api, api: Api) -> None:
    for client in (anonymous, api):
        answer = client.send("GET", STREAM)
        refused(answer, 426, "Upgrade required")
        assert answer.headers["upgrade"] == "websocket"
    assert api.send("POST", STREAM).status_code == 405


def test_the_wish_for_a_websocket_is_ignored_elsewhere(api: Api, echo: Function) -> None:
    wish = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-key": "A" * 22 + "==", "sec-websocket-version": "13"}
    assert api.send("GET", FUNCTIONS, headers=wish).status_code == 200
    assert echo.invoke(method="GET", headers=wish).json()["headers"]["sec-websocket-version"] == "13"


# -- many calls ------------------------------------------------------------------------------------------------------------


def test_answers_come_in_the_order_of_completion(stream: Stream, api: Api) -> None:
    slow = api.handler("await new Promise((done) => setTimeout(done, 2000)); return 'slow'")
    quick = api.handler("return await req.json()")
    stream.call(quick)
    stream.send(slow, id="0")
    for number in range(1, 6):
        stream.send(quick, str(number), str(number))
    frames = [stream.frame() for _ in range(6)]
    assert [frame["id"] for frame in frames][-1] == 0
    assert sorted(frame["id"] for frame in frames) == list(range(6))
    assert all(frame["data"] == frame["id"] for frame in frames[:-1])


def test_64_calls_at_a_time(make_server: Callable[..., Server], connect: Callable[..., Api], open_stream: Open) -> None:
    server = make_server(env={"SPINNEY_ADMIN_KEY": ADMIN_KEY, "SPINNEY_POOL_SANDBOXES_PER_FUNCTION": "1"})
    api = connect(server)
    first = api.handler("const ms = await req.json(); await new Promise((done) => setTimeout(done, ms)); return 'first'")
    other = api.handler("return 'other'")
    stream = open_stream(server)
    stream.call(other), stream.call(first, "0")

    def order(before: int) -> list[str]:
        """The answers to so many calls of ``first``, all but one of which wait for that one, and then one of ``other``."""
        stream.send(first, "1500")
        for _ in range(before - 1):
            stream.send(first, "0")
        stream.send(other)
        return [str(stream.frame()["data"]) for _ in range(before + 1)]

    assert order(63)[0] == "other", "the 64th call is run at once"
    assert order(64)[0] == "first", "the 65th waits"


def test_many_connections(server: Server, open_stream: Open, echo: Function) -> None:
    streams = [open_stream(server) for _ in range(20)]
    for number, stream in enumerate(streams):
        for turn in range(5):
            stream.send(echo, str(turn), str(100 * number + turn))
    for number, stream in enumerate(streams):
        frames = [stream.frame() for _ in range(5)]
        assert sorted(frame["id"] for frame in frames) == [100 * number + turn for turn in range(5)]
        assert all(frame["data"]["body"] == str(frame["id"] % 100) for frame in frames)


def test_changes_show_in_the_next_call(stream: Stream, api: Api) -> None:
    function = api.function("export default () => 'old'")
    assert stream.call(function)["data"] == "old"
    function.update(code="export default () => 'new'")
    assert stream.call(function)["data"] == "new"
    function.update(enabled=False)
    assert stream.call(function)["status"] == 404
    function.update(enabled=True)
    assert stream.call(function)["data"] == "new"
    function.delete()
    assert stream.call(function)["status"] == 404


# -- ends ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rude", [False, True])
def test_closing_stops_no_run(server: Server, open_stream: Open, api: Api, rude: bool) -> None:
    function = api.handler("await new Promise((done) => setTimeout(done, 500)); console.log('whole'); return 1")
    stream = open_stream(server)
    for _ in range(3):
        stream.send(function)
    if rude:
        wait_until(lambda: stream.call("no-such-function")["status"] == 404, "the calls have arrived")
        stream.socket.socket.shutdown(2)
    stream.socket.close()
    wait_until(lambda: len(function.history()) == 3, "all three end and are recorded")
    assert {(row["status"], row["logs"]) for row in function.history()} == {("success", "console.log: whole")}


def test_a_drain_answers_what_runs(make_server: Callable[..., Server], connect: Callable[..., Api], open_stream: Open) -> None:
    server = make_server(env={"SPINNEY_ADMIN_KEY": ADMIN_KEY})
    function = connect(server).handler("await new Promise((done) => setTimeout(done, 1500)); return 'whole'")
    stream, idle = open_stream(server), open_stream(server)
    stream.send(function, id="1")
    assert stream.call("no-such-function")["status"] == 404  # so the first has been taken as well
    server.terminate()
    frame = stream.frame()
    assert (frame["id"], frame["status"], frame["data"]) == (1, 200, "whole")
    assert stream.close_code() == 1001
    assert idle.close_code() == 1001
    assert server.wait() == 0
    server.start()
    assert function.row(frame["execution_id"])["status"] == "success"


def test_a_drain_tells_what_it_cuts_off(
    make_server: Callable[..., Server], connect: Callable[..., Api], open_stream: Open
) -> None:
    server = make_server(env={"SPINNEY_ADMIN_KEY": ADMIN_KEY, "SPINNEY_DRAIN_S": "1"})
    function = connect(server).handler("await new Promise((done) => setTimeout(done, 60000)); return 1")
    stream = open_stream(server)
    stream.send(function, id="1")
    assert stream.call("no-such-function")["status"] == 404
    server.terminate()
    frame = stream.frame()
    assert (frame["id"], frame["status"], frame["error"]) == (1, 503, "Function runtime unavailable")
    assert stream.close_code() == 1001
    assert server.wait() == 0


def test_at_the_root(make_server: Callable[..., Server], connect: Callable[..., Api], open_stream: Open) -> None:
    server = make_server("--root", "fluxbase", env={"SPINNEY_ADMIN_KEY": ADMIN_KEY})
    function = connect(server).handler("return req.url")
    assert open_stream(server, mount="").call(function)["data"] == f"{server.url}{function.path}/invoke"
    assert open_stream(server).call(function)["data"] == f"{server.url}/fluxbase{function.path}/invoke"
