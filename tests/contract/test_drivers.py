"""Every driver against the suite of its port."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from spinney.drivers.fake import FakeDriver, answer_suite
from spinney.drivers.oci import OciDriver
from spinney.ports import Driver, SandboxSpec
from spinney.testing.driver_suite import AheadSuite, DriverSuite, HostCallSuite, IsolationSuite, make_spec

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def spec() -> Callable[..., SandboxSpec]:
    return make_spec


class TestFake(DriverSuite):
    @pytest.fixture
    async def driver(self) -> AsyncIterator[Driver]:
        driver = FakeDriver(answer_suite)
        yield driver
        await driver.close()


class TestOci(IsolationSuite, AheadSuite, HostCallSuite):
    @pytest.fixture
    async def driver(self) -> AsyncIterator[Driver]:
        driver = OciDriver(Path("/run/spinney", uuid.uuid4().hex))
        yield driver
        await driver.close()
