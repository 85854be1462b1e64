"""uvicorn with what it lacks: a short way for repeated hot requests, time limits for requests, errors in our shapes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Generator
from typing import Any, TypeVar

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from spinney.http.front import Front
from spinney.http.hot import BODILESS, HotHeaders, HotRequest, HotResponse
from spinney.http.repeat import Repeat, learn
from spinney.http.websocket import BadHandshake, SocketRoute, WebSocket, accept_key

log = structlog.get_logger("spinney.http")

HEADERS_MAX_BYTES = 65536
HEADERS_MAX_S = 30.0
BODY_MAX_S = 600.0
STALLED_MAX_S = 60.0
IDLE_MAX_S = 75.0
SWEEP_S = 5.0
QUEUED_MAX_BYTES = 65536
SOCKETS_MAX = 4096
"""WebSockets open at a time."""

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: %b\r\n\r\n"
T = TypeVar("T")


class Protocol(HttpToolsProtocol):
    """One connection. Times are noted here and judged by ``Server`` every few seconds: a timer per request costs microseconds.

    A request whose head was seen before on this connection takes the short way (``Repeat``): no parser, no ASGI. While one is
    being answered that way, whatever else arrives is queued.
    """

    front: Front
    sockets: set[WebSocket]
    """Those of this server."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.began: float | None = self.loop.time()
        self.heard = self.began
        self.header_bytes = 0
        self.in_headers = True
        self.between = True
        self.repeat: Repeat | None = None
        self.repeating = False
        self.queued = b""
        self.closing = False

    # -- the short way -------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.repeating:
            self._queue(data)
            return
        repeat = self.repeat
        if repeat is not None and self.between and self.cycle.response_complete:
            body = repeat.body(data)
            if body is not None:
                self._unset_keepalive_if_required()
                self.repeating = True
                task = self.loop.create_task(self._answer(repeat, body))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
                return
        self._parse(data)

    async def _answer(self, repeat: Repeat, body: bytes) -> None:
        address = self.client[0] if self.client else ""
        request = HotRequest(repeat.parameters, repeat.headers, repeat.path, repeat.query, address, body=body)
        response = await self._guarded(repeat.handler(request), repeat.path)
        if not self.transport.is_closing():
            self.transport.write(self._encode(response))
            if self.flow.write_paused:
                await self.flow.drain()
        self._answered()

    async def _guarded(self, answer: Awaitable[T], path: str) -> T | HotResponse:
        try:
            return await answer
        except asyncio.CancelledError:
            return self.front.failure(path, 503, "the server is shutting down")
        except Exception:
            log.exception("a request failed", path=path)
            return self.front.failure(path, 500, "internal server error")

    def _encode(self, response: HotResponse) -> bytes:
        status = response.status
        lines = [STATUS_LINE[status]]
        for name, value in self.server_state.default_headers:
            lines += (name, b": ", value, b"\r\n")
        for name, value in response.headers:
            lines += (name, b": ", value, b"\r\n")
            self.closing = self.closing or name == b"connection"
        if status not in BODILESS:
            lines.append(b"content-length: %d\r\n" % len(response.body))
        lines += (b"connection: close\r\n\r\n" if self.closing else b"\r\n", response.body)
        return b"".join(lines)

    def _answered(self) -> None:
        self.server_state.total_requests += 1
        self.repeating = False
        self.heard = self.loop.time()
        if self.closing:
            self.transport.close()
        elif self.queued and not self.transport.is_closing():
            queued, self.queued = self.queued, b""
            self.flow.resume_reading()
            self.data_received(queued)

    def _queue(self, data: bytes) -> None:
        self.queued += data
        if len(self.queued) > QUEUED_MAX_BYTES:
            self.flow.pause_reading()

    # -- the ordinary way ----------------------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        fresh = self.between and (self.cycle is None or self.cycle.response_complete)
        if self.in_headers:
            self.header_bytes += len(data)
            super().data_received(data)
            if self.in_headers and self.header_bytes > HEADERS_MAX_BYTES and not self.transport.is_closing():
                self.answer_and_close(431, "request headers too large")
        else:
            self.heard = self.loop.time()
            super().data_received(data)
        if fresh and self.between and self.cycle is not None and not self.cycle.response_complete:
            self._learn(data)

    def _learn(self, data: bytes) -> None:
        """The request in ``data`` has been accepted whole: remember it when its route is hot."""
        if self.repeat is not None and data.startswith(self.repeat.before):
            return
        scope = self.cycle.scope
        path = scope["raw_path"].decode("latin-1")
        found = self.front.match(scope["method"], path)
        ordinary = scope["http_version"] == "1.1" and scope["method"] != "HEAD"  # whose answers have no body
        if found is not None and ordinary and self.cycle.keep_alive:
            self.repeat = learn(data, path, list(scope["headers"]), *found, scope["query_string"])

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.began = self.heard = self.loop.time()
        self.header_bytes = 0
        self.in_headers = True
        self.between = False

    def on_headers_complete(self) -> None:
        self.in_headers = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.began = None
        self.in_headers = True
        self.between = True
        super().on_message_complete()

    # -- WebSockets ----------------------------------------------------------------------------------------------------

    def _should_upgrade(self) -> bool:
        return self._socket_route() is not None

    def _socket_route(self) -> tuple[SocketRoute, list[str]] | None:
        """What gives WebSockets to this request, if it asks for one where they are to be had; else it is an ordinary request."""
        if self._get_upgrade() != b"websocket" or self.parser.get_method() != b"GET":
            return None
        return self.front.match_socket(self.url.partition(b"?")[0].decode("latin-1"))

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: a client may ask for any protocol that it likes."""

    def handle_websocket_upgrade(self) -> None:
        found = self._socket_route()
        if found is None or (self.cycle is not None and not self.cycle.response_complete):
            self.answer_and_close(400, "a WebSocket cannot follow an unanswered request")
            return
        self.began = None
        self.flow.pause_reading()
        task = self.loop.create_task(self._upgrade(*found))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _upgrade(self, route: SocketRoute, parameters: list[str]) -> None:
        path, _, query = self.url.partition(b"?")
        address = self.client[0] if self.client else ""
        request = HotRequest(parameters, HotHeaders(self.headers), path.decode("latin-1"), query, address, body=b"")
        try:
            key = accept_key(self.headers)
        except BadHandshake:
            answer: Any = self.front.failure(request.path, 400, "malformed WebSocket handshake")
            answer.headers.append((b"sec-websocket-version", b"13"))
        else:
            answer = await self._guarded(route.answer(request), request.path)
        if len(self.sockets) >= SOCKETS_MAX and not isinstance(answer, HotResponse):
            answer = self.front.failure(request.path, 503, "too many connections")
        if self.transport.is_closing():
            return
        if isinstance(answer, HotResponse):
            self.closing = True
            self.transport.write(self._encode(answer))
            self.transport.close()
            return
        self.transport.write(SWITCHING % key)
        self.connections.discard(self)
        self.flow.resume_reading()
        WebSocket(route.message_max_bytes).open(self.transport, answer, self.sockets, self.connections, tasks=self.tasks)

    # -- limits and ends -----------------------------------------------------------------------------------------------

    def overdue(self, now: float) -> bool:
        """Whether this client takes too long to send its request. A client that the server has paused is not to blame."""
        if self.repeating or self.flow.read_paused:
            return False
        if self.began is None:
            return self.repeat is not None and now - self.heard > IDLE_MAX_S and self.cycle.response_complete
        waited = now - self.began
        return waited > (HEADERS_MAX_S if self.in_headers else BODY_MAX_S) or now - self.heard > STALLED_MAX_S

    def end_overdue(self) -> None:
        """Close, with an answer when the client has begun to ask and not finished its headers."""
        if self.began is None:
            self.transport.close()
        elif self.in_headers:
            self.answer_and_close(408, "the request took too long to arrive")
        else:
            self.transport.abort()

    def shutdown(self) -> None:
        if self.repeating:
            self.closing = True
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        self.answer_and_close(400, "malformed HTTP request")

    def answer_and_close(self, status: int, message: str) -> None:
        """Answer what could not become a request, in the shape of the dialect that its path, as far as known, belongs to."""
        path = getattr(self, "url", b"").decode("latin-1").split("?")[0]
        self.closing = True
        self.transport.write(self._encode(self.front.failure(path or "/", status, message)))
        self.transport.close()


class Server(uvicorn.Server):
    """Serves a Front until ``stop``; then takes no new requests and gives the running ones ``drain_s`` seconds."""

    def __init__(self, front: Front, *, drain_s: float) -> None:
        self._sockets: set[WebSocket] = set()
        super().__init__(
            uvicorn.Config(
                front,
                http=type("BoundProtocol", (Protocol,), {"front": front, "sockets": self._sockets}),
                ws="none",
                loop="none",
                lifespan="off",
                interface="asgi3",
                proxy_headers=False,
                access_log=False,
                log_config=None,
                server_header=False,
                backlog=4096,
                timeout_keep_alive=int(IDLE_MAX_S),
                timeout_graceful_shutdown=max(1, round(drain_s)),
            )
        )

    def stop(self) -> None:
        """Begin to drain."""
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals belong to the command that runs the server."""
        yield

    async def on_tick(self, counter: int) -> bool:
        if counter % int(SWEEP_S * 10) == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Protocol) and connection.overdue(now):
                    connection.end_overdue()
            for socket in list(self._sockets):
                socket.tend(now)
        return await super().on_tick(counter)
