"""Tokens: secrets that are not kept, changes by another process, slow answers to guessers."""

from __future__ import annotations

import pytest
from tests.unit.conftest import ManualClock

from spinney.core.tokens import ADMIN, FREE_FAILURES, SLOW_DOWN_S, TokenBook, Tokens
from spinney.errors import Invalid, NotFound
from spinney.model import DEFAULT_ACCOUNT, Token
from spinney.ports import Store

pytestmark = pytest.mark.anyio
ADMIN_KEY = "an-admin-key-of-32-characters-xx"


async def fresh(store: Store, clock: ManualClock) -> Tokens:
    tokens = Tokens(store, clock, ADMIN_KEY)
    await tokens.open()
    return tokens


async def test_a_token_is_its_accounts(store: Store, clock: ManualClock) -> None:
    token, secret = await TokenBook(store, clock).create("ci", account="team", scopes=("invoke",))
    caller = (await fresh(store, clock)).authenticate(secret)
    assert caller is not None
    assert (caller.account_id, caller.token_id, caller.scopes, caller.admin) == (token.account_id, token.id, ("invoke",), False)
    assert token.account_id != DEFAULT_ACCOUNT


async def test_two_tokens_of_one_account(store: Store, clock: ManualClock) -> None:
    book = TokenBook(store, clock)
    first, _ = await book.create("a", account="team")
    second, _ = await book.create("b", account="team")
    assert first.account_id == second.account_id


async def test_the_secret_is_nowhere(store: Store, clock: ManualClock) -> None:
    _, secret = await TokenBook(store, clock).create("ci")
    assert all(secret not in str(token) for token in await store.find(Token))


async def test_the_admin_key_and_nothing_like_it(store: Store, clock: ManualClock) -> None:
    tokens = await fresh(store, clock)
    assert tokens.authenticate(ADMIN_KEY) == ADMIN
    for wrong in ("", ADMIN_KEY[:-1], ADMIN_KEY + "x", ADMIN_KEY.upper(), "\udcff"):
        assert tokens.authenticate(wrong) is None


async def test_expiry_and_revocation(store: Store, clock: ManualClock) -> None:
    book = TokenBook(store, clock)
    _, short = await book.create("short", lifetime_s=10)
    doomed, secret = await book.create("doomed")
    tokens = await fresh(store, clock)
    assert tokens.authenticate(short)
    clock.time += 10
    assert tokens.authenticate(short) is None
    await book.revoke("doomed")
    assert (await fresh(store, clock)).authenticate(secret) is None
    with pytest.raises(NotFound):
        await book.revoke(doomed.id)


async def test_a_running_server_notices(store: Store, clock: ManualClock) -> None:
    tokens = await fresh(store, clock)
    book = TokenBook(store, clock)
    _, secret = await book.create("late")
    assert tokens.authenticate(secret) is None
    await tokens._refresh()
    assert tokens.authenticate(secret)
    await book.revoke("late")
    await tokens._refresh()
    assert tokens.authenticate(secret) is None


async def test_last_use_is_written_at_the_end(store: Store, clock: ManualClock) -> None:
    token, secret = await TokenBook(store, clock).create("used")
    tokens = await fresh(store, clock)
    clock.time += 5
    tokens.authenticate(secret)
    await tokens.close()
    kept = await store.get(Token, token.id)
    assert kept is not None
    assert kept.last_used_at == clock.time


async def test_an_ambiguous_name_is_not_revoked(store: Store, clock: ManualClock) -> None:
    book = TokenBook(store, clock)
    await book.create("same")
    await book.create("same")
    with pytest.raises(Invalid, match="2 tokens"):
        await book.revoke("same")


@pytest.mark.parametrize("name", ["", "x" * 129, "a\nb"])
async def test_names_are_checked(store: Store, clock: ManualClock, name: str) -> None:
    with pytest.raises(Invalid, match="name"):
        await TokenBook(store, clock).create(name)


async def test_guessing_gets_slow_for_one_address_only(store: Store, clock: ManualClock) -> None:
    tokens = await fresh(store, clock)
    for _ in range(FREE_FAILURES):
        await tokens.refuse("192.0.2.1")
    assert clock.slept == []
    await tokens.refuse("192.0.2.1")
    await tokens.refuse("192.0.2.2")
    assert clock.slept == [SLOW_DOWN_S]
    clock.time += 61
    await tokens.refuse("192.0.2.1")
    assert clock.slept == [SLOW_DOWN_S]
