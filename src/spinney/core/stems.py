"""Stems: sandboxes whose runtime is booted and that wait for code. One shelf per kind; shelves refill in the background."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import deque
from collections.abc import Awaitable
from time import monotonic

import msgspec
import structlog

from spinney.core.budget import Budget
from spinney.errors import Error
from spinney.model import Rights
from spinney.ports import Driver, Launch, Limits, Sandbox, SandboxSpec

log = structlog.get_logger("spinney.stems")

WINDOW_S = 10.0
"""A shelf keeps as many stems as were taken from it in so many seconds, within its bounds."""
FORGET_S = 600.0
"""A shelf that nobody used for so long, and that is not to be kept, is emptied."""
RETRY_S = 5.0
LOOK_EVERY_S = 1.0
STEM_START_S = 0.02
"""What a ready stem costs a call: some 4 ms to take the code, and the processor time that booting its successor takes."""


class Kind(msgspec.Struct, frozen=True):
    """Everything that must be equal for two versions to be served by the same stems."""

    launch: Launch
    limits: Limits
    rights: Rights = Rights()

    @property
    def key(self) -> str:
        return self.launch.key + self.rights.key

    @property
    def idle_bytes(self) -> int:
        """What one is expected to use while nothing runs in it."""
        return self.launch.idle_mb << 20

    def spec(self, *, warm: bool = False) -> SandboxSpec:
        """The spec of one more sandbox of this kind, with an id of its own; ``warm`` for one that nobody waits for."""
        return SandboxSpec(id=uuid.uuid4().hex[:12], launch=self.launch, limits=self.limits, rights=self.rights, warm=warm)


class Shelf:
    """The stems of one kind."""

    __slots__ = ("boot_s", "failed_at", "keep", "kind", "ready", "starting", "taken", "used_at")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.ready: deque[Sandbox] = deque()
        self.starting = 0
        self.taken: deque[float] = deque()
        self.used_at = 0.0
        self.failed_at = float("-inf")
        self.boot_s = 0.08
        self.keep = False

    def wanted(self, now: float, least: int, most: int) -> int:
        """How many stems this shelf should hold."""
        while self.taken and self.taken[0] < now - WINDOW_S:
            self.taken.popleft()
        if not self.keep and now - self.used_at > FORGET_S:
            return 0
        return max(least, min(most, len(self.taken)))


class Stems:
    """All shelves. ``take`` gives a ready stem or starts a sandbox; ``run`` refills."""

    def __init__(self, driver: Driver, budget: Budget, *, least: int = 1, most: int = 8, starts_parallel: int = 2) -> None:
        self._driver = driver
        self._budget = budget
        self._least = least
        self._most = most
        self._starts_parallel = starts_parallel
        self._shelves: dict[str, Shelf] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._closed = False

    def start_s(self, key: str) -> float:
        """Seconds until a call could be served by one more sandbox of this kind."""
        shelf = self._shelves.get(key)
        if shelf is None:
            return 0.1
        return STEM_START_S if shelf.ready else shelf.boot_s

    async def warm(self, kind: Kind) -> None:
        """Keep stems of this kind from now on, and wait for the first. Raises StartFailed."""
        shelf = self._shelf(kind)
        shelf.keep = True
        if self._least and not shelf.ready:
            self._begin(shelf)
            await self._boot(shelf)

    async def take(self, kind: Kind) -> Sandbox:
        """A booted sandbox without code. Raises StartFailed."""
        shelf = self._shelf(kind)
        shelf.used_at = monotonic()
        shelf.taken.append(shelf.used_at)
        self._wake.set()
        while shelf.ready:
            sandbox = shelf.ready.popleft()
            if await sandbox.poll() is None:
                return sandbox
            await sandbox.close()
        return await self._create(shelf, warm=False)

    def _shelf(self, kind: Kind) -> Shelf:
        shelf = self._shelves.get(kind.key)
        if shelf is None:
            shelf = self._shelves[kind.key] = Shelf(kind)
        return shelf

    async def _create(self, shelf: Shelf, *, warm: bool) -> Sandbox:
        began = monotonic()
        sandbox = await self._driver.create(shelf.kind.spec(warm=warm))
        shelf.boot_s += 0.2 * (monotonic() - began - shelf.boot_s)
        return sandbox

    def _begin(self, shelf: Shelf) -> None:
        """Count a start at once, so that nobody starts too many before its task runs."""
        shelf.starting += 1
        self._budget.begin(shelf.kind.idle_bytes)

    async def _boot(self, shelf: Shelf) -> None:
        """Add one stem; ``_begin`` has counted it."""
        try:
            sandbox = await self._create(shelf, warm=True)
        except BaseException:
            shelf.failed_at = monotonic()
            raise
        finally:
            shelf.starting -= 1
            self._budget.end(shelf.kind.idle_bytes)
        if self._closed:
            await sandbox.close()
        else:
            shelf.ready.append(sandbox)

    async def _refill(self, shelf: Shelf) -> None:
        try:
            await self._boot(shelf)
        except Error as error:
            log.warning("a stem could not be started", kind=shelf.kind.key, reason=error.message)
        self._wake.set()

    async def run(self) -> None:
        """Refill shelves until cancelled; woken by every take."""
        while True:
            self._wake.clear()
            now = monotonic()
            for shelf in self._shelves.values():
                self._tend(shelf, now)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):  # wait_for may swallow the cancellation that ends us
                    await self._wake.wait()

    def _tend(self, shelf: Shelf, now: float) -> None:
        wanted = shelf.wanted(now, self._least, self._most)
        while len(shelf.ready) > max(wanted, self._least if shelf.keep else 0):
            self._spawn(shelf.ready.pop().close())
        if now - shelf.failed_at < RETRY_S:
            return
        missing = wanted - len(shelf.ready) - shelf.starting
        while missing > 0 and self._starting() < self._starts_parallel and self._budget.fits(shelf.kind.idle_bytes):
            missing -= 1
            self._begin(shelf)
            self._spawn(self._refill(shelf))

    def _starting(self) -> int:
        return sum(shelf.starting for shelf in self._shelves.values())

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def shed(self) -> bool:
        """Close one ready stem, of the kind that has most; False when there is none. For when memory is short."""
        fullest = max(self._shelves.values(), key=lambda shelf: len(shelf.ready), default=None)
        if fullest is None or not fullest.ready:
            return False
        self._budget.closed(fullest.kind.idle_bytes)
        self._spawn(fullest.ready.pop().close())
        return True

    def has_ready(self, key: str) -> bool:
        shelf = self._shelves.get(key)
        return shelf is not None and bool(shelf.ready)

    def counts(self) -> dict[str, int]:
        """Ready stems per kind."""
        return {key: len(shelf.ready) for key, shelf in self._shelves.items()}

    async def close(self) -> None:
        self._closed = True
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        for shelf in self._shelves.values():
            while shelf.ready:
                await shelf.ready.pop().close()
