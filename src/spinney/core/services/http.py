"""``http``: requests to other people's servers (Lunar contract 3.9)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine
from typing import Any

import msgspec

from spinney.core.services.asker import Asker, read_args, unknown_method
from spinney.errors import Busy
from spinney.ports import Answer, Web, WebRequest, WebResponse

TIMEOUT_S = 30.0
PARALLEL_MAX = 128
"""Requests of one function at the same time."""


class Args(msgspec.Struct):
    """What ``request`` takes; the body comes beside it."""

    method: str
    url: str
    headers: list[tuple[str, str]] = []
    query: list[tuple[str, str]] = []
    timeout_s: float = TIMEOUT_S


_decoder = msgspec.json.Decoder(Args)


class Http:
    """What a function sends is its own affair; where it goes is the Web's."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._running: Counter[str] = Counter()

    def answer(self, asker: Asker, method: str, args: bytes, data: bytes) -> Coroutine[Any, Any, Answer]:
        """As ports.Services.answer."""
        if method != "request":
            raise unknown_method("http", method)
        given = read_args(args, _decoder)
        timeout_s = min(given.timeout_s, TIMEOUT_S) if given.timeout_s > 0 else TIMEOUT_S
        request = WebRequest(
            method=given.method, url=given.url, headers=given.headers, query=given.query, body=data, timeout_s=timeout_s
        )
        return self._request(asker.function.id, request)

    async def _request(self, function_id: str, request: WebRequest) -> Answer:
        response = await self._fetch(function_id, request)
        value = {"status": response.status, "headers": response.headers, "url": response.url}
        return Answer(value, response.body)

    async def _fetch(self, function_id: str, request: WebRequest) -> WebResponse:
        if self._running[function_id] >= PARALLEL_MAX:
            raise Busy("HTTP request failed: too many requests at the same time")
        self._running[function_id] += 1
        try:
            return await self._web.fetch(request)
        finally:
            self._running[function_id] -= 1
            if not self._running[function_id]:
                del self._running[function_id]
