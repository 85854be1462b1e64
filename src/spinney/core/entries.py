"""Small durable maps from bytes to bytes: what functions keep (kv) and their variables (environment).

Every change is decided inside a transaction of the store and acknowledged once that is durable; changes that come together share
one. What was read or written last is kept in memory, so that reading usually asks nobody: this process alone changes entries, and
the store does one thing after the other, so what a transaction has left is what the next reader must see.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping

import msgspec
import structlog

from spinney.errors import Error, Invalid, NotFound, Unavailable
from spinney.ports import Change, EntryStore, Scope

log = structlog.get_logger("spinney.entries")

CACHE_BYTES_MAX = 64 << 20
CACHE_SCOPE_BYTES_MAX = 8 << 20
"""Of the cache: no scope takes it from all others."""
OVERHEAD_BYTES = 256
"""What an entry takes in memory beside its own bytes."""
BATCH_MAX = 1000
MEASURED_MAX = 10_000
GONE = "the function is gone"


class EntryLimits(msgspec.Struct, frozen=True):
    """Bounds in bytes: of a key, of a value, and of all keys and values of a scope together (Lunar contract 3.5)."""

    key: int = 512
    value: int = 1 << 20
    scope: int = 64 << 20


LIMITS = {"kv": EntryLimits(), "account_kv": EntryLimits(), "environment": EntryLimits(scope=1 << 20)}

Wish = Callable[[bytes | None], bytes | None]
"""From the value that an entry has, or None, to the one that it shall have, or None."""


class Unknown:
    """Says that memory does not hold an entry; None says that the entry does not exist."""


UNKNOWN = Unknown()


class _Cached:
    """What is known of one scope."""

    __slots__ = ("size", "values")

    def __init__(self) -> None:
        self.values: dict[bytes, bytes | None] = {}
        self.size = 0

    def put(self, key: bytes, value: bytes | None) -> int:
        """How much larger it has become."""
        grown = len(value or b"")
        if key in self.values:
            grown -= len(self.values[key] or b"")
        else:
            grown += len(key) + OVERHEAD_BYTES
        self.values[key] = value
        self.size += grown
        return grown


class _Size:
    """The bytes of one scope in the store; counted in the store's thread."""

    __slots__ = ("count",)

    def __init__(self, count: int) -> None:
        self.count = count


class _Pending:
    """A change on its way, and whether it could be made."""

    __slots__ = ("done", "fits", "key", "limits", "scope", "size", "value", "wish")

    def __init__(self, scope: Scope, key: bytes, wish: Wish, size: _Size, done: asyncio.Future[bool]) -> None:
        self.scope = scope
        self.key = key
        self.wish = wish
        self.size = size
        self.done = done
        self.limits = LIMITS[scope.kind]
        self.fits = False
        self.value: bytes | None = None

    def decide(self, current: bytes | None) -> bytes | None:
        """Runs in the store's thread, inside the transaction."""
        wanted = self.wish(current)
        grown = self._weight(wanted) - self._weight(current)
        self.fits = len(wanted or b"") <= self.limits.value and (grown <= 0 or self.size.count + grown <= self.limits.scope)
        if self.fits:
            self.size.count += grown
        self.value = wanted if self.fits else current
        return self.value

    def _weight(self, value: bytes | None) -> int:
        return 0 if value is None else len(self.key) + len(value)


class Entries:
    """All entries of all functions and accounts."""

    def __init__(self, store: EntryStore) -> None:
        self._store = store
        self._cache: OrderedDict[Scope, _Cached] = OrderedDict()
        self._cache_bytes = 0
        self._loading: dict[Scope, dict[bytes, asyncio.Future[bytes | None]]] = {}
        self._sizes: OrderedDict[Scope, _Size] = OrderedDict()
        self._queue: list[_Pending] = []
        self._committing: asyncio.Task[None] | None = None

    # -- reading -------------------------------------------------------------------------------------------------------

    def peek(self, scope: Scope, key: bytes) -> bytes | Unknown | None:
        """The value of an entry, None when there is none, or UNKNOWN when only ``get`` can tell."""
        cached = self._cache.get(scope)
        if cached is None:
            return UNKNOWN
        self._cache.move_to_end(scope)
        return cached.values.get(key, UNKNOWN)

    async def get(self, scope: Scope, key: bytes) -> bytes | None:
        """The value of an entry as the last acknowledged change left it. Raises Unavailable."""
        value = self.peek(scope, key)
        if not isinstance(value, Unknown):
            return value
        loads = self._loading.setdefault(scope, {})
        load = loads.get(key)
        if load is None:
            load = loads[key] = asyncio.ensure_future(self._store.get(scope, key))
            load.add_done_callback(lambda load: self._loaded(scope, key, load))
        return await asyncio.shield(load)  # others may wait for it too

    def _loaded(self, scope: Scope, key: bytes, load: asyncio.Future[bytes | None]) -> None:
        failed = load.cancelled() or load.exception() is not None
        if self._loading.get(scope, {}).get(key) is load:  # else it has been changed meanwhile
            self._forget_load(scope, key)
            if not failed:
                self._remember(scope, key, load.result())

    def _forget_load(self, scope: Scope, key: bytes) -> None:
        loads = self._loading.get(scope)
        if loads is not None and loads.pop(key, None) is not None and not loads:
            del self._loading[scope]

    async def find(self, scope: Scope, *, after: bytes = b"", limit_bytes: int | None = None) -> list[tuple[bytes, bytes]]:
        """Entries by key, those after ``after``; as many as ``limit_bytes`` hold, but one at least. Raises Unavailable."""
        return await self._store.find(scope, after=after, limit_bytes=limit_bytes)

    async def keys(self, scope: Scope, *, after: bytes = b"", limit: int) -> list[bytes]:
        """Keys after ``after``, in order. Raises Unavailable."""
        return await self._store.keys(scope, after=after, limit=limit)

    # -- changing ------------------------------------------------------------------------------------------------------

    async def change(self, scope: Scope, key: bytes, wish: Wish) -> bool:
        """Change one entry; durable when this returns. False, and nothing changed, when the limits do not allow it.

        ``wish`` runs in another thread, once, with nobody else at the entry. Raises NotFound when its owner is gone, Unavailable.
        """
        if not 0 < len(key) <= LIMITS[scope.kind].key:
            return False
        size = self._sizes.get(scope) or await self._measure(scope)
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._queue.append(_Pending(scope, key, wish, size, done))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit())
        return await done

    async def put(self, scope: Scope, key: bytes, value: bytes | None) -> bool:
        """Give an entry a value, or remove it with None; as ``change``."""
        return await self.change(scope, key, lambda _: value)

    async def replace(self, scope: Scope, entries: Mapping[bytes, bytes]) -> None:
        """Put these in the place of all entries of a scope, all or none. Raises Invalid, NotFound, Unavailable."""
        limits = LIMITS[scope.kind]
        fits = all(0 < len(key) <= limits.key and len(value) <= limits.value for key, value in entries.items())
        if not fits or sum(map(len, entries)) + sum(map(len, entries.values())) > limits.scope:
            raise Invalid("the entries are too many or too large")
        await self._store.replace(scope, entries)
        self.forget(scope)

    def forget(self, *scopes: Scope) -> None:
        """These have been changed or removed by other means: keep nothing of them in memory."""
        for scope in scopes:
            self._sizes.pop(scope, None)
            self._loading.pop(scope, None)
            self._uncache(scope)

    def forget_function(self, function_id: str) -> None:
        """A function is gone, and its entries with it."""
        self.forget(Scope("kv", function_id), Scope("environment", function_id))

    async def close(self) -> None:
        """Return when all that was begun is durable."""
        if self._committing is not None:
            await self._committing

    async def _measure(self, scope: Scope) -> _Size:
        _, count = await self._store.measure(scope)
        size = self._sizes.setdefault(scope, _Size(count))
        if len(self._sizes) > MEASURED_MAX:
            self._sizes.popitem(last=False)
        return size

    async def _commit(self) -> None:
        """Bring changes to the store for as long as there are any; those that come meanwhile wait for the next turn together."""
        try:
            while self._queue:
                batch, self._queue = self._queue[:BATCH_MAX], self._queue[BATCH_MAX:]
                try:
                    owned = await self._store.change([Change(one.scope, one.key, one.decide) for one in batch])
                except Error as error:
                    self._fail(batch, error)
                except Exception:
                    log.exception("entries could not be changed")
                    self._fail(batch, Unavailable("the store is not available"))
                else:
                    for one, has_owner in zip(batch, owned, strict=True):
                        self._acknowledge(one, has_owner)
        finally:
            self._committing = None

    def _acknowledge(self, one: _Pending, has_owner: bool) -> None:
        self._forget_load(one.scope, one.key)
        if has_owner:
            self._remember(one.scope, one.key, one.value)
        if one.done.done():
            return
        if has_owner:
            one.done.set_result(one.fits)
        else:
            one.done.set_exception(NotFound(GONE))

    def _fail(self, batch: list[_Pending], error: Error) -> None:
        for one in batch:
            self.forget(one.scope)
            if not one.done.done():
                one.done.set_exception(type(error)(error.message))

    # -- memory --------------------------------------------------------------------------------------------------------

    def _remember(self, scope: Scope, key: bytes, value: bytes | None) -> None:
        cached = self._cache.get(scope)
        if cached is None:
            cached = self._cache[scope] = _Cached()
        self._cache_bytes += cached.put(key, value)
        if cached.size > CACHE_SCOPE_BYTES_MAX:
            self._uncache(scope)
        while self._cache_bytes > CACHE_BYTES_MAX:
            self._uncache(next(iter(self._cache)))

    def _uncache(self, scope: Scope) -> None:
        cached = self._cache.pop(scope, None)
        if cached is not None:
            self._cache_bytes -= cached.size
