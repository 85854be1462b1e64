"""Work that nobody waits for, so much at a time, its owners taking turns."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

Work = Callable[[], Coroutine[Any, Any, None]]


class Turns:
    """At most ``most`` works run at a time, and at most ``most_per_owner`` of one owner; an owner's are begun in order."""

    def __init__(self, most: int, most_per_owner: int) -> None:
        self._most = most
        self._most_per_owner = most_per_owner
        self._waiting: dict[str, deque[Work]] = {}
        self._next: deque[str] = deque()
        """Owners that have work waiting and may begin more, each once."""
        self._running: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    def add(self, owner: str, work: Work) -> None:
        """Run ``work`` when it is its turn. It must not raise."""
        line = self._waiting.get(owner)
        if line is None:
            line = self._waiting[owner] = deque()
        line.append(work)
        if len(line) == 1:
            self._offer(owner)
        self._begin()

    def _offer(self, owner: str) -> None:
        if owner in self._waiting and self._running[owner] < self._most_per_owner:
            self._next.append(owner)

    def _begin(self) -> None:
        while self._next and len(self._tasks) < self._most and not self._stopped:
            owner = self._next.popleft()
            line = self._waiting[owner]
            task = asyncio.get_running_loop().create_task(line.popleft()())
            if not line:
                del self._waiting[owner]
            self._running[owner] += 1
            self._tasks.add(task)
            task.add_done_callback(partial(self._ended, owner))
            self._offer(owner)

    def _ended(self, owner: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        had_share = self._running[owner] >= self._most_per_owner
        self._running[owner] -= 1
        if not self._running[owner]:
            del self._running[owner]
        if had_share:
            self._offer(owner)
        self._begin()

    def stop(self) -> None:
        """Begin nothing more; what waits is forgotten."""
        self._stopped = True
        self._waiting.clear()
        self._next.clear()

    async def close(self, timeout_s: float) -> None:
        """Stop, give what runs ``timeout_s`` seconds, and cancel the rest."""
        self.stop()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
