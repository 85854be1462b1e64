"""What the entries of every Store must do, and what executions ask of others. Mixed into a subclass of ``StoreSuite``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from spinney.errors import Conflict, NotFound
from spinney.model import DEFAULT_ACCOUNT, Account, AIRequest, EmailRequest, Execution, Function, Status
from spinney.ports import Change, Scope, Store
from spinney.testing.store_suite import ODD_TEXT, make_account, make_execution, make_function, texts

KINDS = ("kv", "environment", "account_kv")
ODD_KEYS = (b"\0", b"\n", b"'", b"a", b"a\0", b"a\xff", b"b", b"\xe2\x82\xac", b"\xff")
"""In order."""


def put(scope: Scope, key: bytes, value: bytes | None) -> Change:
    return Change(scope, key, lambda _: value)


def make_ai_request(execution: Execution, **fields: Any) -> AIRequest:
    defaults: dict[str, Any] = {"id": f"{execution.id}-ai", "execution_id": execution.id, "function_id": execution.function_id}
    defaults |= {"provider": "openai", "model": "m", "endpoint": "", "request": "", "status": Status.SUCCESS}
    return AIRequest(**defaults | {"duration_ms": 1, "created_at": 1.5} | fields)


def make_email_request(execution: Execution, **fields: Any) -> EmailRequest:
    defaults: dict[str, Any] = {"id": f"{execution.id}-mail", "execution_id": execution.id, "function_id": execution.function_id}
    defaults |= {"sender": "a", "recipients": ("b", "c"), "subject": "s", "has_text": True, "has_html": False, "request": ""}
    return EmailRequest(**defaults | {"status": Status.ERROR, "duration_ms": 1, "created_at": 1.5} | fields)


class EntrySuite:
    """The tests; ``connect`` and ``store`` as in StoreSuite."""

    @pytest.fixture(params=KINDS)
    async def scope(self, request: pytest.FixtureRequest, store: Store) -> Scope:
        """One of each kind, empty, with an owner."""
        function = make_function()
        await store.insert(function)
        return Scope(request.param, DEFAULT_ACCOUNT if request.param == "account_kv" else function.id)

    async def test_entries_come_back_as_they_went(self, store: Store, scope: Scope) -> None:
        values = {key: bytes(range(256)) * number for number, key in enumerate(ODD_KEYS)}
        assert await store.entries.change([put(scope, key, value) for key, value in values.items()]) == [True] * len(values)
        assert await store.entries.find(scope) == list(values.items())
        assert await store.entries.keys(scope, limit=100) == list(ODD_KEYS)
        for key, value in values.items():
            assert await store.entries.get(scope, key) == value
        assert await store.entries.get(scope, b"a\0\0") is None
        weight = sum(map(len, values)) + sum(map(len, values.values()))
        assert await store.entries.measure(scope) == (len(values), weight)

    async def test_changes_are_made_one_after_the_other(self, store: Store, scope: Scope) -> None:
        seen: list[bytes | None] = []

        def append(value: bytes | None) -> bytes:
            seen.append(value)
            return (value or b"") + b"x"

        changes = [Change(scope, b"a", append), Change(scope, b"b", append), Change(scope, b"a", append)]
        await store.entries.change(changes)
        assert seen == [None, None, b"x"]
        await store.entries.change([Change(scope, b"a", append), put(scope, b"a", None), Change(scope, b"a", append)])
        assert seen[3:] == [b"xx", None]
        assert await store.entries.find(scope) == [(b"a", b"x"), (b"b", b"x")]
        await store.entries.change([put(scope, b"a", None), put(scope, b"c", None)])
        assert await store.entries.find(scope) == [(b"b", b"x")]
        assert await store.entries.change([]) == []

    async def test_nothing_is_lost_between_two_stores(self, store: Store, connect: Callable[[], Store], scope: Scope) -> None:
        other = connect()
        await other.open()

        async def add(one: Store) -> None:
            for _ in range(20):
                await one.entries.change([Change(scope, b"n", lambda value: b"%d" % (int(value or b"0") + 1))])

        await asyncio.gather(*(add(one) for one in (store, other) for _ in range(4)))
        assert await other.entries.get(scope, b"n") == b"160"
        await other.close()

    async def test_pages_of_entries(self, store: Store, scope: Scope) -> None:
        await store.entries.replace(scope, {b"%03d" % n: bytes(97) for n in range(50)})
        assert len(await store.entries.find(scope, limit_bytes=1000)) == 10
        assert len(await store.entries.find(scope, limit_bytes=1)) == 1
        assert [key for key, _ in await store.entries.find(scope, after=b"047", limit_bytes=1000)] == [b"048", b"049"]
        assert await store.entries.keys(scope, after=b"010", limit=2) == [b"011", b"012"]
        assert await store.entries.find(scope, after=b"049") == []

    async def test_replace_entries(self, store: Store, scope: Scope) -> None:
        await store.entries.replace(scope, {b"a": b"1", b"b": b"2"})
        await store.entries.replace(scope, {b"b": b"3", b"c": b""})
        assert await store.entries.find(scope) == [(b"b", b"3"), (b"c", b"")]
        await store.entries.replace(scope, {})
        assert await store.entries.measure(scope) == (0, 0)

    async def test_entries_without_an_owner_are_not_kept(self, store: Store, scope: Scope) -> None:
        gone = Scope(scope.kind, "nobody")
        assert await store.entries.change([put(gone, b"a", b"1"), put(scope, b"a", b"1")]) == [False, True]
        with pytest.raises(NotFound):
            await store.entries.replace(gone, {b"a": b"1"})
        assert await store.entries.find(gone) == []

    async def test_owners_take_their_entries_with_them(self, store: Store) -> None:
        account = make_account()
        function, other = make_function(account_id=account.id), make_function()
        await store.insert(account, function, other)
        mine = [Scope("kv", function.id), Scope("environment", function.id), Scope("account_kv", account.id)]
        others = [Scope("kv", other.id), Scope("environment", other.id), Scope("account_kv", DEFAULT_ACCOUNT)]
        await store.entries.change([put(scope, b"k", b"v") for scope in (*mine, *others)])
        await store.delete(Function, function.id)
        assert [await store.entries.get(scope, b"k") for scope in mine] == [None, None, b"v"]
        await store.delete(Account, account.id)
        assert [await store.entries.get(scope, b"k") for scope in (*mine, *others)] == [None] * 3 + [b"v"] * 3

    # -- what executions ask of others ---------------------------------------------------------------------------------

    async def test_requests_come_back_as_they_went(self, store: Store) -> None:
        function = make_function()
        execution = make_execution(function)
        odd = {"request": ODD_TEXT, "response": ODD_TEXT, "error": ODD_TEXT, "model": ODD_TEXT}
        full = make_ai_request(execution, **odd, input_tokens=1 << 40, output_tokens=0)
        mail = make_email_request(execution, subject=ODD_TEXT, recipients=(ODD_TEXT,), email_id="1")
        bare = [make_ai_request(execution, id="bare"), make_email_request(execution, id="bare")]
        await store.insert(function, full, mail, *bare)
        assert await store.find(AIRequest) == [full, bare[0]]
        assert await store.find(EmailRequest) == [mail, bare[1]]

    async def test_counting(self, store: Store) -> None:
        function, other = make_function(), make_function()
        executions = [make_execution(function), make_execution(function)]
        await store.insert(function, other, *(make_ai_request(execution) for execution in executions))
        assert await store.count(AIRequest) == 2
        assert await store.count(AIRequest, execution_id=executions[0].id) == 1
        assert await store.count(AIRequest, execution_id=["x", *(one.id for one in executions)]) == 2
        assert await store.count(EmailRequest) == 0
        assert await store.count(Function, name=other.name) == 1

    async def test_requests_go_with_their_executions(self, store: Store) -> None:
        function = make_function()
        old, gone, kept = (make_execution(function, started_at=time) for time in (1.0, 2.0, 3.0))
        await store.insert(function)
        store.write_executions(texts([old, gone, kept]))
        for execution in (old, gone, kept):
            await store.insert(make_ai_request(execution), make_email_request(execution))
        await store.delete(Execution, gone.id)
        assert await store.prune_executions(function.id, 10, older_than=1.5) == 1
        assert await store.find(AIRequest) == [make_ai_request(kept)]
        assert await store.find(EmailRequest) == [make_email_request(kept)]
        await store.delete(Function, function.id)
        assert (await store.find(AIRequest), await store.find(EmailRequest)) == ([], [])

    async def test_requests_of_a_function_that_is_gone_are_not_kept(self, store: Store) -> None:
        execution = make_execution(make_function())
        for row in (make_ai_request(execution), make_email_request(execution)):
            with pytest.raises(Conflict):
                await store.insert(row)
