"""uvicorn with what it lacks for hostile clients: time limits for a request to arrive, a limit on headers, our errors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Generator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from spinney.http.front import Front

HEADERS_MAX_BYTES = 65536
HEADERS_MAX_S = 30.0
BODY_MAX_S = 600.0
STALLED_MAX_S = 60.0
SWEEP_S = 5.0

ErrorBody = Callable[[str, int, str], bytes]


class Protocol(HttpToolsProtocol):
    """One connection. Times are noted here and judged by ``Server`` every few seconds: a timer per request costs microseconds."""

    error_body: ErrorBody

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.began: float | None = self.loop.time()
        self.heard = self.began
        self.header_bytes = 0
        self.in_headers = True

    def data_received(self, data: bytes) -> None:
        if self.in_headers:
            self.header_bytes += len(data)
            super().data_received(data)
            if self.in_headers and self.header_bytes > HEADERS_MAX_BYTES and not self.transport.is_closing():
                self.answer_and_close(431, "request headers too large")
        else:
            self.heard = self.loop.time()
            super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.began = self.heard = self.loop.time()
        self.in_headers = True

    def on_headers_complete(self) -> None:
        self.in_headers = False
        self.header_bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.began = None
        self.in_headers = True
        super().on_message_complete()

    def overdue(self, now: float) -> bool:
        """Whether this client takes too long to send its request. A client that the server has paused is not to blame."""
        if self.began is None or self.flow.read_paused:
            return False
        waited = now - self.began
        return waited > (HEADERS_MAX_S if self.in_headers else BODY_MAX_S) or now - self.heard > STALLED_MAX_S

    def send_400_response(self, msg: str) -> None:
        self.answer_and_close(400, "malformed HTTP request")

    def answer_and_close(self, status: int, message: str) -> None:
        """Answer what could not become a request, in the shape of the dialect that its path, as far as known, belongs to."""
        path = getattr(self, "url", b"").decode("latin-1").split("?")[0]
        body = type(self).error_body(path or "/", status, message)
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()


class Server(uvicorn.Server):
    """Serves a Front until ``stop``; then takes no new requests and gives the running ones ``drain_s`` seconds."""

    def __init__(self, front: Front, *, drain_s: float) -> None:
        protocol = type("BoundProtocol", (Protocol,), {"error_body": staticmethod(front.error_body)})
        super().__init__(
            uvicorn.Config(
                front,
                http=protocol,
                ws="none",
                loop="none",
                lifespan="off",
                interface="asgi3",
                access_log=False,
                log_config=None,
                server_header=False,
                backlog=4096,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=max(1, round(drain_s)),
            )
        )
        self._front = front

    def stop(self) -> None:
        """Begin to drain."""
        self._front.draining = True
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
                    if connection.in_headers:
                        connection.answer_and_close(408, "the request took too long to arrive")
                    else:
                        connection.transport.abort()
        return await super().on_tick(counter)
