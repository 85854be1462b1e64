"""Every callable target in memory, so that a warm call reads no database."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from spinney.model import Function, Version


class Target(msgspec.Struct, frozen=True):
    """What one call needs to know of a function: itself and its current version, without source and environment."""

    function: Function
    version: Version

    @property
    def id(self) -> str:
        """The version's id: sandboxes belong to versions."""
        return self.version.id


class Index:
    """(dialect, account, name) -> Target; entries are replaced whole, so that a reader never sees a mixture."""

    def __init__(self) -> None:
        self._targets: dict[tuple[str, str, str], Target] = {}
        self._by_id: dict[str, Target] = {}

    def get(self, dialect: str, account_id: str, name: str) -> Target | None:
        return self._targets.get((dialect, account_id, name))

    def get_function(self, function_id: str) -> Target | None:
        return self._by_id.get(function_id)

    def find(self, dialect: str, account_id: str) -> list[Target]:
        """All of one account in one dialect, newest creation first."""
        own = [t for (d, a, _), t in self._targets.items() if d == dialect and a == account_id]
        return sorted(own, key=lambda target: target.function.created_at, reverse=True)

    def put(self, target: Target) -> None:
        function = target.function
        self._targets[function.dialect, function.account_id, function.name] = target
        self._by_id[function.id] = target

    def remove(self, target: Target) -> None:
        function = target.function
        self._targets.pop((function.dialect, function.account_id, function.name), None)
        self._by_id.pop(function.id, None)

    def __iter__(self) -> Iterator[Target]:
        return iter(list(self._targets.values()))

    def __len__(self) -> int:
        return len(self._targets)
