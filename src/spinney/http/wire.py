"""What every dialect needs of HTTP and JSON: bodies within limits, strict JSON, answers in two ASGI messages."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any, Literal
from urllib.parse import parse_qsl

import msgspec

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

DEPTH_MAX = 512
INTEGER_MAX = 10**12
EXPLAINED_MAX_BYTES = 262144
"""What is wrong with a larger text is said in fewer words: Python's reader, which says it best, builds all of it."""
JSON_TYPE = (b"content-type", b"application/json")

_check = msgspec.json.Decoder(msgspec.Raw).decode
# Possessive: a way back for every escape would take a gigabyte for eight megabytes, and seconds.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_DEPTH_MAP = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class BodyTooLarge(Exception):
    """More bytes than allowed; ``drained`` when the rest was read, or will be, so that an answer will be seen."""

    def __init__(self, drained: bool) -> None:
        super().__init__("body too large")
        self.drained = drained

    @property
    def headers(self) -> Headers:
        """What the answer must say beside its own headers: a connection with an unread rest cannot go on."""
        return [] if self.drained else [(b"connection", b"close")]


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


class NotJSON(ValueError):
    """Not the JSON that is asked for; the text says why."""


def header(fields: Headers, name: bytes) -> str:
    """The value of a header, of several all with commas between; "" without one."""
    return ", ".join([value.decode("latin-1") for key, value in fields if key == name])


def refuse_length(fields: Headers, limit: int, drain: int) -> None:
    """Raise BodyTooLarge when Content-Length says so already; what arrives all the same is thrown away by the server."""
    length = header(fields, b"content-length")
    if length.isdigit() and int(length) > limit:
        raise BodyTooLarge(drained=int(length) <= drain)


async def read_body(receive: Receive, limit: int, drain: int = 0) -> bytes:
    """The whole body, at most ``limit`` bytes. Raises BodyTooLarge after reading up to ``drain`` bytes, ClientGone."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise BodyTooLarge(True)
        return body
    return await _read_parts(message, receive, limit, drain)


async def _read_parts(message: Message, receive: Receive, limit: int, drain: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] != "http.request":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size <= limit:
            parts.append(part)
        elif size > drain:
            raise BodyTooLarge(False)
        else:
            parts.clear()
        if not message.get("more_body"):
            if size > limit:
                raise BodyTooLarge(True)
            return b"".join(parts)
        message = await receive()


def check_json(raw: bytes, depth_max: int = DEPTH_MAX) -> None:
    """Raise NotJSON unless ``raw`` is one strict JSON text in UTF-8, at most ``depth_max`` levels deep.

    Lone surrogate escapes are allowed. Nothing is built from the text: a small event costs a tenth of a microsecond.
    """
    try:
        _check(raw)
        if not raw.isascii():
            raw.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        _check_slowly(raw, depth_max)
        return
    check_depth(raw, depth_max)


def _check_slowly(raw: bytes, depth_max: int) -> None:
    """What the fast check refuses is wrong, or holds lone surrogate escapes."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise NotJSON("invalid UTF-8") from None
    check_depth(raw, depth_max)
    # Nothing is built here either, as far as the fast check gets: a surrogate escape counts as any other.
    try:
        _check(_SURROGATE.sub(rb"\\u0041", raw.replace(rb"\\", b"__")))
    except (msgspec.DecodeError, RecursionError) as error:
        if len(raw) > EXPLAINED_MAX_BYTES:
            raise NotJSON(str(error)) from None
        read_json(text, parse_int=str, parse_float=str)


def check_depth(raw: bytes, depth_max: int) -> None:
    """Raise NotJSON when a JSON text is nested deeper than ``depth_max`` levels."""
    if raw.count(b"[") + raw.count(b"{") <= depth_max:
        return
    brackets = _STRING.sub(b"", raw).translate(_DEPTH_MAP, _NOT_BRACKETS)
    if max(accumulate(array("b", brackets)), default=0) > depth_max:
        raise NotJSON(f"nested deeper than {depth_max} levels")


def read_json(
    text: str,
    *,
    parse_int: Callable[[str], Any],
    parse_float: Callable[[str], Any],
    object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """The value of a JSON text by Python's own reader, with hooks as ``json.loads`` takes them. Raises NotJSON."""
    hooks = {"parse_int": parse_int, "parse_float": parse_float, "object_pairs_hook": object_pairs_hook}
    try:
        return json.loads(text, parse_constant=_refuse_constant, **hooks)  # type: ignore[arg-type]
    except RecursionError:
        raise NotJSON("nested too deep") from None
    except json.JSONDecodeError as error:
        raise NotJSON(f"{error.msg} at position {error.pos}") from None


def _refuse_constant(name: str) -> None:
    raise NotJSON(f"{name} is not JSON")


def parse_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in ``raw``, strict as ``check_json`` and without lone surrogates. Raises NotJSON."""
    if not raw.strip():
        raise NotJSON("empty body")
    check_json(raw)
    value = json.loads(raw, parse_int=_integer)
    if not isinstance(value, dict):
        raise NotJSON("expected a JSON object")
    if b"\\u" in raw and _has_lone_surrogate(value):
        raise NotJSON("a string with a lone surrogate has no UTF-8 form")
    return value


def _integer(digits: str) -> int:
    """Python refuses to read more than 4300 digits; so many of them are out of every range anyway."""
    return int(digits[:4300])


def _has_lone_surrogate(value: Any) -> bool:
    return _LONE_SURROGATE.search(json.dumps(value, ensure_ascii=False)) is not None


def query_flag(query: bytes, name: str) -> bool:
    """Whether a query has ``name=true`` or ``name=1``."""
    values = [value for key, value in parse_qsl(query.decode("latin-1")) if key == name]
    return any(value.lower() == "true" or value == "1" for value in values)


def parse_integer(text: str) -> int | None:
    """The number that a query parameter's digits say, or INTEGER_MAX when it is more; None when it is anything else."""
    if not (text.isascii() and text.isdigit()):
        return None
    return min(_integer(text), INTEGER_MAX)


def timestamp(seconds: float, digits: Literal["milliseconds", "microseconds"] = "milliseconds") -> str:
    """RFC 3339, UTC, with so many digits of a second."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=digits).replace("+00:00", "Z")


async def send_bytes(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """One whole response."""
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, status: int, value: Any, headers: Headers | None = None) -> None:
    """One whole JSON response."""
    await send_bytes(send, status, [JSON_TYPE, *(headers or [])], msgspec.json.encode(value))
