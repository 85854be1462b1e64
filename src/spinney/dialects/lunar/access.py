"""Who calls: a bearer of the admin key or a token, or a browser that is logged in (contract 1.3)."""

from __future__ import annotations

from spinney.core.kernel import ANONYMOUS, Caller, Kernel
from spinney.dialects.lunar.events import COOKIE, cookies
from spinney.errors import Denied
from spinney.http.bearer import WrongToken, bearer, find_caller, find_caller_late
from spinney.http.hot import HotHeaders, HotRequest

NAME = "lunar"
REQUIRED = "Authentication required"
ADMIN = Caller(ANONYMOUS.account_id, admin=True)
"""Who is logged in."""
COOKIES_MAX = 16


def session_secrets(headers: HotHeaders) -> list[str]:
    """What a request has in its session cookies."""
    wanted = COOKIE.encode()
    found = [
        part.partition(b"=")[2].strip(b' \t"').decode("latin-1")
        for field, value in headers.fields
        if field == b"cookie" and wanted in value
        for name, part in cookies(value)
        if name == wanted
    ]
    return found[:COOKIES_MAX]


def is_logged_in(kernel: Kernel, headers: HotHeaders) -> bool:
    return any(kernel.sessions.is_live(secret) for secret in session_secrets(headers))


async def identify(kernel: Kernel, request: HotRequest) -> Caller:
    """The caller of a request. Raises Denied."""
    headers = request.headers
    if is_logged_in(kernel, headers):
        return ADMIN
    try:
        caller = find_caller(kernel, bearer(headers.authorization))
    except WrongToken as wrong:
        try:
            caller = await find_caller_late(kernel, wrong, request.client)
        except WrongToken:
            caller = None
    if caller is None:
        raise Denied(REQUIRED)
    return caller


async def is_ours(kernel: Kernel, authorization: bytes) -> bool:
    """Whether an Authorization header carries a credential of this server, which no function may see."""
    _, _, secret = authorization.strip().partition(b" ")
    for candidate in {secret.strip().decode("latin-1"), authorization.strip().decode("latin-1")}:
        if kernel.sessions.is_live(candidate):
            return True
        if await kernel.tokens.authenticate_late(candidate) is not None:
            return True
    return False
