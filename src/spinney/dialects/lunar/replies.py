"""The shapes of all answers but a function's own: CORS, errors, and the last net (contract 1.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from spinney.dialects.lunar.answers import CORS
from spinney.dialects.lunar.events import to_json
from spinney.errors import Busy, Conflict, Denied, Error, Invalid, NotFound
from spinney.http.hot import HotRequest, HotResponse
from spinney.http.wire import JSON_TYPE, BodyTooLarge, ClientGone, Headers

log = structlog.get_logger("spinney.lunar")

TOO_LARGE = "Request body too large"
FAULT = "Internal server error"
NOT_FOUND = (b"content-type", b"text/plain; charset=utf-8"), b"404 page not found\n"
NO_STORE = (b"cache-control", b"no-store")

STATUSES: dict[type[Error], int] = {NotFound: 404, Conflict: 400, Invalid: 400, Denied: 401}


def error_body(message: str) -> bytes:
    return to_json({"error": message})


def error(status: int, message: str, *headers: tuple[bytes, bytes]) -> HotResponse:
    """An error, with CORS."""
    return HotResponse(status, [JSON_TYPE, *CORS, *headers], error_body(message))


async def answer(handler: Callable[[HotRequest], Awaitable[HotResponse]], request: HotRequest) -> HotResponse:
    """What ``handler`` answers, or the error that it raises."""
    try:
        return await handler(request)
    except BodyTooLarge as fault:
        return error(413, TOO_LARGE, *fault.headers)
    except Busy as fault:
        return error(503, fault.message, (b"retry-after", b"1"))
    except Error as fault:
        return error(STATUSES.get(type(fault), 503), fault.message)
    except ClientGone:
        raise
    except Exception:
        log.exception("a request failed", path=request.path)
        return error(500, FAULT)


def json_response(status: int, value: object, headers: Headers | None = None) -> HotResponse:
    """A management reply; CORS and the rest are added by the router."""
    return HotResponse(status, [JSON_TYPE, *(headers or [])], to_json(value))


def empty(status: int) -> HotResponse:
    return HotResponse(status, [], b"")
