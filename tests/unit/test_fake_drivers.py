"""The drivers that misbehave do so as their names say, and otherwise as the driver inside."""

from __future__ import annotations

import asyncio

import pytest

from spinney.drivers.fake import CrashingDriver, FakeDriver, NeverDriver, SlowDriver
from spinney.errors import StartFailed, Unsupported
from spinney.model import Call, Outcome
from spinney.ports import Command, Sandbox
from spinney.testing.driver_suite import make_spec

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def call(sandbox: Sandbox) -> Outcome:
    return (await sandbox.call(Call("id", b"body", 1.0), asyncio.get_running_loop().time() + 1)).outcome


async def test_a_slow_driver_starts_when_it_is_released() -> None:
    inner = FakeDriver()
    driver = SlowDriver(inner)
    starts = [asyncio.create_task(driver.create(make_spec())) for _ in range(3)]
    await asyncio.sleep(0)
    assert (driver.waiting, inner.created) == (3, 0)
    driver.release()
    sandboxes = await asyncio.gather(*starts)
    assert (driver.waiting, inner.created) == (0, 3)
    assert await call(sandboxes[0]) is Outcome.OK
    await driver.close()
    assert inner.sandboxes == {}


async def test_a_slow_start_can_be_given_up() -> None:
    driver = SlowDriver(FakeDriver())
    start = asyncio.create_task(driver.create(make_spec()))
    await asyncio.sleep(0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert driver.waiting == 0


async def test_a_never_driver_never_starts() -> None:
    driver = NeverDriver(FakeDriver())
    with pytest.raises(StartFailed):
        await driver.create(make_spec())
    assert (driver.name, await driver.sweep(()), driver.memory_bytes()) == ("fake", 0, 0)


async def test_a_crashing_driver_crashes_at_its_call() -> None:
    driver = CrashingDriver(calls=3)
    sandbox = await driver.create(make_spec())
    assert [await call(sandbox) for _ in range(4)] == [Outcome.OK, Outcome.OK, Outcome.EXITED, Outcome.NOT_RUN]
    assert await sandbox.poll() == 139


async def test_a_fake_sandbox_has_no_processes() -> None:
    sandbox = await FakeDriver().create(make_spec())
    with pytest.raises(Unsupported):
        await sandbox.exec(Command(argv=("/bin/true",)))
