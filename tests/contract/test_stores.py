"""Every store passes the suite; and what SQLite's file adds: who may read it, and disks that do not cooperate."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from spinney.errors import Unavailable
from spinney.model import Function
from spinney.ports import Store
from spinney.stores import engine
from spinney.stores.sql import SqlStore
from spinney.testing.entry_suite import EntrySuite
from spinney.testing.store_suite import StoreSuite, make_execution, make_function, texts

pytestmark = pytest.mark.anyio

URLS = ("sqlite:///{directory}/spinney.db",)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class TestSqlStore(StoreSuite, EntrySuite):
    @pytest.fixture(params=URLS)
    def connect(self, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
        return lambda: SqlStore(request.param.format(directory=tmp_path))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    store = SqlStore(f"sqlite:///{tmp_path}/spinney.db")
    await store.open()
    yield store
    await store.close()


async def test_only_the_owner_reads_the_file(store: SqlStore, tmp_path: Path) -> None:
    await store.insert(make_function())
    assert {entry.stat().st_mode & 0o777 for entry in os.scandir(tmp_path)} == {0o600}


async def test_closed(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/spinney.db")
    await store.open()
    await store.close()
    await store.close()
    with pytest.raises(Unavailable, match="closed"):
        await store.find(Function)
    assert os.listdir(tmp_path) == ["spinney.db"], "the write-ahead log is not left behind"


async def test_a_full_disk(store: SqlStore) -> None:
    function = make_function()
    await store.insert(function)
    for side in (store._nouns, store._records):
        with side.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=1")
    with pytest.raises(Unavailable, match=r"^the disk of the data directory is full$"):
        for _ in range(100):
            await store.insert(make_function(description="x" * 10_000))
    with pytest.raises(Unavailable, match=r"^the disk of the data directory is full$"):
        for _ in range(100):
            store.write_executions(texts([make_execution(function, output="x" * 10_000)]))
    for side in (store._nouns, store._records):
        with side.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    await store.insert(make_function(description="x" * 10_000))
    store.write_executions(texts([make_execution(function, output="x" * 10_000)]))


async def test_locked_by_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_S", 0.01)
    store = SqlStore(f"sqlite:///{tmp_path}/spinney.db")
    await store.open()
    other = sqlite3.connect(tmp_path / "spinney.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match=r"^the store is busy$"):
        await store.insert(make_function())
    with pytest.raises(Unavailable, match=r"^the store is busy$"):
        store.write_executions(texts([make_execution(make_function())]))
    assert await store.find(Function) == [], "reading goes on"
    other.execute("ROLLBACK")
    other.close()
    await store.insert(make_function())
    await store.close()


@pytest.mark.parametrize("content", [None, b"not a database, but long enough to be taken for one" * 100])
async def test_no_database(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "nowhere" / "spinney.db"
    if content is not None:
        path.parent.mkdir()
        path.write_bytes(content)
    store = SqlStore(f"sqlite:///{path}")
    with pytest.raises(Unavailable) as caught:
        await store.open()
    assert str(tmp_path) not in caught.value.message
    await store.close()


async def test_bad_records_are_refused_whole(store: SqlStore) -> None:
    function = make_function()
    good = texts([make_execution(function)])
    for bad in (b"{}", b'{"id": "x"', b"null"):
        with pytest.raises(Exception, match=r"store|belongs"):
            store.write_executions([*good, bad])
        assert await store.find_executions(function.id) == []
