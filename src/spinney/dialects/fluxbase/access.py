"""Who may manage and who may invoke, and how often (contract 1.2 to 1.4, 2.9)."""

from __future__ import annotations

from typing import NamedTuple

from spinney.core.kernel import Caller, Kernel, Quota, Target
from spinney.dialects.fluxbase.invoke import NAME
from spinney.errors import Denied, Error, NotFound
from spinney.http.bearer import WrongToken, bearer, find_caller, find_caller_late
from spinney.http.hot import HotHeaders
from spinney.http.wire import Headers
from spinney.model import DEFAULT_ACCOUNT

DENIED = "Missing or invalid authentication token"
NOT_INVOCABLE = "Function not found or disabled"
REQUIRED = "required"
WRITES, LISTS, HISTORY, INVOKES = (f"{NAME}.{group}" for group in ("writes", "lists", "history", "invokes"))


class Rates(NamedTuple):
    """Requests per minute; 0 is no limit."""

    writes: int = 60
    lists: int = 300
    history: int = 300
    invokes: int = 600


class RateLimited(Error):
    """Too many requests in this minute; ``quota`` says until when."""

    code = "rate_limited"

    def __init__(self, quota: Quota) -> None:
        super().__init__("Rate limit exceeded")
        self.quota = quota


class Access:
    """Judges requests, before anything about them is done."""

    def __init__(self, kernel: Kernel, *, invoke_auth: str, rates: Rates) -> None:
        self._kernel = kernel
        self._auth_required = invoke_auth == REQUIRED
        self._limits = {WRITES: rates.writes, LISTS: rates.lists, HISTORY: rates.history}
        self._invokes = rates.invokes

    async def identify(self, headers: HotHeaders, client: str) -> Caller | None:
        """Whose token a request presents; None without one. Raises WrongToken."""
        try:
            return find_caller(self._kernel, bearer(headers.authorization))
        except WrongToken as wrong:
            return await find_caller_late(self._kernel, wrong, client)

    def count(self, group: str, caller: Caller) -> Quota:
        """Count a management request of ``group`` (WRITES, LISTS or HISTORY); the quota says whether it may go on."""
        return self._kernel.limits.hit(group, self._limits[group], _key(caller))

    def admit(self, caller: Caller | None, name: str) -> Target:
        """The function that a caller, None for an anonymous one, may invoke. Raises Denied, NotFound."""
        target = self._kernel.index.get(NAME, caller.account_id if caller else DEFAULT_ACCOUNT, name)
        settings = target.version.settings if target else {}
        enabled = settings.get("enabled")
        if caller is None:
            open_to_all = settings.get("allow_unauthenticated") if enabled else None
            if self._auth_required and open_to_all is not True:
                raise Denied(DENIED)
        if target is None or not enabled:
            raise NotFound(NOT_INVOCABLE)
        if caller is None and open_to_all is False:
            raise Denied(DENIED)
        return target

    def count_invoke(self, caller: Caller | None, client: str, target: Target) -> None:
        """Count an invocation of an admitted caller, for an anonymous one by the address ``client``. Raises RateLimited."""
        key = f"{_key(caller) if caller else client} {target.function.id}"
        quota = self._kernel.limits.hit(INVOKES, self._invokes, key)
        if not quota.allowed:
            raise RateLimited(quota)


def _key(caller: Caller) -> str:
    return caller.token_id or "admin"


def quota_headers(quota: Quota) -> Headers:
    """What a management reply says of its limit; nothing when there is none."""
    if not quota.limit:
        return []
    return [
        (b"x-ratelimit-limit", b"%d" % quota.limit),
        (b"x-ratelimit-remaining", b"%d" % quota.remaining),
        (b"x-ratelimit-reset", b"%d" % quota.reset_at),
    ]
