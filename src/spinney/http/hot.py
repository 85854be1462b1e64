"""What a hot route gets and gives: no framework, no ASGI messages, one object each way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from spinney.http.wire import BodyTooLarge, Headers, Receive, Scope, Send, read_body, refuse_length, send_bytes

BODILESS = (204, 304)
"""Statuses that HTTP sends without a body and without a length."""


class HotHeaders:
    """The four request headers that decide about a call, found in one pass, and all of them in ``fields``, as they came.

    One object stands for every repetition of a request on its connection, so a handler may keep in ``memo`` what it made of it.
    """

    __slots__ = ("authorization", "encoding", "fields", "host", "memo", "origin")

    def __init__(self, headers: Headers) -> None:
        self.fields = headers
        self.memo: Any = None
        self.authorization = self.host = self.encoding = b""
        self.origin: bytes | None = None
        for name, value in headers:
            if name == b"host":
                self.host = value
            elif name == b"authorization":
                self.authorization = value
            elif name == b"origin":
                self.origin = value
            elif name == b"content-encoding":
                self.encoding = value


class HotRequest:
    """One request. ``parameters`` are the route's, percent-decoded; ``path`` came encoded; ``client`` is the peer's address."""

    __slots__ = ("_body", "_receive", "client", "headers", "parameters", "path", "query")

    def __init__(
        self,
        parameters: list[str],
        headers: HotHeaders,
        path: str,
        query: bytes,
        client: str,
        *,
        body: bytes | None = None,
        receive: Receive | None = None,
    ) -> None:
        self.parameters = parameters
        self.headers = headers
        self.path = path
        self.query = query
        self.client = client
        self._body = body
        self._receive = receive

    async def body(self, limit: int, drain: int) -> bytes:
        """The whole body.

        Raises BodyTooLarge beyond ``limit`` bytes, by Content-Length or after reading up to ``drain``; ClientGone.
        """
        if self._body is None:
            assert self._receive is not None
            refuse_length(self.headers.fields, limit, drain)
            return await read_body(self._receive, limit, drain)
        if len(self._body) > limit:
            raise BodyTooLarge(drained=True)
        return self._body


class HotResponse:
    """One response; the length is added where HTTP wants one."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = b"" if status in BODILESS else body


Handler = Callable[[HotRequest], Awaitable[HotResponse]]


async def serve_hot(handler: Handler, parameters: list[str], scope: Scope, receive: Receive, send: Send) -> None:
    """Answer an ordinary ASGI request by a hot route's handler."""
    client = scope["client"][0] if scope.get("client") else ""
    path = scope["raw_path"].decode("latin-1")
    request = HotRequest(parameters, HotHeaders(scope["headers"]), path, scope["query_string"], client, receive=receive)
    response = await handler(request)
    if response.status in BODILESS:
        await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
        await send({"type": "http.response.body", "body": b""})
    else:
        await send_bytes(send, response.status, response.headers, response.body)
