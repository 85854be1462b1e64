"""What executions asked of others on their way: one row for each request, in the store before its answer is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog

from spinney.core.ids import new_short_id
from spinney.core.services.asker import Asker
from spinney.errors import Busy, Conflict, Error
from spinney.model import AIRequest, EmailRequest, Status
from spinney.ports import Clock, Store

log = structlog.get_logger("spinney.ledger")

Row = TypeVar("Row", AIRequest, EmailRequest)

ROWS_MAX = 1000
"""Rows of one execution: a function in a loop must not fill the store."""
CUT_OFF = "the execution ended before the answer"


class Ledger:
    """Writes and reads these rows."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._writing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def track(
        self, asker: Asker, kind: type[AIRequest] | type[EmailRequest], **known: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """Record what happens inside as one request: the fields in ``known``, and those that are put into the mapping given.

        An Error that passes is how it ended. Raises Busy, and records nothing, when its execution has made too many.
        """
        if asker.requests >= ROWS_MAX:
            raise Busy("too many requests in one execution")
        asker.requests += 1
        created_at, started = self._clock.now(), self._clock.monotonic()
        fields = {"status": Status.ERROR, "error": CUT_OFF, **known}
        try:
            yield fields
            fields |= {"status": Status.SUCCESS, "error": None}
        except Error as error:
            fields["error"] = error.message
            raise
        finally:
            fields |= {"id": new_short_id(), "function_id": asker.function.id, "execution_id": asker.execution_id}
            duration_ms = int((self._clock.monotonic() - started) * 1000)
            await self._write(kind(**fields, created_at=created_at, duration_ms=duration_ms))

    async def _write(self, row: AIRequest | EmailRequest) -> None:
        """Whoever is cancelled meanwhile does not undo it."""
        task = asyncio.ensure_future(self._insert(row))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        await asyncio.shield(task)

    async def _insert(self, row: AIRequest | EmailRequest) -> None:
        try:
            await self._store.insert(row)
        except Conflict:
            pass  # its function is gone
        except Error as error:
            log.warning("a request of a function could not be recorded", execution=row.execution_id, reason=error.message)

    async def find(
        self, kind: type[Row], execution_id: str, *, limit: int | None = None, offset: int = 0
    ) -> tuple[list[Row], int]:
        """An execution's requests, newest first, and how many there are in all. Raises Unavailable."""
        await self.flush()
        rows = await self._store.find(kind, order="-created_at", limit=limit, offset=offset, execution_id=execution_id)
        return rows, await self._store.count(kind, execution_id=execution_id)

    async def flush(self) -> None:
        """Return when all that was begun before is written."""
        if self._writing:
            await asyncio.wait(set(self._writing))
