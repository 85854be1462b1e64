"""The ASGI front: hot routes by trie, everything else to the dialects' own applications, and the server's own two pages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol
from urllib.parse import unquote

import structlog

from spinney.core.kernel import Retention, Target
from spinney.http.hot import Handler, HotRequest, HotResponse, serve_hot
from spinney.http.trie import Trie
from spinney.http.websocket import SocketRoute
from spinney.http.wire import JSON_TYPE, ASGIApp, ClientGone, Receive, Scope, Send, send_bytes, send_json
from spinney.model import Execution, Function, Rights, Version

log = structlog.get_logger("spinney.http")

SLASH = "\udc2f"
"""Stands for a percent-encoded slash inside one path segment while a framework routes it; no decoded path can hold it."""


class Dialect(Protocol):
    """An API that the server speaks: how it is reached, and what its functions need."""

    name: str
    retention: Retention
    """How much of each function's history is kept."""
    result_bytes: int
    """Largest body a function may answer with."""
    services: tuple[str, ...]
    """What its functions may ask of the host while they run: names of services."""

    def hot_routes(self) -> Mapping[tuple[str, str], Handler]:
        """(method, path) of the requests that go past every framework."""

    def sockets(self) -> Mapping[str, SocketRoute]:
        """Paths where WebSockets are to be had."""

    def app(self) -> ASGIApp:
        """Everything else."""

    def error_body(self, status: int, message: str) -> bytes:
        """The dialect's own shape of an error, for faults that no handler of its own has seen."""

    def rights(self, version: Version) -> Rights:
        """What a version's code may do."""

    def environment(self, function: Function, version: Version) -> Mapping[str, str]:
        """Variables that the dialect itself gives to a version's code, beside the version's own."""

    def stems(self) -> Sequence[tuple[str, Rights]]:
        """The runtime ids and rights that its functions usually have: sandboxes for them are kept booted."""

    async def run_queued(self, target: Target, execution: Execution) -> None:
        """Run and record a call that was accepted earlier and that nobody waits for."""

    def schedule(self, target: Target) -> str | None:
        """The cron text of a function that shall fire by itself, one that ``next_time`` understands; None for all others."""

    def next_time(self, text: str, after: float) -> float | None:
        """The first time after ``after`` (both in Unix seconds) at which such a text is due; None when it never is."""

    async def run_scheduled(self, target: Target, due: float) -> None:
        """Run and record a function that fires, for the time at which it was due; wait for room as long as it takes."""


class Front:
    """One ASGI application. ``ready`` says why the server cannot serve yet, or None when it can."""

    def __init__(self, ready: Callable[[], str | None], metrics: Callable[[], bytes]) -> None:
        self._trie: Trie[Handler] = Trie()
        self._sockets: Trie[SocketRoute] = Trie()
        self._apps: dict[str, tuple[Dialect, ASGIApp, str]] = {}
        self._root: tuple[Dialect, ASGIApp, str] | None = None
        self._ready = ready
        self._metrics = metrics

    def mount(self, dialect: Dialect, *, root: bool = False) -> None:
        """Serve a dialect under its name, and at ``/`` too when ``root``. Raises ValueError on a name or route twice."""
        if dialect.name in self._apps:
            raise ValueError(f"two dialects named {dialect.name}")
        prefix = f"/{dialect.name}"
        app = dialect.app()
        self._apps[dialect.name] = (dialect, app, prefix)
        if root:
            self._root = (dialect, app, "")
        for mount in (prefix, "") if root else (prefix,):
            for (method, path), handler in dialect.hot_routes().items():
                self._trie.add(method, mount + path, handler)
            for path, route in dialect.sockets().items():
                self._sockets.add("GET", mount + path, route)
                self._trie.add("GET", mount + path, self._upgrade_required)

    def match(self, method: str, raw_path: str) -> tuple[Handler, list[str]] | None:
        """The hot route for a request, while the server is ready."""
        return self._trie.match(method, raw_path) if self._ready() is None else None

    def match_socket(self, raw_path: str) -> tuple[SocketRoute, list[str]] | None:
        """What gives WebSockets at this path, while the server is ready."""
        return self._sockets.match("GET", raw_path) if self._ready() is None else None

    async def _upgrade_required(self, request: HotRequest) -> HotResponse:
        """To a request that asks for no WebSocket where there is nothing else."""
        refused = self.failure(request.path, 426, "upgrade required")
        refused.headers += [(b"upgrade", b"websocket"), (b"connection", b"upgrade")]
        return refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw_path = scope["raw_path"].decode("latin-1")
        found = self.match(scope["method"], raw_path)
        if found is not None:
            await self._guarded(serve_hot(*found, scope, receive, send), scope, send)
        else:
            await self._guarded(self._dispatch(scope, receive, send, raw_path), scope, send)

    async def _guarded(self, work: Awaitable[None], scope: Scope, send: Send) -> None:
        """The last net: no fault of ours shows more than its status."""
        try:
            await work
        except ClientGone:
            return
        except asyncio.CancelledError:
            await self._last_word(scope, send, 503, "the server is shutting down")
        except Exception:
            log.exception("a request failed", method=scope["method"], path=scope["path"])
            await self._last_word(scope, send, 500, "internal server error")

    async def _last_word(self, scope: Scope, send: Send, status: int, message: str) -> None:
        # when the response had begun this raises, and the connection is closed by the server below
        with contextlib.suppress(RuntimeError):
            await self.refuse(scope, send, status, message)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send, raw_path: str) -> None:
        if raw_path == "/healthz":
            await self._healthz(scope, send)
            return
        if raw_path == "/metrics" and scope["method"] == "GET":
            body = self._metrics()
            await send_bytes(send, 200, [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")], body)
            return
        found = self._find(raw_path)
        reason = self._ready()
        if found is None:
            await self.refuse(scope, send, 404, "not found")
        elif reason is not None:
            await self.refuse(scope, send, 503, reason)
        else:
            _, app, prefix = found
            _route(scope, raw_path, prefix)
            await app(scope, receive, send)

    def _find(self, raw_path: str) -> tuple[Dialect, ASGIApp, str] | None:
        return self._apps.get(raw_path.split("/", 2)[1] if "/" in raw_path else "") or self._root

    async def _healthz(self, scope: Scope, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await send_json(send, 405, {"error": "method not allowed"}, [(b"allow", b"GET, HEAD")])
            return
        reason = self._ready()
        if reason is None:
            await send_json(send, 200, {"status": "ok"})
        else:
            await send_json(send, 503, {"status": "unavailable", "reason": reason})

    async def refuse(self, scope: Scope, send: Send, status: int, message: str) -> None:
        """An error in the shape of the dialect that the path belongs to."""
        failure = self.failure(scope["raw_path"].decode("latin-1"), status, message)
        await send_bytes(send, status, failure.headers, failure.body)

    def failure(self, raw_path: str, status: int, message: str) -> HotResponse:
        """An error in the shape of the dialect that the path belongs to."""
        found = self._find(raw_path)
        body = found[0].error_body(status, message) if found else b'{"error":true,"message":"%s"}' % message.encode()
        return HotResponse(status, [JSON_TYPE], body)


def _route(scope: Scope, raw_path: str, prefix: str) -> None:
    """Point the scope at a mounted application; an encoded slash stays inside its segment."""
    scope["root_path"] = prefix
    if "%2f" in raw_path.lower():
        scope["path"] = "/".join(unquote(segment).replace("/", SLASH) for segment in raw_path.split("/"))
