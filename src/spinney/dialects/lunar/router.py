"""Everything of Lunar but the hot route: finds the handler, and dresses every answer (contract 1.2, 2.1)."""

from __future__ import annotations

from collections.abc import Mapping

from spinney.dialects.lunar.answers import CORS
from spinney.dialects.lunar.replies import NO_STORE, NOT_FOUND, answer
from spinney.http.hot import Handler, HotRequest, HotResponse, serve_hot
from spinney.http.trie import Trie
from spinney.http.wire import Receive, Scope, Send


class Router:
    """An ASGI application. GET routes answer HEAD too; OPTIONS is answered everywhere."""

    def __init__(self, routes: Mapping[tuple[str, str], Handler]) -> None:
        self._trie: Trie[Handler] = Trie()
        for (method, path), handler in routes.items():
            self._trie.add(method, path, handler)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        path = scope["raw_path"].decode("latin-1")[len(scope["root_path"]) :]
        found = self._trie.match("GET" if method == "HEAD" else method, path)

        async def handle(request: HotRequest) -> HotResponse:
            if method == "OPTIONS":
                return HotResponse(204, list(CORS), b"")
            if found is None:
                kind, body = NOT_FOUND
                return HotResponse(404, [kind, *CORS], body)
            response = await answer(found[0], request)
            given = {name for name, _ in response.headers}
            response.headers += [header for header in (*CORS, NO_STORE) if header[0] not in given]
            return response

        await serve_hot(handle, found[1] if found else [], scope, receive, send)
