"""The EntryStore on SQL: maps from bytes to bytes, a table for each kind of scope."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, bindparam, delete, func, insert, select, text

from spinney.errors import NotFound
from spinney.ports import Change, Scope
from spinney.stores.tables import ENTRIES

Result = TypeVar("Result")

ROWS = 16
"""Entries read at a time; each may have a megabyte."""
WRITE_LOCK = 0x5B1AAF
"""The PostgreSQL advisory lock of those who change entries: an entry that is not there yet cannot be locked itself."""


class Transaction(Protocol):
    """Runs work in the store's thread, in a transaction."""

    def __call__(self, work: Callable[[Connection], Result]) -> Awaitable[Result]: ...


class SqlEntries:
    """Implements ports.EntryStore by the transactions of a SqlStore."""

    def __init__(self, read: Transaction, write: Transaction) -> None:
        self._read = read
        self._write = write

    async def get(self, scope: Scope, key: bytes) -> bytes | None:
        """The value of one entry."""
        return await self._read(lambda connection: _get(connection, scope, key))

    async def find(self, scope: Scope, *, after: bytes = b"", limit_bytes: int | None = None) -> list[tuple[bytes, bytes]]:
        """Entries whose keys are greater than ``after``, by key; as many as ``limit_bytes`` hold, but one at least."""
        return await self._read(lambda connection: _page(connection, scope, after, limit_bytes))

    async def keys(self, scope: Scope, *, after: bytes = b"", limit: int) -> list[bytes]:
        """Keys greater than ``after``, in order."""
        key = ENTRIES[scope.kind][0].c.key
        query = _of(select(key), scope).where(key > after).order_by(key).limit(limit)
        return await self._read(lambda connection: list(connection.execute(query).scalars()))

    async def measure(self, scope: Scope) -> tuple[int, int]:
        """How many entries a scope has, and the bytes of their keys and values."""
        entries = ENTRIES[scope.kind][0]
        size = func.coalesce(func.sum(func.length(entries.c.key) + func.length(entries.c.value)), 0)
        query = _of(select(func.count(), size), scope)
        count, size_bytes = await self._read(lambda connection: connection.execute(query).one())
        return int(count), int(size_bytes)

    async def change(self, changes: Sequence[Change]) -> list[bool]:
        """Make changes one after the other, in one transaction; for each whether its owner was there. Raises Unavailable."""
        return await self._write(lambda connection: _change(connection, changes))

    async def replace(self, scope: Scope, entries: Mapping[bytes, bytes]) -> None:
        """Put these in the place of all entries of a scope, in one transaction. Raises NotFound when its owner is gone."""

        def work(connection: Connection) -> None:
            _lock(connection)
            if not _has_owner(connection, scope):
                raise NotFound("whose entries these are is gone")
            table = ENTRIES[scope.kind][0]
            connection.execute(_of(delete(table), scope))
            if entries:
                rows = [{"owner_id": scope.owner_id, "key": key, "value": value} for key, value in entries.items()]
                connection.execute(insert(table), rows)

        await self._write(work)


# Made once: SQLAlchemy takes longer to build a statement than SQLite to run it.
_OWNER = {kind: select(owners.c.id).where(owners.c.id == bindparam("owner")) for kind, (_, owners) in ENTRIES.items()}
_GET = {
    kind: select(entries.c.value).where(entries.c.owner_id == bindparam("owner"), entries.c.key == bindparam("name"))
    for kind, (entries, _) in ENTRIES.items()
}
_PUT = {
    kind: text(
        f"INSERT INTO {kind} (owner_id, key, value) VALUES (:owner, :name, :value) "  # noqa: S608  a constant
        "ON CONFLICT (owner_id, key) DO UPDATE SET value = excluded.value"
    )
    for kind in ENTRIES
}
_REMOVE = {
    kind: delete(entries).where(entries.c.owner_id == bindparam("owner"), entries.c.key == bindparam("name"))
    for kind, (entries, _) in ENTRIES.items()
}


def _of(statement: Any, scope: Scope) -> Any:
    return statement.where(ENTRIES[scope.kind][0].c.owner_id == scope.owner_id)


def _get(connection: Connection, scope: Scope, key: bytes) -> bytes | None:
    value: bytes | None = connection.execute(_GET[scope.kind], {"owner": scope.owner_id, "name": key}).scalar()
    return value


def _has_owner(connection: Connection, scope: Scope) -> bool:
    return connection.execute(_OWNER[scope.kind], {"owner": scope.owner_id}).first() is not None


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITE_LOCK})


def _page(connection: Connection, scope: Scope, after: bytes, limit_bytes: int | None) -> list[tuple[bytes, bytes]]:
    entries = ENTRIES[scope.kind][0]
    query = _of(select(entries.c.key, entries.c.value), scope).where(entries.c.key > after).order_by(entries.c.key)
    found: list[tuple[bytes, bytes]] = []
    with connection.execution_options(yield_per=ROWS).execute(query) as rows:
        for key, value in rows:
            if limit_bytes is not None:
                limit_bytes -= len(key) + len(value)
                if limit_bytes < 0 and found:
                    break
            found.append((key, value))
    return found


def _change(connection: Connection, changes: Sequence[Change]) -> list[bool]:
    """An entry that several changes concern is read and written once."""
    _lock(connection)
    owned = {scope: _has_owner(connection, scope) for scope in dict.fromkeys(change.scope for change in changes)}
    before: dict[tuple[Scope, bytes], bytes | None] = {}
    after: dict[tuple[Scope, bytes], bytes | None] = {}
    for scope, key, decide in changes:
        if owned[scope]:
            entry = scope, key
            if entry not in before:
                before[entry] = after[entry] = _get(connection, scope, key)
            after[entry] = decide(after[entry])
    for kind in ENTRIES:
        changed = [entry for entry, value in after.items() if entry[0].kind == kind and value != before[entry]]
        put = [{"owner": s.owner_id, "name": key, "value": after[s, key]} for s, key in changed if after[s, key] is not None]
        gone = [{"owner": s.owner_id, "name": key} for s, key in changed if after[s, key] is None]
        if put:
            connection.execute(_PUT[kind], put)
        if gone:
            connection.execute(_REMOVE[kind], gone)
    return [owned[change.scope] for change in changes]
