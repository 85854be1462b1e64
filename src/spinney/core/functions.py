"""Functions and their immutable versions: made, changed, removed; the index follows the store."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from spinney.core.index import Index, Target
from spinney.errors import NotFound
from spinney.model import Function, Version
from spinney.ports import Clock, Store

HEAVY = ("source", "environment")
"""Fields of a version that stay in the store until a sandbox or a reader needs them."""

LOAD_CHUNK = 500


def _nothing(function: Function, version: Version) -> Sequence[msgspec.Struct]:
    return ()


class Functions:
    """The one place that writes functions and versions.

    ``retire`` is told of every version that no new call may use, ``changed`` of every function that was made, changed or removed,
    by id and once the index says so. What ``plan`` gives for a new version is stored in the same transaction.
    """

    def __init__(
        self,
        store: Store,
        index: Index,
        clock: Clock,
        retire: Callable[[str], None],
        changed: Callable[[str], None],
        plan: Callable[[Function, Version], Sequence[msgspec.Struct]] = _nothing,
    ) -> None:
        self._store = store
        self._index = index
        self._clock = clock
        self._retire = retire
        self._changed = changed
        self._plan = plan
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
    ) -> tuple[Function, Version]:
        """Store a new function with version 1; ``version`` holds the fields of Version that the caller decides.

        Without a ``name`` it goes by its id.

        Raises Conflict when the name is taken in this account and dialect, Unavailable.
        """
        async with self._writing:
            now = self._now()
            function_id, version_id = str(uuid.uuid4()), str(uuid.uuid4())
            function = Function(
                id=function_id,
                account_id=account_id,
                dialect=dialect,
                name=function_id if name is None else name,
                version_id=version_id,
                created_at=now,
                updated_at=now,
                description=description,
                settings=settings or {},
            )
            first = Version(id=version_id, function_id=function_id, number=1, created_at=now, **version)
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

        ``version_settings`` are put over those of the current version, key by key: of two updates at once none is lost.
        if_changed: keep the current version when it is the same already.
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
            successor = current if keep else _succeed(wanted, now)
            function = msgspec.structs.replace(
                target.function,
                version_id=successor.id,
                updated_at=now,
                description=target.function.description if description is None else description,
                settings=target.function.settings if settings is None else settings,
            )
            await self._store.replace(function, insert=[] if keep else [successor, *self._plan(function, successor)])
            self._index.put(_target(function, successor))
            if not keep:
                self._retire(current.id)
            self._changed(function_id)
            return function, successor

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


def _succeed(version: Version, now: float) -> Version:
    return msgspec.structs.replace(version, id=str(uuid.uuid4()), number=version.number + 1, created_at=now)


def _target(function: Function, version: Version) -> Target:
    return Target(function, msgspec.structs.replace(version, source="", environment={}))
