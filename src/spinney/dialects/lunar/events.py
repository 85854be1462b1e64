"""From a request to what a function sees of it, and to what its record keeps (contract 3.1, 3.3, 3.12)."""

from __future__ import annotations

import asyncio
import re
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from spinney.core.kernel import Target, mask_json
from spinney.dialects.lunar.masking import mask_headers, mask_query
from spinney.http.wire import Headers

COOKIE = "auth_token"
"""The cookie of sessions: no function sees it or sets it."""
BODY_KEPT_BYTES = 1048576
BODY_CUT = "\n[TRUNCATED - Request exceeded 1MB]"
SLOW_BYTES = 65536
"""A larger body is masked beside the event loop."""
CACHED_META_BYTES = 4096

_VISIBLE = re.compile(rb"[!-~]{1,128}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REMOVED = (b"host", b"x-trigger")
to_json = msgspec.json.Encoder().encode


class EventMeta(msgspec.Struct, kw_only=True):
    """The meta of a call, as the Lua runtime takes it: texts hold one byte a character (Latin-1)."""

    method: str
    path: str
    relative_path: str = msgspec.field(name="relativePath")
    headers: list[tuple[str, str]]
    query: list[tuple[str, str]]
    ctx: dict[str, str]


_decode_meta = msgspec.json.Decoder(EventMeta).decode


def request_meta(
    target: Target, base_url: str, method: str, path: str, query: bytes, fields: Headers, *, authorization: bool
) -> bytes:
    """The meta of a call by HTTP.

    path: encoded as it came, from the mount on. authorization: whether the function may see that header.
    """
    headers = []
    request_id = ""
    for name, value in fields:
        if name in _REMOVED or name.startswith(b"x-cron-") or (name == b"authorization" and not authorization):
            continue
        if name == b"cookie":
            value = without_session(value)
            if not value:
                continue
        elif name == b"x-request-id" and not request_id and _VISIBLE.fullmatch(value):
            request_id = value.decode()
        headers.append((canonical(name.decode("latin-1")), value.decode("latin-1")))
    return _meta(target, base_url, method, path, headers, parse_query(query), request_id)


def cron_meta(target: Target, base_url: str, schedule: str, due: float) -> bytes:
    """The meta of a run that is due by the clock."""
    function = target.function
    headers = [
        ("Content-Type", "application/json"),
        ("X-Cron-Function-Id", function.id),
        ("X-Cron-Function-Name", _latin(function.settings["name"])),
        ("X-Cron-Schedule", _latin(schedule)),
        ("X-Cron-Scheduled-Time", str(int(due))),
        ("X-Trigger", "cron"),
    ]
    return _meta(target, base_url, "POST", f"/fn/{function.id}", headers, [], "")


def _meta(
    target: Target,
    base_url: str,
    method: str,
    path: str,
    headers: list[tuple[str, str]],
    query: list[tuple[str, str]],
    request_id: str,
) -> bytes:
    function = target.function
    rest = path.split("/", 3)[3:]
    ctx = {
        "functionId": function.id,
        "functionName": _latin(function.settings["name"]),
        "version": str(target.version.number),
        "requestId": request_id,
        "baseUrl": _latin(base_url),
    }
    relative = _decoded("/" + rest[0]) if rest else "/"
    meta = EventMeta(method=method, path=_decoded(path), relative_path=relative, headers=headers, query=query, ctx=ctx)
    return to_json(meta)


def canonical(name: str) -> str:
    """A header's name as Go writes it."""
    return "-".join([part.capitalize() for part in name.split("-")]) if _TOKEN.fullmatch(name) else name


def cookies(value: bytes) -> list[tuple[bytes, bytes]]:
    """The parts of a Cookie header: the name of each, and all of it."""
    parts = [part.strip(b" \t") for part in value.split(b";")]
    return [(part.partition(b"=")[0].rstrip(b" \t"), part) for part in parts if part]


def without_session(value: bytes) -> bytes:
    """A Cookie header without the cookie of sessions."""
    if COOKIE.encode() not in value:
        return value
    return b"; ".join([part for name, part in cookies(value) if name != COOKIE.encode()])


def parse_query(query: bytes) -> list[tuple[str, str]]:
    """Names and values, in order."""
    pairs = (part.partition("=") for part in query.decode("latin-1").replace("+", " ").split("&") if part)
    return [(_decoded(name), _decoded(value)) for name, _, value in pairs]


def _decoded(text: str) -> str:
    return unquote_to_bytes(text.encode("latin-1")).decode("latin-1") if "%" in text else text


def _latin(text: str) -> str:
    return text.encode().decode("latin-1")


# -- the record ------------------------------------------------------------------------------------------------------------


async def event_json(meta: bytes, body: bytes) -> str:
    """What the record of a call keeps of its event."""
    before, after = _frame(meta) if len(meta) <= CACHED_META_BYTES else _frame.__wrapped__(meta)
    kept = kept_body(body) if len(body) <= SLOW_BYTES else await asyncio.to_thread(kept_body, body)
    return f"{before}{kept}{after}"


@lru_cache(maxsize=1024)
def _frame(meta: bytes) -> tuple[str, str]:
    """What stands before the body, and what behind it."""
    event = _decode_meta(meta)
    shown: dict[str, Any] = {
        "method": event.method,
        "path": _shown(event.path),
        "relativePath": _shown(event.relative_path),
        "headers": mask_headers(_first(event.headers)),
    }
    query = mask_query(_first(event.query))
    return to_json(shown).decode()[:-1] + ',"body":', ',"query":' + to_json(query).decode() + "}"


def _first(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """The first value of each name, by name."""
    return dict(sorted({_shown(name): _shown(value) for name, value in reversed(pairs)}.items()))


def _shown(text: str) -> str:
    return text if text.isascii() else text.encode("latin-1").decode("utf-8", "replace")


def kept_body(body: bytes) -> str:
    """A request's body, masked and cut, as JSON text."""
    return to_json(cut_body(mask_json(body.decode("utf-8", "replace")), BODY_CUT)).decode() if body else '""'


def cut_body(text: str, notice: str) -> str:
    """The first megabyte of a text, and a notice when there is more."""
    if len(text) * 4 <= BODY_KEPT_BYTES:
        return text
    raw = text.encode()
    return text if len(raw) <= BODY_KEPT_BYTES else raw[:BODY_KEPT_BYTES].decode("utf-8", "ignore") + notice
