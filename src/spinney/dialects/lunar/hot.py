"""The hot route of Lunar: /fn/{id} with every method and path below it (contract 3.1, 3.2). No framework."""

from __future__ import annotations

from spinney.core.kernel import Kernel, Target
from spinney.dialects.lunar.access import NAME, is_logged_in, is_ours
from spinney.dialects.lunar.answers import BODY_MAX_BYTES, CORS, SANDBOX
from spinney.dialects.lunar.events import COOKIE, request_meta
from spinney.dialects.lunar.invoke import HTTP, Invoke
from spinney.dialects.lunar.replies import answer, error
from spinney.http.hot import HotRequest, HotResponse
from spinney.http.wire import JSON_TYPE

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
PATHS = ("/fn/{id}", "/fn/{id}/{rest*}")
BODY_DRAIN_BYTES = 33554432


class _Head:
    """What was made of a request's head; requests that repeat it need not be looked at again."""

    __slots__ = ("has_cookie", "meta", "target")

    def __init__(self, target: Target, meta: bytes, has_cookie: bool) -> None:
        self.target = target
        self.meta = meta
        self.has_cookie = has_cookie


class HotFunction:
    """Runs the function that a request names, for one method."""

    def __init__(self, kernel: Kernel, invoke: Invoke, base_url: str, method: str) -> None:
        self._kernel = kernel
        self._invoke = invoke
        self._base_url = base_url
        self._method = method

    async def __call__(self, request: HotRequest) -> HotResponse:
        return await answer(self._run, request)

    async def _run(self, request: HotRequest) -> HotResponse:
        target = self._kernel.index.get_function(request.parameters[0])
        if target is None or target.function.dialect != NAME:
            return error(404, "Function not found")
        if target.function.settings["disabled"]:
            return error(403, "Function is disabled")
        body = await request.body(BODY_MAX_BYTES, BODY_DRAIN_BYTES)
        head = request.headers.memo
        if head is None or head.target is not target:
            head = request.headers.memo = await self._read_head(target, request)
        run = await self._invoke.run(target, head.meta, body, HTTP)
        if run.head is None:
            response = HotResponse(500, [JSON_TYPE, *CORS], b'{"error":"Function execution failed"}')
        else:
            response = HotResponse(run.head.status, list(run.head.headers), run.body)
        if head.has_cookie and is_logged_in(self._kernel, request.headers):
            response.headers.append(SANDBOX)
        execution = run.execution
        response.headers += (
            (b"x-function-id", execution.function_id.encode()),
            (b"x-function-version-id", execution.version_id.encode()),
            (b"x-execution-id", execution.id.encode()),
            (b"x-execution-duration-ms", b"%d" % execution.duration_ms),
        )
        return response

    async def _read_head(self, target: Target, request: HotRequest) -> _Head:
        headers = request.headers
        shown = not headers.authorization or not await is_ours(self._kernel, headers.authorization)
        path = request.path.removeprefix(f"/{NAME}")
        meta = request_meta(target, self._base_url, self._method, path, request.query, headers.fields, authorization=shown)
        wanted = COOKIE.encode()
        return _Head(target, meta, any(name == b"cookie" and wanted in value for name, value in headers.fields))
