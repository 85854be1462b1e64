"""What all management routes begin with: the caller, the body, the function (contract 1.2, 1.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

from spinney.core.kernel import Caller, Kernel, Scope, Target
from spinney.dialects.lunar.access import NAME
from spinney.dialects.lunar.answers import BODY_MAX_BYTES
from spinney.dialects.lunar.events import SLOW_BYTES, parse_query
from spinney.dialects.lunar.hot import BODY_DRAIN_BYTES
from spinney.errors import NotFound
from spinney.http.hot import HotRequest

NO_FUNCTION = "Function not found"
T = TypeVar("T")


async def read_body(request: HotRequest, read: Callable[[bytes], T]) -> T:
    """What ``read`` makes of the body; a large one is read beside the event loop. Raises what ``read`` raises, BodyTooLarge."""
    body = await request.body(BODY_MAX_BYTES, BODY_DRAIN_BYTES)
    return read(body) if len(body) <= SLOW_BYTES else await asyncio.to_thread(read, body)


def read_query(request: HotRequest) -> dict[str, str]:
    """The first value of each name."""
    return dict(reversed(parse_query(request.query)))


def find_target(kernel: Kernel, caller: Caller, id: str) -> Target:
    """A function of the caller's account. Raises NotFound."""
    target = kernel.index.get(NAME, caller.account_id, id)
    if target is None:
        raise NotFound(NO_FUNCTION)
    return target


def variables_of(id: str) -> Scope:
    """Where a function's variables are."""
    return Scope("environment", id)


def entries_of(caller: Caller, id: str, *, shared: bool) -> Scope:
    """Where a function's entries are, or those of its account."""
    return Scope("account_kv", caller.account_id) if shared else Scope("kv", id)


class StoredEntries:
    """The entries of a scope, as they are and as readers see them: what was read can be written back."""

    def __init__(self, kernel: Kernel, scope: Scope, found: list[tuple[bytes, bytes]]) -> None:
        self._kernel = kernel
        self._scope = scope
        self._raw = {_shown(key): (key, value) for key, value in found}
        self.shown = {name: _shown(value) for name, (_, value) in self._raw.items()}

    async def replace(self, wanted: Mapping[str, str]) -> None:
        """Put others in their place; one that is shown as it is wanted stays byte for byte. Raises NotFound, Unavailable."""
        entries = dict(
            self._raw[name] if self.shown.get(name) == value else (name.encode(), value.encode())
            for name, value in wanted.items()
        )
        await self._kernel.entries.replace(self._scope, entries)


async def stored_entries(kernel: Kernel, scope: Scope) -> StoredEntries:
    """Raises Unavailable."""
    return StoredEntries(kernel, scope, await kernel.entries.find(scope))


def _shown(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
