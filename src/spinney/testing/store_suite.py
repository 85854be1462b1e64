"""What every Store must do. Subclass ``StoreSuite`` in a test, with a ``connect`` fixture, and mark the class with ``anyio``."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import msgspec
import pytest

from spinney.errors import Conflict, NotFound
from spinney.model import DEFAULT_ACCOUNT, Account, Execution, Function, Status, Token, Version
from spinney.ports import Store

ODD_TEXT = 'tab\t nul\0 quote\' "double" back\\slash ${x} line\r\n\u2028 é 🌲 \\ud83d'
MANY = 2500
"""More than a store deletes at a time."""

_numbers = itertools.count(1)


def make_account(**fields: Any) -> Account:
    number = next(_numbers)
    defaults: dict[str, Any] = {"id": str(uuid.uuid4()), "name": f"account-{number}", "created_at": float(number)}
    return Account(**defaults | fields)


def make_token(**fields: Any) -> Token:
    number = next(_numbers)
    defaults: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "account_id": DEFAULT_ACCOUNT,
        "name": f"token-{number}",
        "digest": f"{number:064x}",
        "created_at": float(number),
    }
    return Token(**defaults | fields)


def make_function(**fields: Any) -> Function:
    number = next(_numbers)
    defaults: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "account_id": DEFAULT_ACCOUNT,
        "dialect": "impuls",
        "name": f"function-{number}",
        "version_id": str(uuid.uuid4()),
        "created_at": float(number),
        "updated_at": float(number),
    }
    return Function(**defaults | fields)


def make_version(function: Function, **fields: Any) -> Version:
    defaults: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "function_id": function.id,
        "number": 1,
        "runtime": "nodejs20",
        "handler": "index.handler",
        "source": "exports.handler = () => 1",
        "created_at": 1.25,
    }
    return Version(**defaults | fields)


def make_execution(function: Function, **fields: Any) -> Execution:
    defaults: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "function_id": function.id,
        "version_id": function.version_id,
        "account_id": function.account_id,
        "trigger": "http",
        "status": Status.SUCCESS,
        "started_at": float(next(_numbers)),
    }
    return Execution(**defaults | fields)


def texts(executions: Iterable[Execution]) -> list[bytes]:
    """What the journal hands to ``write_executions``."""
    return [msgspec.json.encode(execution) for execution in executions]


class StoreSuite:
    """The tests. ``connect`` makes Stores, not yet open, that all reach one database, empty at the start of each test."""

    @pytest.fixture
    def connect(self) -> Callable[[], Store]:
        raise NotImplementedError

    @pytest.fixture
    async def store(self, connect: Callable[[], Store]) -> AsyncIterator[Store]:
        store = connect()
        await store.open()
        yield store
        await store.close()

    # -- nouns ---------------------------------------------------------------------------------------------------------

    async def test_nouns_come_back_as_they_went(self, store: Store) -> None:
        account = make_account(created_at=1700000000.123456)
        token = make_token(account_id=account.id, scopes=("invoke", "read"), expires_at=2.5)
        function = make_function(account_id=account.id, description=ODD_TEXT, settings={"a": [1, {"b": None}], ODD_TEXT: True})
        version = make_version(function, source=ODD_TEXT * 1000, environment={ODD_TEXT: ODD_TEXT}, memory_mb=4096, timeout_s=0.5)
        await store.insert(account, token, function, version)
        for noun in (account, token, function, version):
            assert await store.get(type(noun), noun.id) == noun
            assert await store.find(type(noun), id=noun.id) == [noun]

    async def test_what_is_not_there(self, store: Store) -> None:
        assert await store.get(Function, "nothing") is None
        assert await store.find(Function, name="nothing") == []
        assert await store.delete(Function, "nothing") is False

    async def test_the_default_account_is_there_from_the_start(self, store: Store) -> None:
        account = await store.get(Account, DEFAULT_ACCOUNT)
        assert account is not None
        assert account.name == DEFAULT_ACCOUNT

    async def test_another_store_sees_it_at_once(self, store: Store, connect: Callable[[], Store]) -> None:
        other = connect()
        await other.open()
        await store.insert(function := make_function())
        assert await other.get(Function, function.id) == function
        await other.close()

    async def test_taken_names_conflict(self, store: Store) -> None:
        function, token, account = make_function(), make_token(), make_account()
        version = make_version(function)
        await store.insert(function, version, token, account)
        for taken in (
            make_function(id=function.id),
            make_function(name=function.name),
            make_version(function, number=version.number),
            make_token(digest=token.digest),
            make_account(name=account.name),
        ):
            with pytest.raises(Conflict):
                await store.insert(taken)
        await store.insert(
            make_function(name=function.name, account_id=account.id), make_function(name=function.name, dialect="nil")
        )

    async def test_insert_is_all_or_none(self, store: Store) -> None:
        function, new = make_function(), make_function()
        await store.insert(function)
        with pytest.raises(Conflict):
            await store.insert(new, make_version(new), make_function(name=function.name))
        assert await store.find(Function) == [function]
        assert await store.find(Version) == []

    async def test_owners_must_exist(self, store: Store) -> None:
        with pytest.raises(Conflict):
            await store.insert(make_version(make_function()))
        with pytest.raises(Conflict):
            await store.insert(make_token(account_id="nobody"))

    async def test_of_simultaneous_inserts_with_one_name_one_wins(self, store: Store, connect: Callable[[], Store]) -> None:
        other = connect()
        await other.open()
        tries = [(store, other)[number % 2].insert(make_function(name="same")) for number in range(20)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert results.count(None) == 1
        assert sum(isinstance(result, Conflict) for result in results) == 19
        assert len(await store.find(Function, name="same")) == 1
        await other.close()

    async def test_find_orders_and_pages(self, store: Store) -> None:
        functions = [make_function(created_at=time) for time in (3.0, 1.0, 2.0, 2.0)]
        for function in functions:
            await store.insert(function)
        third, first, second, tie = functions
        assert await store.find(Function) == functions
        assert await store.find(Function, order="created_at") == [first, second, tie, third]
        assert await store.find(Function, order="-created_at") == [third, tie, second, first]
        assert await store.find(Function, order="-created_at", limit=2, offset=1) == [tie, second]
        assert await store.find(Function, order="created_at", offset=3) == [third]

    async def test_find_by_several_values(self, store: Store) -> None:
        functions = [make_function(dialect=dialect) for dialect in ("impuls", "nil", "lunar")]
        await store.insert(*functions)
        assert await store.find(Function, dialect=["impuls", "lunar"]) == [functions[0], functions[2]]
        assert await store.find(Function, dialect=["impuls", "lunar"], name=functions[0].name) == [functions[0]]
        assert await store.find(Function, dialect=[]) == []

    async def test_find_without_fields(self, store: Store) -> None:
        function = make_function()
        version = make_version(function, environment={"KEY": "value"})
        await store.insert(function, version)
        light = msgspec.structs.replace(version, source="", environment={})
        assert await store.find(Version, without=("source", "environment")) == [light]
        execution = make_execution(function, output="long", logs="longer")
        store.write_executions(texts([execution]))
        assert await store.find(Execution, without={"output", "logs"}) == [
            msgspec.structs.replace(execution, output=None, logs="")
        ]

    async def test_replace(self, store: Store) -> None:
        function, other = make_function(), make_function()
        await store.insert(function, other)
        changed = msgspec.structs.replace(function, description="new", settings={"k": 1}, version_id="next")
        version = make_version(function, number=2)
        await store.replace(changed, insert=[version])
        assert await store.find(Function) == [changed, other]
        assert await store.find(Version) == [version]

    async def test_a_refused_replace_changes_nothing(self, store: Store) -> None:
        function = make_function()
        version = make_version(function)
        await store.insert(function, version)
        changed = msgspec.structs.replace(function, description="new")
        with pytest.raises(NotFound):
            await store.replace(changed, make_function())
        with pytest.raises(Conflict):
            await store.replace(changed, insert=[make_version(function, number=version.number)])
        assert await store.find(Function) == [function]

    async def test_delete_takes_what_belongs_to_it(self, store: Store) -> None:
        function, other = make_function(), make_function()
        version, kept = make_version(function), make_version(other)
        mine, others = make_execution(function), make_execution(other)
        await store.insert(function, version, other, kept)
        store.write_executions(texts([mine, others]))
        assert await store.delete(Function, function.id) is True
        assert await store.delete(Function, function.id) is False
        assert (await store.find(Function), await store.find(Version)) == ([other], [kept])
        assert await store.get(Execution, mine.id) is None
        assert await store.get(Execution, others.id) == others
        await store.insert(make_function(name=function.name))

    async def test_a_long_history_goes_too(self, store: Store) -> None:
        function = make_function()
        await store.insert(function)
        store.write_executions(texts(make_execution(function) for _ in range(MANY)))
        await store.delete(Function, function.id)
        while await store.find_executions(function.id, limit=1):
            pass  # each look gives the store its turn

    async def test_an_account_goes_with_its_tokens_and_functions(self, store: Store) -> None:
        account = make_account()
        function = make_function(account_id=account.id)
        execution = make_execution(function)
        await store.insert(account, make_token(account_id=account.id), function, make_version(function), kept := make_token())
        store.write_executions(texts([execution]))
        assert await store.delete(Account, account.id)
        assert (await store.find(Token), await store.find(Function), await store.find(Version)) == ([kept], [], [])
        while await store.get(Execution, execution.id):
            pass

    async def test_generation_follows_tokens_and_accounts(self, store: Store, connect: Callable[[], Store]) -> None:
        other = connect()
        await other.open()
        token, account = make_token(), make_account()
        seen = [await store.generation()]
        for change in (
            other.insert(token),
            other.replace(msgspec.structs.replace(token, revoked_at=1.0)),
            other.delete(Token, token.id),
            other.insert(account),
            other.delete(Account, account.id),
        ):
            await change
            seen.append(await store.generation())
        assert sorted(set(seen)) == seen
        await store.insert(make_function())
        assert not await store.delete(Token, token.id)
        assert await store.generation() == seen[-1]
        await other.close()

    # -- executions ----------------------------------------------------------------------------------------------------

    async def test_executions_come_back_as_they_went(self, store: Store) -> None:
        function = make_function()
        odd = {"logs": ODD_TEXT, "error": ODD_TEXT, "input": ODD_TEXT, "output": ODD_TEXT * 5000, "headers": ODD_TEXT}
        full = make_execution(function, status_code=418, finished_at=1700000000.123456, duration_ms=7, tier="oci", **odd)
        bare = make_execution(function)
        store.write_executions(texts([full, bare]))
        assert await store.get(Execution, full.id) == full
        assert await store.get(Execution, bare.id) == bare

    async def test_executions_are_nouns_too(self, store: Store) -> None:
        execution = make_execution(make_function(), status=Status.QUEUED, input=ODD_TEXT)
        await store.insert(execution)
        with pytest.raises(Conflict):
            await store.insert(execution)
        execution.status = Status.RUNNING
        await store.replace(execution)
        assert await store.find(Execution, status=Status.RUNNING) == [execution]
        assert await store.delete(Execution, execution.id)
        assert await store.get(Execution, execution.id) is None

    async def test_batches_of_any_size(self, store: Store) -> None:
        function = make_function()
        for size in (0, 1, 499, 500, 501, 1201):
            batch = [make_execution(function, output="x" * (number % 7) * 100) for number in range(size)]
            store.write_executions(texts(batch))
            assert await store.find_executions(function.id, limit=size) == batch[::-1]

    async def test_writing_again_changes_nothing(self, store: Store) -> None:
        function = make_function()
        batch = [make_execution(function) for _ in range(10)]
        for _ in range(2):
            store.write_executions(texts(batch))
        store.write_executions(texts(batch + batch))
        assert await store.find_executions(function.id) == batch[::-1]

    @pytest.mark.parametrize("final", [Status.SUCCESS, Status.ERROR, Status.TIMEOUT])
    async def test_what_is_final_stays(self, store: Store, final: Status) -> None:
        function = make_function()
        queued = make_execution(function, status=Status.QUEUED, input="event")
        running = msgspec.structs.replace(queued, status=Status.RUNNING, started_at=queued.started_at + 1)
        ended = msgspec.structs.replace(running, status=final, output="result", finished_at=3.0)
        for step in (queued, running, ended):
            store.write_executions(texts([step]))
            assert await store.get(Execution, queued.id) == step
        for late in ([queued], [running], [queued, running], [queued, running, ended]):
            store.write_executions(texts(late))
            assert await store.find_executions(function.id) == [ended]
        assert await store.find(Execution, status=Status.QUEUED) == []

    async def test_an_execution_ends_within_one_batch(self, store: Store) -> None:
        function = make_function()
        queued = make_execution(function, status=Status.QUEUED)
        ended = msgspec.structs.replace(queued, status=Status.SUCCESS)
        store.write_executions(texts([queued, make_execution(function), ended, queued]))
        assert await store.get(Execution, queued.id) == ended

    async def test_unfinished_ones_are_found(self, store: Store) -> None:
        function = make_function()
        late, early = (make_execution(function, status=Status.QUEUED, started_at=time) for time in (2.0, 1.0))
        running = make_execution(function, status=Status.RUNNING)
        store.write_executions(texts([late, early, running, make_execution(function)]))
        assert await store.find(Execution, status=Status.QUEUED, order="started_at") == [early, late]
        assert await store.find(Execution, status=Status.RUNNING) == [running]

    async def test_histories_newest_first(self, store: Store) -> None:
        function, other = make_function(), make_function()
        batch = [make_execution(function, started_at=time) for time in (2.0, 1.0, 3.0, 3.0)]
        store.write_executions(texts([*batch, make_execution(other)]))
        second, first, third, tie = batch
        assert await store.find_executions(function.id) == [tie, third, second, first]
        assert await store.find_executions(function.id, limit=2, offset=1) == [third, second]
        assert await store.find_executions(function.id, offset=4) == []

    async def test_histories_by_status_and_trigger(self, store: Store) -> None:
        function = make_function()
        kinds = [(Status.SUCCESS, "http"), (Status.ERROR, "http"), (Status.ERROR, "async"), (Status.TIMEOUT, "async")]
        ok, error, later, timeout = (make_execution(function, status=status, trigger=trigger) for status, trigger in kinds)
        store.write_executions(texts([ok, error, later, timeout]))
        assert await store.find_executions(function.id, status=["error"]) == [later, error]
        assert await store.find_executions(function.id, status=[Status.SUCCESS, Status.TIMEOUT]) == [timeout, ok]
        assert await store.find_executions(function.id, status=["error"], trigger="http") == [error]
        assert await store.find_executions(function.id, trigger="async", limit=1) == [timeout]

    async def test_histories_of_many_functions_together(self, store: Store) -> None:
        functions = [make_function() for _ in range(250)]
        batch = [make_execution(one, started_at=float(n % 7), output="x", logs="y") for n in range(4) for one in functions]
        store.write_executions(texts([*batch, make_execution(make_function())]))
        ids = [one.id for one in functions]
        newest = sorted(batch, key=lambda one: one.started_at)[::-1]
        assert await store.find_executions(*ids, limit=len(batch)) == newest
        assert await store.find_executions(*ids, limit=10, offset=245) == newest[245:255]
        assert await store.find_executions(*ids, limit=10, status=["queued"]) == []
        assert await store.find_executions() == []
        head = msgspec.structs.replace(newest[0], output=None, logs="")
        assert await store.find_executions(*ids, limit=1, heads=True) == [head]
        assert await store.find_executions(newest[0].function_id, limit=1, heads=True) == [head]

    async def test_prune_keeps_the_newest(self, store: Store) -> None:
        function, other = make_function(), make_function()
        unfinished = [make_execution(function, status=status) for status in (Status.QUEUED, Status.RUNNING)]
        batch = [make_execution(function, started_at=1000.0 + number // 3) for number in range(MANY)]
        others = [make_execution(other) for _ in range(5)]
        store.write_executions(texts([*unfinished, *batch, *others]))
        assert await store.prune_executions(function.id, MANY) == 0
        assert await store.prune_executions(function.id, 100) == MANY - 100
        assert await store.prune_executions(function.id, 100) == 0
        kept = await store.find_executions(function.id, limit=MANY)
        assert {execution.id for execution in kept} == {execution.id for execution in [*unfinished, *batch[-100:]]}
        assert await store.find_executions(other.id) == others[::-1]
        assert await store.prune_executions(function.id, 0) == 100

    async def test_prune_by_age(self, store: Store) -> None:
        function = make_function()
        batch = [make_execution(function, started_at=float(number)) for number in range(10)]
        store.write_executions(texts(batch))
        assert await store.prune_executions(function.id, 8, older_than=5.0) == 5
        assert await store.prune_executions(function.id, 3, older_than=5.0) == 2
        assert await store.find_executions(function.id) == batch[:6:-1]

    async def test_sweep_takes_what_nobody_owns(self, store: Store) -> None:
        function, gone = make_function(), [make_function() for _ in range(3)]
        await store.insert(function)
        kept = make_execution(function)
        store.write_executions(texts([kept, *(make_execution(owner) for owner in gone for _ in range(2))]))
        store.write_executions(texts(make_execution(gone[0]) for _ in range(MANY)))
        assert await store.sweep() == MANY + 6
        assert await store.sweep() == 0
        assert await store.find(Execution) == [kept]

    async def test_nouns_are_written_beside_executions(self, store: Store) -> None:
        function = make_function()
        batches = [[make_execution(function) for _ in range(500)] for _ in range(20)]

        def write() -> None:
            for batch in batches:
                store.write_executions(texts(batch))

        writer = asyncio.create_task(asyncio.to_thread(write))
        functions = [make_function() for _ in range(50)]
        for made in functions:
            await store.insert(made)
        await writer
        assert await store.find(Function) == functions
        assert len(await store.find_executions(function.id, limit=100_000)) == 10_000
