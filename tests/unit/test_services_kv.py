"""``kv`` and ``env`` as functions ask for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.unit.services import Function, made_function

from spinney.errors import Invalid, NotFound
from spinney.model import Function as FunctionNoun
from spinney.ports import Answer, Scope
from spinney.stores.sql import SqlStore

pytestmark = pytest.mark.anyio
YES, NO = Answer(True), Answer(False)


@pytest.fixture
async def function(store: SqlStore) -> AsyncIterator[Function]:
    async with made_function(store) as function:
        yield function


async def put(function: Function, key: bytes, value: bytes, service: str = "kv", **args: object) -> Answer:
    return await function.ask(service, "set", {"key_bytes": len(key), **args}, key + value)


async def swap(function: Function, key: bytes, expected: bytes | None, new: bytes | None) -> bool:
    sizes = {"expected_bytes": None if expected is None else len(expected), "new_bytes": None if new is None else len(new)}
    answer = await function.ask("kv", "cas", {"key_bytes": len(key), **sizes}, key + (expected or b"") + (new or b""))
    assert isinstance(answer.value, bool)
    return answer.value


def read_keys(data: bytes) -> list[bytes]:
    keys = []
    while data:
        size = int.from_bytes(data[:4], "little")
        keys.append(data[4 : 4 + size])
        data = data[4 + size :]
    return keys


def read_entries(data: bytes) -> list[tuple[bytes, bytes]]:
    entries = []
    while data:
        end_of_key = 8 + int.from_bytes(data[:4], "little")
        end = end_of_key + int.from_bytes(data[4:8], "little")
        entries.append((data[8:end_of_key], data[end_of_key:end]))
        data = data[end:]
    return entries


@pytest.mark.parametrize("service", ["kv", "env"])
async def test_set_get_delete(function: Function, service: str) -> None:
    assert await function.ask(service, "get", data=b"k\xff\0") == NO
    assert await put(function, b"k\xff\0", b"\0value\xfe", service) == YES
    assert await function.ask(service, "get", data=b"k\xff\0") == Answer(True, b"\0value\xfe")
    assert await put(function, b"k\xff\0", b"", service) == YES
    assert await function.ask(service, "get", data=b"k\xff\0") == Answer(True, b"")
    for _ in range(2):
        assert await function.ask(service, "delete", data=b"k\xff\0") == YES
    assert await function.ask(service, "get", data=b"k\xff\0") == NO


async def test_what_is_known_is_answered_at_once(function: Function) -> None:
    await put(function, b"k", b"v")
    assert function.host.answer(function.call, "kv", "get", b'{"global":false}', b"k") == Answer(True, b"v")
    assert function.host.answer(function.call, "kv", "get", b"{}", b"k") == Answer(True, b"v")


async def test_scopes(store: SqlStore, function: Function) -> None:
    async with made_function(store) as other:
        await put(function, b"k", b"mine")
        await put(function, b"k", b"ours", **{"global": True})
        await put(function, b"k", b"variable", "env")
        assert await other.ask("kv", "get", data=b"k") == NO
        assert (await other.ask("kv", "get", {"global": True}, b"k")).data == b"ours"
        assert (await function.ask("kv", "get", data=b"k")).data == b"mine"
        assert (await function.ask("env", "get", {"global": True}, b"k")).data == b"variable", "there is no other"


async def test_empty_and_long_keys(function: Function) -> None:
    for key in (b"", b"k" * 513):
        assert await put(function, key, b"v") == NO
        assert await function.ask("kv", "get", data=key) == NO
        assert await function.ask("kv", "delete", data=key) == NO
    assert await put(function, b"k" * 512, b"v") == YES


async def test_large_values(function: Function) -> None:
    assert await put(function, b"k", bytes(1 << 20)) == YES
    assert await put(function, b"k", bytes((1 << 20) + 1)) == NO
    assert len((await function.ask("kv", "get", data=b"k")).data) == 1 << 20


async def test_list_and_all_come_in_pages(function: Function) -> None:
    wanted = {b"%04d" % n: b"x" * 1000 for n in range(2500)}
    await function.entries.replace(Scope("kv", function.id), wanted)
    keys: list[bytes] = []
    entries: list[tuple[bytes, bytes]] = []
    for found, method, read in ((keys, "list", read_keys), (entries, "all", read_entries)):
        more, pages = True, 0
        while more:
            last = found[-1] if found else b""
            answer = await function.ask("kv", method, data=last if isinstance(last, bytes) else last[0])
            assert len(answer.data) < 1 << 21
            found += read(answer.data)  # type: ignore[operator]
            more, pages = answer.value["more"], pages + 1
        assert pages == 3
    assert keys == sorted(wanted)
    assert entries == sorted(wanted.items())
    assert await function.ask("kv", "list", {"global": True}) == Answer({"more": False}, b"")


async def test_incr(function: Function) -> None:
    async def add(**args: object) -> object:
        return (await function.ask("kv", "incr", args, b"n")).value

    assert [await add(), await add(by=5), await add(by=-10), await add(by=0)] == [1, 6, -4, -4]
    assert (await function.ask("kv", "get", data=b"n")).data == b"-4"
    await put(function, b"n", b"007")
    assert await add() == 8
    await put(function, b"n", b"9223372036854775806")
    assert await add() == 9223372036854775807
    for value in (b"9223372036854775807", b"", b"1.0", b"x", b" 1", b"1 ", b"+1", b"0x1", b"1e3", b"1" * 30, b"\xd9\xa1"):
        await put(function, b"n", value)
        with pytest.raises(Invalid, match=r"^value is not an integer$"):
            await add()
        assert (await function.ask("kv", "get", data=b"n")).data == value
    with pytest.raises(Invalid, match="no room"):
        await function.ask("kv", "incr", {}, b"")


async def test_cas(function: Function) -> None:
    assert not await swap(function, b"k", b"", b"new")
    assert await swap(function, b"k", None, b"1")
    assert not await swap(function, b"k", None, b"2")
    assert not await swap(function, b"k", b"2", b"3")
    assert await swap(function, b"k", b"1", b"")
    assert await swap(function, b"k", b"", None)
    assert await function.ask("kv", "get", data=b"k") == NO
    assert not await swap(function, b"k", None, bytes((1 << 20) + 1)), "it would not fit"
    assert await swap(function, b"k", None, None)


async def test_nothing_is_lost_between_many(store: SqlStore, function: Function) -> None:
    async def add() -> None:
        for _ in range(25):
            await function.ask("kv", "incr", data=b"n")

    async def append() -> None:
        for _ in range(5):
            while True:
                answer = await function.ask("kv", "get", data=b"list")
                if await swap(function, b"list", answer.data if answer.value else None, answer.data + b"x"):
                    break

    await asyncio.gather(*(add() for _ in range(32)), *(append() for _ in range(8)))
    assert await store.entries.get(Scope("kv", function.id), b"n") == b"800"
    assert await store.entries.get(Scope("kv", function.id), b"list") == b"x" * 40


async def test_a_deleted_function_leaves_nothing(store: SqlStore, function: Function) -> None:
    await put(function, b"k", b"v")
    await put(function, b"k", b"v", "env")
    await store.delete(FunctionNoun, function.id)
    function.entries.forget_function(function.id)
    for service in ("kv", "env"):
        with pytest.raises(NotFound):
            await put(function, b"k", b"again", service)
        assert await function.ask(service, "get", data=b"k") == NO
        assert (await function.ask(service, "all")).data == b""


WRONG = (
    ("set", {"key_bytes": 5}, b"k"),
    ("set", {"key_bytes": -1}, b"k"),
    ("set", {"key_bytes": "1"}, b"k"),
    ("cas", {"key_bytes": 1, "expected_bytes": 5}, b"k"),
    ("cas", {"key_bytes": 1, "expected_bytes": -1}, b"k"),
    ("incr", {"by": 1.5}, b"k"),
    ("incr", {"by": "1"}, b"k"),
    ("incr", {"by": 10**30}, b"k"),
    ("get", {"global": 1}, b"k"),
    ("get", [0], b"k"),
    ("flush", {}, b""),
    ("", {}, b""),
)


async def test_wrong_questions(function: Function) -> None:
    for method, args, data in WRONG:
        with pytest.raises(Invalid):
            await function.ask("kv", method, args, data)
    assert await function.entries.find(Scope("kv", function.id)) == []


async def test_services_that_are_not_there(function: Function) -> None:
    with pytest.raises(Invalid, match=r"^there is no service 'sql'$"):
        await function.ask("sql", "query")
