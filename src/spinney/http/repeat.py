"""Requests whose head a connection has sent before: dispatched without parsing them again.

A client that calls a function over one connection sends the same bytes before every body, but for the number in Content-Length.
The first such request goes through the parser; what the parser made of it is remembered together with the bytes. A request that
starts with exactly these bytes means exactly the same, so nothing the parser would refuse can come this way.
"""

from __future__ import annotations

from spinney.http.hot import Handler, HotHeaders
from spinney.http.wire import Headers

LENGTH_DIGITS_MAX = 8
UNUSUAL = (b"transfer-encoding", b"expect", b"upgrade", b"connection", b"trailer")


class Repeat:
    """One remembered head: the bytes before and after the length's digits, and what they mean."""

    __slots__ = ("after", "before", "handler", "headers", "parameters", "path", "query")

    def __init__(
        self,
        before: bytes,
        after: bytes,
        path: str,
        handler: Handler,
        parameters: list[str],
        headers: HotHeaders,
        query: bytes,
    ) -> None:
        self.before = before
        self.after = after
        self.path = path
        self.handler = handler
        self.parameters = parameters
        self.headers = headers
        self.query = query

    def body(self, data: bytes) -> bytes | None:
        """The body, when ``data`` is one whole request with this head and nothing more."""
        if not data.startswith(self.before):
            return None
        start = len(self.before)
        end = data.find(b"\r", start, start + LENGTH_DIGITS_MAX + 1)
        digits = data[start:end]
        if not digits.isdigit() or not data.startswith(self.after, end):
            return None
        body = data[end + len(self.after) :]
        return body if len(body) == int(digits) else None


def learn(data: bytes, path: str, headers: Headers, handler: Handler, parameters: list[str], query: bytes) -> Repeat | None:
    """Remember a request that the parser has just accepted, when ``data`` is all of it and it has nothing unusual."""
    lengths = 0
    for name, _ in headers:
        if name in UNUSUAL:
            return None
        lengths += name == b"content-length"
    head, found, _ = data.partition(b"\r\n\r\n")
    at = head.lower().find(b"\r\ncontent-length: ")
    if lengths != 1 or not found or at < 0:
        return None
    start = at + len(b"\r\ncontent-length: ")
    end = head.find(b"\r", start)
    after = (head[end:] if end >= 0 else b"") + found
    repeat = Repeat(data[:start], after, path, handler, parameters, HotHeaders(headers), query)
    return repeat if repeat.body(data) is not None else None
