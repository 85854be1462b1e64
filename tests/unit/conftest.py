"""Unit tests run on asyncio only: it is what the server runs on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spinney.stores.sql import SqlStore


class ManualClock:
    """Implements ports.Clock; time passes only when told. ``ahead`` is how far somebody has set the wall clock."""

    def __init__(self) -> None:
        self.time = 1_700_000_000.0
        self.ahead = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time + self.ahead

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    """An empty store on a real SQLite file."""
    store = SqlStore(f"sqlite:///{tmp_path / 'spinney.db'}")
    await store.open()
    yield store
    await store.close()
