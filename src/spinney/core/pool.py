"""Warm sandboxes and the calls that wait for them.

``take``, ``give`` and ``drop`` are synchronous and do no I/O. Starting, expiring and closing happen in tasks of their own. The
only state is, per version, a deque of idle sandboxes and a deque of waiting calls (a Line), and per runtime a shelf of stems.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import NamedTuple

import structlog

from spinney.core.budget import Budget
from spinney.core.index import Target
from spinney.core.stems import Kind, Stems
from spinney.errors import Busy, Error, StartFailed
from spinney.ports import Driver, Load, Sandbox

log = structlog.get_logger("spinney.pool")

TICK_S = 0.05
EAGER_S = 0.001
"""Wait that is worth another sandbox while there are fewer than the processors can keep busy."""
PATIENCE_S = 0.1
"""A line whose first call has waited so long gets more sandboxes, whatever its calls used to take."""
MEASURE_EVERY_S = 1.0
UNKNOWN_STARTS_MAX = 4
"""Sandboxes started at once for a version whose calls have not shown yet how long they take."""
SMOOTHING = 0.1
BRISK_S = 0.0005
"""Functions whose calls take less are sent several at a time, so that their sandboxes need not be woken for each."""
BRISK_SERVED_MIN = 8
LOOK_AT_MAX = 4
SENT_MAX = 8
"""Calls that one sandbox of such a function has at the same time: it runs one, the others stand behind it."""
BUSY = "no capacity to run the function"
STOPPING = "the server is shutting down"


class Slot:
    """A sandbox in the pool's books."""

    __slots__ = ("broken", "line", "sandbox", "since", "users")

    def __init__(self, sandbox: Sandbox, line: Line) -> None:
        self.sandbox = sandbox
        self.line = line
        self.users = 0
        """Calls that it has."""
        self.broken = False
        self.since = 0.0

    def has_room(self) -> bool:
        """Whether it may get one more call."""
        if self.broken:
            return False
        return not self.users or (self.users < SENT_MAX and self.line.brisk() and self.sandbox.may_send_ahead)


class Waiting(NamedTuple):
    """A call in line: ``alone`` when it may not stand behind another in its sandbox."""

    slot: asyncio.Future[Slot]
    since: float
    alone: bool = False


class Line:
    """One version: its idle sandboxes, and the calls that wait for one."""

    __slots__ = ("busy", "idle", "kind", "looked", "mean_s", "per_s", "retired", "served", "starting", "target", "waiting")

    def __init__(self, target: Target, kind: Kind) -> None:
        self.target = target
        self.kind = kind
        self.idle: deque[Slot] = deque()
        self.waiting: deque[Waiting] = deque()
        self.busy: deque[Slot] = deque()
        self.starting = 0
        self.mean_s: float | None = None
        self.served = 0
        self.looked = (0.0, 0)
        self.per_s = 0.0
        self.retired = False

    @property
    def live(self) -> int:
        return len(self.idle) + self.active

    @property
    def active(self) -> int:
        return len(self.busy) + self.starting

    def brisk(self) -> bool:
        """Whether its calls are so short that a sandbox may have several."""
        return self.served > BRISK_SERVED_MIN and self.mean_s is not None and self.mean_s < BRISK_S

    def with_room(self) -> Slot | None:
        """A busy sandbox that may get one more call; they take turns."""
        busy = self.busy
        for _ in range(min(len(busy), LOOK_AT_MAX)):
            slot = busy[0]
            busy.rotate(-1)
            if slot.has_room():
                return slot
        return None

    def look(self, now: float) -> None:
        """Note how many calls a second this line gets done."""
        looked_at, served = self.looked
        self.looked = (now, self.served)
        self.per_s = (self.served - served) / (now - looked_at)

    def expected_wait_s(self) -> float:
        """Seconds until the last call that waits has a turn: by how long calls take, or by how fast the line has been moving.

        The smaller counts: on a busy machine calls seem long although more sandboxes would only share the same processors.
        """
        if self.mean_s is None:
            return float("inf")
        by_length = len(self.waiting) * self.mean_s / max(1, self.active)
        return min(by_length, len(self.waiting) / self.per_s) if self.per_s else by_length


class PoolLimits:
    """Bounds: sandboxes and waiting calls per version and in total, and seconds."""

    __slots__ = ("idle_s", "queue_per_version", "queue_total", "queue_wait_s", "sandboxes_eager", "sandboxes_per_version")

    def __init__(
        self,
        *,
        idle_s: float = 300.0,
        sandboxes_per_version: int = 64,
        sandboxes_eager: int = 4,
        queue_per_version: int = 256,
        queue_total: int = 4096,
        queue_wait_s: float = 60.0,
    ) -> None:
        self.idle_s = idle_s
        self.sandboxes_per_version = sandboxes_per_version
        self.queue_per_version = queue_per_version
        self.queue_total = queue_total
        self.queue_wait_s = queue_wait_s
        self.sandboxes_eager = sandboxes_eager


class Pool:
    """Owns every sandbox that serves functions."""

    def __init__(
        self,
        driver: Driver,
        stems: Stems,
        budget: Budget,
        limits: PoolLimits,
        kind_of: Callable[[Target], Kind],
        loader: Callable[[Target], Awaitable[Load]],
    ) -> None:
        self._driver = driver
        self._stems = stems
        self._budget = budget
        self._limits = limits
        self._kind_of = kind_of
        self._loader = loader
        self._lines: dict[str, Line] = {}
        self._queued = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._closed = False

    # -- the hot path --------------------------------------------------------------------------------------------------

    def take(self, version_id: str) -> Slot | None:
        """A sandbox of this version that can have one more call now, or None; then ``acquire`` gets one."""
        line = self._lines.get(version_id)
        if line is None:
            return None
        if line.idle:
            slot = line.idle.pop()
            line.busy.append(slot)
        else:
            room = line.with_room() if line.busy and not line.waiting and line.brisk() else None
            if room is None:
                return None
            slot = room
        slot.users += 1
        return slot

    def give(self, slot: Slot, took_s: float) -> None:
        """A call has ended well, and ran for ``took_s`` seconds."""
        line = slot.line
        mean = line.mean_s
        line.mean_s = took_s if mean is None else mean + SMOOTHING * (took_s - mean)
        line.served += 1
        self.leave(slot)

    def leave(self, slot: Slot) -> None:
        """A call is done with its sandbox, which is as good as before."""
        slot.users -= 1
        self._offer(slot)

    def _offer(self, slot: Slot) -> None:
        """To the calls that wait longest; among the idle, or away, when nobody uses it any more."""
        line = slot.line
        while line.waiting and slot.has_room():
            waiter = self._next(line, alone=not slot.users)
            if waiter is None:
                break
            slot.users += 1
            waiter.set_result(slot)
        if slot.users:
            return
        if slot.broken:
            self._close(slot)
            return
        line.busy.remove(slot)
        if line.retired or self._closed:
            self._close(slot)
        else:
            slot.since = monotonic()
            line.idle.append(slot)

    def _next(self, line: Line, *, alone: bool = True) -> asyncio.Future[Slot] | None:
        """The call that has waited longest and whose caller is still there, taken off the queue; with ``alone`` False not one
        that wants a sandbox for itself.
        """
        while line.waiting and (alone or not line.waiting[0].alone):
            waiter = line.waiting.popleft().slot
            self._queued -= 1
            if not waiter.done():
                return waiter
        return None

    def drop(self, slot: Slot) -> None:
        """A sandbox that may not serve again: closed in the background, once all calls that it has have left it."""
        slot.users -= 1
        if not slot.broken:
            slot.broken = True
            slot.line.busy.remove(slot)
            self._serve(slot.line)
        if not slot.users:
            self._close(slot)

    async def acquire(self, target: Target, *, again: bool = False) -> Slot:
        """A sandbox for a call that found none: waits for a busy one, or starts one, whichever is sooner.

        again: it has been in line before, and was taken back from behind a long call: it goes first, and stands behind nobody.
        Raises Busy, StartFailed, Unsupported. Callers are served in order of arrival.
        """
        line = self._line(target)
        if self._closed:
            raise Busy(STOPPING)
        waiting = Waiting(self._loop.create_future(), monotonic(), alone=again)
        if again:
            line.waiting.appendleft(waiting)
        elif len(line.waiting) >= self._limits.queue_per_version or self._queued >= self._limits.queue_total:
            raise Busy(BUSY)
        else:
            line.waiting.append(waiting)
        self._queued += 1
        if line.idle:
            slot = line.idle.pop()
            line.busy.append(slot)
            self._offer(slot)
        self._serve(line)
        try:
            return await waiting.slot
        except asyncio.CancelledError:
            given = waiting.slot
            if given.done() and not given.cancelled() and given.exception() is None:
                self.leave(given.result())
            raise

    # -- starting ------------------------------------------------------------------------------------------------------

    def _line(self, target: Target) -> Line:
        line = self._lines.get(target.id)
        if line is None:
            line = self._lines[target.id] = Line(target, self._kind_of(target))
        return line

    def _serve(self, line: Line) -> None:
        """Start a sandbox for the calls that wait, when that is sooner than waiting for the busy ones."""
        if line.starting < len(line.waiting) and self._worth_starting(line):
            self._start(line)

    def _worth_starting(self, line: Line) -> bool:
        if line.live >= self._limits.sandboxes_per_version:
            return False
        if line.active == 0:
            return True
        if line.mean_s is None:
            return line.starting < UNKNOWN_STARTS_MAX
        few = line.active < self._limits.sandboxes_eager
        return line.expected_wait_s() > (EAGER_S if few else self._stems.start_s(line.kind.key))

    def _start(self, line: Line) -> None:
        if not self._stems.has_ready(line.kind.key) and not self._room(line.kind.idle_bytes):
            return
        line.starting += 1
        self._budget.begin(line.kind.idle_bytes)
        self._spawn(self._start_one(line))

    async def _start_one(self, line: Line) -> None:
        try:
            sandbox = await self._make(line)
        except Error as error:
            self._fail_one(line, error)
        except Exception:
            log.exception("a sandbox could not be started")
            self._fail_one(line, StartFailed("internal error"))
        else:
            slot = Slot(sandbox, line)
            line.busy.append(slot)
            self._offer(slot)
        finally:
            line.starting -= 1
            self._budget.end(line.kind.idle_bytes)
            self._forget(line)

    async def _make(self, line: Line) -> Sandbox:
        """A stem, or a new sandbox when none is ready, with the version's code in it."""
        load = await self._loader(line.target)
        sandbox = await self._stems.take(line.kind)
        try:
            sandbox.load(load)
        except BaseException:
            await sandbox.close()
            raise
        return sandbox

    def _fail_one(self, line: Line, error: Error) -> None:
        waiter = self._next(line)
        if waiter is not None:
            waiter.set_exception(error)

    # -- room ----------------------------------------------------------------------------------------------------------

    def _room(self, wanted_bytes: int) -> bool:
        """Whether so much more fits into the budget, after closing idle sandboxes and stems when it must be."""
        while not self._budget.fits(wanted_bytes):
            if not self._evict() and not self._stems.shed():
                return False
        return True

    def _evict(self) -> bool:
        """Close the sandbox that has been idle longest; False when none is."""
        oldest = min((line for line in self._lines.values() if line.idle), key=lambda line: line.idle[0].since, default=None)
        if oldest is None:
            return False
        self._budget.closed(oldest.kind.idle_bytes)
        self._close(oldest.idle.popleft())
        self._forget(oldest)
        return True

    # -- the background ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look after the pool until cancelled: waiting calls, idle sandboxes, memory."""
        measured_at = 0.0
        while True:
            await asyncio.sleep(TICK_S)
            now = monotonic()
            for line in list(self._lines.values()):
                if line.waiting:
                    self._attend(line, now)
            if now - measured_at >= MEASURE_EVERY_S:
                measured_at = now
                self._measure()
                self._expire(now)

    def _attend(self, line: Line, now: float) -> None:
        """Fail calls that have waited too long; start more sandboxes when others have waited for longer than a start takes."""
        while line.waiting and now - line.waiting[0].since > self._limits.queue_wait_s:
            self._fail_one(line, Busy(BUSY))
        if not line.waiting:
            self._forget(line)
            return
        line.look(now)
        patience_s = max(PATIENCE_S, self._stems.start_s(line.kind.key))
        stuck = now - line.waiting[0].since > patience_s and len(line.waiting) > line.per_s * patience_s
        if line.live == 0 or stuck:
            free = min(self._limits.sandboxes_per_version - line.live, len(line.waiting) - line.starting, UNKNOWN_STARTS_MAX)
            for _ in range(free - line.starting):
                self._start(line)

    def _measure(self) -> None:
        self._budget.measure(self._driver.memory_bytes())
        self._room(0)

    def _expire(self, now: float) -> None:
        oldest = now - self._limits.idle_s
        for line in list(self._lines.values()):
            while line.idle and line.idle[0].since < oldest:
                self._close(line.idle.popleft())
            self._forget(line)

    def retire(self, version_id: str) -> None:
        """No new call will use this version: close what is idle now and the rest when it comes back."""
        line = self._lines.get(version_id)
        if line is None:
            return
        line.retired = True
        while line.idle:
            self._close(line.idle.popleft())
        self._forget(line)

    def revive(self, version_id: str) -> None:
        """Calls will use this version again."""
        line = self._lines.get(version_id)
        if line is not None:
            line.retired = False

    def _forget(self, line: Line) -> None:
        if not line.live and not line.waiting:
            self._lines.pop(line.target.id, None)

    def _close(self, slot: Slot) -> None:
        self._spawn(_close_quietly(slot.sandbox))
        if slot.line.retired:
            self._forget(slot.line)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Close every sandbox that is not serving a call, and wait for those that are being started or closed."""
        self._closed = True
        for line in list(self._lines.values()):
            while line.waiting:
                self._fail_one(line, Busy(STOPPING))
            while line.idle:
                self._close(line.idle.popleft())
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- figures -------------------------------------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """How many sandboxes are idle, busy and starting, and how many calls wait."""
        lines = self._lines.values()
        return {
            "idle": sum(len(line.idle) for line in lines),
            "busy": sum(len(line.busy) for line in lines),
            "starting": sum(line.starting for line in lines),
            "waiting": self._queued,
        }


async def _close_quietly(sandbox: Sandbox) -> None:
    try:
        await sandbox.close()
    except Exception:
        log.exception("a sandbox could not be closed", sandbox=sandbox.id)
