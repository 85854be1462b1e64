"""Bearer tokens: how a request carries one, whose it is, and what happens to a wrong one."""

from __future__ import annotations

from spinney.core.kernel import Caller, Kernel
from spinney.errors import Denied

CHALLENGE = (b"www-authenticate", b"Bearer")
"""What every 401 says."""


class WrongToken(Denied):
    """A token was presented and is not known."""

    def __init__(self, secret: str) -> None:
        super().__init__("invalid token")
        self.secret = secret


def bearer(authorization: bytes) -> str | None:
    """The secret of a Bearer credential, "" when it is empty; None for no header or another scheme."""
    if not authorization:
        return None
    scheme, _, secret = authorization.partition(b" ")
    return secret.strip().decode("latin-1") if scheme.lower() == b"bearer" else None


def find_caller(kernel: Kernel, secret: str | None) -> Caller | None:
    """Whose secret that is; None without one. Raises WrongToken: then ``find_caller_late`` has the last word."""
    if secret is None:
        return None
    caller = kernel.tokens.authenticate(secret)
    if caller is None:
        raise WrongToken(secret)
    return caller


async def find_caller_late(kernel: Kernel, wrong: WrongToken, client: str) -> Caller:
    """Whose secret that was after all, when its token has just been made. Raises WrongToken, slowly for who keeps guessing."""
    caller = await kernel.tokens.authenticate_late(wrong.secret)
    if caller is None:
        await kernel.tokens.refuse(client)
        raise wrong
    return caller
