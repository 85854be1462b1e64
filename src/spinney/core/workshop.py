"""Sandboxes that serve many calls of the server's own, such as compilers: warm, reused, replaced when they fail."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import deque
from collections.abc import Coroutine
from time import monotonic
from typing import Any

import structlog

from spinney.core.budget import Budget
from spinney.core.stems import Kind
from spinney.errors import Error
from spinney.model import Call, Outcome, Reply
from spinney.ports import Driver, Sandbox

log = structlog.get_logger("spinney.workshop")

IDLE_S = 600.0
"""A sandbox that was not used for so long is closed, unless it is the last of a kind that is kept."""
LOOK_EVERY_S = 5.0
TRIES = 3


class Workshop:
    """Idle sandboxes by kind. Their guests carry nothing from one call to the next, so any call may have any of them."""

    def __init__(self, driver: Driver, budget: Budget) -> None:
        self._driver = driver
        self._budget = budget
        self._idle: dict[str, deque[tuple[float, Sandbox]]] = {}
        self._kept: dict[str, Kind] = {}
        self._stocking: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._closed = False

    def keep(self, kind: Kind) -> None:
        """From now on have one idle sandbox of this kind, warmed up, whenever memory allows."""
        self._kept[kind.key] = kind
        self._wake.set()

    async def call(self, kind: Kind, body: bytes, timeout_s: float) -> Reply:
        """One call, in an idle sandbox or a new one; starting it does not count. Raises StartFailed."""
        for _ in range(TRIES):
            sandbox = await self._take(kind)
            reply = Reply(Outcome.NOT_RUN)
            try:
                deadline = asyncio.get_running_loop().time() + timeout_s
                reply = await sandbox.call(Call(uuid.uuid4().hex, body, timeout_s), deadline)
            finally:
                self._give(kind, sandbox, reply)
            if reply.outcome is not Outcome.NOT_RUN:
                break
        return reply

    async def _take(self, kind: Kind) -> Sandbox:
        idle = self._idle.get(kind.key, deque())
        while idle:
            _, sandbox = idle.pop()  # the one used last: the others may come to be closed
            if await sandbox.poll() is None:
                return sandbox
            self._spawn(sandbox.close())
        return await self._create(kind, warm=False)

    def _give(self, kind: Kind, sandbox: Sandbox, reply: Reply) -> None:
        if reply.reusable and not self._closed:
            self._idle.setdefault(kind.key, deque()).append((monotonic(), sandbox))
        else:
            self._budget.closed(kind.idle_bytes)
            self._spawn(sandbox.close())
            self._wake.set()

    async def _create(self, kind: Kind, *, warm: bool) -> Sandbox:
        self._budget.begin(kind.idle_bytes)
        try:
            return await self._driver.create(kind.spec(warm=warm))
        finally:
            self._budget.end(kind.idle_bytes)

    async def run(self) -> None:
        """Start those to be kept and close those not needed, until cancelled."""
        while True:
            self._wake.clear()
            for kind in self._kept.values():
                self._tend(kind)
            self._close_old(monotonic() - IDLE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._wake.wait()

    def _tend(self, kind: Kind) -> None:
        if not self._idle.get(kind.key) and kind.key not in self._stocking and self._budget.fits(kind.idle_bytes):
            self._stocking[kind.key] = self._spawn(self._stock(kind))

    async def _stock(self, kind: Kind) -> None:
        try:
            sandbox = await self._create(kind, warm=True)
        except Error as error:
            log.warning("a sandbox could not be started", kind=kind.key, reason=error.message)
        else:
            self._give(kind, sandbox, Reply(Outcome.OK, reusable=True))
        finally:
            del self._stocking[kind.key]

    def _close_old(self, before: float) -> None:
        for key, idle in self._idle.items():
            while len(idle) > (key in self._kept) and idle[0][0] < before:
                self._spawn(idle.popleft()[1].close())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def counts(self) -> dict[str, int]:
        """Idle sandboxes per kind."""
        return {key: len(idle) for key, idle in self._idle.items()}

    async def close(self) -> None:
        """Close everything that is idle; what is still being started is given up. Idempotent."""
        self._closed = True
        for task in self._stocking.values():
            task.cancel()
        for idle in self._idle.values():
            while idle:
                self._spawn(idle.pop()[1].close())
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
