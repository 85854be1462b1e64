"""Errors of ours as NIL says them (contract 1.4)."""

from __future__ import annotations

from spinney.dialects.nil.rules import TooLarge, WrongType
from spinney.dialects.nil.wire import refusal
from spinney.errors import Busy, Denied, Error, Invalid, NotFound
from spinney.http.bearer import CHALLENGE
from spinney.http.hot import HotResponse
from spinney.http.wire import Headers

SERVER_FAULT = "Internal server error"
RETRY = (b"retry-after", b"1")

_ANSWERS: tuple[tuple[type[Error], int, Headers], ...] = (
    (TooLarge, 413, []),
    (WrongType, 415, []),
    (Invalid, 400, []),
    (NotFound, 404, []),
    (Denied, 401, [CHALLENGE]),
    (Busy, 503, [RETRY]),
)


def refuse(error: Error) -> HotResponse:
    """The answer to a request that ended with ``error``; what is no fault of the request is 500 and tells nothing."""
    for kind, status, headers in _ANSWERS:
        if isinstance(error, kind):
            more = error.headers if isinstance(error, TooLarge) else []
            return refusal(status, error.message, *headers, *more)
    return refusal(500, SERVER_FAULT)
