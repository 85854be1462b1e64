"""The services of the host over a real store, asked as a call of a function asks them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from spinney.clock import SystemClock
from spinney.core.entries import Entries
from spinney.core.index import Target
from spinney.core.services.host import HostServices, make_services
from spinney.core.services.ledger import Ledger
from spinney.egress.policy import EgressPolicy
from spinney.egress.web import HttpWeb
from spinney.model import AIRequest, Call, EmailRequest
from spinney.ports import Answer, Scope, Web
from spinney.stores.sql import SqlStore
from spinney.testing.store_suite import make_function, make_version


class Function:
    """One function, one call of which runs."""

    def __init__(self, store: SqlStore, web: Web) -> None:
        function = make_function(dialect="lunar")
        self.target = Target(function, make_version(function))
        self.id = function.id
        self.environment = Scope("environment", function.id)
        self.store = store
        self.entries = Entries(store.entries)
        self.ledger = Ledger(store, SystemClock())
        self.call = Call("the-execution", b"", 10.0)
        self._services = make_services(self.entries, web, self.ledger)
        self.begin()

    def begin(self) -> None:
        """Another call begins."""
        self.host = HostServices(self._services, self.target)

    async def ask(self, service: str, method: str, args: object = None, data: bytes = b"") -> Answer:
        """What the host answers. Raises what it raises."""
        answer = self.host.answer(self.call, service, method, msgspec.json.encode(args or {}), data)
        return answer if isinstance(answer, Answer) else await answer

    async def set(self, **variables: str) -> None:
        """Give the function variables in the place of those it had."""
        await self.entries.replace(self.environment, {name.encode(): value.encode() for name, value in variables.items()})

    async def ai_requests(self) -> list[AIRequest]:
        return (await self.ledger.find(AIRequest, self.call.id))[0]

    async def email_requests(self) -> list[EmailRequest]:
        return (await self.ledger.find(EmailRequest, self.call.id))[0]


@asynccontextmanager
async def made_function(store: SqlStore, web: Web | None = None) -> AsyncIterator[Function]:
    """A function in the store, which may reach loopback."""
    own = HttpWeb(EgressPolicy(("127.0.0.1/32",))) if web is None else None
    function = Function(store, web or own)  # type: ignore[arg-type]
    await store.insert(function.target.function, function.target.version)
    try:
        yield function
    finally:
        await function.entries.close()
        await function.ledger.flush()
        if own is not None:
            await own.close()


def parsed(text: str | None) -> Mapping[str, Any]:
    """A JSON text that was kept."""
    assert text is not None
    value: Mapping[str, Any] = msgspec.json.decode(text)
    return value
