"""Functions that fire by themselves: one scheduler for every dialect.

The rules. A function fires at the times of its cron text while it has one. A time that finds as many of the function's
scheduled runs unfinished as its dialect allows, which is one, is left out. Times that pass while the server is down,
suspended or too late to look are not made up. When the wall clock is set, nothing fires for what it jumped over, and nothing
fires twice for what it repeats (three hours at most: a clock that is set back by more was wrong before, and is believed now).
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import NamedTuple

import structlog

from spinney.core.cron import next_time
from spinney.core.index import Index, Target
from spinney.core.turns import Turns
from spinney.errors import Error, Invalid
from spinney.ports import Clock

log = structlog.get_logger("spinney.schedule")

LOOK_S = 1.0
"""The clocks are looked at so often at least: to notice that one was set."""
CLOCK_SET_S = 1.0
"""The wall clock was set when it went that much otherwise than the steady one between two looks."""
REPEATED_MAX_S = 3 * 3600.0
STALE_MIN = 64
RUNNING_MAX = 64
"""Scheduled runs at a time; what else is due waits, for a whole hour's functions may be due in the same second."""
RUNNING_PER_ACCOUNT_MAX = 16
"""Those of one account, so that its long runs do not keep the others waiting."""


class Plan(NamedTuple):
    """What a dialect says about schedules."""

    schedule: Callable[[Target], str | None]
    """The cron text (one that ``next_time`` understands) of a function that shall fire; None for others."""
    run: Callable[[Target, float], Awaitable[None]]
    """Run and record a function that was due at a time (Unix seconds); waits for room as long as it takes."""
    unfinished_max: int = 1
    """How many scheduled runs of one function may be unfinished at a time."""
    next_time: Callable[[str, float], float | None] = next_time
    """What its texts mean, as ``core.cron.next_time``: by its own grammar, and in the time zone of its own."""


class _Entry:
    """One function's schedule. ``left`` when the function has another by now, or none."""

    __slots__ = ("account_id", "function_id", "left", "plan", "text")

    def __init__(self, target: Target, plan: Plan, text: str) -> None:
        self.function_id = target.function.id
        self.account_id = target.function.account_id
        self.plan = plan
        self.text = text
        self.left = False

    def __lt__(self, other: _Entry) -> bool:
        return False  # for the heap: entries that are due together have no order


class Schedules:
    """All schedules, in a heap: one that is not due costs nothing. ``plans`` maps a dialect's name to its plan."""

    def __init__(self, clock: Clock, index: Index, plans: Mapping[str, Plan]) -> None:
        self._clock = clock
        self._index = index
        self._plans = plans
        self._entries: dict[str, _Entry] = {}
        self._heap: list[tuple[float, _Entry]] = []
        self._ahead = clock.now() - clock.monotonic()
        self._wake = asyncio.Event()
        self._stopped = False
        self._turns = Turns(RUNNING_MAX, RUNNING_PER_ACCOUNT_MAX)
        self._unfinished: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    # -- what is due when ----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Read every function's schedule."""
        for target in self._index:
            self.follow(target.function.id)

    def follow(self, function_id: str) -> None:
        """A function was made, changed or removed: from now on its schedule is what its dialect says."""
        target = self._index.get_function(function_id)
        plan = self._plans.get(target.function.dialect) if target else None
        text = plan.schedule(target) if target and plan else None
        entry = self._entries.get(function_id)
        if entry is not None and entry.text != text:
            entry.left = True
            del self._entries[function_id]
        if target and plan and text and function_id not in self._entries:
            entry = self._entries[function_id] = _Entry(target, plan, text)
            self._push(entry, self._clock.now())
            self._wake.set()
        if len(self._heap) > 2 * len(self._entries) + STALE_MIN:
            self._heap = [(due, entry) for due, entry in self._heap if not entry.left]
            heapq.heapify(self._heap)

    def _push(self, entry: _Entry, after: float) -> None:
        try:
            due = entry.plan.next_time(entry.text, after)
        except Invalid as error:  # kept by a server whose rules were others
            log.warning("a schedule cannot be read", function=entry.function_id, reason=error.message)
            return
        if due is not None:
            heapq.heappush(self._heap, (due, entry))

    def fire_due(self) -> float:
        """Begin what is due; seconds until the next look."""
        now = self._clock.now()
        self._follow_clock(now)
        while self._heap and self._heap[0][0] <= now:
            due, entry = heapq.heappop(self._heap)
            if not entry.left:
                self._fire(entry, due)
                self._push(entry, now)
        return min(LOOK_S, self._heap[0][0] - now) if self._heap else LOOK_S

    def _follow_clock(self, now: float) -> None:
        """When the wall clock was set, plan everything anew by its new time."""
        ahead = now - self._clock.monotonic()
        step, self._ahead = ahead - self._ahead, ahead
        if abs(step) <= CLOCK_SET_S:
            return
        log.warning("the clock was set", seconds=round(step, 1))
        passed = now - step if -REPEATED_MAX_S <= step < 0 else now
        self._heap = []
        for entry in self._entries.values():
            self._push(entry, passed)

    async def run(self) -> None:
        """Fire until ``stop``."""
        while not self._stopped:
            self._wake.clear()
            wait_s = self.fire_due()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):  # wait_for may swallow the cancellation that ends us
                    await self._wake.wait()

    # -- what is due now -----------------------------------------------------------------------------------------------

    def _fire(self, entry: _Entry, due: float) -> None:
        if self._unfinished[entry.function_id] < entry.plan.unfinished_max:
            self._unfinished[entry.function_id] += 1
            self._turns.add(entry.account_id, partial(self._run, entry, due))

    async def _run(self, entry: _Entry, due: float) -> None:
        try:
            target = self._index.get_function(entry.function_id)
            if target is not None and not entry.left:  # else it was changed while this waited for its turn
                await entry.plan.run(target, due)
        except Error as error:
            log.warning("a scheduled call could not be run or recorded", function=entry.function_id, reason=error.message)
        except Exception:
            log.exception("a scheduled call failed", function=entry.function_id)
        finally:
            self._unfinished[entry.function_id] -= 1
            if not self._unfinished[entry.function_id]:
                del self._unfinished[entry.function_id]

    def stop(self) -> None:
        """Fire nothing more."""
        self._stopped = True
        self._turns.stop()
        self._wake.set()

    async def close(self, timeout_s: float) -> None:
        """Stop, and give what runs ``timeout_s`` seconds."""
        self.stop()
        await self._turns.close(timeout_s)
