"""What happened: every call leaves an Execution that no crash of the server can lose once its caller has an answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from time import time
from typing import NamedTuple

import msgspec
import structlog

from spinney.core.index import Index, Target
from spinney.errors import Unavailable
from spinney.model import Call, Execution, Function, Status
from spinney.ports import Journal, Store

log = structlog.get_logger("spinney.record")

LONG_CALL_S = 0.5
"""A call that runs longer is journalled as running, so that a restart can say what became of it."""
RETENTION_FIRST_S = 300.0
UNPRUNED_MAX = 100_000
"""A function that has left so many records since its history was last cut need not wait for the hour."""
RETENTION_EVERY_S = 3600.0
WAITED_FOR = "http"
"""The trigger of calls whose callers wait: a crash ends them together with their connection."""
INTERRUPTED = "interrupted by server restart"


class Retention(NamedTuple):
    """How much of a function's history is kept: so many finished executions (None: all), and none older than ``age_s`` tells.

    ``interrupted``: whether calls that a crash of the server cut off are part of it, as failed.
    ``begun``: completes the record of a call whose code begins. With it calls are part of the history before that.
    """

    newest: int | None
    age_s: Callable[[Function], float] | None = None
    interrupted: bool = True
    begun: Callable[[Call, Execution], None] | None = None


KEEP_ALL = Retention(None)


def cut_text(text: str, limit_bytes: int) -> tuple[str, bool]:
    """The first ``limit_bytes`` of a text's UTF-8, in whole characters, and whether that is less than all of it."""
    if len(text) * 4 <= limit_bytes:
        return text, False
    raw = text.encode()
    if len(raw) <= limit_bytes:
        return text, False
    return raw[:limit_bytes].decode("utf-8", "ignore"), True


class Running(msgspec.Struct):
    """A call between its start and its record."""

    call: Call
    target: Target
    trigger: str
    started_at: float
    journalled: bool = False


class Records:
    """Executions: running ones in memory, finished ones in the journal and then the store."""

    def __init__(self, store: Store, journal: Journal, index: Index, tier: str, retention: Mapping[str, Retention]) -> None:
        self._store = store
        self._journal = journal
        self._index = index
        self._retention = retention
        self._encode = msgspec.json.Encoder().encode
        self._unpruned: Counter[str] = Counter()
        self.tier = tier
        self.running: dict[str, Running] = {}

    # -- the hot path --------------------------------------------------------------------------------------------------

    def begin(self, target: Target, call: Call, trigger: str) -> None:
        """A call has its sandbox; ``end`` or ``abandon`` must follow. From now on a restart will not run it (again).

        Raises Unavailable.
        """
        running = self.running[call.id] = Running(call, target, trigger, time())
        retention = self._retention_of(target)
        if retention.begun or (trigger != WAITED_FOR and retention.interrupted):
            self._journal_running(running)

    def abandon(self, execution_id: str) -> None:
        """The call ended without an answer to record (its task was cancelled)."""
        self.running.pop(execution_id, None)

    def end(self, execution: Execution) -> None:
        """Keep what became of a call. When this returns, a killed server does not lose it. Raises Unavailable."""
        self.running.pop(execution.id, None)
        self._journal.append(self._encode(execution))
        self._unpruned[execution.function_id] += 1

    def full(self) -> bool:
        """Whether the writer is so far behind that ``room`` must be awaited before work whose end must be recorded."""
        return self._journal.full()

    async def room(self) -> None:
        """Wait until the writer has caught up."""
        await self._journal.room()

    # -- reading -------------------------------------------------------------------------------------------------------

    async def get(self, execution_id: str) -> Execution | None:
        """One execution, with everything that was recorded before this call."""
        running = self.running.get(execution_id)
        if running is not None:
            return self._running(running)
        await self._journal.flush()
        return await self._store.get(Execution, execution_id)

    async def find(
        self,
        *function_ids: str,
        status: Sequence[str] = (),
        trigger: str | None = None,
        limit: int = 50,
        offset: int = 0,
        heads: bool = False,
        inputs: bool = False,
    ) -> list[Execution]:
        """The executions of functions, newest first, the running ones among them; ``heads`` are without texts, but for inputs."""
        running = {
            run.call.id: self._running(run)
            for run in self.running.values()
            if run.target.function.id in function_ids and (not trigger or run.trigger == trigger) and not run.journalled
        }
        await self._journal.flush()
        shown = list(running.values()) if not status or Status.RUNNING in status else []
        rows = await self._store.find_executions(
            *function_ids,
            status=status,
            trigger=trigger,
            limit=limit + offset if shown else limit,
            offset=0 if shown else offset,
            heads=heads,
            inputs=inputs,
        )
        if not running:
            return rows
        merged = sorted([*shown, *(row for row in rows if row.id not in running)], key=lambda row: row.started_at, reverse=True)
        return merged[offset : offset + limit] if shown else merged

    def _running(self, run: Running) -> Execution:
        execution = Execution(
            id=run.call.id,
            function_id=run.target.function.id,
            version_id=run.target.id,
            account_id=run.target.function.account_id,
            trigger=run.trigger,
            status=Status.RUNNING,
            started_at=run.started_at,
            tier=self.tier,
        )
        begun = self._retention_of(run.target).begun
        if begun is not None:
            begun(run.call, execution)
        return execution

    async def count(self, function_id: str) -> int:
        """How many executions of a function there are; running ones count when its history has them."""
        await self._journal.flush()
        return await self._store.count(Execution, function_id=function_id)

    async def forget_version(self, function_id: str, version_id: str) -> None:
        """Drop the finished executions of a version that is gone. Raises Unavailable."""
        await self._journal.flush()
        await self._store.prune_executions(function_id, version_id=version_id)

    # -- asynchronous work ---------------------------------------------------------------------------------------------

    async def enqueue(self, execution: Execution) -> None:
        """Keep a call that shall run later; it is in the store when this returns. Raises Unavailable."""
        self._journal.append(self._encode(execution))
        await self._journal.flush()

    # -- the background ------------------------------------------------------------------------------------------------

    async def recover(self) -> list[Execution]:
        """After a start: executions that had begun are failed as interrupted; those that had not are returned, oldest first."""
        for execution in await self._store.find(Execution, status=Status.RUNNING):
            execution.status, execution.error = Status.ERROR, INTERRUPTED
            execution.status_code, execution.finished_at = 500, time()
            self._journal.append(self._encode(execution))
        await self._journal.flush()
        return await self._store.find(Execution, status=Status.QUEUED, order="started_at")

    async def run(self) -> None:
        """Journal long calls as running and keep histories within bounds, until cancelled."""
        next_retention = time() + RETENTION_FIRST_S
        while True:
            await asyncio.sleep(LONG_CALL_S / 2)
            try:
                self._journal_long_calls()
                if time() >= next_retention:
                    next_retention = time() + RETENTION_EVERY_S
                    await self.retain()
                for function_id, count in self._unpruned.most_common(1):
                    if count > UNPRUNED_MAX:
                        await self._prune(function_id)
            except Unavailable as error:
                log.warning("records wait for the store", reason=error.message)

    def _journal_long_calls(self) -> None:
        began_before = time() - LONG_CALL_S
        for run in self.running.values():
            if not run.journalled and run.started_at < began_before and self._retention_of(run.target).interrupted:
                self._journal_running(run)

    def _retention_of(self, target: Target) -> Retention:
        return self._retention.get(target.function.dialect, KEEP_ALL)

    def _journal_running(self, run: Running) -> None:
        self._journal.append(self._encode(self._running(run)))
        run.journalled = True

    async def retain(self) -> None:
        """Drop what is beyond each function's bound, and what calls of deleted functions left."""
        for target in self._index:
            await self._prune(target.function.id)
        self._unpruned.clear()
        await self._store.sweep()

    async def _prune(self, function_id: str) -> None:
        self._unpruned.pop(function_id, None)
        target = self._index.get_function(function_id)
        if target is not None:
            newest, age_s, *_ = self._retention_of(target)
            await self._store.prune_executions(function_id, newest, time() - age_s(target.function) if age_s else None)
