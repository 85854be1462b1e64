"""The Impuls dialect put together: its hot route, and its gate in front of everything else."""

from __future__ import annotations

from starlette.routing import Match

from spinney.core.kernel import Kernel, Retention, Target, next_time
from spinney.dialects.impuls.access import identify
from spinney.dialects.impuls.hot import NAME, Invoke, identify_late, read_body
from spinney.dialects.impuls.routes import make_routes
from spinney.dialects.impuls.rules import RUNTIMES
from spinney.dialects.impuls.wire import to_json
from spinney.errors import Denied, Unsupported
from spinney.http.front import SLASH
from spinney.http.hot import Handler, HotHeaders, HotRequest, HotResponse
from spinney.http.websocket import SocketRoute
from spinney.http.wire import ASGIApp, Receive, Scope, Send, send_bytes
from spinney.model import Execution, Function, Rights, Version

INVOKE = "/api/v1/functions/{name}/invoke"
PREFIX = "/api/v1"


class Impuls:
    """One of the server's APIs."""

    name = NAME
    next_time = staticmethod(next_time)
    result_bytes = 6291456
    services: tuple[str, ...] = ()

    def __init__(self, kernel: Kernel, *, network: bool = False, executions_kept: int = 1000) -> None:
        """network: whether functions get one (public addresses only)."""
        self._kernel = kernel
        self._rights = Rights(net=network)
        self.retention = Retention(executions_kept)
        self._invoke = Invoke(kernel)
        self._routes = make_routes(kernel)

    def error_body(self, status: int, message: str) -> bytes:
        return to_json({"error": True, "message": message})

    def hot_routes(self) -> dict[tuple[str, str], Handler]:
        return {("POST", INVOKE): self._invoke}

    def sockets(self) -> dict[str, SocketRoute]:
        return {}

    def rights(self, version: Version) -> Rights:
        return self._rights

    def environment(self, function: Function, version: Version) -> dict[str, str]:
        return {}

    def stems(self) -> list[tuple[str, Rights]]:
        return [(runtime_id, self._rights) for runtime_id in sorted(RUNTIMES)]

    async def run_queued(self, target: Target, execution: Execution) -> None:
        await self._invoke.run_queued(target, execution)

    def schedule(self, target: Target) -> None:
        return None

    async def run_scheduled(self, target: Target, due: float) -> None:
        raise Unsupported("Impuls has no schedules")

    def app(self) -> ASGIApp:
        """Everything but invocations. 401, 404 (route), 405, 404 (function), 415 and 413 come before a look at the body."""
        return self._gate

    async def _gate(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope["root_path"])
        if path == PREFIX or path.startswith(PREFIX + "/"):
            refused = await self._refused(scope, receive)
            if refused is not None:
                await send_bytes(send, refused.status, refused.headers, refused.body)
                return
        await self._routes(scope, receive, send)

    async def _refused(self, scope: Scope, receive: Receive) -> HotResponse | None:
        """Put the caller and the body into the scope; what refuses the request, if anything does."""
        headers = HotHeaders(scope["headers"])
        client = scope["client"][0] if scope.get("client") else ""
        try:
            scope["spinney.caller"] = identify(self._kernel, headers)
        except Denied as denied:
            late = await identify_late(self._kernel, denied, client)
            if isinstance(late, HotResponse):
                return late
            scope["spinney.caller"] = late
        if not self._wants_body(scope):
            return None
        body = await read_body(HotRequest([], headers, scope["path"], b"", client, receive=receive))
        if isinstance(body, HotResponse):
            return body
        scope["spinney.body"] = body
        return None

    def _wants_body(self, scope: Scope) -> bool:
        """Whether some route takes this request and, where it names a function, that function exists."""
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            return False
        for route in self._routes.router.routes:
            match, found = route.matches(scope)
            if match is Match.FULL:
                name = found.get("path_params", {}).get("name")
                account = scope["spinney.caller"].account_id
                return name is None or self._kernel.index.get(NAME, account, name.replace(SLASH, "/")) is not None
        return False
