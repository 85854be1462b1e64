"""HTTP servers on loopback that behave as a test tells them, well or badly, and remember who asked for what."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

STOPS = (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError)


@dataclass
class Received:
    """A request as it came; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Site:
    """One server. ``connections`` counts those that were made, also when nothing was asked."""

    answer: Answer
    port: int = 0
    requests: list[Received] = field(default_factory=list)
    connections: int = 0

    def url(self, path: str = "/", host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            received = await _receive(reader)
            self.requests.append(received)
            await self.answer(received, writer)
            await writer.drain()
        except STOPS:
            pass
        finally:
            writer.transport.abort() if writer.transport.is_closing() else writer.close()


async def _receive(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Received(method, target, headers, body)


@asynccontextmanager
async def opened(answer: Answer, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[Site]:
    """A server that is closed at the end, with every connection to it."""
    site = Site(answer)
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await site.serve(reader, writer)
        finally:
            running.discard(task)

    server = await asyncio.start_server(serve, host, 0, ssl=tls)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def response(body: bytes = b"", *, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> bytes:
    """A whole HTTP/1.1 response."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {status} Whatever\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def saying(data: bytes) -> Answer:
    """Answer every request with these bytes."""

    async def answer(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return answer


def telling(value: object, status: int = 200) -> Answer:
    """Answer every request with this as JSON."""
    return saying(response(msgspec.json.encode(value), status=status, headers=(("Content-Type", "application/json"),)))


def endlessly(head: bytes, part: bytes) -> Answer:
    """Say one thing, then another again and again."""

    async def answer(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(part)
            await writer.drain()

    return answer


async def never(_: Received, writer: asyncio.StreamWriter) -> None:
    """Read the request and say nothing."""
    await asyncio.get_running_loop().create_future()
