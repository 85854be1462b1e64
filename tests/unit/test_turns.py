"""Work in turns: bounded in all and per owner, fair between owners, ended in time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from spinney.core.turns import Turns

pytestmark = pytest.mark.anyio


class Works:
    """Works that note when they begin and end when they are told."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.cancelled: list[str] = []
        self.events: dict[str, asyncio.Event] = {}

    def make(self, name: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def work() -> None:
            self.began.append(name)
            try:
                await self.events.setdefault(name, asyncio.Event()).wait()
            except asyncio.CancelledError:
                self.cancelled.append(name)
                raise

        return work

    async def end(self, *names: str) -> None:
        for name in names:
            self.events.setdefault(name, asyncio.Event()).set()
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_owners_take_turns_and_their_work_keeps_its_order() -> None:
    turns, works = Turns(2, 2), Works()
    for name in ("a1", "a2", "a3", "a4", "b1", "b2"):
        turns.add(name[0], works.make(name))
    await settle()
    assert works.began == ["a1", "a2"]
    await works.end("a1")
    assert works.began == ["a1", "a2", "b1"]
    await works.end("a2", "a3", "a4", "b1", "b2")
    assert sorted(works.began) == ["a1", "a2", "a3", "a4", "b1", "b2"]
    assert [name for name in works.began if name[0] == "b"] == ["b1", "b2"]
    await turns.close(1)


async def test_an_owner_with_its_share_leaves_room_for_others() -> None:
    turns, works = Turns(4, 2), Works()
    for number in range(100):
        turns.add("a", works.make(f"a{number}"))
    turns.add("b", works.make("b0"))
    await settle()
    assert works.began == ["a0", "a1", "b0"]
    await works.end("a0")
    assert works.began == ["a0", "a1", "b0", "a2"]
    await turns.close(0)


async def test_never_more_than_allowed() -> None:
    turns = Turns(8, 3)
    done = asyncio.Event()
    now: Counter[str] = Counter()
    most: Counter[str] = Counter()

    def work(owner: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def run() -> None:
            now[owner] += 1
            now["all"] += 1
            for name in (owner, "all"):
                most[name] = max(most[name], now[name])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            now[owner] -= 1
            now["all"] -= 1
            most["done"] += 1
            if most["done"] == 300:
                done.set()

        return run

    for number in range(300):
        turns.add("abcde"[number % 5], work("abcde"[number % 5]))
    await done.wait()
    assert most["all"] == 8
    assert all(most[owner] <= 3 for owner in "abcde")
    await turns.close(1)


async def test_stopping_forgets_what_waits_and_gives_what_runs_its_time() -> None:
    turns, works = Turns(2, 2), Works()
    for name in ("a", "b", "c"):
        turns.add(name, works.make(name))
    await settle()
    turns.stop()
    await works.end("a")
    assert works.began == ["a", "b"]
    await turns.close(0)
    assert works.cancelled == ["b"]
    assert works.began == ["a", "b"]
