"""Functions and versions: one of many creates wins, updates are whole, the index is what the store says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.conftest import ManualClock

from spinney.core.functions import Functions
from spinney.core.index import Index
from spinney.errors import Conflict, NotFound
from spinney.model import Account, Function, Version
from spinney.ports import Store

pytestmark = pytest.mark.anyio
VERSION: dict[str, Any] = {"runtime": "nodejs20", "handler": "index.handler", "source": "1", "environment": {"A": "b"}}


class Shop:
    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.index = Index()
        self.retired: list[str] = []
        self.changed: list[str] = []
        self.functions = Functions(store, self.index, clock, self.retired.append, self.changed.append)

    async def create(self, name: str = "f", account_id: str = "default") -> tuple[Function, Version]:
        return await self.functions.create(account_id=account_id, dialect="impuls", name=name, version=VERSION)


@pytest.fixture
def shop(store: Store, clock: ManualClock) -> Shop:
    return Shop(store, clock)


async def test_one_of_many_creates_wins(shop: Shop) -> None:
    results = await asyncio.gather(*(shop.create() for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(result, tuple) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 9


async def test_names_belong_to_accounts(shop: Shop, store: Store) -> None:
    await store.insert(*(Account(id=id, name=id, created_at=1.0) for id in "ab"))
    await shop.create(account_id="a")
    await shop.create(account_id="b")
    assert [len(shop.index.find("impuls", account)) for account in "abc"] == [1, 1, 0]


async def test_the_index_is_light_and_survives_a_restart(shop: Shop, store: Store, clock: ManualClock) -> None:
    function, version = await shop.create()
    again = Shop(store, clock)
    await again.functions.open()
    target = again.index.get("impuls", "default", "f")
    assert target is not None
    assert target == shop.index.get("impuls", "default", "f")
    assert (target.function, target.version.source, target.version.environment) == (function, "", {})
    assert (await again.functions.version(target)) == version


async def test_an_update_makes_a_version_and_retires_the_old(shop: Shop) -> None:
    function, first = await shop.create()
    changed, second = await shop.functions.update(function.id, version={"source": "2"}, description="new")
    assert (second.number, second.source, second.environment) == (2, "2", {"A": "b"})
    assert (changed.id, changed.created_at, changed.description) == (function.id, function.created_at, "new")
    assert changed.updated_at > function.updated_at
    assert shop.retired == [first.id]


async def test_simultaneous_updates_all_count(shop: Shop) -> None:
    function, _ = await shop.create()
    await asyncio.gather(*(shop.functions.update(function.id, version={"memory_mb": 64 + i}) for i in range(8)))
    target = shop.index.get_function(function.id)
    assert target is not None
    assert target.version.number == 9
    assert len(set(shop.retired)) == 8


async def test_newest_first_even_within_a_millisecond(shop: Shop) -> None:
    for i in range(5):
        await shop.create(f"f{i}")
    names = [target.function.name for target in shop.index.find("impuls", "default")]
    assert names == ["f4", "f3", "f2", "f1", "f0"]


async def test_delete_is_once(shop: Shop, store: Store) -> None:
    function, version = await shop.create()
    target = shop.index.get_function(function.id)
    assert target is not None
    await shop.functions.delete(target)
    with pytest.raises(NotFound):
        await shop.functions.delete(target)
    with pytest.raises(NotFound):
        await shop.functions.version(target)
    with pytest.raises(NotFound):
        await shop.functions.update(function.id, version={})
    assert shop.retired == [version.id]
    assert await store.find(Version) == []
    again, _ = await shop.create()
    assert again.id != function.id
