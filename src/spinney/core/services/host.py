"""The services together, as one call may use them."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping

from spinney.core.entries import Entries
from spinney.core.index import Target
from spinney.core.services.ai import AI
from spinney.core.services.asker import Asker, Service
from spinney.core.services.email import Email
from spinney.core.services.http import Http
from spinney.core.services.kv import KeyValues
from spinney.core.services.ledger import Ledger
from spinney.core.services.provider import Provider
from spinney.errors import Invalid
from spinney.model import Call
from spinney.ports import Answer, Web


class HostServices:
    """Implements ports.Services for one call. ``services`` are those that its dialect grants."""

    __slots__ = ("_asker", "_services", "_target")

    def __init__(self, services: Mapping[str, Service], target: Target) -> None:
        self._services = services
        self._target = target
        self._asker: Asker | None = None

    def answer(self, call: Call, service: str, method: str, args: bytes, data: bytes) -> Answer | Awaitable[Answer]:
        """As ports.Services.answer."""
        asked = self._services.get(service)
        if asked is None:
            raise Invalid(f"there is no service '{service[:50]}'")
        if self._asker is None:
            self._asker = Asker(self._target.function, call.id)
        return asked.answer(self._asker, method, args, data)


def make_services(entries: Entries, web: Web, ledger: Ledger) -> dict[str, Service]:
    """Every service there is, by its name."""
    provider = Provider(web, entries)
    return {
        "kv": KeyValues(entries, "kv", "kv", "account_kv"),
        "env": KeyValues(entries, "env", "environment"),
        "http": Http(web),
        "ai": AI(provider, ledger),
        "email": Email(provider, ledger),
    }


def grant(services: Mapping[str, Service], names: Collection[str]) -> Mapping[str, Service]:
    """Those of the services that have these names."""
    return {name: service for name, service in services.items() if name in names}
