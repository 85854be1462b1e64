"""From a function's reply to an HTTP response that cannot harm the platform (contract 3.2)."""

from __future__ import annotations

import base64
import binascii
import re
from functools import lru_cache
from typing import NamedTuple

import msgspec

from spinney.core.kernel import mask_json
from spinney.dialects.lunar.events import COOKIE, canonical, cut_body, to_json
from spinney.dialects.lunar.masking import mask_headers
from spinney.http.wire import Headers
from spinney.model import Outcome, Reply

BODY_MAX_BYTES = 16777216
HEADERS_MAX_BYTES = 32768
"""More would be refused by many clients and proxies on the way."""
CACHED_META_BYTES = 4096
BODY_CUT = "\n[TRUNCATED - Response exceeded 1MB]"
CORS: Headers = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE, OPTIONS"),
    (b"access-control-allow-headers", b"Content-Type, Authorization"),
    (
        b"access-control-expose-headers",
        b"X-Function-Id, X-Function-Version-Id, X-Execution-Id, X-Execution-Duration-Ms",
    ),
]
SANDBOX = (b"content-security-policy", b"sandbox allow-scripts allow-forms allow-popups allow-modals")
"""For a browser that is logged in: a function's page there must not act as the operator."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_DROPPED = {
    *("connection", "keep-alive", "transfer-encoding", "upgrade", "trailer", "content-length"),
    *("x-function-id", "x-function-version-id", "x-execution-id", "x-execution-duration-ms"),
}
_BREAKS = re.compile("[\r\n\0]")
_SESSION_COOKIE = re.compile(rf"[\s=]*{COOKIE}\s*(?:[=;].*)?", re.DOTALL)


class FunctionFailed(Exception):
    """The run has failed; the text says why."""


class LostSandbox(Exception):
    """The reply is none."""


class Head(NamedTuple):
    """The head of a function's reply: what is sent, and the same as its record shows it."""

    status: int
    headers: Headers
    shown: dict[str, str]
    is_base64: bool


class _Meta(msgspec.Struct):
    status: int
    headers: list[tuple[str, str]] = []
    is_base64: bool = msgspec.field(name="isBase64Encoded", default=False)


_decode = msgspec.json.Decoder(_Meta).decode


def read_reply(reply: Reply) -> tuple[Head, bytes]:
    """Head and body of a reply that is OK. Raises FunctionFailed, LostSandbox."""
    meta = reply.meta
    head = _read_head(meta) if len(meta) <= CACHED_META_BYTES else _read_head.__wrapped__(meta)
    body = reply.body
    if head.is_base64:
        try:
            body = base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError):
            raise FunctionFailed("body is not valid base64") from None
    return head, body


def failure(reply: Reply) -> str | None:
    """What a function did wrong, in the runtime's words; None when it is not to blame."""
    if reply.outcome is Outcome.RESULT_TOO_LARGE:
        return f"response body larger than {BODY_MAX_BYTES} bytes"
    return reply.message if reply.outcome in (Outcome.ERROR, Outcome.LOAD_ERROR, Outcome.NO_HANDLER, Outcome.BAD_RESULT) else None


@lru_cache(maxsize=1024)
def _read_head(meta: bytes) -> Head:
    try:
        told = _decode(meta)
    except msgspec.MsgspecError:
        raise LostSandbox from None
    if not 200 <= told.status <= 599:
        raise LostSandbox
    if sum(len(name) + len(value) for name, value in told.headers) > HEADERS_MAX_BYTES:
        raise FunctionFailed(f"response headers larger than {HEADERS_MAX_BYTES} bytes")
    headers: Headers = []
    shown: dict[str, str] = {}
    given: set[bytes] = set()
    for name, value in told.headers:
        lower, value = name.lower(), _BREAKS.sub(" ", value)
        if not _NAME.fullmatch(name) or lower in _DROPPED or (lower == "set-cookie" and _SESSION_COOKIE.fullmatch(value)):
            continue
        raw = value.encode("latin-1", "replace")
        given.add(lower.encode())
        headers.append((name.encode(), raw))
        shown.setdefault(canonical(name), raw.decode("utf-8", "replace"))
    if b"content-type" not in given:
        headers.append((b"content-type", b"application/json"))
        shown["Content-Type"] = "application/json"
    headers += [header for header in CORS if header[0] not in given]
    return Head(told.status, headers, shown, told.is_base64)


def response_json(head: Head, body: bytes) -> str:
    """What the record of a run keeps of its reply."""
    kept = {
        "statusCode": head.status,
        "headers": mask_headers(head.shown),
        "body": cut_body(mask_json(body.decode("utf-8", "replace")), BODY_CUT),
        "isBase64Encoded": head.is_base64,
    }
    return to_json(kept).decode()
