"""The transport of WebSockets, in a real server on loopback: handshakes, bounds, pings, ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from spinney.http import server as server_module
from spinney.http import websocket
from spinney.http.front import Front
from spinney.http.hot import HotRequest, HotResponse
from spinney.http.server import Server
from spinney.http.websocket import Conversation, Gone, SocketRoute, WebSocket

pytestmark = pytest.mark.anyio

LIMIT = 100_000
PATIENCE_S = 30.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that the server has, too."""
    return "asyncio", {"use_uvloop": True}


class Dialect:
    """An API with nothing but WebSockets: each test says what the conversation at /talk/{room} is."""

    name = "test"

    def __init__(self) -> None:
        self.conversation: Conversation = echo
        self.requests: list[HotRequest] = []
        self.refusal: HotResponse | None = None
        self.hold: asyncio.Event | None = None
        self.fault: Exception | None = None

    def hot_routes(self) -> Mapping[Any, Any]:
        return {}

    def sockets(self) -> Mapping[str, SocketRoute]:
        return {"/talk/{room}": SocketRoute(self._answer, LIMIT)}

    async def _answer(self, request: HotRequest) -> HotResponse | Conversation:
        self.requests.append(request)
        if self.hold is not None:
            await self.hold.wait()
        if self.fault is not None:
            raise self.fault
        return self.refusal or self.conversation

    def app(self) -> Any:
        return self._app

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    def error_body(self, status: int, message: str) -> bytes:
        return f'{{"said":"{message}"}}'.encode()


async def echo(socket: WebSocket) -> None:
    while (message := await socket.receive()) is not None:
        if isinstance(message, str):
            await socket.send(message.encode())
        else:
            await socket.send(message, text=False)


class Place:
    """A running server."""

    def __init__(self, dialect: Dialect, server: Server, serving: asyncio.Task[None], port: int) -> None:
        self.dialect = dialect
        self.server = server
        self.serving = serving
        self.port = port

    def connect(self, path: str = "/test/talk/here", **options: Any) -> connect:
        return connect(f"ws://127.0.0.1:{self.port}{path}", proxy=None, compression=None, **options)

    @property
    def open(self) -> int:
        return len(self.server._sockets)

    def tend(self, seconds: float) -> None:
        """As if so much time had passed for all connections."""
        now = asyncio.get_running_loop().time() + seconds
        for connection in list(self.server._sockets):
            connection.tend(now)

    async def ask(self, *lines: str) -> bytes:
        """A request by hand: everything that comes back until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write("\r\n".join([*lines, "", ""]).encode())
        answer = await reader.read()
        writer.close()
        return answer


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    dialect = Dialect()
    front = Front(lambda: None, lambda: b"")
    front.mount(dialect)  # type: ignore[arg-type]
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(front, drain_s=PATIENCE_S)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    yield Place(dialect, server, serving, listener.getsockname()[1])
    if not server.should_exit:  # an orderly stop takes a fifth of a second: only tests of it need that
        serving.cancel()
        for listening in server.servers:
            listening.close()
    await asyncio.gather(serving, return_exceptions=True)
    assert not server.server_state.tasks


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that nothing announces."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"waited in vain: {what}"
        await asyncio.sleep(0.01)


async def closed_with(client: ClientConnection) -> int | None:
    """Read to the end; the code with which the server closed."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await client.recv()
    return client.close_code


# -- handshakes --------------------------------------------------------------------------------------------------------


async def test_messages_go_both_ways(place: Place) -> None:
    async with place.connect("/test/talk/a%20b?q=1", additional_headers={"X-Own": "yes"}) as client:
        for message in ("text", "", "ü\0", b"\0\xff", "x" * 70_000):
            await client.send(message)
            assert await client.recv() == message
    [request] = place.dialect.requests
    assert request.parameters == ["a b"]
    assert (request.path, request.query) == ("/test/talk/a%20b", b"q=1")
    assert (b"x-own", b"yes") in request.headers.fields
    assert request.client == "127.0.0.1"
    await until(lambda: place.open == 0, "the connection is forgotten")


async def test_no_compression_whatever_the_client_offers(place: Place) -> None:
    async with connect(f"ws://127.0.0.1:{place.port}/test/talk/here", proxy=None, compression="deflate") as client:
        assert client.response is not None
        assert "sec-websocket-extensions" not in client.response.headers
        await client.send("x" * 1000)
        assert await client.recv() == "x" * 1000


async def test_a_request_can_be_refused(place: Place) -> None:
    place.dialect.refusal = HotResponse(401, [(b"content-type", b"application/json")], b'{"no":1}')
    with pytest.raises(InvalidStatus) as caught:
        await place.connect()
    response = caught.value.response
    assert (response.status_code, response.body) == (401, b'{"no":1}')
    assert response.headers["content-type"] == "application/json"
    assert place.open == 0


async def test_a_fault_in_the_judging_shows_nothing(place: Place) -> None:
    place.dialect.fault = RuntimeError("secret")
    with pytest.raises(InvalidStatus) as caught:
        await place.connect()
    assert (caught.value.response.status_code, caught.value.response.body) == (500, b'{"said":"internal server error"}')


HEAD = ("GET /test/talk/here HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket")
KEY, VERSION = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13"


@pytest.mark.parametrize(
    "rest", [(), (KEY,), (VERSION,), (KEY, "Sec-WebSocket-Version: 8"), ("Sec-WebSocket-Key: short", VERSION)]
)
async def test_malformed_handshakes(place: Place, rest: tuple[str, ...]) -> None:
    answer = await place.ask(*HEAD, *rest)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"sec-websocket-version: 13\r\n" in answer
    assert answer.endswith(b'{"said":"malformed WebSocket handshake"}')


@pytest.mark.parametrize("head", ["GET /test/talk/here HTTP/1.1", "GET /test/talk/here HTTP/1.0"])
async def test_without_an_upgrade(place: Place, head: str) -> None:
    answer = await place.ask(head, "Host: x", "Connection: close")
    assert b" 426 " in answer.split(b"\r\n")[0]
    assert b"upgrade: websocket\r\n" in answer
    assert answer.endswith(b'{"said":"upgrade required"}')


@pytest.mark.parametrize("line", ["POST /test/talk/here HTTP/1.1", "GET /test/elsewhere HTTP/1.1"])
async def test_elsewhere_the_wish_is_ignored(place: Place, line: str) -> None:
    answer = await place.ask(line, "Host: x", "Connection: Upgrade, close", "Upgrade: websocket", KEY, VERSION)
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_an_upgrade_behind_an_unanswered_request_is_refused(place: Place) -> None:
    first = ["POST /test/other HTTP/1.1", "Host: x", "Content-Length: 5", "", "12345"]
    answer = await place.ask("\r\n".join(first) + "\r\n".join(HEAD), KEY, VERSION)
    assert b"HTTP/1.1 101" not in answer


async def test_an_upgrade_after_other_requests_of_the_connection(place: Place) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    writer.write(b"GET /test/x HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
    writer.write("\r\n".join([*HEAD, KEY, VERSION, "", ""]).encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    writer.write(Frame(Opcode.TEXT, b"hi").serialize(mask=True))
    assert await reader.readexactly(4) == b"\x81\x02hi"
    writer.close()


async def test_no_more_connections_than_allowed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "SOCKETS_MAX", 2)
    async with place.connect(), place.connect() as second:
        with pytest.raises(InvalidStatus) as caught:
            await place.connect()
        assert caught.value.response.status_code == 503
        await second.close()
        await until(lambda: place.open == 1, "one has left")
        async with place.connect() as third:
            await third.send("x")
            assert await third.recv() == "x"


# -- what a client may send ----------------------------------------------------------------------------------------------


async def send_raw(client: ClientConnection, *frames: bytes) -> None:
    client.transport.write(b"".join(frames))


def frame(opcode: Opcode, data: bytes, fin: bool = True, mask: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=mask)


async def test_as_large_as_allowed_and_no_larger(place: Place) -> None:
    async with place.connect(max_size=None) as client:
        await client.send("x" * LIMIT)
        assert len(await client.recv()) == LIMIT
        await client.send("x" * (LIMIT + 1))
        assert await closed_with(client) == 1009
    async with place.connect() as client:
        with contextlib.suppress(ConnectionClosed):
            await client.send("x" * 20_000_000)  # still arriving when the refusal goes out, which must not get lost over it
        assert await closed_with(client) == 1009


async def test_fragments_count_together(place: Place) -> None:
    async with place.connect() as client:
        await client.send(["ab", "", "c"])
        assert await client.recv() == "abc"
        await client.send(["x" * 60_000, "x" * 60_000])
        assert await closed_with(client) == 1009


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([frame(Opcode.TEXT, b"\xff")], 1007),
        ([frame(Opcode.TEXT, b"\xc3", fin=False), frame(Opcode.CONT, b"(")], 1007),
        ([frame(Opcode.TEXT, b"x", mask=False)], 1002),
        ([frame(Opcode.CONT, b"x")], 1002),
        ([frame(Opcode.TEXT, b"x", fin=False), frame(Opcode.TEXT, b"x")], 1002),
        ([b"\xf1\x80\0\0\0\0"], 1002),
        ([b"\x83\x80\0\0\0\0"], 1002),
        ([b"\x09\x80\0\0\0\0"], 1002),
        ([b"\x81\xff" + b"\xff" * 12], 1009),
        ([b"\x81\xff" + b"\x7f" + b"\xff" * 11], 1009),
    ],
)
async def test_what_is_not_the_protocol_closes_the_connection(place: Place, frames: list[bytes], code: int) -> None:
    async with place.connect() as client:
        await send_raw(client, *frames)
        assert await closed_with(client) == code
    async with place.connect() as client:
        await client.send("still here")
        assert await client.recv() == "still here"


async def test_a_text_may_be_cut_inside_a_character(place: Place) -> None:
    async with place.connect() as client:
        await send_raw(client, frame(Opcode.TEXT, b"\xc3", fin=False), frame(Opcode.PING, b""), frame(Opcode.CONT, b"\xbc"))
        assert await client.recv() == "ü"


async def test_endless_empty_fragments_take_no_room(place: Place) -> None:
    async with place.connect() as client:
        await send_raw(client, frame(Opcode.TEXT, b"a", fin=False))
        await send_raw(client, frame(Opcode.CONT, b"", fin=False) * 100_000)
        [socket] = place.server._sockets
        await send_raw(client, frame(Opcode.CONT, b"b"))
        assert await client.recv() == "ab"
        assert len(socket._messages) == 0


async def test_a_fragmented_message_is_not_waited_for_without_end(place: Place) -> None:
    async with place.connect() as client:
        await send_raw(client, frame(Opcode.TEXT, b"a", fin=False))
        [socket] = place.server._sockets
        await until(lambda: socket._began, "the message has begun")
        socket._heard += websocket.MESSAGE_MAX_S  # it goes on slowly
        place.tend(websocket.MESSAGE_MAX_S + 1)
        assert await closed_with(client) == 1008


async def test_what_nobody_takes_is_not_read_but_pings_are_answered(place: Place) -> None:
    go = asyncio.Event()
    taken: list[str | bytes | None] = []

    async def late(socket: WebSocket) -> None:
        await go.wait()
        while (message := await socket.receive()) is not None:
            taken.append(message)

    place.dialect.conversation = late
    async with place.connect(ping_interval=None) as client:
        for _ in range(5):
            await client.send("waits")
        await asyncio.wait_for(await client.ping(), PATIENCE_S)  # answered although five messages wait
        [socket] = place.server._sockets
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 1000:
                await asyncio.wait_for(client.send("x" * 50_000), 1.0)
                sent += 1
        assert sent < 1000, "the server read 50 MB that nobody had taken"
        assert not socket._reading
        assert socket._waiting_bytes < websocket.READ_AHEAD_BYTES + 300_000
        place.tend(websocket.SILENT_MAX_S + 1)  # who is not read cannot be blamed for silence
        assert place.open == 1
        go.set()
        await until(lambda: len(taken) >= 5 + sent, "all that was sent arrives")


async def test_many_tiny_messages_are_bounded_too(place: Place) -> None:
    go = asyncio.Event()

    async def never(socket: WebSocket) -> None:
        await go.wait()

    place.dialect.conversation = never
    async with place.connect(ping_interval=None) as client:
        [socket] = place.server._sockets
        await send_raw(client, frame(Opcode.TEXT, b"") * 500_000)
        await until(lambda: not socket._reading, "the server has enough")
        assert len(socket._messages) < 100_000
        go.set()


# -- what a client may leave unread ----------------------------------------------------------------------------------------


async def test_a_client_that_does_not_read_is_waited_for(place: Place) -> None:
    sent: list[int] = []
    ended = asyncio.Event()

    async def flood(socket: WebSocket) -> None:
        async def send(number: int) -> None:
            await socket.send(b"%d" % number + b" " * 1_000_000)
            sent.append(number)

        await asyncio.gather(*(send(number) for number in range(60)))
        ended.set()

    place.dialect.conversation = flood
    async with place.connect(max_size=None, max_queue=1) as client:
        [socket] = place.server._sockets
        await until(lambda: not socket._writable.is_set(), "the buffers are full")
        assert socket._transport.get_write_buffer_size() < 3_000_000
        await asyncio.sleep(0)
        assert not ended.is_set()
        received = [int(await client.recv()) for _ in range(60)]
        assert received == list(range(60))
    assert ended.is_set()


async def test_a_client_that_never_reads_is_left(place: Place) -> None:
    gone = asyncio.Event()

    async def flood(socket: WebSocket) -> None:
        try:
            while True:
                await socket.send(b" " * 1_000_000)
        except Gone:
            gone.set()

    place.dialect.conversation = flood
    async with place.connect(max_queue=1, close_timeout=0.1):
        [socket] = place.server._sockets
        await until(lambda: not socket._writable.is_set() and place.open, "the buffers are full")
        place.tend(websocket.STALLED_MAX_S / 2)
        assert place.open == 1
        place.tend(websocket.STALLED_MAX_S * 2)
        place.tend(websocket.STALLED_MAX_S * 4)
        await asyncio.wait_for(gone.wait(), PATIENCE_S)
        await until(lambda: place.open == 0, "the connection is forgotten")


# -- pings and ends ----------------------------------------------------------------------------------------------------------


async def test_pings_and_silence(place: Place) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    writer.write("\r\n".join([*HEAD, KEY, VERSION, "", ""]).encode())
    await reader.readuntil(b"\r\n\r\n")
    await until(lambda: place.open == 1, "connected")
    place.tend(websocket.PING_S - 1)
    place.tend(websocket.PING_S + 1)
    assert await reader.readexactly(2) == b"\x89\x00"
    writer.write(frame(Opcode.PONG, b""))
    place.tend(websocket.SILENT_MAX_S + 1)
    answer = await reader.read()
    assert answer[:4] == b"\x88" + bytes([len(answer) - 2]) + (1011).to_bytes(2, "big")
    writer.close()
    await until(lambda: place.open == 0, "the connection is forgotten")


async def test_the_client_closes(place: Place) -> None:
    ended: list[object] = []

    async def last(socket: WebSocket) -> None:
        while (message := await socket.receive()) is not None:
            ended.append(message)
        try:
            await socket.send(b"too late")
        except Gone:
            ended.append(Gone)

    place.dialect.conversation = last
    async with place.connect() as client:
        await client.send("one")
        await client.send("two")
    await until(lambda: len(ended) == 3, "the conversation has ended")
    assert ended == ["one", "two", Gone]


@pytest.mark.parametrize("rude", ["reset", "end of stream"])
async def test_the_client_vanishes(place: Place, rude: str) -> None:
    ended = asyncio.Event()

    async def last(socket: WebSocket) -> None:
        assert await socket.receive() is None
        ended.set()

    place.dialect.conversation = last
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    writer.write("\r\n".join([*HEAD, KEY, VERSION, "", ""]).encode())
    await reader.readuntil(b"\r\n\r\n")
    if rude == "reset":
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        writer.transport.abort()
    else:
        writer.write_eof()
    await asyncio.wait_for(ended.wait(), PATIENCE_S)
    await until(lambda: place.open == 0, "the connection is forgotten")
    writer.close()


@pytest.mark.parametrize(("ending", "code"), [("returns", 1000), ("raises", 1011)])
async def test_the_conversation_ends(place: Place, ending: str, code: int) -> None:
    async def short(socket: WebSocket) -> None:
        await socket.send(b"bye")
        if ending == "raises":
            raise RuntimeError("a fault")

    place.dialect.conversation = short
    async with place.connect() as client:
        assert await client.recv() == "bye"
        assert await closed_with(client) == code


async def test_a_client_that_does_not_answer_a_close_is_left(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "CLOSING_MAX_S", 0.05)

    async def short(socket: WebSocket) -> None:
        await socket.send(b"bye")

    place.dialect.conversation = short
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    writer.write("\r\n".join([*HEAD, KEY, VERSION, "", ""]).encode())
    with contextlib.suppress(ConnectionResetError):
        assert (await reader.read()).endswith(b"\x81\x03bye\x88\x02\x03\xe8")
    await until(lambda: place.open == 0, "the connection is forgotten")
    writer.close()


async def test_a_drain_waits_for_the_conversation(place: Place) -> None:
    go = asyncio.Event()
    told: list[object] = []

    async def working(socket: WebSocket) -> None:
        while (message := await socket.receive()) is not None:
            told.append(message)
        await go.wait()
        await socket.send(b"the last word")

    place.dialect.conversation = working
    async with place.connect() as client:
        await client.send("first")
        await until(lambda: told == ["first"], "it is at work")
        place.server.stop()
        [socket] = place.server._sockets
        await until(lambda: socket._draining, "the drain has begun")
        await client.send("second")
        go.set()
        assert await client.recv() == "the last word"
        assert await closed_with(client) == 1001
    assert told == ["first"]
    await asyncio.wait_for(place.serving, PATIENCE_S)


async def test_a_drain_does_not_wait_for_ever(place: Place) -> None:
    cut_off = asyncio.Event()

    async def endless(socket: WebSocket) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cut_off.set()
            raise

    place.dialect.conversation = endless
    place.server.config.timeout_graceful_shutdown = 1
    async with place.connect() as client:
        place.server.stop()
        assert await closed_with(client) == 1001
    assert cut_off.is_set()


async def test_a_drain_while_a_request_is_judged(place: Place) -> None:
    place.dialect.hold = asyncio.Event()
    asking = asyncio.create_task(place.ask(*HEAD, KEY, VERSION))
    await until(lambda: place.dialect.requests, "the request is being judged")
    place.server.stop()
    assert b" 101 " not in await asyncio.wait_for(asking, PATIENCE_S)
    place.dialect.hold.set()


async def test_many_at_once(place: Place) -> None:
    async def talk(number: int) -> bool:
        async with place.connect(f"/test/talk/{number}") as client:
            texts = [f"{number} {turn} {os.urandom(20).hex()}" for turn in range(20)]
            for text in texts:
                await client.send(text)
            return [await client.recv() for _ in texts] == texts

    results: list[Awaitable[bool]] = [talk(number) for number in range(60)]
    assert all(await asyncio.gather(*results))
    await until(lambda: place.open == 0, "all connections are forgotten")
