"""Functions and their immutable versions: made, changed, removed; the index follows the store."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from spinney.core.ids import version_id
from spinney.core.index import Index, Target
from spinney.errors import Conflict, NotFound
from spinney.model import Function, Version
from spinney.ports import Clock, Store

HEAVY = ("source", "environment")
"""Fields of a version that stay in the store until a sandbox or a reader needs them."""

LOAD_CHUNK = 500
NUMBERS_END = 1 << 31
NO_VERSION = "the version is not there"


def _nothing(function: Function, version: Version) -> Sequence[msgspec.Struct]:
    return ()


class Functions:
    """The one place that writes functions and versions.

    ``retire`` is told of every version that no new call may use, ``revive`` of one that is used again, ``changed`` of every
    function that was made, changed or removed, by id and once the index says so. What ``plan`` gives for a new version is stored
    in the same transaction.
    """

    def __init__(
        self,
        store: Store,
        index: Index,
        clock: Clock,
        retire: Callable[[str], None],
        changed: Callable[[str], None],
        plan: Callable[[Function, Version], Sequence[msgspec.Struct]] = _nothing,
        revive: Callable[[str], None] = lambda id: None,
    ) -> None:
        self._store = store
        self._index = index
        self._clock = clock
        self._retire = retire
        self._changed = changed
        self._plan = plan
        self._revive = revive
        self._writing = asyncio.Lock()
        self._last_time = 0.0

    async def open(self) -> None:
        """Fill the index from the store."""
        functions = {function.version_id: function for function in await self._store.find(Function)}
        ids = list(functions)
        for start in range(0, len(ids), LOAD_CHUNK):
            for version in await self._store.find(Version, without=HEAVY, id=ids[start : start + LOAD_CHUNK]):
                self._index.put(Target(functions[version.id], version))
        self._last_time = max((function.updated_at for function in functions.values()), default=0.0)

    async def create(
        self,
        *,
        account_id: str,
        dialect: str,
        name: str | None = None,
        version: Mapping[str, Any],
        description: str = "",
        settings: Mapping[str, Any] | None = None,
        id: str | None = None,
    ) -> tuple[Function, Version]:
        """Store a new function with version 1; ``version`` holds the fields of Version that the caller decides.

        Without a ``name`` it goes by its id, which is a UUID unless the caller gives another.

        Raises Conflict when the name is taken in this account and dialect, Unavailable.
        """
        async with self._writing:
            now = self._now()
            function_id = str(uuid.uuid4()) if id is None else id
            function = Function(
                id=function_id,
                account_id=account_id,
                dialect=dialect,
                name=function_id if name is None else name,
                version_id=version_id(function_id, 1),
                created_at=now,
                updated_at=now,
                description=description,
                settings=settings or {},
            )
            first = Version(id=function.version_id, function_id=function_id, number=1, created_at=now, **version)
            await self._store.insert(function, first, *self._plan(function, first))
            self._index.put(_target(function, first))
            self._changed(function_id)
            return function, first

    async def get(self, target: Target) -> tuple[Function, Version]:
        """A function with the whole of its current version. Raises NotFound when it has gone meanwhile."""
        return target.function, await self.version(target)

    async def version(self, target: Target) -> Version:
        """The version with source and environment. Raises NotFound."""
        version = await self._store.get(Version, target.version.id)
        if version is None:
            raise NotFound(f"function '{target.function.name}' not found")
        return version

    async def past(self, target: Target, version_id: str) -> Target:
        """The function with a version that it had when a call was accepted. Raises NotFound."""
        if version_id == target.version.id:
            return target
        version = await self._store.get(Version, version_id)
        if version is None:
            raise NotFound(f"function '{target.function.name}' not found")
        return _target(target.function, version)

    async def update(
        self,
        function_id: str,
        *,
        version: Mapping[str, Any],
        version_settings: Mapping[str, Any] | None = None,
        description: str | None = None,
        settings: Mapping[str, Any] | None = None,
        if_changed: bool = False,
    ) -> tuple[Function, Version]:
        """Make a new version from the current one and the fields in ``version``; the next call uses it.

        ``settings``, and ``version_settings`` of the version, are put over the current ones, key by key: of two updates at once
        none is lost. if_changed: keep the current version when it is the same already.
        Raises NotFound, Unavailable.
        """
        async with self._writing:
            target = self._index.get_function(function_id)
            if target is None:
                raise NotFound("the function is gone")
            now = self._now()
            current = await self.version(target)
            wanted = msgspec.structs.replace(current, settings={**current.settings, **(version_settings or {})}, **version)
            keep = if_changed and wanted == current
            last_number = target.function.last_number
            successor = current if keep else _succeed(wanted, last_number + 1, now)
            function = msgspec.structs.replace(
                target.function,
                version_id=successor.id,
                updated_at=now,
                description=target.function.description if description is None else description,
                settings={**target.function.settings, **(settings or {})},
                last_number=last_number if keep else successor.number,
            )
            await self._store.replace(function, insert=[] if keep else [successor, *self._plan(function, successor)])
            self._index.put(_target(function, successor))
            if not keep:
                self._retire(current.id)
            self._changed(function_id)
            return function, successor

    # -- versions ------------------------------------------------------------------------------------------------------

    async def versions(self, function_id: str, *, limit: int | None = None, offset: int = 0) -> tuple[list[Version], int]:
        """A function's versions, newest first, and how many there are. Raises Unavailable."""
        found = await self._store.find(Version, order="-number", limit=limit, offset=offset, function_id=function_id)
        return found, await self._store.count(Version, function_id=function_id)

    async def current(self, targets: Sequence[Target]) -> list[Version]:
        """The current versions of functions (at most 500), whole and in order; some may be gone. Raises Unavailable."""
        found = await self._store.find(Version, id=[target.id for target in targets]) if targets else []
        by_id = {version.id: version for version in found}
        return [by_id[target.id] for target in targets if target.id in by_id]

    async def numbered(self, function_id: str, number: int) -> Version:
        """One of a function's versions. Raises NotFound, Unavailable."""
        version = await self._store.get(Version, version_id(function_id, number))
        if version is None:  # an earlier program gave it another id
            found = await self._store.find(Version, function_id=function_id, number=number) if abs(number) < NUMBERS_END else []
            if not found:
                raise NotFound(NO_VERSION)
            version = found[0]
        return version

    async def activate(self, function_id: str, id: str) -> None:
        """Make a version (by its id) the current one, from the next call on. Raises NotFound, Unavailable."""
        async with self._writing:
            target, version = await self._version_of(function_id, id)
            if id == target.id:
                return
            function = msgspec.structs.replace(target.function, version_id=id, updated_at=self._now())
            await self._store.replace(function)
            self._revive(id)
            self._index.put(_target(function, version))
            self._retire(target.id)
            self._changed(function_id)

    async def delete_version(self, function_id: str, id: str) -> None:
        """Remove a version that is not the current one; its number will not come back. Raises NotFound, Conflict, Unavailable."""
        async with self._writing:
            target, _ = await self._version_of(function_id, id)
            if id == target.id:
                raise Conflict("the current version cannot be deleted")
            await self._store.delete(Version, id)
            self._retire(id)

    async def _version_of(self, function_id: str, id: str) -> tuple[Target, Version]:
        target = self._index.get_function(function_id)
        version = await self._store.get(Version, id)
        if target is None or version is None or version.function_id != function_id:
            raise NotFound(NO_VERSION)
        return target, version

    async def delete(self, target: Target) -> None:
        """Remove a function, its versions and its history. Raises NotFound when another was faster."""
        async with self._writing:
            current = self._index.get_function(target.function.id)
            if current is None or not await self._store.delete(Function, target.function.id):
                raise NotFound(f"function '{target.function.name}' not found")
            self._index.remove(current)
            self._retire(current.id)
            self._changed(current.function.id)

    def _now(self) -> float:
        """The time, later by a millisecond at least than any that was given before: updates and the order of creation show it."""
        self._last_time = max(round(self._clock.now(), 3), round(self._last_time + 0.001, 3))
        return self._last_time


def _succeed(version: Version, number: int, now: float) -> Version:
    return msgspec.structs.replace(version, id=version_id(version.function_id, number), number=number, created_at=now)


def _target(function: Function, version: Version) -> Target:
    return Target(function, msgspec.structs.replace(version, source="", environment={}))
