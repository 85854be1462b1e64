"""FastAPI as the dialects use it: every error has the dialect's shape, also one that nobody has foreseen."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.responses import JSONResponse

from spinney.errors import Invalid
from spinney.http.framework import make_app

pytestmark = pytest.mark.anyio


async def request(path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """What an application answers whose routes fail in their own ways."""
    app = make_app(
        "x",
        "y",
        lambda request, status, message: JSONResponse({"said": message}, status),
        lambda request, error: JSONResponse({"refused": error.message}, 418),
    )

    @app.get("/fault")
    async def fault() -> None:
        raise ZeroDivisionError("a secret")

    @app.get("/invalid")
    async def invalid() -> None:
        raise Invalid("why")

    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "headers": []}
    try:
        await app(scope, receive, send)
    except ZeroDivisionError:
        assert sent, "raised again for the log, but only after the answer"
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, sent[1]["body"]


async def test_faults_tell_nothing() -> None:
    status, _, body = await request("/fault")
    assert (status, body) == (500, b'{"said":"internal server error"}')


async def test_errors_of_ours() -> None:
    status, _, body = await request("/invalid")
    assert (status, body) == (418, b'{"refused":"why"}')


async def test_routes_and_methods() -> None:
    assert (await request("/nothing"))[::2] == (404, b'{"said":"not found"}')
    status, headers, body = await request("/invalid", "PUT")
    assert (status, headers["allow"], body) == (405, "GET", b'{"said":"method not allowed"}')
