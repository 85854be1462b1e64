"""The Store on SQL: SQLite in the data directory, or PostgreSQL."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import msgspec
import structlog
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    and_,
    delete,
    func,
    insert,
    literal_column,
    make_url,
    or_,
    select,
    text,
    union_all,
    update,
)

from spinney.errors import Error, NotFound, Unavailable
from spinney.model import Account, Build, Execution, Function, Token, Version
from spinney.ports import EntryStore
from spinney.stores import migrations
from spinney.stores.engine import create_private, make_engine, safe_errors, write_batch
from spinney.stores.entries import SqlEntries
from spinney.stores.rows import columns, from_row, to_row
from spinney.stores.tables import OF_EXECUTIONS, TABLES, UNFINISHED, executions, meta, unfinished

log = structlog.get_logger("spinney.store")

Noun = TypeVar("Noun", bound=msgspec.Struct)
Result = TypeVar("Result")

CHUNK = 1000
"""Executions deleted in one transaction: a few milliseconds, in which nobody else can write."""
TERMS = 100
"""Functions of one statement that looks at the newest executions of many; SQLite takes 500."""
HEAVY = ("input", "output", "headers", "logs")
"""What lists of executions leave out."""
ROWS = 50
"""Executions read at a time."""

VERSION_IN_RECORD = {
    "sqlite": "json_extract(executions.record, '$.version_id')",
    "postgresql": "executions.record::json->>'version_id'",
}
"""Asked for rarely: it has no column."""

# Jumps from one function id to the next in the index, so that it costs a look-up per function and not per execution.
_ORPHANS = text("""
WITH RECURSIVE owner (id) AS (
    SELECT min(function_id) FROM executions
    UNION ALL
    SELECT (SELECT min(function_id) FROM executions WHERE function_id > owner.id) FROM owner WHERE owner.id IS NOT NULL
)
SELECT id FROM owner WHERE id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM functions WHERE functions.id = owner.id)
""")


class SqlStore:
    """Implements ports.Store with synchronous SQLAlchemy in a thread of its own; ``write_executions`` has a second connection."""

    def __init__(self, url: str) -> None:
        """``url`` is SQLAlchemy's: ``sqlite:////data/spinney.db``, ``postgresql+psycopg://user@host/name``. Opens nothing yet."""
        self._url = url
        self._nouns = make_engine(url, durable=True)
        self._records = make_engine(url, durable=False)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        # SQLite has one writer at a time, and who waits for it polls, ever more slowly. A lock wakes at once.
        sqlite = make_url(url).get_backend_name() == "sqlite"
        self._turn: AbstractContextManager[object] = threading.Lock() if sqlite else nullcontext()
        self._version_column: ColumnElement[str] = literal_column(VERSION_IN_RECORD["sqlite" if sqlite else "postgresql"])
        self._forgetting: set[asyncio.Task[object]] = set()
        self.entries: EntryStore = SqlEntries(self._read, self._write)

    async def open(self) -> None:
        """Connect and bring the schema up to date. Raises Unavailable."""

        def work() -> None:
            create_private(self._url)
            with safe_errors():
                migrations.upgrade(self._nouns)

        await self._submit(work)

    async def close(self) -> None:
        """Stop what runs in the background and close both connections. Idempotent."""
        for task in self._forgetting:
            task.cancel()
        await asyncio.gather(*self._forgetting, return_exceptions=True)
        self._thread.shutdown(wait=False)
        await asyncio.to_thread(self._dispose)

    def _dispose(self) -> None:
        self._thread.shutdown(wait=True)
        with self._turn:
            self._records.dispose()
            self._nouns.dispose()

    # -- nouns ---------------------------------------------------------------------------------------------------------

    async def insert(self, *nouns: msgspec.Struct) -> None:
        """All or none. Raises Conflict when an id or a unique name is taken."""
        await self._write(lambda connection: _insert(connection, nouns))

    async def get(self, kind: type[Noun], id: str) -> Noun | None:
        """The noun with this id."""
        found = await self._select(kind, select(*columns(kind)).where(TABLES[kind].c.id == id))
        return found[0] if found else None

    async def find(
        self,
        kind: type[Noun],
        *,
        order: str = "",
        limit: int | None = None,
        offset: int = 0,
        without: Collection[str] = (),
        **equals: Any,
    ) -> list[Noun]:
        """Those whose columns equal ``equals`` (or one of a list); ties in ``order`` go by insertion.

        Executions can be found by ``tables.EXECUTION_KEYS`` only.
        """
        table = TABLES[kind]
        query = _where(select(*columns(kind, without)), table, equals)
        if kind is Execution and equals.get("status") in UNFINISHED:
            query = query.where(unfinished)
        keys = [table.c[order.removeprefix("-")], table.c.seq] if order else [table.c.seq]
        query = query.order_by(*(key.desc() if order.startswith("-") else key for key in keys))
        return await self._select(kind, query.limit(limit).offset(offset or None), without)

    async def count(self, kind: type[msgspec.Struct], **equals: Any) -> int:
        """How many ``find`` would find."""
        table = TABLES[kind]
        query = _where(select(func.count()).select_from(table), table, equals)
        return int(await self._read(lambda connection: connection.execute(query).scalar_one()))

    async def replace(self, *nouns: msgspec.Struct, insert: Sequence[msgspec.Struct] = ()) -> None:
        """Overwrite rows by id, and insert others, in one transaction. Raises NotFound when one to replace is gone; Conflict."""

        def work(connection: Connection) -> None:
            for noun in nouns:
                row = to_row(noun)
                table = TABLES[type(noun)]
                if connection.execute(update(table).where(table.c.id == row["id"]).values(row)).rowcount == 0:
                    raise NotFound(f"{type(noun).__name__.lower()} '{row['id']}' not found")
            _insert(connection, insert)
            _count_generation(connection, map(type, nouns))

        await self._write(work)

    async def delete(self, kind: type[msgspec.Struct], id: str) -> bool:
        """Also removes what belongs to it. A long history goes in the background; what a crash leaves of it, ``sweep`` takes."""
        table = TABLES[kind]

        def work(connection: Connection) -> bool:
            gone = connection.execute(delete(table).where(table.c.id == id)).rowcount > 0
            for other in OF_EXECUTIONS if kind is Execution else ():
                connection.execute(delete(other).where(other.c.execution_id == id))
            if kind is Version:
                connection.execute(delete(TABLES[Build]).where(TABLES[Build].c.id == id))
            _count_generation(connection, [kind] if gone else [])
            return gone

        gone = await self._write(work)
        if gone and kind is Function and await self._write(lambda connection: _delete_history(connection, id)) == CHUNK:
            self._in_background(self._forget(id))
        if gone and kind is Account:
            self._in_background(self.sweep())
        return gone

    async def note_used(self, used: Mapping[str, float]) -> None:
        """Set ``last_used_at`` of tokens by id. Not a change that a server must notice: the generation stays."""
        tokens = TABLES[Token]

        def work(connection: Connection) -> None:
            for token_id, at in used.items():
                connection.execute(update(tokens).where(tokens.c.id == token_id).values(last_used_at=at))

        if used:
            await self._write(work)

    async def generation(self) -> int:
        """Counts up whenever tokens or accounts are changed by anybody, also by another process."""
        query = select(meta.c.value).where(meta.c.name == "generation")
        return int(await self._read(lambda connection: connection.execute(query).scalar_one()))

    # -- executions ----------------------------------------------------------------------------------------------------

    def write_executions(self, batch: Sequence[bytes]) -> None:
        """Insert or overwrite executions from their JSON texts. Idempotent. Blocking: for the writer thread.

        A final execution stays as it is; a queued or running one is overwritten. Raises Unavailable, and then wrote none.
        """
        with safe_errors(), self._turn, self._records.execution_options(writes=True).begin() as connection:
            write_batch(connection, batch)

    async def find_executions(
        self,
        *function_ids: str,
        status: Sequence[str] = (),
        trigger: str | None = None,
        limit: int = 50,
        offset: int = 0,
        heads: bool = False,
        inputs: bool = False,
    ) -> list[Execution]:
        """Newest first, of all the functions together; of those that started together the later inserted first.

        heads: without output, headers, logs, and without input unless ``inputs``.
        """
        conditions: list[ColumnElement[bool]] = []
        if status:
            conditions.append(executions.c.status.in_([str(value) for value in status]))
        if trigger is not None:
            conditions.append(executions.c.trigger == trigger)
        without = HEAVY[inputs:] if heads else ()

        def work(connection: Connection) -> list[Execution]:
            if len(function_ids) == 1:
                query = _newest(select(executions.c.record), function_ids[0], conditions).limit(limit).offset(offset)
                rows = connection.execution_options(yield_per=ROWS).execute(query)  # each may have megabytes that are not kept
                return [from_row(Execution, row, without) for row in rows]
            keys = _newest_of_all(connection, function_ids, conditions, limit + offset)[offset:]
            return [from_row(Execution, row, without) for row in _records(connection, [key.seq for key in keys])]

        return await self._read(work)

    async def prune_executions(
        self, function_id: str, keep: int | None = None, older_than: float | None = None, version_id: str | None = None
    ) -> int:
        """Drop finished executions: all but the newest ``keep``, those from before ``older_than``, and those of a version.

        In short transactions, between which others get their turn. The count of those dropped.
        """
        superfluous: list[ColumnElement[bool]] = []
        if keep is not None:
            superfluous += await self._read(lambda connection: _beyond(connection, function_id, keep))
        if older_than is not None:
            superfluous.append(executions.c.started_at < older_than)
        if version_id is not None:
            superfluous.append(self._version_column == version_id)
        if not superfluous:
            return 0
        chunk = _finished(function_id).where(or_(*superfluous)).order_by(executions.c.started_at).limit(CHUNK)
        return await self._delete_all(chunk)

    async def sweep(self) -> int:
        """Drop executions whose function is gone: written after its end, or left by a crash. The count. May be repeated."""
        orphans = await self._read(lambda connection: connection.execute(_ORPHANS).scalars().all())
        return sum([await self._forget(function_id) for function_id in orphans])

    async def _forget(self, function_id: str) -> int:
        return await self._delete_all(_history(function_id))

    async def _delete_all(self, chunk: Select[tuple[int]]) -> int:
        total = 0
        while True:
            count = await self._write(lambda connection: _delete_chunk(connection, chunk))
            total += count
            if count < CHUNK:
                return total

    def _in_background(self, work: Coroutine[Any, Any, int]) -> None:
        async def forget() -> None:
            try:
                await work
            except Error as error:
                log.warning("executions of a deleted function stay until the next sweep", reason=error.message)

        task: asyncio.Task[object] = asyncio.create_task(forget())
        self._forgetting.add(task)
        task.add_done_callback(self._forgetting.discard)

    # -- the thread ----------------------------------------------------------------------------------------------------

    async def _select(self, kind: type[Noun], query: Select[Any], without: Collection[str] = ()) -> list[Noun]:
        return await self._read(lambda connection: [from_row(kind, row, without) for row in connection.execute(query)])

    async def _read(self, work: Callable[[Connection], Result]) -> Result:
        def transaction() -> Result:
            with safe_errors(), self._nouns.begin() as connection:
                return work(connection)

        return await self._submit(transaction)

    async def _write(self, work: Callable[[Connection], Result]) -> Result:
        def transaction() -> Result:
            with safe_errors(), self._turn, self._nouns.execution_options(writes=True).begin() as connection:
                return work(connection)

        return await self._submit(transaction)

    async def _submit(self, work: Callable[[], Result]) -> Result:
        try:
            future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        except RuntimeError as error:
            raise Unavailable("the store is closed") from error
        return await future


def _where(query: Select[Any], table: Table, equals: Mapping[str, Any]) -> Select[Any]:
    for name, value in equals.items():
        column = table.c[name]
        query = query.where(column.in_(value) if isinstance(value, (list, tuple, set)) else column == value)
    return query


def _insert(connection: Connection, nouns: Sequence[msgspec.Struct]) -> None:
    for noun in nouns:
        connection.execute(insert(TABLES[type(noun)]), to_row(noun))
    _count_generation(connection, map(type, nouns))


def _count_generation(connection: Connection, kinds: Collection[type] | map[type]) -> None:
    if not {Token, Account}.isdisjoint(kinds):
        connection.execute(update(meta).where(meta.c.name == "generation").values(value=meta.c.value + 1))


def _newest(query: Select[Any], function_id: str, conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
    """What ``query`` selects of a function's executions, newest first."""
    query = query.where(executions.c.function_id == function_id, *conditions)
    return query.order_by(executions.c.started_at.desc(), executions.c.seq.desc())


def _newest_of_all(
    connection: Connection, function_ids: Sequence[str], conditions: Sequence[ColumnElement[bool]], limit: int
) -> list[Row[tuple[int, float]]]:
    """``seq`` and ``started_at`` of the newest executions of many functions: so many of each are looked at, by the index."""
    keys = select(executions.c.seq, executions.c.started_at)
    found: list[Row[tuple[int, float]]] = []
    for start in range(0, len(function_ids), TERMS):
        of_each = [_newest(keys, one, conditions).limit(limit).subquery().select() for one in function_ids[start : start + TERMS]]
        found += connection.execute(union_all(*of_each))
    return sorted(found, key=lambda row: (row.started_at, row.seq), reverse=True)[:limit]


def _records(connection: Connection, seqs: Sequence[int]) -> Iterator[Row[tuple[str]]]:
    """The records of these executions, in their order."""
    for start in range(0, len(seqs), CHUNK):
        chunk = seqs[start : start + CHUNK]
        query = select(executions.c.record).where(executions.c.seq.in_(chunk))
        yield from connection.execute(query.order_by(executions.c.started_at.desc(), executions.c.seq.desc()))


def _history(function_id: str) -> Select[tuple[int]]:
    return select(executions.c.seq).where(executions.c.function_id == function_id).limit(CHUNK)


def _finished(function_id: str) -> Select[tuple[int]]:
    return select(executions.c.seq).where(executions.c.function_id == function_id, executions.c.status.not_in(UNFINISHED))


def _beyond(connection: Connection, function_id: str, keep: int) -> list[ColumnElement[bool]]:
    """The condition that holds for all finished executions but the newest ``keep``; none when there are no more than that."""
    started_at, seq = executions.c.started_at, executions.c.seq
    newest_first = _finished(function_id).order_by(started_at.desc(), seq.desc())
    first = connection.execute(newest_first.add_columns(started_at).limit(1).offset(keep)).first()
    if first is None:
        return []
    return [or_(started_at < first.started_at, and_(started_at == first.started_at, seq <= first.seq))]


def _delete_history(connection: Connection, function_id: str) -> int:
    return _delete_chunk(connection, _history(function_id))


def _delete_chunk(connection: Connection, chunk: Select[tuple[int]]) -> int:
    for table in OF_EXECUTIONS:
        ids = select(executions.c.id).where(executions.c.seq.in_(chunk))
        connection.execute(delete(table).where(table.c.execution_id.in_(ids)))
    return connection.execute(delete(executions).where(executions.c.seq.in_(chunk))).rowcount
