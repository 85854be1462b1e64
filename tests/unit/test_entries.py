"""Entries: what memory says is what the store holds, changes are atomic and durable, limits hold, owners take all with them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence

import pytest

from spinney.core import entries as entries_module
from spinney.core.entries import Entries, Unknown
from spinney.errors import Invalid, NotFound, Unavailable
from spinney.model import DEFAULT_ACCOUNT, Function
from spinney.ports import Change, EntryStore, Scope
from spinney.stores.sql import SqlStore
from spinney.testing.store_suite import make_function

pytestmark = pytest.mark.anyio
OF_ACCOUNT = Scope("account_kv", DEFAULT_ACCOUNT)


class CountingStore:
    """An EntryStore that counts what it is asked, can be held up, and can refuse."""

    def __init__(self, store: EntryStore) -> None:
        self.store = store
        self.gets = 0
        self.batches: list[int] = []
        self.refuses = False
        self.open = asyncio.Event()
        self.open.set()

    async def get(self, scope: Scope, key: bytes) -> bytes | None:
        self.gets += 1
        value = await self.store.get(scope, key)
        await self.open.wait()
        return value

    async def find(self, scope: Scope, *, after: bytes = b"", limit_bytes: int | None = None) -> list[tuple[bytes, bytes]]:
        return await self.store.find(scope, after=after, limit_bytes=limit_bytes)

    async def keys(self, scope: Scope, *, after: bytes = b"", limit: int) -> list[bytes]:
        return await self.store.keys(scope, after=after, limit=limit)

    async def measure(self, scope: Scope) -> tuple[int, int]:
        return await self.store.measure(scope)

    async def change(self, changes: Sequence[Change]) -> list[bool]:
        self.batches.append(len(changes))
        if self.refuses:
            raise Unavailable("the disk of the data directory is full")
        return await self.store.change(changes)

    async def replace(self, scope: Scope, entries: Mapping[bytes, bytes]) -> None:
        await self.store.replace(scope, entries)


@pytest.fixture
async def counting(store: SqlStore) -> CountingStore:
    return CountingStore(store.entries)


@pytest.fixture
async def entries(counting: CountingStore) -> Entries:
    return Entries(counting)


@pytest.fixture
async def scope(store: SqlStore) -> Scope:
    function = make_function()
    await store.insert(function)
    return Scope("kv", function.id)


def add_one(value: bytes | None) -> bytes:
    return b"%d" % (int(value or b"0") + 1)


async def test_what_was_written_is_read_without_asking(entries: Entries, counting: CountingStore, scope: Scope) -> None:
    assert await entries.put(scope, b"key", b"value\0\xff")
    assert entries.peek(scope, b"key") == b"value\0\xff"
    assert await entries.get(scope, b"key") == b"value\0\xff"
    assert await entries.put(scope, b"key", None)
    assert entries.peek(scope, b"key") is None
    assert counting.gets == 0


async def test_what_was_looked_for_is_known_from_then_on(entries: Entries, counting: CountingStore, scope: Scope) -> None:
    await counting.store.replace(scope, {b"there": b"1"})
    assert isinstance(entries.peek(scope, b"there"), Unknown)
    assert [await entries.get(scope, key) for key in (b"there", b"not", b"there", b"not")] == [b"1", None, b"1", None]
    assert counting.gets == 2


async def test_readers_of_one_entry_share_a_look(entries: Entries, counting: CountingStore, scope: Scope) -> None:
    await counting.store.replace(scope, {b"k": b"1"})
    counting.open.clear()
    readers = [asyncio.create_task(entries.get(scope, b"k")) for _ in range(10)]
    await asyncio.sleep(0)
    readers[0].cancel()
    counting.open.set()
    assert await asyncio.gather(*readers[1:]) == [b"1"] * 9
    assert counting.gets == 1


async def test_a_change_during_a_look_is_not_undone(entries: Entries, counting: CountingStore, scope: Scope) -> None:
    await counting.store.replace(scope, {b"k": b"old"})
    counting.open.clear()
    reader = asyncio.create_task(entries.get(scope, b"k"))
    await asyncio.sleep(0)
    await entries.put(scope, b"k", b"new")
    counting.open.set()
    assert await reader == b"old", "it began before"
    assert await entries.get(scope, b"k") == b"new"


async def test_a_replacement_during_a_look_is_not_undone(entries: Entries, counting: CountingStore, scope: Scope) -> None:
    await counting.store.replace(scope, {b"k": b"old"})
    counting.open.clear()
    reader = asyncio.create_task(entries.get(scope, b"k"))
    await asyncio.sleep(0)
    await entries.replace(scope, {b"k": b"new"})
    counting.open.set()
    await reader
    assert await entries.get(scope, b"k") == b"new"


async def test_no_update_is_lost_and_many_share_a_transaction(entries: Entries, counting: CountingStore, scope: Scope) -> None:
    async def work() -> None:
        for _ in range(50):
            assert await entries.change(scope, b"n", add_one)

    await asyncio.gather(*(work() for _ in range(32)))
    assert await counting.store.get(scope, b"n") == b"1600" == entries.peek(scope, b"n")
    assert len(counting.batches) < 200


async def test_what_is_acknowledged_is_in_the_file(store: SqlStore, entries: Entries, scope: Scope) -> None:
    other = SqlStore(str(store._nouns.url))
    await other.open()
    for number in range(10):
        await entries.put(scope, b"k", b"%d" % number)
        assert await other.entries.get(scope, b"k") == b"%d" % number
    await other.close()


async def test_scopes_do_not_see_each_other(store: SqlStore, entries: Entries, scope: Scope) -> None:
    other = make_function()
    await store.insert(other)
    scopes = [scope, Scope("environment", scope.owner_id), Scope("kv", other.id), OF_ACCOUNT]
    for number, one in enumerate(scopes):
        await entries.put(one, b"k", b"%d" % number)
    assert [await entries.get(one, b"k") for one in scopes] == [b"0", b"1", b"2", b"3"]
    assert [await entries.find(one) for one in scopes] == [[(b"k", b"%d" % number)] for number in range(4)]


async def test_a_function_takes_its_entries_with_it(store: SqlStore, entries: Entries, scope: Scope) -> None:
    await entries.put(scope, b"k", b"v")
    await entries.put(OF_ACCOUNT, b"k", b"v")
    await store.delete(Function, scope.owner_id)
    entries.forget_function(scope.owner_id)
    with pytest.raises(NotFound):
        await entries.put(scope, b"k", b"late")
    with pytest.raises(NotFound):
        await entries.replace(scope, {b"k": b"late"})
    assert await entries.get(scope, b"k") is None
    assert await entries.find(scope) == []
    assert await entries.get(OF_ACCOUNT, b"k") == b"v"


async def test_one_that_is_gone_does_not_hold_up_others(store: SqlStore, entries: Entries, scope: Scope) -> None:
    gone = Scope("kv", "nobody")
    results = await asyncio.gather(
        entries.put(scope, b"a", b"1"), entries.put(gone, b"a", b"1"), entries.put(scope, b"b", b"2"), return_exceptions=True
    )
    assert (results[0], type(results[1]), results[2]) == (True, NotFound, True)
    assert await entries.find(scope) == [(b"a", b"1"), (b"b", b"2")]


@pytest.mark.parametrize(
    ("key", "value", "fits"),
    [
        (b"", b"v", False),
        (b"k", b"", True),
        (b"k" * 512, b"v", True),
        (b"k" * 513, b"v", False),
        (b"\0\xff\n", b"v", True),
        (b"k", bytes(1 << 20), True),
        (b"k", bytes((1 << 20) + 1), False),
    ],
)
async def test_limits_of_an_entry(entries: Entries, scope: Scope, key: bytes, value: bytes, fits: bool) -> None:
    assert await entries.put(scope, key, value) is fits
    assert await entries.find(scope) == ([(key, value)] if fits else [])


async def test_limits_of_a_scope(entries: Entries, scope: Scope) -> None:
    environment = Scope("environment", scope.owner_id)
    half = bytes((1 << 19) - 1)
    assert [await entries.put(environment, key, half) for key in (b"a", b"b", b"c")] == [True, True, False]
    assert not await entries.put(environment, b"b", bytes(1 << 19))
    assert await entries.get(environment, b"b") == half, "what is refused changes nothing"
    assert await entries.put(environment, b"b", half[:-2])
    assert await entries.put(environment, b"c", b"1")
    assert not await entries.put(environment, b"d", b"1")
    assert await entries.put(environment, b"a", None)
    assert await entries.put(environment, b"d", half)
    entries.forget(environment)
    assert not await entries.put(environment, b"e", half), "also when it must be measured anew"


async def test_replace(entries: Entries, scope: Scope) -> None:
    await entries.put(scope, b"old", b"1")
    await entries.replace(scope, {b"b": b"2", b"a": b"1"})
    assert await entries.find(scope) == [(b"a", b"1"), (b"b", b"2")]
    assert await entries.get(scope, b"old") is None
    for wrong in ({b"": b""}, {b"k": bytes((1 << 20) + 1)}, {b"%d" % n: bytes(1 << 20) for n in range(64)}):
        with pytest.raises(Invalid):
            await entries.replace(scope, wrong)
    await entries.replace(scope, {})
    assert await entries.find(scope) == []


async def test_pages(entries: Entries, scope: Scope) -> None:
    await entries.replace(scope, {b"%03d" % n: bytes(100) for n in range(100)})
    assert await entries.keys(scope, after=b"050", limit=3) == [b"051", b"052", b"053"]
    assert [key for key, _ in await entries.find(scope, after=b"097", limit_bytes=10_000)] == [b"098", b"099"]
    assert len(await entries.find(scope, limit_bytes=1030)) == 10
    assert len(await entries.find(scope, limit_bytes=1)) == 1, "there is always progress"


async def test_a_store_that_refuses(entries: Entries, counting: CountingStore, scope: Scope) -> None:
    await entries.put(scope, b"k", b"1")
    counting.refuses = True
    results = await asyncio.gather(*(entries.change(scope, b"k", add_one) for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable] * 5
    assert await entries.get(scope, b"k") == b"1"
    counting.refuses = False
    assert await entries.change(scope, b"k", add_one)
    assert await entries.get(scope, b"k") == b"2"


async def test_who_goes_away_does_not_harm_the_others(entries: Entries, scope: Scope) -> None:
    await entries.put(scope, b"n", b"0")
    changes = [asyncio.create_task(entries.change(scope, b"n", add_one)) for _ in range(10)]
    await asyncio.sleep(0)
    for change in changes[::2]:
        change.cancel()
    assert [await change for change in changes[1::2]] == [True] * 5
    await entries.close()
    assert int(await entries.get(scope, b"n") or 0) >= 5


async def test_memory_is_bounded(entries: Entries, scope: Scope, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries_module, "CACHE_SCOPE_BYTES_MAX", 100_000)
    monkeypatch.setattr(entries_module, "CACHE_BYTES_MAX", 150_000)
    scopes = [scope, OF_ACCOUNT, Scope("environment", scope.owner_id)]
    for start in range(0, 600, 20):
        await asyncio.gather(*(entries.put(scopes[n % 3], b"%d" % n, bytes(500)) for n in range(start, start + 20)))
        known = [entry for cached in entries._cache.values() for entry in cached.values.items()]
        assert sum(len(key) + len(value or b"") + 256 for key, value in known) == entries._cache_bytes <= 150_000
    for n in range(600):
        assert await entries.get(scopes[n % 3], b"%d" % n) == bytes(500)


COUNTER = """
import asyncio, sys
from spinney.core.entries import Entries
from spinney.ports import Scope
from spinney.stores.sql import SqlStore

async def main():
    store = SqlStore(sys.argv[1])
    await store.open()
    entries, scope = Entries(store.entries), Scope("kv", sys.argv[2])
    async def count(key):
        while True:
            await entries.change(scope, key, lambda value: b"%d" % (int(value or b"0") + 1))
            print(key.decode(), entries.peek(scope, key).decode(), flush=True)
    await asyncio.gather(*(count(b"key-%d" % number) for number in range(4)))

asyncio.run(main())
"""


async def test_what_was_acknowledged_survives_a_kill(store: SqlStore, scope: Scope) -> None:
    """``kill -9`` in the middle of it: nothing that was said is missing, and nothing was done twice."""
    url = str(store._nouns.url)
    writer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", COUNTER, url, scope.owner_id), stdout=asyncio.subprocess.PIPE
    )
    assert writer.stdout is not None
    said = {}
    for _ in range(200):
        key, number = (await writer.stdout.readline()).split()
        said[key] = int(number)
    writer.kill()
    for line in (await writer.stdout.read()).splitlines():
        if len(line.split()) == 2:
            key, number = line.split()
            said[key] = max(said[key], int(number)) if number.isdigit() else said[key]
    await writer.wait()
    for key, number in said.items():
        kept = int(await store.entries.get(scope, key) or 0)
        assert number <= kept <= number + 1, "one may have been kept that was not said any more"
