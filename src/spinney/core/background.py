"""Calls whose callers do not wait: kept before they are acknowledged, run at most once, in order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from spinney.core.index import Index, Target
from spinney.core.record import Records
from spinney.errors import Error
from spinney.model import Execution

log = structlog.get_logger("spinney.background")

PARALLEL = 8
"""Calls of this kind that one function runs or waits to run at the same time; no function holds up another's."""

Run = Callable[[Target, Execution], Awaitable[None]]
"""How a dialect runs one of its queued executions: invokes, and records the end."""


class _Line:
    """One function's queue: ids only, since events may be large; the store has them."""

    __slots__ = ("running", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[str] = deque()
        self.running = 0


class Background:
    """A durable queue over the records. ``runs`` maps a dialect's name to how its executions are run."""

    def __init__(self, records: Records, index: Index, runs: dict[str, Run]) -> None:
        self._records = records
        self._index = index
        self._runs = runs
        self._lines: dict[str, _Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def open(self) -> None:
        """Pick up what an earlier server left."""
        for execution in await self._records.recover():
            self._add(execution)

    async def submit(self, execution: Execution) -> None:
        """Keep a queued execution; when this returns it will run, also after a crash. Raises Unavailable."""
        await self._records.enqueue(execution)
        self._add(execution)

    def _add(self, execution: Execution) -> None:
        line = self._lines.setdefault(execution.function_id, _Line())
        line.waiting.append(execution.id)
        self._start(execution.function_id, line)

    def _start(self, function_id: str, line: _Line) -> None:
        while line.waiting and line.running < PARALLEL and not self._closed:
            line.running += 1
            task = asyncio.ensure_future(self._run(function_id, line.waiting.popleft()))
            self._tasks.add(task)
            task.add_done_callback(lambda task: self._ended(task, function_id, line))

    def _ended(self, task: asyncio.Task[None], function_id: str, line: _Line) -> None:
        self._tasks.discard(task)
        line.running -= 1
        self._start(function_id, line)
        if not line.running:
            self._lines.pop(function_id, None)

    async def _run(self, function_id: str, execution_id: str) -> None:
        try:
            execution = await self._records.get(execution_id)
            target = self._index.get_function(function_id)
            if execution is not None and target is not None:  # else it was deleted while it waited
                await self._runs[target.function.dialect](target, execution)
        except Error as error:
            log.warning("a queued call could not be run or recorded", execution=execution_id, reason=error.message)

    def waiting(self, function_id: str) -> int:
        """How many calls of a function have not begun."""
        line = self._lines.get(function_id)
        return len(line.waiting) if line else 0

    def __len__(self) -> int:
        return len(self._tasks) + sum(len(line.waiting) for line in self._lines.values())

    async def close(self, timeout_s: float) -> None:
        """Begin nothing more and give what runs ``timeout_s`` seconds; what has not begun stays queued in the store."""
        self._closed = True
        if self._tasks:
            _, running = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
