"""Errors of ours as Fluxbase says them (contract 1.3, 1.6, 2.1, 2.9)."""

from __future__ import annotations

from spinney.dialects.fluxbase.access import DENIED, RateLimited, quota_headers
from spinney.dialects.fluxbase.rules import Malformed
from spinney.dialects.fluxbase.wire import SERVER_FAULT, refusal
from spinney.errors import Conflict, Denied, Error, Invalid, NotFound
from spinney.http.bearer import CHALLENGE
from spinney.http.hot import HotResponse

_STATUS: dict[type[Error], int] = {NotFound: 404, Invalid: 400, Conflict: 409}


def refuse(error: Error) -> HotResponse:
    """The answer to a request that ended with ``error``; what is no fault of the request is 500 and tells nothing."""
    if isinstance(error, Denied):
        return refusal(401, DENIED, CHALLENGE)
    if isinstance(error, RateLimited):
        wait_s = error.quota.retry_after_s
        retry = (b"retry-after", b"%d" % wait_s)
        return refusal(429, error.message, retry, *quota_headers(error.quota), retry_after=wait_s)
    if isinstance(error, Malformed):
        return refusal(400, "Invalid request body", details=error.message)
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
    return refusal(status, error.message if status < 500 else SERVER_FAULT)
