"""Logins: whoever has shown the admin key may come back without it for a while."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from spinney.model import Session
from spinney.ports import Clock, Store

LIFETIME_S = 86400
SESSIONS_MAX = 10_000
"""Live ones; the oldest ends when there would be more."""


class Sessions:
    """All sessions, in memory and in the store. A secret is 32 random bytes in hex.

    Only the secret's digest under the admin key is kept: it cannot be turned back, and means nothing under another key.
    """

    def __init__(self, store: Store, clock: Clock, admin_key: str) -> None:
        self._store = store
        self._clock = clock
        self._key = admin_key.encode()
        self._sessions: dict[str, Session] = {}

    async def open(self) -> None:
        """Read what the last server knew, and drop what has ended since."""
        self._sessions = {session.id: session for session in await self._store.find(Session, order="created_at")}
        await self._drop_ended()

    async def create(self) -> str:
        """Begin a session; its secret. It is durable when this returns. Raises Unavailable."""
        await self._drop_ended()
        secret = secrets.token_hex(32)
        now = self._clock.now()
        session = Session(id=self._digest(secret), created_at=now, expires_at=now + LIFETIME_S)
        await self._store.insert(session)
        self._sessions[session.id] = session
        return secret

    def is_live(self, secret: str) -> bool:
        """Whether a session with this secret goes on."""
        session = self._sessions.get(self._digest(secret))
        return session is not None and session.expires_at > self._clock.now()

    async def end(self, secret: str) -> None:
        """End the session with this secret, if there is one. Raises Unavailable, and then it has ended until a restart."""
        session = self._sessions.pop(self._digest(secret), None)
        if session is not None:
            await self._store.delete(Session, session.id)

    async def _drop_ended(self) -> None:
        now = self._clock.now()
        ended = [session for session in self._sessions.values() if session.expires_at <= now]
        superfluous = len(self._sessions) - len(ended) - SESSIONS_MAX + 1
        if superfluous > 0:
            ended += [session for session in self._sessions.values() if session.expires_at > now][:superfluous]
        for session in ended:
            self._sessions.pop(session.id, None)
            await self._store.delete(Session, session.id)

    def _digest(self, secret: str) -> str:
        return hmac.digest(self._key, secret.encode("utf-8", "surrogateescape"), hashlib.sha256).hex()
