"""The scheduler: what fires when, by clocks that are moved by hand."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from tests.unit.conftest import ManualClock

from spinney.core.index import Index, Target
from spinney.core.schedule import RUNNING_PER_ACCOUNT_MAX, Plan, Schedules
from spinney.errors import Unavailable
from spinney.model import Function, Version

pytestmark = pytest.mark.anyio

EVERY_SECOND = "* * * * * *"
EVERY_MINUTE = "* * * * *"


class Bench:
    """A scheduler over an index, a dialect that keeps cron texts in settings, and runs that end when they are told."""

    def __init__(self, clock: ManualClock, unfinished_max: int = 1) -> None:
        self.clock = clock
        self.index = Index()
        self.runs: list[tuple[str, float]] = []
        self.fail: Exception | None = None
        self.hold: asyncio.Event | None = None
        self.twice = asyncio.Event()
        self.schedules = Schedules(clock, self.index, {"test": Plan(self._schedule, self._run, unfinished_max)})

    def _schedule(self, target: Target) -> str | None:
        text: str | None = target.function.settings.get("cron")
        return text

    async def _run(self, target: Target, due: float) -> None:
        self.runs.append((target.function.name, due))
        if len(self.runs) == 2:
            self.twice.set()
        if self.fail is not None:
            raise self.fail
        if self.hold is not None:
            await self.hold.wait()

    def put(self, name: str, text: str | None, account: str = "default") -> None:
        times = {"created_at": 0.0, "updated_at": 0.0}
        function = Function(
            id=name, account_id=account, dialect="test", name=name, version_id=name, settings={"cron": text}, **times
        )
        version = Version(id=name, function_id=name, number=1, runtime="r", handler="", source="", created_at=0.0)
        self.index.put(Target(function, version))
        self.schedules.follow(name)

    def remove(self, name: str) -> None:
        target = self.index.get_function(name)
        assert target is not None
        self.index.remove(target)
        self.schedules.follow(name)

    async def passing(self, seconds: float, step: float = 0.25) -> list[tuple[str, float]]:
        """Let time pass, looking every ``step`` seconds; what fired, with its due time relative to ``start``."""
        self.runs.clear()
        for _ in range(round(seconds / step)):
            self.clock.time += step
            await self.look()
        return [(name, due - self.start) for name, due in self.runs]

    async def look(self) -> None:
        self.schedules.fire_due()
        for _ in range(4):
            await asyncio.sleep(0)

    @property
    def start(self) -> float:
        return 1_700_000_040.0  # a whole minute


@pytest.fixture
def bench(clock: ManualClock) -> Bench:
    clock.time = 1_700_000_040.0
    return Bench(clock)


async def test_fires_at_its_times(bench: Bench) -> None:
    bench.put("f", "*/2 * * * * *")
    assert await bench.passing(7) == [("f", 2.0), ("f", 4.0), ("f", 6.0)]


async def test_functions_without_a_schedule_do_nothing(bench: Bench) -> None:
    bench.put("f", None)
    bench.put("never", "0 0 30 2 *")
    assert await bench.passing(3) == []
    assert len(bench.schedules) == 1


async def test_many_are_due_together(bench: Bench) -> None:
    for number in range(5):
        bench.put(f"f{number}", EVERY_SECOND)
    assert sorted(await bench.passing(1)) == [(f"f{number}", 1.0) for number in range(5)]


async def test_what_the_index_holds_at_the_start_fires(bench: Bench) -> None:
    bench.put("f", EVERY_SECOND)
    again = Bench(bench.clock)
    again.index = bench.index
    again.schedules = Schedules(bench.clock, bench.index, {"test": Plan(again._schedule, again._run)})
    again.schedules.open()
    assert await again.passing(2) == [("f", 1.0), ("f", 2.0)]


async def test_times_while_nobody_looked_are_not_made_up(bench: Bench) -> None:
    bench.put("f", EVERY_SECOND)
    assert await bench.passing(10, step=10) == [("f", 1.0)]
    assert await bench.passing(1) == [("f", 11.0)]


async def test_changes_take_effect_at_once(bench: Bench) -> None:
    bench.put("f", EVERY_MINUTE)
    bench.put("f", EVERY_SECOND)
    assert await bench.passing(2) == [("f", 1.0), ("f", 2.0)]
    bench.put("f", None)
    assert await bench.passing(2) == []
    bench.put("f", EVERY_SECOND)
    assert await bench.passing(1) == [("f", 5.0)]
    bench.remove("f")
    assert await bench.passing(60) == []
    assert len(bench.schedules) == 0


async def test_an_update_that_keeps_the_schedule_keeps_its_times(bench: Bench) -> None:
    bench.put("f", "*/4 * * * * *")
    await bench.passing(3)
    bench.put("f", "*/4 * * * * *")
    assert await bench.passing(2) == [("f", 4.0)]


async def test_a_run_that_is_unfinished_skips_times(bench: Bench) -> None:
    bench.hold = asyncio.Event()
    bench.put("f", EVERY_SECOND)
    assert await bench.passing(5) == [("f", 1.0)]
    bench.put("f", "*/2 * * * * *")  # another schedule is no way around it
    assert await bench.passing(5) == []
    bench.hold.set()
    await bench.look()
    assert await bench.passing(2) == [("f", 12.0)]


async def test_overlaps_that_a_plan_allows(clock: ManualClock) -> None:
    clock.time = 1_700_000_040.0
    bench = Bench(clock, unfinished_max=3)
    bench.hold = asyncio.Event()
    bench.put("f", EVERY_SECOND)
    assert await bench.passing(5) == [("f", 1.0), ("f", 2.0), ("f", 3.0)]
    bench.hold.set()
    await bench.look()
    assert await bench.passing(1) == [("f", 6.0)]


async def test_a_burst_waits_for_its_turn_and_an_account_leaves_room(bench: Bench) -> None:
    bench.hold = asyncio.Event()
    for number in range(100):
        bench.put(f"f{number}", EVERY_MINUTE)
    bench.put("other", EVERY_MINUTE, account="other")
    began = await bench.passing(60)
    assert len(began) == RUNNING_PER_ACCOUNT_MAX + 1
    assert ("other", 60.0) in began
    bench.hold.set()
    for _ in range(50):
        await bench.look()
    assert len(bench.runs) == 101
    assert {due for _, due in bench.runs} == {bench.start + 60}


async def test_what_was_disabled_while_it_waited_does_not_run(bench: Bench) -> None:
    bench.hold = asyncio.Event()
    for number in range(RUNNING_PER_ACCOUNT_MAX + 2):
        bench.put(f"f{number}", EVERY_MINUTE)
    began = {name for name, _ in await bench.passing(60)}
    first, second = (f"f{n}" for n in range(RUNNING_PER_ACCOUNT_MAX + 2) if f"f{n}" not in began)
    bench.put(first, None)
    bench.remove(second)
    bench.hold.set()
    await bench.look()
    assert len(bench.runs) == RUNNING_PER_ACCOUNT_MAX


@pytest.mark.parametrize("error", [Unavailable("the journal is full"), RuntimeError("a fault")])
async def test_a_run_that_fails_stops_nothing(bench: Bench, error: Exception) -> None:
    bench.fail = error
    bench.put("f", EVERY_SECOND)
    assert await bench.passing(3) == [("f", 1.0), ("f", 2.0), ("f", 3.0)]


async def test_a_clock_set_forward_fires_nothing_for_what_it_jumped_over(bench: Bench) -> None:
    bench.put("minute", EVERY_MINUTE)
    await bench.passing(10)
    bench.clock.ahead = 86400.0
    assert await bench.passing(1) == []
    assert await bench.passing(49) == [("minute", 86460.0)]


async def test_a_clock_set_back_repeats_nothing(bench: Bench) -> None:
    bench.put("minute", EVERY_MINUTE)
    assert await bench.passing(150) == [("minute", 60.0), ("minute", 120.0)]
    bench.clock.ahead = -100.0  # 50 s after the start, by that clock
    assert await bench.passing(100) == []
    assert await bench.passing(60) == [("minute", 180.0)]


async def test_a_clock_set_back_by_more_than_it_could_repeat_is_believed(bench: Bench) -> None:
    bench.put("minute", EVERY_MINUTE)
    await bench.passing(1)
    bench.clock.ahead = -86400.0 * 400
    assert await bench.passing(60) == [("minute", 60.0 - 86400 * 400)]


@pytest.mark.parametrize("shake", [0.4, -0.4])
async def test_a_clock_that_is_nudged_fires_each_time_once(bench: Bench, shake: float) -> None:
    bench.put("f", EVERY_SECOND)
    fired: list[float] = []
    for number in range(20):
        bench.clock.ahead = shake * (number % 2)
        fired += [due for _, due in await bench.passing(1.25, step=0.05)]
    assert len(fired) == len(set(fired))
    assert len(fired) >= 23


async def test_schedules_that_were_replaced_do_not_pile_up(bench: Bench) -> None:
    bench.put("f", EVERY_SECOND)
    for minute in range(1000):
        bench.put("g", f"{minute % 60} 0 1 1 *")
    assert len(bench.schedules._heap) < 100
    assert await bench.passing(1) == [("f", 1.0)]


async def test_a_text_that_cannot_be_read_harms_no_other(bench: Bench) -> None:
    bench.put("bad", "every minute")
    bench.put("good", EVERY_SECOND)
    assert await bench.passing(1) == [("good", 1.0)]


async def test_runs_by_the_real_clock_until_it_is_stopped() -> None:
    class RealClock(ManualClock):
        def now(self) -> float:
            return asyncio.get_running_loop().time() + self.time

        def monotonic(self) -> float:
            return asyncio.get_running_loop().time()

    bench = Bench(RealClock())
    running = asyncio.create_task(bench.schedules.run())
    bench.put("f", EVERY_SECOND)  # it must notice what comes after it began to wait
    async with asyncio.timeout(30):
        await bench.twice.wait()
    bench.schedules.stop()
    await running
    count = len(bench.runs)
    bench.clock.time += 60
    await bench.look()
    assert len(bench.runs) == count
    await bench.schedules.close(1)


async def test_what_runs_at_the_end_gets_its_time(bench: Bench) -> None:
    bench.hold = asyncio.Event()
    bench.put("f", EVERY_SECOND)
    await bench.passing(1)
    closing = asyncio.create_task(bench.schedules.close(30))
    await asyncio.sleep(0)
    assert not closing.done()
    bench.hold.set()
    await closing


async def test_a_function_that_changed_while_it_waited_runs_as_it_is_then(bench: Bench) -> None:
    bench.hold = asyncio.Event()
    names = {f"f{number}" for number in range(RUNNING_PER_ACCOUNT_MAX + 1)}
    for name in names:
        bench.put(name, EVERY_MINUTE)
    [late] = names - {name for name, _ in await bench.passing(60)}
    target = bench.index.get_function(late)
    assert target is not None
    bench.index.put(Target(msgspec.structs.replace(target.function, name="changed"), target.version))
    bench.schedules.follow(late)
    bench.hold.set()
    await bench.look()
    assert bench.runs[-1] == ("changed", bench.start + 60)
