"""Whose functions get which services, and that calls carry them to their sandboxes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from types import SimpleNamespace

import pytest
from tests.unit.services import Function, made_function

from spinney.core.invoke import Invoker
from spinney.core.services.host import HostServices, grant, make_services
from spinney.drivers.fake import FakeDriver, FakeSandbox
from spinney.errors import Error, Invalid
from spinney.model import Call, Outcome
from spinney.ports import Answer
from spinney.stores.sql import SqlStore
from spinney.testing.driver_suite import make_spec

pytestmark = pytest.mark.anyio


@pytest.fixture
async def function(store: SqlStore) -> AsyncIterator[Function]:
    async with made_function(store) as function:
        yield function


async def test_what_is_not_granted_is_not_there(function: Function) -> None:
    granted = grant(make_services(function.entries, None, function.ledger), ("kv", "nonsense"))  # type: ignore[arg-type]
    assert list(granted) == ["kv"]
    services = HostServices(granted, function.target)
    for name in ("env", "http", "ai", "email", "nonsense", ""):
        with pytest.raises(Invalid, match=f"^there is no service '{name}'$"):
            services.answer(function.call, name, "get", b"{}", b"")


class OneSandbox:
    """A pool that has one sandbox."""

    def __init__(self, sandbox: FakeSandbox) -> None:
        self.slot = SimpleNamespace(sandbox=sandbox)

    def take(self, version_id: str) -> SimpleNamespace:
        return self.slot

    def give(self, slot: SimpleNamespace, took_s: float) -> None: ...

    def drop(self, slot: SimpleNamespace) -> None: ...


async def invoke(function: Function, services: dict[str, object]) -> bytes | Outcome:
    """What comes of a call that asks for an entry."""

    async def guest(sandbox: FakeSandbox, call: Call) -> bytes:
        try:
            return (await sandbox.ask("kv", "get", {}, call.body)).data
        except Error as error:
            return error.message.encode()

    driver = FakeDriver(guest)
    sandbox = await driver.create(make_spec())
    records = SimpleNamespace(begin=lambda *_: None, abandon=lambda _: None)
    runtimes = {function.target.version.runtime: SimpleNamespace(explain=lambda *_: Outcome.EXITED)}
    invoker = Invoker(OneSandbox(sandbox), records, runtimes, services)  # type: ignore[arg-type]
    reply = await invoker.invoke(function.target, Call("call", b"key", 5.0), "http")
    await driver.close()
    return reply.body if reply.outcome is Outcome.OK else reply.outcome


async def test_calls_carry_the_services_of_their_dialect(function: Function) -> None:
    await function.ask("kv", "set", {"key_bytes": 3}, b"keyvalue")
    offered = make_services(function.entries, None, function.ledger)  # type: ignore[arg-type]
    granted = partial(HostServices, grant(offered, ("kv",)))
    assert await invoke(function, {"lunar": granted}) == b"value"
    assert await invoke(function, {"lunar": partial(HostServices, grant(offered, ("env",)))}) == b"there is no service 'kv'"
    assert await invoke(function, {"other": granted}) is Outcome.EXITED


async def test_each_call_is_itself(function: Function) -> None:
    asked = {"provider": "x", "model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    for name in ("first", "second"):
        function.begin()
        function.call = Call(name, b"", 1.0)
        with pytest.raises(Invalid):
            await function.ask("ai", "chat", asked)
        assert [row.execution_id for row in await function.ai_requests()] == [name]
    assert await asyncio.wait_for(function.ask("kv", "list"), 5) == Answer({"more": False}, b"")
