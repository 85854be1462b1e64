"""Bearer tokens: how a request carries one, and what happens to a wrong one."""

from __future__ import annotations

from spinney.core.kernel import Caller, Kernel

CHALLENGE = (b"www-authenticate", b"Bearer")
"""What every 401 says."""


def bearer(authorization: bytes) -> str | None:
    """The secret of a Bearer credential, "" when it is empty; None for no header or another scheme."""
    if not authorization:
        return None
    scheme, _, secret = authorization.partition(b" ")
    return secret.strip().decode("latin-1") if scheme.lower() == b"bearer" else None


async def authenticate_late(kernel: Kernel, secret: str, client: str) -> Caller | None:
    """The owner of a secret that was not known, when it has just been made; else None, slowly for who keeps guessing."""
    caller = await kernel.tokens.authenticate_late(secret)
    if caller is None:
        await kernel.tokens.refuse(client)
    return caller
