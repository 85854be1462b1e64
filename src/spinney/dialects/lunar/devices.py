"""Device authorization: a command line that has no key yet gets a token from who has one (contract 2.3). In memory only."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from typing import Literal

import msgspec

from spinney.core.kernel import Clock
from spinney.errors import NotFound

LIFETIME_S = 300
INTERVAL_S = 5
PENDING_MAX = 1000
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
UNKNOWN = "Device code not found or expired"


class Request(msgspec.Struct):
    """One request for a token; who knows its ``device_code`` gets it."""

    device_code: str
    user_code: str
    expires_at: float
    due: float
    """When it is over, by the steady clock."""
    status: Literal["pending", "approved", "denied"] = "pending"
    token: str = ""


class Devices:
    """All requests that are not over. They end in the order in which they began."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._requests: OrderedDict[str, Request] = OrderedDict()

    def begin(self) -> Request | None:
        """A new request, or None when too many are pending."""
        self._forget_old()
        if sum(request.status == "pending" for request in self._requests.values()) >= PENDING_MAX:
            return None
        while len(self._requests) >= 2 * PENDING_MAX:  # decided ones that nobody asks about
            self._requests.popitem(last=False)
        code = "".join(secrets.choice(LETTERS) for _ in range(8))
        now, steady = self._clock.now(), self._clock.monotonic()
        request = Request(secrets.token_hex(32), code, now + LIFETIME_S, steady + LIFETIME_S)
        self._requests[request.device_code] = request
        return request

    def get(self, device_code: str) -> Request:
        """Raises NotFound."""
        self._forget_old()
        request = self._requests.get(device_code)
        if request is None:
            raise NotFound(UNKNOWN)
        return request

    def pending(self, device_code: str) -> Request:
        """One that is not decided. Raises NotFound."""
        request = self.get(device_code)
        if request.status != "pending":
            raise NotFound(UNKNOWN)
        return request

    def deliver(self, device_code: str) -> Request:
        """What became of a request; one that has its token is over, for a token is given once. Raises NotFound."""
        request = self.get(device_code)
        if request.token:
            del self._requests[device_code]
        return request

    def _forget_old(self) -> None:
        now = self._clock.monotonic()
        while self._requests and next(iter(self._requests.values())).due <= now:
            self._requests.popitem(last=False)
