"""Accounts and bearer tokens: who is calling. Secrets are never kept; lookups go by digest."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import uuid
from collections import OrderedDict
from collections.abc import Sequence

import msgspec
import structlog

from spinney.core.ids import new_short_id
from spinney.errors import Conflict, Error, Invalid, NotFound
from spinney.model import DEFAULT_ACCOUNT, Account, Token
from spinney.ports import Clock, Store

log = structlog.get_logger("spinney.tokens")

PREFIX = "spn_"
REFRESH_S = 0.5
FLUSH_S = 30.0
FREE_FAILURES = 20
"""Wrong tokens that one address may present in FAILURE_WINDOW_S before its answers slow down."""
FAILURE_WINDOW_S = 60.0
SLOW_DOWN_S = 1.0
ADDRESSES_MAX = 10_000
NAME_MAX = 128


class Caller(msgspec.Struct, frozen=True):
    """Who makes a request. ``token_id`` is None for the admin key and for callers without a token."""

    account_id: str
    token_id: str | None = None
    admin: bool = False
    scopes: tuple[str, ...] = ()


_replace = msgspec.structs.replace

ANONYMOUS = Caller(DEFAULT_ACCOUNT)
ADMIN = Caller(DEFAULT_ACCOUNT, admin=True)


def digest(secret: str) -> str:
    """What is kept of a token's secret. The secret has 256 random bits, so a plain hash cannot be reversed by guessing."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


class TokenBook:
    """Makes, lists and revokes tokens in the store. Used by the command line beside a running server, which notices."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def create(
        self, name: str, *, account: str = DEFAULT_ACCOUNT, scopes: Sequence[str] = (), lifetime_s: float | None = None
    ) -> tuple[Token, str]:
        """A new token and its secret, which cannot be shown again. The account is made when it does not exist. Raises Invalid."""
        for field, value in (("name", name), ("account", account)):
            if not value or len(value) > NAME_MAX or not value.isprintable():
                raise Invalid(f"{field}: 1 to {NAME_MAX} printable characters", field)
        if lifetime_s is not None and lifetime_s <= 0:
            raise Invalid("expires: must lie in the future", "expires")
        owner = await self._account(account)
        secret = PREFIX + secrets.token_urlsafe(32)
        now = self._clock.now()
        token = _make_token(owner.id, name, secret, now, scopes, None if lifetime_s is None else now + lifetime_s)
        await self._store.insert(token)
        return token, secret

    async def _account(self, name: str) -> Account:
        found = await self._store.find(Account, name=name)
        if found:
            return found[0]
        account_id = DEFAULT_ACCOUNT if name == DEFAULT_ACCOUNT else str(uuid.uuid4())
        account = Account(id=account_id, name=name, created_at=self._clock.now())
        try:
            await self._store.insert(account)
        except Conflict:
            return (await self._store.find(Account, name=name))[0]
        return account

    async def find(self) -> list[tuple[Token, Account | None]]:
        """All tokens with their accounts, oldest first."""
        accounts = {account.id: account for account in await self._store.find(Account)}
        return [(token, accounts.get(token.account_id)) for token in await self._store.find(Token, order="created_at")]

    async def revoke(self, token: str) -> Token:
        """Make a token (its id, the start of its id, or its name) useless.

        Raises NotFound, or Invalid when several fit.
        """
        fitting = [
            t for t in await self._store.find(Token) if t.revoked_at is None and (t.id.startswith(token) or t.name == token)
        ]
        if not fitting:
            raise NotFound(f"no token '{token}'")
        if len(fitting) > 1:
            raise Invalid(f"'{token}' names {len(fitting)} tokens; use the id", "token")
        revoked = _replace(fitting[0], revoked_at=self._clock.now())
        await self._store.replace(revoked)
        return revoked


def _make_token(
    account_id: str, name: str, secret: str, now: float, scopes: Sequence[str], expires_at: float | None = None
) -> Token:
    return Token(
        id=new_short_id(),
        account_id=account_id,
        name=name,
        digest=digest(secret),
        created_at=now,
        scopes=tuple(scopes),
        expires_at=expires_at,
    )


class Tokens:
    """The server's memory of all tokens: no database read when a caller is checked."""

    def __init__(self, store: Store, clock: Clock, admin_key: str) -> None:
        self._store = store
        self._clock = clock
        self._admin_key = admin_key.encode()
        self._by_digest: dict[str, Token] = {}
        self._used: dict[str, float] = {}
        self._generation = -1
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()

    async def open(self) -> None:
        await self._refresh()

    def authenticate(self, secret: str) -> Caller | None:
        """The caller who owns this secret; None when it is unknown, expired or revoked."""
        token = self._by_digest.get(digest(secret))
        if token is None:
            return ADMIN if self.is_admin_key(secret) else None
        now = self._clock.now()
        if token.revoked_at is not None or (token.expires_at is not None and token.expires_at <= now):
            return None
        self._used[token.id] = now
        return Caller(token.account_id, token.id, scopes=token.scopes)

    def is_admin_key(self, secret: str) -> bool:
        """In a time that does not tell how much of it is right."""
        return hmac.compare_digest(secret.encode("utf-8", "surrogateescape"), self._admin_key)

    async def authenticate_late(self, secret: str) -> Caller | None:
        """As ``authenticate``, for a secret that it did not know: another process may have made the token a moment ago."""
        try:
            await self._refresh()
        except Error as error:
            log.warning("tokens could not be read", reason=error.message)
        return self.authenticate(secret)

    async def create(self, caller: Caller, name: str) -> tuple[Token, str]:
        """A token with its maker's account and scopes, known from now on, and its secret in hex. Raises Unavailable."""
        secret = secrets.token_hex(32)
        token = _make_token(caller.account_id, name, secret, self._clock.now(), caller.scopes)
        await self._store.insert(token)
        self._by_digest[token.digest] = token
        return token, secret

    async def find(self, account_id: str) -> list[Token]:
        """All tokens of an account, revoked ones too, newest first. Raises Unavailable."""
        found = await self._store.find(Token, order="-created_at", account_id=account_id)
        return [_replace(token, last_used_at=self._used.get(token.id, token.last_used_at)) for token in found]

    async def revoke(self, account_id: str, id: str) -> None:
        """Make a token of an account useless, from now on. Raises NotFound, Unavailable."""
        token = await self._store.get(Token, id)
        if token is None or token.account_id != account_id:
            raise NotFound(f"no token '{id}'")
        if token.revoked_at is None:
            revoked = _replace(token, revoked_at=self._clock.now())
            await self._store.replace(revoked)
            self._by_digest[token.digest] = revoked

    async def refuse(self, address: str) -> None:
        """Note a wrong token from this address, and let it wait when there were many. Right tokens never wait."""
        now = self._clock.monotonic()
        began, count = self._failures.pop(address, (now, 0))
        if now - began > FAILURE_WINDOW_S:
            began, count = now, 0
        self._failures[address] = (began, count + 1)
        while len(self._failures) > ADDRESSES_MAX:
            self._failures.popitem(last=False)
        if count == FREE_FAILURES:
            log.warning("many wrong tokens", address=address)
        if count >= FREE_FAILURES:
            await self._clock.sleep(SLOW_DOWN_S)

    async def _refresh(self) -> None:
        generation = await self._store.generation()
        if generation != self._generation:
            self._by_digest = {token.digest: token for token in await self._store.find(Token)}
            self._generation = generation

    async def _write_used(self) -> None:
        used, self._used = self._used, {}
        await self._store.note_used(used)

    async def run(self) -> None:
        """Notice tokens made or revoked by another process, and write down when each was last used, until cancelled."""
        flushed_at = self._clock.monotonic()
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await self._refresh()
                if self._used and self._clock.monotonic() - flushed_at > FLUSH_S:
                    flushed_at = self._clock.monotonic()
                    await self._write_used()
            except Error as error:
                log.warning("tokens could not be read", reason=error.message)

    async def close(self) -> None:
        try:
            await self._write_used()
        except Error as error:
            log.warning("last use of tokens is lost", reason=error.message)
