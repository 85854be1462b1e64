"""The Impuls dialect put together: its hot route, and its gate in front of everything else."""

from __future__ import annotations

from starlette.routing import Match

from spinney.core.kernel import Kernel, Run
from spinney.dialects.impuls.access import RequestHeaders, identify
from spinney.dialects.impuls.hot import NAME, Invoke, read_request, refuse, to_json
from spinney.dialects.impuls.routes import make_routes
from spinney.errors import Denied
from spinney.http.front import SLASH
from spinney.http.trie import Handler
from spinney.http.wire import ASGIApp, Receive, Scope, Send

INVOKE = "/api/v1/functions/{name}/invoke"
PREFIX = "/api/v1"


class Impuls:
    """One of the server's APIs."""

    name = NAME

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._invoke = Invoke(kernel)
        self._routes = make_routes(kernel)

    def error_body(self, status: int, message: str) -> bytes:
        return to_json({"error": True, "message": message})

    def hot_routes(self) -> dict[tuple[str, str], Handler]:
        return {("POST", INVOKE): self._invoke}

    @property
    def run_queued(self) -> Run:
        return self._invoke.run_queued

    def app(self) -> ASGIApp:
        """Everything but invocations. 401, 404 (route), 405, 404 (function), 415 and 413 come before a look at the body."""
        return self._gate

    async def _gate(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = RequestHeaders(scope)
        path = scope["path"].removeprefix(scope["root_path"])
        if path == PREFIX or path.startswith(PREFIX + "/"):
            try:
                scope["spinney.caller"] = await identify(self._kernel, scope, headers)
            except Denied as denied:
                await refuse(send, 401, denied.message, [(b"www-authenticate", b"Bearer")])
                return
            if scope["method"] in ("POST", "PUT", "PATCH") and not await self._body(scope, receive, send, headers):
                return
        await self._routes(scope, receive, send)

    async def _body(self, scope: Scope, receive: Receive, send: Send, headers: RequestHeaders) -> bool:
        """Put the body into the scope when the route wants one; False when the request has been refused."""
        for route in self._routes.router.routes:
            match, found = route.matches(scope)
            if match is Match.FULL:
                name = found.get("path_params", {}).get("name")
                if (
                    name is not None
                    and self._kernel.index.get(NAME, scope["spinney.caller"].account_id, name.replace(SLASH, "/")) is None
                ):
                    return True
                body = await read_request(receive, send, headers)
                scope["spinney.body"] = body
                return body is not None
        return True
