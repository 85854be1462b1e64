"""Calls whose callers do not wait: kept before they are acknowledged, run once, in order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from spinney.core.index import Index, Target
from spinney.core.record import Records
from spinney.errors import Error
from spinney.model import Execution, Status

log = structlog.get_logger("spinney.background")

PARALLEL = 16
"""Calls of this kind that run at the same time; the rest wait in the store, so callers who wait for an answer find room."""

Run = Callable[[Target, Execution], Awaitable[None]]
"""How a dialect runs one of its queued executions: invokes, records the end, never raises."""


class Background:
    """A durable queue over the records. ``runs`` maps a dialect's name to how its executions are run."""

    def __init__(self, records: Records, index: Index, runs: dict[str, Run]) -> None:
        self._records = records
        self._index = index
        self._runs = runs
        self._waiting: deque[Execution] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def open(self) -> None:
        """Pick up what an earlier server left."""
        self._waiting.extend(await self._records.recover())
        self._start()

    async def submit(self, execution: Execution) -> None:
        """Keep a queued execution; when this returns it will run, also after a crash. Raises Unavailable."""
        await self._records.enqueue(execution)
        self._waiting.append(execution)
        self._start()

    def _start(self) -> None:
        while self._waiting and len(self._tasks) < PARALLEL and not self._closed:
            task = asyncio.ensure_future(self._run(self._waiting.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._start()

    async def _run(self, execution: Execution) -> None:
        target = self._index.get_function(execution.function_id)
        if target is None:
            return
        try:
            self._records.mark_running(msgspec.structs.replace(execution, status=Status.RUNNING))
            await self._runs[target.function.dialect](target, execution)
        except Error as error:
            log.warning("a queued call could not be recorded", execution=execution.id, reason=error.message)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._tasks)

    async def close(self, timeout_s: float) -> None:
        """Begin nothing more and give what runs ``timeout_s`` seconds; what has not begun stays queued in the store."""
        self._closed = True
        if self._tasks:
            _, running = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
