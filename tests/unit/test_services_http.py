"""``http`` as functions ask for it; how requests are made is tested in test_egress_web."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.loopback import Received, opened, response, saying
from tests.unit.services import Function, made_function

from spinney.core.services import http as http_module
from spinney.errors import Busy, Denied, Error, Invalid
from spinney.stores.sql import SqlStore

pytestmark = pytest.mark.anyio


@pytest.fixture
async def function(store: SqlStore) -> AsyncIterator[Function]:
    async with made_function(store) as function:
        yield function


async def test_there_and_back(function: Function) -> None:
    async with opened(saying(response(b"\0\xff", status=404, headers=(("x-own", "ü"),)))) as site:
        args = {"method": "POST", "url": site.url("/?b=2"), "headers": [["X", "y"]], "query": [["a", "1"]]}
        answer = await function.ask("http", "request", args, b"\xfe")
    assert (answer.value["status"], answer.value["url"], answer.data) == (404, site.url("/?a=1&b=2"), b"\0\xff")
    assert list(answer.value["headers"]) == [("X-Own", "ü"), ("Content-Length", "2")]
    assert (site.requests[0].headers["x"], site.requests[0].body) == ("y", b"\xfe")


async def test_refusals_are_told(function: Function) -> None:
    with pytest.raises(Denied, match=r"^HTTP request failed: destination not allowed: 10\.0\.0\.1$"):
        await function.ask("http", "request", {"method": "GET", "url": "http://10.0.0.1/"})


async def test_time_is_bounded_from_above(function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "TIMEOUT_S", 0.1)

    async def never(_: Received, writer: asyncio.StreamWriter) -> None:
        await writer.wait_closed()

    async with opened(never) as site:
        for timeout_s in (1000, 0, -1, 0.05):
            with pytest.raises(Error, match="no answer within 0"):
                await function.ask("http", "request", {"method": "GET", "url": site.url(), "timeout_s": timeout_s})


async def test_a_function_makes_so_many_requests_at_a_time(function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "PARALLEL_MAX", 2)
    begun, end = asyncio.Semaphore(0), asyncio.Event()

    async def wait(_: Received, writer: asyncio.StreamWriter) -> None:
        begun.release()
        await end.wait()
        writer.write(response())

    async with opened(wait) as site:
        args = {"method": "GET", "url": site.url()}
        running = [asyncio.create_task(function.ask("http", "request", args)) for _ in range(2)]
        for _ in running:
            await begun.acquire()
        with pytest.raises(Busy, match="too many requests"):
            await function.ask("http", "request", args)
        end.set()
        assert [answer.value["status"] for answer in await asyncio.gather(*running)] == [200, 200]
        assert (await function.ask("http", "request", args)).value["status"] == 200


async def test_wrong_questions(function: Function) -> None:
    for method, args in (
        ("get", {"method": "GET", "url": "http://a/"}),
        ("request", {}),
        ("request", {"method": "GET"}),
        ("request", {"method": "GET", "url": 7}),
        ("request", {"method": "GET", "url": "http://a/", "headers": {"a": "b"}}),
        ("request", {"method": "GET", "url": "http://a/", "headers": [["a"]]}),
        ("request", {"method": "GET", "url": "http://a/", "query": [["a", 1]]}),
        ("request", {"method": "GET", "url": "http://a/", "timeout_s": "1"}),
    ):
        with pytest.raises(Invalid):
            await function.ask("http", method, args)
