"""The pool's promises: order of arrival, scaling when waiting is slower, bounds, versions that retire, sandboxes that break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from spinney.core import pool as pool_module
from spinney.core.budget import Budget
from spinney.core.index import Target
from spinney.core.pool import Pool, PoolLimits, Slot
from spinney.core.stems import Kind, Stems
from spinney.errors import Busy, StartFailed
from spinney.model import Call, Function, Outcome, Reply, Version
from spinney.ports import Features, Launch, Limits, Load, Sandbox, SandboxSpec

pytestmark = pytest.mark.anyio
MB = 1 << 20
IDLE_MB = 10


class CountingSandbox:
    """A sandbox that only counts."""

    def __init__(self, spec: SandboxSpec, driver: CountingDriver) -> None:
        self.id = spec.id
        self.driver = driver
        self.loads = 0
        self.closed = False

    def load(self, load: Load) -> None:
        self.loads += 1

    @property
    def may_send_ahead(self) -> bool:
        return self.driver.ahead

    async def call(self, call: Call, deadline: float) -> Reply:
        return Reply(Outcome.OK, call.body, reusable=True)

    async def poll(self) -> int | None:
        return 1 if self.closed else None

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.driver.live.discard(self)


class CountingDriver:
    """A driver whose sandboxes are free, fail on demand, and start when ``gate`` is open."""

    name = "counting"
    features = Features(tier="counting")

    def __init__(self) -> None:
        self.live: set[CountingSandbox] = set()
        self.made = 0
        self.failing = False
        self.ahead = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def create(self, spec: SandboxSpec) -> Sandbox:
        await self.gate.wait()
        if self.failing:
            raise StartFailed("no luck")
        self.made += 1
        sandbox = CountingSandbox(spec, self)
        self.live.add(sandbox)
        return sandbox  # type: ignore[return-value]

    def memory_bytes(self) -> int:
        return len(self.live) * IDLE_MB * MB


class House:
    """A pool over a counting driver, without stems unless told."""

    def __init__(self, stems_least: int = 0, budget_bytes: int = 1000 * MB, **limits: float) -> None:
        self.driver = CountingDriver()
        budget = Budget(budget_bytes)
        self.stems = Stems(self.driver, budget, least=stems_least, most=stems_least)  # type: ignore[arg-type]
        self.pool = Pool(
            self.driver,  # type: ignore[arg-type]
            self.stems,
            budget,
            PoolLimits(**limits),  # type: ignore[arg-type]
            lambda target: Kind(Launch(key="k", argv=("x",), idle_mb=IDLE_MB), Limits()),
            self._load,
        )
        self.tasks = [asyncio.ensure_future(self.pool.run()), asyncio.ensure_future(self.stems.run())]

    async def _load(self, target: Target) -> Load:
        return Load(files={}, payload=b"{}", limits=Limits())

    async def acquire(self, target: Target) -> Slot:
        return self.pool.take(target.id) or await self.pool.acquire(target)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.pool.close()
        await self.stems.close()
        assert self.driver.live == set()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    yield house
    await house.close()


def target(name: str = "f") -> Target:
    function = Function(id=name, account_id="a", dialect="d", name=name, version_id=name, created_at=0.0, updated_at=0.0)
    return Target(function, Version(id=name, function_id=name, number=1, runtime="r", handler="h", source="", created_at=0.0))


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def until(condition) -> None:  # type: ignore[no-untyped-def]
    """Wait for something that the pool's own tasks bring about."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("waited in vain")


async def test_a_sandbox_is_used_again(house: House) -> None:
    first = await house.acquire(target())
    house.pool.give(first, 0.0)
    second = await house.acquire(target())
    assert second is first
    assert house.driver.made == 1
    house.pool.give(second, 0.0)


async def test_a_dropped_sandbox_is_never_used_again(house: House) -> None:
    first = await house.acquire(target())
    house.pool.drop(first)
    second = await house.acquire(target())
    assert second.sandbox is not first.sandbox
    house.pool.give(second, 0.0)


async def test_versions_share_nothing(house: House) -> None:
    first, second = await house.acquire(target("f")), await house.acquire(target("g"))
    assert first.sandbox is not second.sandbox
    house.pool.give(first, 0.0)
    assert house.pool.take("g") is None
    house.pool.give(second, 0.0)


async def test_callers_are_served_in_order(house: House) -> None:
    slots = [await house.acquire(target())]
    house.pool.give(slots[0], 0.0)
    slot = await house.acquire(target())
    slot.line.mean_s = 1e-6  # calls so short that nobody starts another sandbox for them
    served: list[int] = []

    async def one(number: int) -> None:
        got = await house.acquire(target())
        served.append(number)
        house.pool.give(got, 0.0)

    waiting = [asyncio.ensure_future(one(number)) for number in range(10)]
    await settle()
    house.pool.give(slot, 0.0)
    await asyncio.gather(*waiting)
    assert served == list(range(10))
    assert house.driver.made == 1


async def test_long_calls_get_sandboxes_of_their_own(house: House) -> None:
    slots = await asyncio.wait_for(asyncio.gather(*(house.acquire(target()) for _ in range(12))), 10)
    assert len({slot.sandbox.id for slot in slots}) == 12
    for slot in slots:
        house.pool.give(slot, 0.0)


async def test_calls_that_used_to_be_short_and_now_are_long(house: House) -> None:
    slot = await house.acquire(target())
    slot.line.mean_s = 1e-6
    others = [asyncio.ensure_future(house.acquire(target())) for _ in range(3)]
    slots = await asyncio.wait_for(asyncio.gather(*others), 10)
    for each in [slot, *slots]:
        house.pool.give(each, 0.0)


async def brisk(house: House) -> Slot:
    """The one sandbox of a function whose calls have been very short; in use, and open for more."""
    house.driver.ahead = True
    slot = await house.acquire(target())
    for _ in range(pool_module.BRISK_SERVED_MIN + 1):
        house.pool.give(slot, 0.00001)
        assert house.pool.take("f") is slot
    return slot


async def test_short_calls_share_a_sandbox(house: House) -> None:
    slot = await brisk(house)
    assert [house.pool.take("f") for _ in range(pool_module.SENT_MAX - 1)] == [slot] * (pool_module.SENT_MAX - 1)
    assert house.pool.take("f") is None
    house.pool.give(slot, 0.00001)
    assert house.pool.take("f") is slot
    for _ in range(pool_module.SENT_MAX):
        house.pool.give(slot, 0.00001)
    assert house.pool.counts() == {"idle": 1, "busy": 0, "starting": 0, "waiting": 0}


@pytest.mark.parametrize("reason", ["the sandbox does not want it", "calls are long"])
async def test_calls_that_share_no_sandbox(house: House, reason: str) -> None:
    slot = await brisk(house)
    if reason == "calls are long":
        house.pool.give(slot, 1.0)
        assert house.pool.take("f") is slot
    else:
        house.driver.ahead = False
    assert house.pool.take("f") is None
    house.pool.leave(slot)


async def test_waiting_calls_are_sent_together_once_calls_are_short(house: House) -> None:
    slot = await brisk(house)
    house.driver.ahead = False
    house.driver.gate.clear()
    waiting = [asyncio.ensure_future(house.pool.acquire(target())) for _ in range(3)]
    await settle()
    assert not any(task.done() for task in waiting)
    house.driver.ahead = True
    house.pool.give(slot, 0.00001)
    await settle()
    for task in waiting:
        assert task.result() is slot
        house.pool.leave(slot)
    house.driver.gate.set()


async def test_a_call_that_was_taken_back_goes_first_and_alone(house: House) -> None:
    slot = await brisk(house)
    assert house.pool.take("f") is slot
    house.driver.gate.clear()
    house.driver.ahead = False
    later = asyncio.ensure_future(house.pool.acquire(target()))
    await settle()
    house.pool.leave(slot)
    again = asyncio.ensure_future(house.pool.acquire(target(), again=True))
    house.driver.ahead = True
    await settle()
    assert not again.done() and not later.done()
    house.pool.give(slot, 0.00001)
    await settle()
    assert again.result() is slot
    assert later.result() is slot  # nothing long is before it
    house.pool.leave(slot)
    house.pool.leave(slot)
    house.driver.gate.set()


async def test_a_shared_sandbox_that_breaks_is_closed_when_all_have_left(house: House) -> None:
    slot = await brisk(house)
    assert house.pool.take("f") is slot
    house.pool.drop(slot)
    other = await house.acquire(target())
    assert other is not slot
    assert len(house.driver.live) == 2
    house.pool.drop(slot)
    await until(lambda: len(house.driver.live) == 1)
    house.pool.give(other, 0.0)


async def test_the_queue_is_bounded() -> None:
    house = House(sandboxes_per_version=1, queue_per_version=2)
    slot = await house.acquire(target())
    waiting = [asyncio.ensure_future(house.acquire(target())) for _ in range(2)]
    await settle()
    with pytest.raises(Busy):
        await house.acquire(target())
    house.pool.give(slot, 0.0)
    house.pool.give(await waiting[0], 0.0)
    house.pool.give(await waiting[1], 0.0)
    await house.close()


async def test_waiting_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(sandboxes_per_version=1, queue_wait_s=0.1)
    slot = await house.acquire(target())
    with pytest.raises(Busy, match="no capacity"):
        await house.acquire(target())
    assert house.pool.counts()["waiting"] == 0
    house.pool.give(slot, 0.0)
    await house.close()


async def test_a_caller_that_goes_away_loses_nothing(house: House) -> None:
    slot = await house.acquire(target())
    slot.line.mean_s = 1e-6
    waiting = asyncio.ensure_future(house.acquire(target()))
    await settle()
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    house.pool.give(slot, 0.0)
    assert house.pool.counts() == {"idle": 1, "busy": 0, "starting": 0, "waiting": 0}


async def test_a_caller_that_goes_away_at_the_moment_of_its_turn(house: House) -> None:
    slot = await house.acquire(target())
    slot.line.mean_s = 1e-6
    waiting = asyncio.ensure_future(house.acquire(target()))
    await settle()
    house.pool.give(slot, 0.0)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    assert house.pool.counts() == {"idle": 1, "busy": 0, "starting": 0, "waiting": 0}


async def test_a_start_that_fails_fails_its_caller(house: House) -> None:
    house.driver.failing = True
    with pytest.raises(StartFailed, match="no luck"):
        await house.acquire(target())
    house.driver.failing = False
    house.pool.give(await house.acquire(target()), 0.0)


async def test_retired_versions_finish_and_go(house: House) -> None:
    busy = await house.acquire(target())
    other = await house.acquire(target())
    house.pool.give(other, 0.0)
    house.pool.retire("f")
    await settle()
    assert house.driver.live == {busy.sandbox}
    house.pool.give(busy, 0.0)
    await settle()
    assert house.driver.live == set()
    assert house.pool.take("f") is None


async def test_memory_stays_inside_the_budget() -> None:
    house = House(budget_bytes=5 * IDLE_MB * MB)
    for number in range(20):
        house.pool.give(await asyncio.wait_for(house.acquire(target(f"f{number}")), 10), 0.0)
        await settle()
        assert len(house.driver.live) <= 5
    assert house.driver.made == 20
    newest = house.pool.take("f19")
    assert newest is not None
    house.pool.give(newest, 0.0)
    await house.close()


async def test_a_full_budget_makes_callers_wait() -> None:
    house = House(budget_bytes=2 * IDLE_MB * MB)
    first, second = await house.acquire(target("a")), await house.acquire(target("b"))
    third = asyncio.ensure_future(house.acquire(target("c")))
    await asyncio.sleep(3 * pool_module.TICK_S)
    assert not third.done()
    house.pool.give(first, 0.0)
    house.pool.give(await asyncio.wait_for(third, 10), 0.0)
    house.pool.give(second, 0.0)
    await house.close()


async def test_idle_sandboxes_expire() -> None:
    house = House(idle_s=0.01)
    house.pool.give(await house.acquire(target()), 0.0)
    await until(lambda: not house.driver.live)
    await house.close()


async def test_a_stem_serves_and_is_replaced() -> None:
    house = House(stems_least=2)
    await house.stems.warm(Kind(Launch(key="k", argv=("x",), idle_mb=IDLE_MB), Limits()))
    await until(lambda: house.stems.counts() == {"k": 2})
    slot = await house.acquire(target())
    assert isinstance(slot.sandbox, CountingSandbox)
    assert slot.sandbox.loads == 1
    await until(lambda: house.stems.counts() == {"k": 2})
    house.pool.give(slot, 0.0)
    await house.close()


async def test_a_dead_stem_is_not_handed_out() -> None:
    house = House(stems_least=1)
    await house.stems.warm(Kind(Launch(key="k", argv=("x",), idle_mb=IDLE_MB), Limits()))
    next(iter(house.driver.live)).closed = True
    slot = await house.acquire(target())
    assert isinstance(slot.sandbox, CountingSandbox)
    assert not slot.sandbox.closed
    house.pool.give(slot, 0.0)
    house.driver.live = {sandbox for sandbox in house.driver.live if not sandbox.closed}
    await house.close()


async def test_after_close_nobody_gets_in(house: House) -> None:
    slot = await house.acquire(target())
    slot.line.mean_s = 1e-6
    waiting = asyncio.ensure_future(house.acquire(target()))
    await settle()
    closing = asyncio.ensure_future(house.pool.close())
    with pytest.raises(Busy, match="shutting down"):
        await waiting
    with pytest.raises(Busy, match="shutting down"):
        await house.acquire(target("g"))
    house.pool.give(slot, 0.0)
    await closing
